// Package batch is the wire format of the REST method batch, with which a portal runs up to 50
// calls in one request. [Params] and [Reply.Answer] are for packages that know a portal only as a
// caller of methods; package rest names its commands itself.
//
// Source: https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html
package batch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/params"
	"github.com/b24events/b24events/internal/redact"
)

const (
	// Method is the name of the method.
	Method = "batch"
	// Max is the largest number of commands in one batch.
	Max = 50
	// Connector is the parameter that selects the queue of an integration. It applies to a whole
	// request.
	Connector = "auth_connector"
)

// Takes reports whether portals take a method in a batch.
func Takes(method string) bool {
	switch strings.ToLower(method) {
	case Method, "upload", "download":
		return false
	default:
		return true
	}
}

// Line returns a command: a method, and parameters that are encoded as a form.
func Line(method, form string) string {
	if form == "" {
		return method
	}
	return method + "?" + form
}

// Command is one call of a batch. Its parameters are as an event.Caller takes them.
type Command struct {
	Method string
	Params map[string]any
}

// Params returns the parameters of a batch that runs the commands in their order, whether or not
// earlier ones fail. The portal applies the connector of a batch to all of its commands, so all
// must name the same one, or none. Params returns an error if the portal would read a text as a
// reference to the result of another command.
func Params(commands []Command) (map[string]any, error) {
	cmd := make(map[string]any, len(commands))
	all := map[string]any{"halt": 0, "cmd": cmd}
	for i, c := range commands {
		own := c.Params
		if connector, ok := own[Connector]; ok {
			all[Connector] = connector
			own = maps.Clone(own)
			delete(own, Connector)
		}
		form, err := params.Encode(own, nil)
		if err == nil && form.Suspect {
			err = errReference
		}
		if err != nil {
			return nil, fmt.Errorf("parameters of %s: %w", c.Method, err)
		}
		cmd[name(i)] = Line(c.Method, form.Text)
	}
	return all, nil
}

var errReference = errors.New("the portal would read a text as a reference to a result")

// name returns the key of a command. PHP does not take such keys for positions of a list, so the
// sections of the response are objects. Callers send the keys of a map in alphabetical order, which
// is the order of the commands.
func name(i int) string { return fmt.Sprintf("c%02d", i) }

// Reply is the result of a batch: sections with the names of the commands.
type Reply struct {
	Results Section `json:"result"`
	Errors  Section `json:"result_error"`
	Totals  Section `json:"result_total"`
	Nexts   Section `json:"result_next"`
	Times   Section `json:"result_time"`
}

// Read reads the result of a batch. PHP writes a result without sections as an empty list.
func Read(result json.RawMessage) (*Reply, error) {
	reply := new(Reply)
	if inner, ok := bytes.CutPrefix(bytes.TrimSpace(result), []byte("[")); ok && string(bytes.TrimSpace(inner)) == "]" {
		return reply, nil
	}
	return reply, json.Unmarshal(result, reply)
}

// ErrMissing means that the response lacks a command, which may have run.
var ErrMissing = errors.New("the response to a batch lacks it")

// Answer returns the result of the command at a position, or the error with which the portal
// refused it, which is a [*Error].
func (r *Reply) Answer(i int, method string) (json.RawMessage, error) {
	if refusal, refused := r.Errors[name(i)]; refused {
		return nil, refusalOf(method, refusal)
	}
	if result, ok := r.Results[name(i)]; ok {
		return result, nil
	}
	return nil, fmt.Errorf("%s: %w", method, ErrMissing)
}

// The longest texts of an error, in characters.
const (
	maxCode        = 200
	maxDescription = 1000
)

// refusalOf reads the error of one command, and makes its texts fit for a log line: see package
// redact. The caller that sent the batch removes its access token, which only the caller knows.
func refusalOf(method string, refusal json.RawMessage) *Error {
	e := &Error{Method: method}
	if json.Unmarshal(refusal, e) != nil {
		e.Code, e.Description = "", ""
	}
	secrets := redact.New()
	e.Code, e.Description = secrets.Plain(e.Code, maxCode), secrets.Plain(e.Description, maxDescription)
	if e.Code == "" {
		e.Code = "an error that is not understood"
	}
	return e
}

// Total returns the number of rows that a list method found for the command at a position, and
// false if it did not say.
func (r *Reply) Total(i int) (int, bool) {
	var total json.Number
	if json.Unmarshal(r.Totals[name(i)], &total) != nil {
		return 0, false
	}
	n, err := total.Int64()
	return int(n), err == nil && n >= 0
}

// Error is the error that the portal returned for one command. Its texts come from the portal,
// without tags and control characters.
type Error struct {
	Method      string `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

// Error names the method and the code. It leaves out the description, which may hold anything.
func (e *Error) Error() string { return e.Method + ": the portal returned " + e.Code }

// ErrorCode returns the portal's error member.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorDescription returns the portal's error_description member.
func (e *Error) ErrorDescription() string { return e.Description }

// Section is a part of the response to a batch, by the names of the commands. PHP writes it as a
// list if it is empty, or if the names are 0, 1 and so on.
type Section map[string]json.RawMessage

var errSection = errors.New("a section of the response to a batch is neither an object nor a list")

// UnmarshalJSON reads an object, or a list as an object whose keys are the positions.
func (s *Section) UnmarshalJSON(doc []byte) error {
	if doc = bytes.TrimSpace(doc); len(doc) > 0 && doc[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(doc, &list); err != nil {
			return errSection
		}
		*s = make(Section, len(list))
		for i, part := range list {
			(*s)[strconv.Itoa(i)] = part
		}
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(doc, &object) != nil {
		return errSection
	}
	*s = object
	return nil
}
