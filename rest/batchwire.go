package rest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/redact"
)

// batchCall is the request for up to 50 commands.
func batchCall(items []*item, halt, idempotent bool, retries int) *call {
	idempotent = idempotent || !slices.ContainsFunc(items, func(i *item) bool { return !isRead(i.method) })
	return &call{method: batch.Method, form: batchForm(items, halt), idempotent: idempotent, retries: retries, batch: items, halt: halt}
}

// batchForm writes commands as the parameters of a batch. Each is a text of its own, with
// parameters that are encoded already.
func batchForm(items []*item, halt bool) string {
	var form strings.Builder
	form.WriteString("halt=" + map[bool]string{false: "0", true: "1"}[halt])
	for _, i := range items { // their names need no escaping
		form.WriteString("&cmd%5B" + i.name + "%5D=" + url.QueryEscape(batch.Line(i.method, i.form)))
	}
	return form.String()
}

// readBatch hands the parts of an answer to the commands.
func (call *call) readBatch(answer *Response, secrets *redact.Set) error {
	parts, err := batch.Read(answer.Result)
	if err != nil {
		return &Error{Method: batch.Method, Status: http.StatusOK, Code: ErrBadResponse}
	}
	halted := false
	for _, i := range call.batch {
		i.answer, i.err, i.lost = nil, nil, nil
		refusal, refused := parts.Errors[i.name]
		result, done := parts.Results[i.name]
		switch {
		case refused:
			i.err, halted = itemError(i.method, refusal, secrets), call.halt
		case done:
			i.answer = &Response{
				Result: result,
				Total:  integer(parts.Totals[i.name]),
				Next:   integer(parts.Nexts[i.name]),
				Time:   parseTime(parts.Times[i.name]),
			}
		case halted:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrNotRun}
		default:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrBadResponse, Hint: "the answer to the batch lacks this command"}
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
	return &Error{Method: method, Status: http.StatusOK, Code: ErrBadResponse}
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
	return slices.ContainsFunc(topNames(form), func(name string) bool { return strings.EqualFold(name, batch.Connector) })
}
