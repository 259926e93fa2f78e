package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/values"
)

// FetchMethod is a REST method that returns the object of an event, and what its page says of it.
// Strings are the documentation's; programs such as a check of an installation can show them.
type FetchMethod struct {
	Name   string       // such as crm.item.get
	Doc    string       // address of the method's page in the official documentation
	Params []FetchParam // the parameters, in the order in which they are sent
	// Positional means that the portal takes the parameters by position and ignores their names.
	Positional bool
	// Scope lists the permissions of an application that the method needs, all of them. They can be
	// others than the event's.
	Scope      []string
	Who        string   // who may call it, in words; empty for any user
	Admin      bool     // only an administrator may call it
	AppContext bool     // only applications may call it: incoming webhooks are refused
	BotTypes   []string // types of bot that it works for; empty for all types, and for methods that are not about bots
	// Result is the member of the method's result that holds the object, such as item; [0] if the
	// result is a list with the object in it, and empty if the result is the object.
	Result string
	// Filtered means that an empty result may stand for an object that the token may not see, so
	// that it does not prove a deletion. See [ErrNotVisible].
	Filtered  bool
	Halted    bool   // Bitrix24 has stopped to develop the method
	Successor string // for a halted method: the method that its page names instead, if it returns the same object
	Remark    string // what else its caller should know; may be empty
}

// FetchParam is a parameter of a [FetchMethod].
type FetchParam struct {
	Name    string // such as id; a nested one is FILTER[ID]
	Literal string // the value that is always sent, such as Y; empty if it is taken from the delivery
	// Path is where the value is in the delivery's data, such as FIELDS.ID. Alternatives are
	// separated by |. [] stands for the elements of a list, of which the first counts, and @type
	// for the number that the event's name ends in.
	Path string
}

// firstOfList is the Result of a method that returns a list.
const firstOfList = "[0]"

// withParams returns the method with parameters.
func withParams(m FetchMethod, params ...FetchParam) FetchMethod {
	m.Params = params
	return m
}

// FetchOption changes how [Fetch] and [FetchByID] read an object.
type FetchOption func(*fetchConfig) error

type fetchConfig struct{ method string }

// WithMethod chooses another method of [Info.Fetch] than the first. The same object can have other
// field names there: crm.item.get returns stageId, crm.deal.get STAGE_ID. The method is called
// without a look at the scope of the delivery. A method that is not in the list is a mistake of the
// program: the error is that of [Drop].
func WithMethod(name string) FetchOption {
	return func(c *fetchConfig) error {
		if name == "" {
			return errors.New("event: WithMethod with an empty name")
		}
		c.method = name
		return nil
	}
}

// ScopeError is returned by [Fetch] and [FetchByID] when the application lacks a permission that
// the fetch method needs. Whoever administers the application grants it, so no retry helps: the
// error is final, see [OutcomeOf].
type ScopeError struct {
	Event   string   // wire name
	Method  string   // the method that was to be called
	Missing []string // the scopes that are missing, as far as the delivery or the method's page says
	Err     error    // the portal's refusal; nil if no call was made
}

