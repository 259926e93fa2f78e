package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/redact"
)

const methodBatch = "batch"

// batchCall is the request for up to 50 commands.
func batchCall(items []*item, halt, idempotent bool) *call {
	idempotent = idempotent || !slices.ContainsFunc(items, func(i *item) bool { return !isRead(i.method) })
	return &call{method: methodBatch, form: batchForm(items, halt), idempotent: idempotent, batch: items, halt: halt}
}

// batchForm writes commands as the parameters of a batch. Each is a text of its own, with parameters that are encoded already.
func batchForm(items []*item, halt bool) string {
	commands := make([]phpform.Entry, len(items))
	for n, i := range items {
		command := i.method
		if i.form != "" {
			command += "?" + i.form
		}
		commands[n] = phpform.Entry{Key: i.name, Value: phpform.Text(command)}
	}
	return phpform.Encode(phpform.Map(
		phpform.Entry{Key: "halt", Value: phpform.Boolean(halt)},
		phpform.Entry{Key: "cmd", Value: phpform.Map(commands...)},
	))
}

// batchAnswer is the result of a batch: sections with the names of the commands.
type batchAnswer struct {
	Result section `json:"result"`
	Error  section `json:"result_error"`
	Total  section `json:"result_total"`
	Next   section `json:"result_next"`
	Time   section `json:"result_time"`
}

// readBatch hands the parts of an answer to the commands.
func (call *call) readBatch(answer *Response, secrets *redact.Set) error {
	var parts batchAnswer
	if err := answer.decode(methodBatch, &parts); err != nil {
		return &Error{Method: methodBatch, Status: http.StatusOK, Code: ErrBadAnswer}
	}
	halted := false
	for _, i := range call.batch {
		i.answer, i.err, i.lost = nil, nil, nil
		refusal, refused := parts.Error[i.name]
		result, done := parts.Result[i.name]
		switch {
		case refused:
			i.err, halted = itemError(i.method, refusal, secrets), call.halt
		case done:
			i.answer = &Response{
				Result: result,
				Total:  integer(parts.Total[i.name]),
				Next:   integer(parts.Next[i.name]),
				Time:   parseTime(parts.Time[i.name]),
			}
		case halted:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrNotRun}
		default:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrBadAnswer, Hint: "the answer to the batch lacks this command"}
		}
	}
	return nil
}

// cleanRefusals takes the secrets out of the refusals in the result of a batch that a caller reads
// by itself. The results of commands stay as they are.
func cleanRefusals(result json.RawMessage, secrets *redact.Set) json.RawMessage {
	var sections map[string]json.RawMessage
	if json.Unmarshal(result, &sections) != nil {
		return result
	}
	refusals := sections["result_error"]
	if isEmpty(refusals) {
		return result
	}
	sections["result_error"] = secrets.JSON(refusals)
	cleaned, err := json.Marshal(sections)
	if err != nil {
		return result // cannot be: every section is valid JSON
	}
	return cleaned
}

// itemError reads the refusal of one command.
func itemError(method string, refusal json.RawMessage, secrets *redact.Set) *Error {
	var env envelope
	if json.Unmarshal(refusal, &env) == nil {
		if e := env.refusal(method, http.StatusOK, false, secrets); e != nil {
			return e
		}
	}
	return &Error{Method: method, Status: http.StatusOK, Code: ErrBadAnswer}
}

// section is a part of a batch's answer, by the names of commands. PHP writes an empty one as a list, and one with the names 0, 1
// and so on too.
type section map[string]json.RawMessage

// UnmarshalJSON reads an object, or a list as an object whose keys are the positions.
func (s *section) UnmarshalJSON(doc []byte) error {
	if doc = bytes.TrimSpace(doc); len(doc) > 0 && doc[0] == '[' {
		var list []json.RawMessage
		if err := json.Unmarshal(doc, &list); err != nil {
			return err
		}
		*s = make(section, len(list))
		for i, part := range list {
			(*s)[strconv.Itoa(i)] = part
		}
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(doc, &object); err != nil {
		return errors.New("rest: a section of a batch's answer is neither an object nor a list")
	}
	*s = object
	return nil
}

// batchable reports whether portals take a method in a batch.
func batchable(method string) bool {
	switch strings.ToLower(method) {
	case methodBatch, "upload", "download":
		return false
	default:
		return true
	}
}

// topNames returns the parameters of a form, as PHP reads their names, without what is in brackets.
func topNames(form string) []string {
	var names []string
	for pair := range strings.SplitSeq(form, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err == nil {
			names = append(names, phpName(name))
		}
	}
	return names
}

// hasConnector reports whether a form names the connector, which portals take as a part of the request's credentials.
func hasConnector(form string) bool {
	return slices.ContainsFunc(topNames(form), func(name string) bool { return strings.EqualFold(name, "auth_connector") })
}
