package rest

import (
	"bytes"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/redact"
)

// Response is a portal's response to a call that succeeded. [Response.Decode] reads its result.
type Response struct {
	Result json.RawMessage // the result member as it came
	Total  *int            // of list methods: rows that match in all; nil if absent
	Next   *int            // of list methods: start of the next page; nil on the last one
	Time   Time
}

// Time is what the portal measured. Portals in the cloud count Operating: the seconds that the
// application's calls of the method took in the last ten minutes. They block the method when it
// exceeds a limit.
//
// Source: https://apidocs.bitrix24.com/limits.html
type Time struct {
	Start            float64   // Unix seconds
	Finish           float64   // Unix seconds
	Duration         float64   // seconds
	Processing       float64   // seconds
	Operating        float64   // seconds; 0 if the portal does not count
	OperatingResetAt time.Time // when the count starts to fall; zero if absent
}

// envelope is a response with its members still encoded, so that an odd member does not spoil the
// others.
type envelope struct {
	Result      json.RawMessage `json:"result"`
	Error       json.RawMessage `json:"error"`
	Description json.RawMessage `json:"error_description"`
	Argument    json.RawMessage `json:"argument"`
	Total       json.RawMessage `json:"total"`
	Next        json.RawMessage `json:"next"`
	Time        json.RawMessage `json:"time"`
}

// maxDescription is how much of a description is kept, in characters.
const maxDescription = 1000

// parseResponse reads a response. The secrets are what was sent: if the portal echoes them, they
// must not get into an error.
func parseResponse(method string, status int, body []byte, secrets *redact.Set) (*Response, error) {
	fail := func(code ErrorCode) error { return &Error{Method: method, Status: status, Code: code} }
	if status >= http.StatusMultipleChoices && status < http.StatusBadRequest {
		return nil, fail(ErrMoved)
	}
	var env envelope
	// Portals on premise are known to put a byte-order mark in front.
	if err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), &env); err != nil {
		return nil, fail(ErrBadResponse)
	}
	done := status >= http.StatusOK && status < http.StatusMultipleChoices && len(env.Result) > 0
	if failure := env.refusal(method, status, done, secrets); failure != nil {
		return nil, failure
	}
	if !done {
		return nil, fail(ErrBadResponse)
	}
	return &Response{Result: env.Result, Total: integer(env.Total), Next: integer(env.Next), Time: parseTime(env.Time)}, nil
}

// refusal returns an error made of the error members, or nil if there are none.
func (e *envelope) refusal(method string, status int, done bool, secrets *redact.Set) *Error {
	code, description, ok := e.failure(done)
	if !ok {
		return nil
	}
	failure := &Error{
		Method:      method,
		Status:      status,
		Code:        ErrorCode(secrets.Plain(code, maxShown)),
		Description: secrets.Plain(description, maxDescription),
		Argument:    secrets.Plain(text(e.Argument), maxShown),
	}
	if code != string(ErrBadResponse) && isForeign(status, code) {
		failure.Code = ErrBadResponse
		if failure.Description == "" {
			failure.Description = secrets.Plain(code, maxShown)
		}
	}
	if failure.Is(ErrOperationTimeLimit) {
		failure.until = parseTime(e.Time).OperatingResetAt // errors have had no time so far
	}
	return failure
}

// failure returns the error members. REST 3.0 has an object where the older API has a code, and the
// classic CRM methods leave the code empty. An empty code next to a result is not a failure.
func (e *envelope) failure(done bool) (code, description string, ok bool) {
	if isEmpty(e.Error) && (done || len(e.Error) == 0) {
		return "", "", false
	}
	if e.Error[0] == '{' {
		var object struct {
			Code    json.RawMessage `json:"code"`
			Message json.RawMessage `json:"message"`
		}
		_ = json.Unmarshal(e.Error, &object) // it is valid JSON: it was decoded as part of the envelope
		code, description = text(object.Code), text(object.Message)
	} else {
		code, description = text(e.Error), text(e.Description)
	}
	if code == "" && !isEmpty(e.Error) {
		code = string(ErrBadResponse)
	}
	return code, description, true
}

// isForeign reports whether the error member comes from a front end and not from the portal: words
// instead of a code, the status again, or, with the statuses of front ends, a text without the
// capital letters of a code.
func isForeign(status int, code string) bool {
	switch {
	case strings.Contains(code, " "):
		return true
	case status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable:
		return status >= http.StatusInternalServerError && code == strconv.Itoa(status)
	case strings.ContainsAny(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
		return false
	default:
		return !slices.ContainsFunc(beforeTheMethod[:], func(known ErrorCode) bool { return strings.EqualFold(code, string(known)) })
	}
}

// isEmpty reports whether raw is absent, or one of the ways in which PHP writes "nothing".
func isEmpty(raw json.RawMessage) bool { return len(raw) == 0 || phpform.IsBlank(raw) }

// text returns a scalar as text, and nothing for null, objects and arrays.
func text(raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null" {
		return ""
	}
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// number reads a JSON number, or one in quotes.
func number(raw json.RawMessage) (float64, bool) {
	f, err := strconv.ParseFloat(text(raw), 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

func integer(raw json.RawMessage) *int {
	f, ok := number(raw)
	if !ok || math.Abs(f) > math.MaxInt32 {
		return nil
	}
	n := int(f)
	return &n
}

func parseTime(raw json.RawMessage) Time {
	var members struct {
		Start            json.RawMessage `json:"start"`
		Finish           json.RawMessage `json:"finish"`
		Duration         json.RawMessage `json:"duration"`
		Processing       json.RawMessage `json:"processing"`
		Operating        json.RawMessage `json:"operating"`
		OperatingResetAt json.RawMessage `json:"operating_reset_at"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &members) != nil {
		return Time{} // absent, or [] for an empty object
	}
	value := func(raw json.RawMessage) float64 {
		f, ok := number(raw)
		if !ok {
			return 0
		}
		return f
	}
	t := Time{
		Start:      value(members.Start),
		Finish:     value(members.Finish),
		Duration:   value(members.Duration),
		Processing: value(members.Processing),
		Operating:  value(members.Operating),
	}
	const year2200 = 7_258_118_400
	if at := value(members.OperatingResetAt); at > 0 && at < year2200 {
		t.OperatingResetAt = time.Unix(int64(at), 0).UTC()
	}
	return t
}