// Error names the missing scopes.
func (e *ScopeError) Error() string {
	text := "event: " + e.Event + ": " + e.Method + " needs the scope " + strings.Join(e.Missing, ", ")
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the portal's refusal.
func (e *ScopeError) Unwrap() error { return e.Err }

// Permanent reports that no retry helps.
func (e *ScopeError) Permanent() bool { return true }

// FetchCall returns the REST method and the parameters that read the object the delivery is about,
// by the first method of [Info.Fetch]. It returns
//
//   - [ErrGone] if the event itself means that the object was deleted,
//   - [ErrUnknown] if the catalogue lacks the event or names no method for it, and for a comment of
//     the new task card, which is a message of the task's chat: the error has its ID and the method
//     that reads it,
//   - a [DecodeError] if the data lacks a parameter.
//
// Only the call shows whether the object is still there: see [Fetch].
func (d *Delivery) FetchCall() (method string, params Params, err error) {
	call, err := d.fetchCall("")
	if err != nil {
		return "", nil, err
	}
	return call.method.Name, call.params, nil
}

// fetchCall is a call that reads an object.
type fetchCall struct {
	event  string // wire name
	method *FetchMethod
	params Params
}

// fetchCall prepares the call of a method; of the first if name is empty.
func (d *Delivery) fetchCall(name string) (fetchCall, error) {
	info, number := find(d.Name)
	switch {
	case info == nil:
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, d.printableName())
	case info.Deletion:
		return fetchCall{}, fmt.Errorf("%w: %s means so", ErrGone, info.Name)
	}
	call, err := newCall(info, d.Name, name)
	if err != nil {
		return fetchCall{}, err
	}
	lastPath := call.method.lastPath()
	for _, p := range call.method.Params {
		value := p.Literal
		if p.Path != "" {
			value = parsePath(p.Path).find(d.Data.v, number)
		}
		if noID := value == "0" && p.Path == lastPath; noID || value == "" { // 0 can be a type
			return fetchCall{}, d.nothingToFetch(info, p.Path, noID)
		}
		call.params = call.params.add(p.Name, value)
	}
	return call, nil
}

// lastPath is where the delivery has the ID of the object itself; the parameters before it name
// types and owners.
func (m *FetchMethod) lastPath() string {
	for _, p := range slices.Backward(m.Params) {
		if p.Path != "" {
			return p.Path
		}
	}
	return ""
}

// nothingToFetch returns the error for a delivery whose data lack a parameter, or have 0 for the ID
// of the object.
func (d *Delivery) nothingToFetch(info *Info, path string, zero bool) error {
	if message := chatMessageIn(d, info); message != "" {
		return &chatCommentError{event: d.Name, message: message}
	}
	want := "present"
	if zero {
		want = "the ID of an object"
	}
	return &DecodeError{Event: d.printableName(), Path: "data." + path, Want: want}
}

// chatCommentError is the [ErrUnknown] of a comment of the new task card.
type chatCommentError struct{ event, message string }

// Error names the message and what reads it.
func (e *chatCommentError) Error() string {
	return string(ErrUnknown) + ": " + e.event + ": a comment of the new task card has no ID and is message " + e.message +
		" of the task's chat; im.dialog.messages.get reads it, with the scope im and CHAT_ID of tasks.task.get"
}

// Is reports that it is an [ErrUnknown].
func (e *chatCommentError) Is(target error) bool { return target == ErrUnknown }

// Permanent reports that no retry helps.
func (e *chatCommentError) Permanent() bool { return true }

// Unfetchable reports that the platform has no method for the object of the event. Package offline
// looks for it: to keep the record would not help.
func (e *chatCommentError) Unfetchable() bool { return true }

// chatMessageIn returns the ID of the chat message that stands in for an object with the ID 0.
func chatMessageIn(d *Delivery, info *Info) string {
	if info.chatMessage == "" {
		return ""
	}
	id, err := strconv.ParseUint(parsePath(info.chatMessage).find(d.Data.v, ""), 10, 64)
	if err != nil || id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 10)
}

// mistake is an error of the program itself. It is final, but it does not drop a delivery: a record
// of the offline queue waits until the program is corrected.
type mistake string

// Error returns the text.
func (m mistake) Error() string { return string(m) }

// Permanent reports that no retry helps.
func (m mistake) Permanent() bool { return true }

// newCall returns the call of one of an event's methods, the first if method is empty, without
// parameters. event is the name as it arrived, which a template does not have.
func newCall(info *Info, event, method string) (fetchCall, error) {
	if len(info.Fetch) == 0 {
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, event)
	}
	at := 0
	if method != "" {
		at = slices.IndexFunc(info.Fetch, func(m FetchMethod) bool { return m.Name == method })
	}
	if at < 0 {
		return fetchCall{}, mistake("event: " + method + " is no fetch method for " + event)
	}
	return fetchCall{event: event, method: &info.Fetch[at]}, nil
}

