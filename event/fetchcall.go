package event

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// FetchCall returns a REST method and the parameters that read the object of the delivery. The
// method is the first one of [Info.Fetch]. It returns
//
//   - [ErrGone] if the event itself means that the object was deleted,
//   - [ErrUnknown] if the catalogue lacks the event or has no method for it, and for a comment of
//     the new task card, which is a message of the task's chat: the error names its ID and the
//     method that reads it,
//   - a [DecodeError] if the data lacks a parameter.
//
// Only the call shows whether the object still exists: see [Fetch].
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

// fetchCall prepares the call of a method, or of the first one if name is empty.
func (d *Delivery) fetchCall(name string) (fetchCall, error) {
	info, typeID := find(d.Name)
	switch {
	case info == nil:
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, d.printableName(nil))
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
			value = parsePath(p.Path).find(d.Data.v, typeID)
		}
		if noID := value == "0" && p.Path == lastPath; noID || value == "" { // 0 can be a type
			return fetchCall{}, d.nothingToFetch(info, p.Path, noID)
		}
		call.params = call.params.add(p.Name, value)
	}
	return call, nil
}

// nothingToFetch returns the error for a delivery whose data lacks a parameter, or has 0 for the ID
// of the object. zero says which.
func (d *Delivery) nothingToFetch(info *Info, path string, zero bool) error {
	if message := chatMessageIn(d, info); message != "" {
		return &chatCommentError{event: d.Name, message: message}
	}
	want := "present"
	if zero {
		want = "the ID of an object"
	}
	return &DecodeError{Event: d.printableName(info), Path: "data." + path, Want: want}
}

// chatCommentError is the [ErrUnknown] for a comment of the new task card.
type chatCommentError struct{ event, message string }

// Error names the message and the method that reads it.
func (e *chatCommentError) Error() string {
	return string(ErrUnknown) + ": " + e.event + ": a comment of the new task card has no ID and is message " + e.message +
		" of the task's chat; im.dialog.messages.get reads it, with the scope im and CHAT_ID of tasks.task.get"
}

// Is reports that it is an [ErrUnknown].
func (e *chatCommentError) Is(target error) bool { return target == ErrUnknown }

// Permanent reports that no retry helps.
func (e *chatCommentError) Permanent() bool { return true }

// Unfetchable reports that the platform has no method for the object of the event. Package offline
// looks for this method, because keeping the record would not help.
func (e *chatCommentError) Unfetchable() bool { return true }

// chatMessageIn returns the ID of the chat message that replaces an object with the ID 0.
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

// methodError is the [ErrConfig] for a method that cannot fetch the object. It is final, but
// package offline does not clear the record: it waits until the program is corrected.
type methodError string

// Error says which method it is.
func (e methodError) Error() string { return string(ErrConfig) + ": " + string(e) }

// Is reports that it is an [ErrConfig].
func (e methodError) Is(target error) bool { return target == ErrConfig }

// Permanent reports that no retry helps.
func (e methodError) Permanent() bool { return true }

// newCall returns the call of a method of an event, or of the first one if method is empty, without
// parameters. event is the name as it arrived; info may be that of a template.
func newCall(info *Info, event, method string) (fetchCall, error) {
	if len(info.Fetch) == 0 {
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, event)
	}
	at := 0
	if method != "" {
		at = slices.IndexFunc(info.Fetch, func(m FetchMethod) bool { return m.Name == method })
	}
	if at < 0 {
		return fetchCall{}, methodError(method + " is no fetch method for " + event)
	}
	return fetchCall{event: event, method: &info.Fetch[at]}, nil
}

// callByID prepares the call for an object without a delivery.
func callByID(name, method, id string) (fetchCall, error) {
	info, typeID := find(name)
	if info == nil {
		return fetchCall{}, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, name)
	}
	call, err := newCall(info, name, method)
	if err != nil {
		return fetchCall{}, err
	}
	var wanted []string
	for _, p := range call.method.Params {
		if p.Literal == "" && (typeID == "" || !parsePath(p.Path).named()) {
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
			value = typeID
		}
		call.params = call.params.add(p.Name, value)
	}
	return call, nil
}

// notID reports whether a text cannot be an ID. PHP would read "147:42" as the number 147 and
// return the wrong object.
func notID(text string) bool { return text == "" || strings.ContainsAny(text, ": \t\r\n") }

// checkScope returns a [ScopeError] if the method needs a scope that the application does not have.
// granted is the list of the delivery. It is not complete if it lacks the scope of the event
// itself, so checkScope then returns nil.
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
