package main

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// faultRequest lets the next calls of a method fail.
type faultRequest struct {
	Method      string  `json:"method"`      // * for any REST method; oauth/token and oauth/app.info are at the OAuth server
	Fault       string  `json:"fault"`       // its kind; see makers
	Times       int     `json:"times"`       // the default is 1; -1 means until it is healed
	Status      int     `json:"status"`      // of error and html; see knownErrors
	Code        string  `json:"code"`        // of error; the default is QUERY_LIMIT_EXCEEDED
	Description string  `json:"description"` // of error; the default is the platform's text for the code
	Seconds     float64 `json:"seconds"`     // of delay
}

// faultView is the faults of a method that have not happened yet.
type faultView struct {
	Method string `json:"method"`
	Once   int    `json:"once"`
	Always bool   `json:"always"`
}

// makers returns the kinds of faults.
func makers() map[string]func(faultRequest) eventtest.Fault {
	return map[string]func(faultRequest) eventtest.Fault{
		"error": func(r faultRequest) eventtest.Fault {
			return eventtest.Fail(r.Status, r.Code, r.Description)
		},
		"expired_token":   func(faultRequest) eventtest.Fault { return eventtest.ExpiredToken() },
		"revoked_token":   func(faultRequest) eventtest.Fault { return eventtest.RevokedToken() },
		"refused_refresh": func(faultRequest) eventtest.Fault { return eventtest.RefusedRefresh() },
		"reset":           func(faultRequest) eventtest.Fault { return eventtest.Reset() },
		"lost_answer":     func(faultRequest) eventtest.Fault { return eventtest.LoseAnswer() },
		"cut_answer":      func(faultRequest) eventtest.Fault { return eventtest.CutAnswer() },
		"html":            func(r faultRequest) eventtest.Fault { return eventtest.HTML(cmp.Or(r.Status, 502)) },
		"plain_text":      func(faultRequest) eventtest.Fault { return eventtest.PlainText() },
		"bom":             func(faultRequest) eventtest.Fault { return eventtest.BOM() },
		"notice":          func(faultRequest) eventtest.Fault { return eventtest.Notice() },
		"wrong_encoding":  func(faultRequest) eventtest.Fault { return eventtest.WrongEncoding() },
		"delay":           func(r faultRequest) eventtest.Fault { return eventtest.Delay(seconds(r.Seconds)) },
	}
}

// knownError is the status and the text that an error code has on the platform.
type knownError struct {
	status int
	text   string
}

// knownErrors returns the error codes that need no status and no description.
//
// Source: https://apidocs.bitrix24.com/error-codes.html
func knownErrors() map[string]knownError {
	return map[string]knownError{
		"QUERY_LIMIT_EXCEEDED":    {503, "Too many requests"},
		"OVERLOAD_LIMIT":          {503, "REST API is blocked due to overload"},
		"OPERATION_TIME_LIMIT":    {429, "Method is blocked due to operation time limit."},
		"INTERNAL_SERVER_ERROR":   {500, "Internal server error"},
		"ERROR_UNEXPECTED_ANSWER": {500, "Server returned an unexpected response"},
		"PORTAL_DELETED":          {500, "Portal was deleted"},
		"ERROR_METHOD_NOT_FOUND":  {404, "Method not found!"},
		"ACCESS_DENIED":           {403, "Access denied!"},
		"user_access_error":       {403, "The user does not have access to the application"},
		"WRONG_AUTH_TYPE":         {403, "Current authorization type is denied for this method"},
		"NO_AUTH_FOUND":           {401, "Wrong authorization data"},
		"INVALID_CREDENTIALS":     {401, "Invalid request credentials"},
		"expired_token":           {401, "The access token provided has expired"},
		"invalid_token":           {401, "Unable to get application by token"},
		"APPLICATION_NOT_FOUND":   {401, "Application not found"},
		"insufficient_scope":      {401, "The request requires higher privileges than provided by the access token"},
		"authorization_error":     {401, "Unable to authorize user"},
		"invalid_client":          {401, "Wrong client credentials"},
		"invalid_grant":           {400, ""}, // the OAuth server sends no text
	}
}

// completeError fills in the status and the description of an error from its code. A code that is
// not known needs both, so that no error has the text of another.
func (r *faultRequest) completeError() error {
	if r.Code == "" && r.Status != 0 && r.Status != 503 {
		return badRequest("an error with a status other than 503 needs its code, for example INTERNAL_SERVER_ERROR for 500")
	}
	r.Code = cmp.Or(r.Code, "QUERY_LIMIT_EXCEEDED")
	known, found := knownErrors()[r.Code]
	if !found && (r.Status == 0 || r.Description == "") {
		return badRequest("the text of this code is not known; give status and description, or one of " +
			strings.Join(slices.Sorted(maps.Keys(knownErrors())), ", "))
	}
	r.Status, r.Description = cmp.Or(r.Status, known.status), cmp.Or(r.Description, known.text)
	return nil
}