// Fetch calls the method that returns the object a delivery is about, and decodes the object into a
// T.
//
//	type Deal struct {
//		ID      int64
//		Title   string
//		Sum     float64   `json:"opportunity"`
//		Closes  time.Time `json:"closedate"`
//	}
//	deal, err := event.Fetch[Deal](ctx, api.Portal(d.MemberID()), d)
//
// The method is the first of the event's [Info.Fetch] for every token and its scopes, so
// that the same T always fits. [WithMethod] chooses another. Fetch takes the object out of the
// method's result (out of {"item": …}, for example), and T is decoded by the rules for payloads in
// the package documentation: numbers may be text, and names compare without regard to case. T can
// also be a [Data], a map[string]any, or a [json.RawMessage] for the object as the portal sent it.
//
// # Errors
//
//   - [ErrGone]: the object does not exist any more. The event says so (no call is made), or the
//     method does, with an error that its page documents for this alone. An object can be deleted
//     between its change and the call, so every handler that fetches meets this. A mirror must
//     delete its row, as it does for the event of the deletion. A handler that keeps no copy can
//     return the error: it is [OutcomeDropped], and package offline takes it for success.
//   - [ErrNotVisible]: there is no object for this token. It is gone, or the token may not see it.
//     A mirror must keep its row.
//   - [ErrUnknown]: no method reads the object; see [Delivery.FetchCall]. It is final too.
//   - [ScopeError]: the application lacks a scope that the method needs. If the delivery says which
//     scopes the application has, no call is made.
//   - [DecodeError]: the data lacks a parameter, or the object does not fit T. A struct that reads
//     no member of the object does not fit; the error names the members that are there.
//   - Any other error is the caller's. Missing rights, limits and broken responses are never
//     [ErrGone].
func Fetch[T any](ctx context.Context, c Caller, d *Delivery, opts ...FetchOption) (T, error) {
	var object, none T
	cfg, err := fetchConfigOf(opts)
	if err != nil {
		return none, err
	}
	call, err := d.fetchCall(cfg.method)
	if err != nil {
		return none, err
	}
	if cfg.method == "" {
		if err := call.checkScope(d.Auth.Scope); err != nil {
			return none, err
		}
	}
	if err := call.run(ctx, c, d, &object); err != nil {
		return none, err
	}
	return object, nil
}

// FetchByID reads an object without a delivery: the one with this ID that the events of e are
// about. It needs an event that is not a deletion, and returns what [Fetch] returns, [ErrGone]
// included.
//
//	deal, err := event.FetchByID[Deal](ctx, api.Portal(member), event.OnCrmDealUpdate, 42)
//
// If the method takes several values, id is a text that joins them with colons in the order of
// [FetchMethod.Params], without the literal ones: "147:42" for event.OnCrmDynamicItemUpdate. An
// event of one smart process, such as event.OnCrmDynamicItemUpdateOf(147), needs the ID of the item
// alone.
func FetchByID[T, P any, K interface {
	~int | ~int32 | ~int64 | ~uint32 | ~uint64 | ~string
}](ctx context.Context, c Caller, e Descriptor[P], id K, opts ...FetchOption) (T, error) {
	var object, none T
	cfg, err := fetchConfigOf(opts)
	if err != nil {
		return none, err
	}
	call, err := callByID(e.Name(), cfg.method, fmt.Sprint(id))
	if err != nil {
		return none, err
	}
	if err := call.run(ctx, c, nil, &object); err != nil {
		return none, err
	}
	return object, nil
}

func fetchConfigOf(opts []FetchOption) (fetchConfig, error) {
	var cfg fetchConfig
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return fetchConfig{}, err
		}
	}
	return cfg, nil
}

