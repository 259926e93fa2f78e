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
	Status      int     `json:"status"`      // of error, html and text
	Code        string  `json:"code"`        // of error
	Description string  `json:"description"` // of error
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
			return eventtest.Fail(cmp.Or(r.Status, 503), cmp.Or(r.Code, "QUERY_LIMIT_EXCEEDED"), cmp.Or(r.Description, "Too many requests"))
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

// Limits of faults.
const (
	maxFaultTimes   = 1000
	maxFaultMethods = 100
)

var methodName = regexp.MustCompile(`^(\*|[A-Za-z0-9._]{1,100}|oauth/(token|app\.info))$`)

// addFault plans a fault.
func (pg *page) addFault(_ context.Context, _ string, in faultRequest) (any, error) {
	kinds := makers()
	maker := kinds[in.Fault]
	planned := pg.portal.PlannedFaults()
	switch {
	case maker == nil:
		return nil, badRequest("the fault is one of " + strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	case !methodName.MatchString(in.Method):
		return nil, badRequest("the method is a REST method such as crm.deal.get, * for any, oauth/token or oauth/app.info")
	case in.Times < -1 || in.Times > maxFaultTimes:
		return nil, badRequest("the number of times is from 1 to 1000, or -1 for all calls until the fault is healed")
	case in.Status != 0 && (in.Status < 200 || in.Status > 599):
		return nil, badRequest("the status is from 200 to 599")
	case len(in.Code)+len(in.Description) > 1000:
		return nil, badRequest("the code and the description are too long")
	case in.Seconds < 0 || in.Seconds > maxLatency.Seconds() || (in.Fault == "delay" && in.Seconds == 0):
		return nil, badRequest("a delay has seconds, at most 60")
	case len(planned) >= maxFaultMethods || planned[strings.ToLower(in.Method)].Once+in.Times > maxFaultTimes:
		return nil, badRequest("too many faults are planned already; heal some")
	}
	if in.Times < 0 {
		pg.portal.Always(in.Method, maker(in))
		return map[string]any{"text": "every call of " + in.Method + " fails from now on"}, nil
	}
	times := cmp.Or(in.Times, 1)
	pg.portal.Times(times, in.Method, maker(in))
	if times == 1 {
		return map[string]any{"text": "the next call of " + in.Method + " fails"}, nil
	}
	return map[string]any{"text": "the next calls of " + in.Method + " fail"}, nil
}

// heal removes the faults of a method, or all.
func (pg *page) heal(_ context.Context, _ string, in struct {
	Method string `json:"method"` // empty for all
},
) (any, error) {
	if in.Method == "" {
		pg.portal.Heal()
		return nil, nil //nolint:nilnil // it has no result
	}
	pg.portal.Heal(in.Method)
	return nil, nil //nolint:nilnil // it has no result
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

// wait waits until every delivery was attempted, and until a method was called.
func (pg *page) wait(ctx context.Context, _ string, in waitRequest) (any, error) {
	limit, err := time.ParseDuration(cmp.Or(in.Timeout, "10s"))
	if err != nil || limit <= 0 || limit > maxLatency {
		return nil, badRequest("the timeout is a duration like 500ms or 10s, at most 60s")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := pg.portal.Wait(ctx); err != nil {
		return nil, problem{http.StatusGatewayTimeout, "deliveries are still under way after " + limit.String()}
	}
	for in.Method != "" && pg.portal.CallCount(in.Method) < max(in.Calls, 1) {
		changed := pg.portal.Changed()
		if pg.portal.CallCount(in.Method) < max(in.Calls, 1) && !pause(ctx, changed, heartbeat) {
			return nil, problem{http.StatusGatewayTimeout, "the method was not called that often within " + limit.String()}
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
	return map[string]any{"acknowledged": acknowledged, "failed": failed}, nil
}
