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

// batchOptions says how a batch is sent.
type batchOptions struct {
	halt       bool // stop at the first command that fails
	idempotent bool // also if not all commands are reads
	retries    int
}

// batchCall is the request for up to 50 commands.
func batchCall(items []*item, o batchOptions) *call {
	idempotent := o.idempotent || !slices.ContainsFunc(items, func(i *item) bool { return !isRead(i.method) })
	return &call{
		method: batch.Method, form: batchForm(items, o.halt), batch: items,
		halt: o.halt, idempotent: idempotent, retries: o.retries,
	}
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

// readBatch gives each command its part of a response.
func (call *call) readBatch(response *Response, secrets *redact.Set) error {
	parts, err := batch.Read(response.Result)
	if err != nil {
		return &Error{Method: batch.Method, Status: http.StatusOK, Code: ErrBadResponse}
	}
	halted := false
	for _, i := range call.batch {
		i.response, i.err, i.requestErr = nil, nil, nil
		refusal, refused := parts.Errors[i.name]
		result, done := parts.Results[i.name]
		switch {
		case refused:
			i.err, halted = itemError(i.method, refusal, secrets), call.halt
		case done:
			i.response = &Response{
				Result: result,
				Total:  integer(parts.Totals[i.name]),
				Next:   integer(parts.Nexts[i.name]),
				Time:   parseTime(parts.Times[i.name]),
			}
		case halted:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrNotRun}
		default:
			i.err = &Error{Method: i.method, Status: http.StatusOK, Code: ErrBadResponse, Hint: "the response to the batch lacks this command"}
		}
	}
	return nil
}

// cleanRefusals removes the secrets from the refusals in the result of a batch that a caller reads
// itself. It leaves the results of commands as they are.
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

// topNames returns the names of a form's parameters as PHP reads them, without what is in brackets.
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

// hasConnector reports whether a form has the parameter auth_connector, which portals take as a
// part of the request's credentials.
func hasConnector(form string) bool {
	return slices.ContainsFunc(topNames(form), func(name string) bool { return strings.EqualFold(name, batch.Connector) })
}