// callByID prepares the call for an object that no delivery names.
func callByID(name, method, id string) (fetchCall, error) {
	info, number := find(name)
	if info == nil {
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, name)
	}
	call, err := newCall(info, name, method)
	if err != nil {
		return fetchCall{}, err
	}
	var wanted []string
	for _, p := range call.method.Params {
		if p.Literal == "" && (number == "" || !parsePath(p.Path).named()) {
			wanted = append(wanted, p.Name)
		}
	}
	if len(wanted) == 0 {
		return fetchCall{}, fmt.Errorf("%w: %s takes no ID", ErrUnknown, call.method.Name)
	}
	ids := []string{id}
	if len(wanted) > 1 {
		ids = strings.Split(id, ":")
	}
	if len(ids) != len(wanted) || slices.ContainsFunc(ids, notID) || ids[len(ids)-1] == "0" {
		return fetchCall{}, &DecodeError{Event: name, Path: "id", Want: strings.Join(wanted, ":") + " of an object"}
	}
	for _, p := range call.method.Params {
		value := p.Literal
		switch {
		case value != "":
		case slices.Contains(wanted, p.Name):
			value, ids = ids[0], ids[1:]
		default:
			value = number
		}
		call.params = call.params.add(p.Name, value)
	}
	return call, nil
}

// notID reports whether a text cannot be an ID. PHP would read "147:42" as the number 147, so the
// wrong object would come back.
func notID(text string) bool { return text == "" || strings.ContainsAny(text, ": \t\r\n") }

// checkScope returns a [ScopeError] if a delivery says which scopes the application has, and the
// method needs another. A list without the scope that the event itself needs is no such list.
func (f fetchCall) checkScope(granted Scope) error {
	if info, _ := find(f.event); info == nil || !granted.Has(info.Scope) {
		return nil
	}
	var missing []string
	for _, scope := range f.method.Scope {
		if scope != basicScope && !granted.Has(scope) {
			missing = append(missing, scope)
		}
	}
	if missing == nil {
		return nil
	}
	return &ScopeError{Event: f.event, Method: f.method.Name, Missing: missing}
}

const (
	basicScope        = "basic" // of every application
	insufficientScope = "insufficient_scope"
)

// run makes the call and decodes the object into dst, a pointer. of is the delivery that the call
// is for, or nil.
func (f fetchCall) run(ctx context.Context, c Caller, of *Delivery, dst any) error {
	var params any
	if len(f.params) > 0 {
		params = f.params
	}
	var result json.RawMessage
	if err := c.Call(ctx, f.method.Name, params, &result); err != nil {
		return f.failure(err)
	}
	if len(result) == 0 {
		return fmt.Errorf("event: the caller left no result of %s; it must fill a json.RawMessage", f.method.Name)
	}
	object, err := f.method.unwrap(result)
	switch {
	case errors.Is(err, ErrNotVisible):
		return fmt.Errorf("%w: the result of %s is empty", err, f.method.Name)
	case err == nil:
		err = decodeObject(of, object, dst)
	}
	var misfit *DecodeError
	if errors.As(err, &misfit) {
		misfit.Event = f.event
	}
	return err
}

// failure says what a failed call means.
func (f fetchCall) failure(err error) error {
	if absence := f.method.absence(err); absence != "" {
		return because(absence, err)
	}
	var refused CallError
	if errors.As(err, &refused) && strings.EqualFold(refused.ErrorCode(), insufficientScope) {
		return &ScopeError{Event: f.event, Method: f.method.Name, Missing: f.method.Scope, Err: err}
	}
	return err
}

// decodeObject decodes an object of a method's result. The caller bounds its length. The
// [DecodeError] that it returns names no event.
func decodeObject(of *Delivery, object json.RawMessage, dst any) error {
	report, err := rules.Unmarshal(object, of, dst)
	switch member, blank := report.Blank(); {
	case errors.Is(err, values.ErrSyntax):
		return &DecodeError{Path: "result", Want: "a JSON document"}
	case err != nil:
		return fmt.Errorf("event: %w", err)
	case len(report.Misfits) > 0:
		first := misfitsOf(&report, "result")[0]
		return mismatch(first.Path, first.Want)
	case blank:
		if member == "" {
			member = "members"
		}
		return mismatch("result", "a "+reflect.TypeOf(dst).Elem().String()+": it has "+member+", and the type reads none of its members")
	}
	return nil
}