// Limits of faults.
const (
	maxFaultTimes   = 1000
	maxFaultMethods = 100
)

var methodName = regexp.MustCompile(`^(\*|[A-Za-z0-9._]{1,100}|oauth/(token|app\.info))$`)

// addFault plans a fault.
func (pg *page) addFault(_ context.Context, _ string, in faultRequest) (doneText, error) {
	kinds := makers()
	maker := kinds[in.Fault]
	planned := pg.portal.PlannedFaults()
	switch {
	case maker == nil:
		return doneText{}, badRequest("the fault is one of " + strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case !methodName.MatchString(in.Method):
		return doneText{}, badRequest("the method is a REST method such as crm.deal.get, * for any, oauth/token or oauth/app.info")
	case in.Times < -1 || in.Times > maxFaultTimes:
		return doneText{}, badRequest("the number of times is from 1 to 1000, or -1 for all calls until the fault is healed")
	case in.Status != 0 && (in.Status < 200 || in.Status > 599):
		return doneText{}, badRequest("the status is from 200 to 599")
	case len(in.Code)+len(in.Description) > 1000:
		return doneText{}, badRequest("the code and the description are too long")
	case in.Seconds < 0 || in.Seconds > maxLatency.Seconds() || (in.Fault == "delay" && in.Seconds == 0):
		return doneText{}, badRequest("a delay has seconds, at most 60")
	case len(planned) >= maxFaultMethods || planned[strings.ToLower(in.Method)].Once+in.Times > maxFaultTimes:
		return doneText{}, badRequest("too many faults are planned already; heal some")
	}
	if in.Fault == "error" {
		if err := in.completeError(); err != nil {
			return doneText{}, err
		}
	}
	if in.Times < 0 {
		pg.portal.Always(in.Method, maker(in))
		return doneText{"every call of " + in.Method + " fails from now on"}, nil
	}
	times := cmp.Or(in.Times, 1)
	pg.portal.Times(times, in.Method, maker(in))
	if times == 1 {
		return doneText{"the next call of " + in.Method + " fails"}, nil
	}
	return doneText{"the next calls of " + in.Method + " fail"}, nil
}

// heal removes the faults of a method, or all.
func (pg *page) heal(_ context.Context, _ string, in struct {
	Method string `json:"method"` // empty for all
},
) (noResult, error) {
	if in.Method == "" {
		pg.portal.Heal()
		return noResult{}, nil
	}
	pg.portal.Heal(in.Method)
	return noResult{}, nil
}

func (pg *page) faults() []faultView {
	views := []faultView{}
	planned := pg.portal.PlannedFaults()
	for _, method := range slices.Sorted(maps.Keys(planned)) {
		views = append(views, faultView{Method: shorten(method), Once: planned[method].Once, Always: planned[method].Always})
	}
	return views
}

// waitRequest says what to wait for.
type waitRequest struct {
	Timeout string `json:"timeout"` // the default is 10s
	Method  string `json:"method"`  // a REST method that the application should call
	Calls   int    `json:"calls"`   // how often it was called in all, at least; the default is 1
}

// waitResult counts the deliveries that are kept.
type waitResult struct {
	Acknowledged int `json:"acknowledged"`
	Failed       int `json:"failed"`
}

// wait waits until every delivery was attempted, and until a method was called.
func (pg *page) wait(ctx context.Context, _ string, in waitRequest) (waitResult, error) {
	limit, err := time.ParseDuration(cmp.Or(in.Timeout, "10s"))
	if err != nil || limit <= 0 || limit > maxLatency {
		return waitResult{}, badRequest("the timeout is a duration like 500ms or 10s, at most 60s")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := pg.portal.Wait(ctx); err != nil {
		return waitResult{}, problem{http.StatusGatewayTimeout, "deliveries are still under way after " + limit.String()}
	}
	for in.Method != "" && pg.portal.CallCount(in.Method) < max(in.Calls, 1) {
		changed := pg.portal.Changed()
		if pg.portal.CallCount(in.Method) < max(in.Calls, 1) && !pause(ctx, changed, heartbeat) {
			return waitResult{}, problem{http.StatusGatewayTimeout, "the method was not called that often within " + limit.String()}
		}
	}
	acknowledged, failed := 0, 0
	for _, a := range pg.portal.Deliveries() {
		if a.OK() {
			acknowledged++
		} else {
			failed++
		}
	}
	return waitResult{acknowledged, failed}, nil
}
