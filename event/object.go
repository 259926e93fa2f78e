package event

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// Entity names the object that the delivery is about, such as {crm.deal 42}. All events of one object name it alike, its deletion
// included. It is the zero Entity for events that the catalogue does not know or that are about no object; for events about the application
// itself its ID is empty.
func (d *Delivery) Entity() Entity {
	info, ok := Lookup(d.Name)
	if !ok || info.entityKind == "" {
		return Entity{}
	}
	parts := make([]string, len(info.entityID))
	for i, path := range info.entityID {
		if parts[i] = lookupPath(d.Data.v, path); parts[i] == "" {
			return Entity{}
		}
	}
	return Entity{Kind: info.entityKind, ID: strings.Join(parts, ":")}
}

// lookupPath returns the scalar at a dotted path, the first of the alternatives (separated by |) that is neither empty nor zero.
func lookupPath(v phpform.Value, alternatives string) string {
	for path := range strings.SplitSeq(alternatives, "|") {
		at := v
		if path != "." {
			for key := range strings.SplitSeq(path, ".") {
				at, _ = at.GetFold(key)
			}
		}
		if text := strings.TrimSpace(at.Scalar()); text != "" && text != "0" && text != undefined {
			return text
		}
	}
	return ""
}

// Key identifies the delivery for deduplication: the same for a delivery that is sent twice, different for another change of
// the same object (unless both fell into one second: Bitrix24 numbers no deliveries, so this is the best there is). It reveals
// nothing of the data. Mark a key as seen only after the handler succeeded, or an error loses the event.
func (d *Delivery) Key() string {
	h := sha256.New()
	for _, part := range []string{
		d.Proof.ClientID, d.Auth.MemberID, d.Name, string(d.Source), d.MessageID,
		strconv.FormatInt(d.HandlerID, 10), strconv.FormatInt(d.ID, 10), strconv.FormatInt(d.Time.Unix(), 10),
	} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // lengths keep neighbours apart
	}
	h.Write(d.Data.v.AppendJSON(nil))
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// FetchCall returns the REST method and the parameters that read the object the delivery is about. It returns [ErrGone] where the
// event tells that the object was deleted, [ErrUnknown] where the catalogue lacks the event or names no method for it, and a [DecodeError]
// where the data lacks a parameter. Whether the object is still there, only the call tells: see [Fetch].
func (d *Delivery) FetchCall() (method string, params map[string]any, err error) {
	info, ok := Lookup(d.Name)
	switch {
	case info.Deletion:
		return "", nil, fmt.Errorf("%w: %s tells so", ErrGone, info.Name)
	case !ok || info.FetchMethod == "":
		return "", nil, fmt.Errorf("%w: no fetch method for %s", ErrUnknown, d.printableName())
	}
	params = make(map[string]any, len(info.fetchParams))
	for _, p := range info.fetchParams {
		value := p.literal
		if p.path != "" {
			if value = lookupPath(d.Data.v, p.path); value == "" {
				return "", nil, &DecodeError{Event: d.printableName(), Path: "data." + p.path, Want: "present"}
			}
		}
		setParam(params, p.name, value)
	}
	return info.FetchMethod, params, nil
}

// setParam stores a parameter whose name may be nested once, as in FILTER[ID].
func setParam(params map[string]any, name, value string) {
	outer, inner, nested := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if !nested {
		params[name] = value
		return
	}
	group, ok := params[outer].(map[string]any)
	if !ok {
		group = make(map[string]any)
		params[outer] = group
	}
	group[inner] = value
}

// Fetch calls the method that returns the object a delivery is about and decodes the method's result, as the portal sends it, into
// a T: a struct, a map[string]any or a json.RawMessage.
//
// It returns an error that wraps [ErrGone] where there is no such object any more: the event tells of a deletion (no call is made), the
// method says that there is none, or its result is empty. An object can be deleted between its change and the call, so every handler that
// fetches meets this, and should take it for success: there is nothing left to do. Returned by a handler it is [Dropped],
// and package offline takes it for success.
//
// tasks.task.get and task.commentitem.get say the same of what the token's user may not see, so fetch tasks with an administrator's token.
// Missing rights anywhere else, limits and broken answers are not [ErrGone].
//
// Other errors are those of [Delivery.FetchCall] and of the caller, and a [DecodeError] where the result does not fit T.
func Fetch[T any](ctx context.Context, c Caller, d *Delivery) (T, error) {
	var object T
	method, params, err := d.FetchCall()
	if err != nil {
		return object, err
	}
	var result json.RawMessage
	switch err := c.Call(ctx, method, params, &result); {
	case err != nil && isGone(method, err):
		return object, because(ErrGone, err)
	case err != nil:
		return object, err
	case len(result) == 0:
		return object, fmt.Errorf("event: the caller left no result of %s; it must fill a json.RawMessage", method)
	case isNothing(result):
		return object, fmt.Errorf("%w: the result of %s is empty", ErrGone, method)
	}
	if err := json.Unmarshal(result, &object); err != nil {
		var none T
		return none, d.misfit(err, reflect.TypeFor[T]())
	}
	return object, nil
}

// misfit tells where a method's result does not fit a type. The decoder's own error would quote the value.
func (d *Delivery) misfit(err error, want reflect.Type) error {
	failure := &DecodeError{Event: d.printableName(), Path: "result", Want: want.String()}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		failure.Want = mismatch.Type.String()
		if mismatch.Field != "" {
			failure.Path += "." + mismatch.Field
		}
	}
	return failure
}
