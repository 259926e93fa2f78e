package event

import (
	"context"
	"fmt"
	"time"

	"github.com/b24events/b24events/internal/typednil"
	"github.com/b24events/b24events/internal/values"
)

// Activity is a call of an automation rule or workflow activity that the application has registered
// with bizproc.robot.add or bizproc.activity.add. A workflow on the portal makes it when it comes
// to the rule. [OnActivity] registers a handler for it.
//
// Like an event, a call proves the portal and nothing about its sender: everybody who opens a page
// of the application can make one up. So check what the properties ask for before you act on it.
//
// Source: https://apidocs.bitrix24.com/api-reference/bizproc/bizproc-robot/index.html
type Activity struct {
	Code         string        // of the rule, as it was registered
	WorkflowID   string        // of the running workflow
	EventToken   Secret        // what [Activity.Return] sends the result with
	Document     Document      // what the workflow is about
	DocumentType string        // such as DEAL or DYNAMIC_147
	Properties   Data          // the values of the rule's PROPERTIES; decode them with Data.Decode
	Waits        bool          // the workflow waits for the result (USE_SUBSCRIPTION)
	Timeout      time.Duration // how long it waits; 0 for no limit
}

// Document is what a workflow is about, as the portal names it.
type Document struct {
	Module string // such as crm
	Class  string // such as CCrmDocumentDeal
	ID     string // such as DEAL_42
}

// maxTimeout, in seconds, keeps an absurd timeout_duration from overflowing.
const maxTimeout = 10 * 366 * 24 * 3600

// Activity returns the call of an automation rule or activity that d is. If d is none, or has no
// code, the error is a [DecodeError], which is not retried. Fields that d lacks are zero.
func (d *Delivery) Activity() (Activity, error) {
	a := Activity{Code: d.Data.Get("code").Text()}
	switch {
	case d.Kind != KindHandler:
		return Activity{}, mismatch("workflow_id", "a call of an automation rule or activity")
	case a.Code == "":
		return Activity{}, mismatch("code", "the code of an automation rule or activity")
	}
	a.WorkflowID, a.EventToken = d.Data.Get("workflow_id").Text(), Secret(d.Data.Get("event_token").Text())
	id := d.Data.Get("document_id")
	a.Document = Document{id.Get("0").Text(), id.Get("1").Text(), id.Get("2").Text()}
	a.DocumentType = d.Data.Get("document_type", "2").Text()
	a.Properties = d.Data.Get("properties")
	_ = d.Data.Get("use_subscription").Decode(&a.Waits) // what is not Y or N counts as N
	if seconds, ok := values.Int(d.Data.Get("timeout_duration").v); ok && seconds > 0 {
		a.Timeout = time.Duration(min(seconds, maxTimeout)) * time.Second
	}
	return a, nil
}

// ActivityResult is what [Activity.Return] sends.
type ActivityResult struct {
	Values map[string]any // of the rule's RETURN_PROPERTIES, by their names; may be nil
	Log    string         // text for the log of the workflow; empty for the portal's own
}

// Return sends the result of a to its workflow, which then goes on. Call it if a.Waits is true, as
// the last thing that a handler does: the portal accepts one result for a call, and refuses others
// with ACCESS_DENIED. c calls the portal that the delivery comes from.
//
// The error is that of c, or matches [ErrMalformed] if a has no event token, or [ErrConfig] if c is
// nil.
//
// Source: https://apidocs.bitrix24.com/api-reference/bizproc/bizproc-robot/bizproc-event-send.html
func (a Activity) Return(ctx context.Context, c Caller, result ActivityResult) error {
	switch {
	case typednil.Is(c):
		return misconfigured("Activity.Return was given a nil caller")
	case a.EventToken == "":
		return fmt.Errorf("%w: the call has no event token to return a result with", ErrMalformed)
	}
	params := map[string]any{"event_token": string(a.EventToken)}
	if len(result.Values) > 0 {
		params["return_values"] = result.Values
	}
	if result.Log != "" {
		params["log_message"] = result.Log
	}
	if err := c.Call(ctx, "bizproc.event.send", params, nil); err != nil {
		return fmt.Errorf("event: returning the result of an activity: %w", err)
	}
	return nil
}

// OnActivity registers a handler for the automation rule or activity with that code. Codes are
// compared as they are, with their case. The mux passes such calls to no other handler than that of
// [Mux.Unhandled], and they are not in [Mux.Bindings], because bizproc.robot.add names their URL.
// An HTTP handler has to let them in: see webhook.WithActivities.
//
// Like [Mux.Handle], it panics if the code is empty or has a handler, if h is nil, and after the
// first delivery.
func OnActivity(m *Mux, code string, h func(ctx context.Context, d *Delivery, a Activity) error) {
	m.registering("OnActivity")
	switch {
	case code == "":
		panic("event: OnActivity with an empty code")
	case h == nil:
		panic("event: OnActivity " + code + " with a nil handler")
	case m.activities[code] != nil:
		panic("event: the activity " + code + " has a handler already")
	}
	handler := HandlerFunc(func(ctx context.Context, d *Delivery) error {
		a, err := d.Activity()
		if err != nil {
			return err
		}
		return h(ctx, d, a)
	})
	route := m.wrap(handler)
	if m.activities == nil {
		m.activities, m.activityRoutes = make(map[string]Handler), make(map[string]Handler)
	}
	m.activities[code], m.activityRoutes[code] = handler, route
}
