package event_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// activityOf returns the delivery that a portal sends for a call.
func activityOf(t *testing.T, a eventtest.Activity, opts ...eventtest.RequestOption) *event.Delivery {
	t.Helper()
	r, err := eventtest.NewActivityRequest(t.Context(), a, opts...)
	require.NoError(t, err)
	d, err := event.ParseRequest(r)
	require.NoError(t, err)
	require.Equal(t, event.KindHandler, d.Kind)
	return d
}

func TestActivity(t *testing.T) {
	t.Parallel()
	fired := time.Unix(1_727_018_926, 0).UTC()
	d := activityOf(t, eventtest.Activity{
		Code: "send.SMS-1", WorkflowID: "5f.1", EventToken: "5f.1|A1|secret", DocumentID: [3]string{"crm", `Bitrix\Crm\Dynamic`, "DYNAMIC_147_5"},
		DocumentType: [3]string{"crm", `Bitrix\Crm\Dynamic`, "DYNAMIC_147"}, Waits: true, Timeout: 90 * time.Second,
		Properties: map[string]any{"text": "a&b=[c]", "count": 7, "list": []string{"x", "y"}, "flag": true},
	}, eventtest.WithMember("m1"), eventtest.WithToken("app-token"), eventtest.WithTime(fired))
	require.Equal(t, "m1", d.ClaimedMemberID())
	require.Equal(t, event.Secret("app-token"), d.Auth.ApplicationToken)
	require.Equal(t, fired, d.Time)

	a, err := d.Activity()
	require.NoError(t, err)
	var properties struct {
		Text  string   `json:"text"`
		Count int      `json:"count"`
		List  []string `json:"list"`
		Flag  bool     `json:"flag"`
	}
	require.NoError(t, a.Properties.Decode(&properties))
	require.Equal(t, "a&b=[c]", properties.Text)
	require.Equal(t, 7, properties.Count)
	require.Equal(t, []string{"x", "y"}, properties.List)
	require.True(t, properties.Flag)
	a.Properties = event.Data{}
	require.Equal(t, event.Activity{
		Code: "send.SMS-1", WorkflowID: "5f.1", EventToken: "5f.1|A1|secret", Waits: true, Timeout: 90 * time.Second,
		Document: event.Document{Module: "crm", Class: `Bitrix\Crm\Dynamic`, ID: "DYNAMIC_147_5"}, DocumentType: "DYNAMIC_147",
	}, a)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		require.NotContains(t, fmt.Sprintf(verb, a), "secret", verb)
	}
}

func TestHostileActivities(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		bad  bool
		want event.Activity
	}{
		"an event":            {"event=ONCRMDEALADD&code=c&workflow_id=1", true, event.Activity{}},
		"a page":              {"AUTH_ID=1&code=c", true, event.Activity{}},
		"no code":             {"workflow_id=1", true, event.Activity{}},
		"code is a list":      {"workflow_id=1&code[]=c", true, event.Activity{}},
		"only a code":         {"code=c&event_token[]=x&workflow_id[]=1", false, event.Activity{Code: "c"}},
		"document is a text":  {"code=c&workflow_id=1&document_id=DEAL_1&document_type=DEAL", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"document is deep":    {"code=c&workflow_id=1&document_id[2][2]=DEAL_1", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"short document":      {"code=c&workflow_id=1&document_id[]=crm", false, event.Activity{Code: "c", WorkflowID: "1", Document: event.Document{Module: "crm"}}},
		"odd subscription":    {"code=c&workflow_id=1&use_subscription=maybe", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"subscription list":   {"code=c&workflow_id=1&use_subscription[]=Y", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"subscription N":      {"code=c&workflow_id=1&use_subscription=N", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"subscription 1":      {"code=c&workflow_id=1&use_subscription=1", false, event.Activity{Code: "c", WorkflowID: "1", Waits: true}},
		"no timeout":          {"code=c&workflow_id=1&timeout_duration=", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"negative timeout":    {"code=c&workflow_id=1&timeout_duration=-5", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"timeout is a text":   {"code=c&workflow_id=1&timeout_duration=soon", false, event.Activity{Code: "c", WorkflowID: "1"}},
		"keys in other cases": {"CODE=c&Workflow_Id=1&USE_SUBSCRIPTION=Y", false, event.Activity{Code: "c", WorkflowID: "1", Waits: true}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", []byte(test.body))
			require.NoError(t, err)
			a, err := d.Activity()
			if test.bad {
				require.ErrorIs(t, err, event.ErrMalformed)
				outcome, _ := event.OutcomeOf(err)
				require.Equal(t, event.OutcomeDropped, outcome)
				require.Zero(t, a)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, a)
		})
	}
	d, err := event.Parse("", fmt.Appendf(nil, "code=c&workflow_id=1&timeout_duration=%d", int64(math.MaxInt64)))
	require.NoError(t, err)
	a, err := d.Activity()
	require.NoError(t, err)
	require.Greater(t, a.Timeout, 9*365*24*time.Hour, "it does not overflow")
	_, err = (&event.Delivery{}).Activity()
	require.ErrorIs(t, err, event.ErrMalformed)
}

func TestOnActivity(t *testing.T) {
	t.Parallel()
	var ran []string
	note := func(name string) func(context.Context, *event.Delivery, event.Activity) error {
		return func(_ context.Context, _ *event.Delivery, a event.Activity) error {
			ran = append(ran, name+":"+a.Code)
			return nil
		}
	}
	mux := event.NewMux()
	event.OnActivity(mux, "one", note("one"))
	mux.Use(func(next event.Handler) event.Handler {
		return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			ran = append(ran, "middleware")
			return next.HandleEvent(ctx, d)
		})
	})
	event.OnActivity(mux, "two", note("two"))
	mux.Handle("ONE", event.HandlerFunc(func(context.Context, *event.Delivery) error { ran = append(ran, "event"); return nil }))
	require.Equal(t, []string{"ONE"}, mux.Names(), "activities are no events")
	require.Len(t, mux.Bindings("https://example.com/b"), 1)

	handle := func(code string) error {
		return mux.HandleEvent(t.Context(), activityOf(t, eventtest.Activity{Code: code}))
	}
	require.NoError(t, handle("one"))
	require.NoError(t, handle("two"))
	require.ErrorIs(t, handle("ONE"), event.ErrUnhandled, "codes have their case")
	require.ErrorIs(t, handle("three"), event.ErrUnhandled)
	d, err := event.Parse("", []byte("event=one&code=one&workflow_id=1"))
	require.NoError(t, err)
	require.NoError(t, mux.HandleEvent(t.Context(), d))
	require.Equal(t, []string{"middleware", "one:one", "middleware", "two:two", "middleware", "middleware", "middleware", "event"}, ran)
	require.Panics(t, func() { event.OnActivity(mux, "late", note("late")) })

	require.ErrorIs(t, event.NewMux().HandleEvent(t.Context(), activityOf(t, eventtest.Activity{Code: "one"})), event.ErrUnhandled)
	other := event.NewMux()
	event.OnActivity(other, "one", note("one"))
	require.Panics(t, func() { event.OnActivity(other, "one", note("again")) })
	require.Panics(t, func() { event.OnActivity(other, "", note("empty")) })
	require.Panics(t, func() { event.OnActivity(other, "nil", nil) })
	unhandled := 0
	other.Unhandled(event.HandlerFunc(func(context.Context, *event.Delivery) error { unhandled++; return nil }))
	require.NoError(t, other.HandleEvent(t.Context(), activityOf(t, eventtest.Activity{Code: "three"})))
	require.Equal(t, 1, unhandled)
}

// sent is a caller that notes one call.
type sentCall struct {
	method string
	params any
	err    error
}

func (c *sentCall) Call(_ context.Context, method string, params, _ any) error {
	c.method, c.params = method, params
	return c.err
}

func TestActivityReturn(t *testing.T) {
	t.Parallel()
	a := event.Activity{Code: "c", EventToken: "secret-token"}
	c := &sentCall{}
	require.NoError(t, a.Return(t.Context(), c, event.ActivityResult{Values: map[string]any{"sum": 7}, Log: "done"}))
	require.Equal(t, "bizproc.event.send", c.method)
	require.Equal(t, map[string]any{"event_token": "secret-token", "return_values": map[string]any{"sum": 7}, "log_message": "done"}, c.params)
	require.NoError(t, a.Return(t.Context(), c, event.ActivityResult{}))
	require.Equal(t, map[string]any{"event_token": "secret-token"}, c.params)

	c.err = errors.New("down")
	err := a.Return(t.Context(), c, event.ActivityResult{})
	require.ErrorIs(t, err, c.err)
	require.NotContains(t, err.Error(), "secret-token")
	require.ErrorIs(t, a.Return(t.Context(), nil, event.ActivityResult{}), event.ErrConfig)
	require.ErrorIs(t, a.Return(t.Context(), (*sentCall)(nil), event.ActivityResult{}), event.ErrConfig)
	require.ErrorIs(t, event.Activity{}.Return(t.Context(), c, event.ActivityResult{}), event.ErrMalformed)
}

// TestStoredActivity: a store keeps a call without loss, and without the tokens if it has no key.
func TestStoredActivity(t *testing.T) {
	t.Parallel()
	d := activityOf(t, eventtest.Activity{Code: "one", Waits: true, Properties: map[string]any{"x": "y"}},
		eventtest.WithMember("m1"), eventtest.WithUser(7, "planted-access-token"))
	want, err := d.Activity()
	require.NoError(t, err)
	d.DropTokens()
	stored := d.AppendStored(nil)
	require.NotContains(t, string(stored), "planted-access-token")
	d, err = event.ParseStored(stored)
	require.NoError(t, err)
	got, err := d.Activity()
	require.NoError(t, err)
	require.Equal(t, want.Properties.JSON(), got.Properties.JSON())
	want.Properties, got.Properties = event.Data{}, event.Data{}
	require.Equal(t, want, got, "also the event token, which the result needs")
}

func TestActivityRequestErrors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		a   eventtest.Activity
		opt eventtest.RequestOption
	}{
		"no code":        {eventtest.Activity{}, nil},
		"bad URL":        {eventtest.Activity{Code: "c"}, eventtest.WithURL("no URL")},
		"bad properties": {eventtest.Activity{Code: "c", Properties: map[string]any{"x": make(chan int)}}, nil},
	} {
		_, err := eventtest.NewActivityRequest(t.Context(), test.a, test.opt)
		require.Error(t, err, name)
	}
	r, err := eventtest.NewActivityRequest(t.Context(), eventtest.Activity{Code: "c"}, eventtest.Direct(), eventtest.WithToken("t"))
	require.NoError(t, err)
	text, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), "&auth%5Bdomain%5D=")
	require.NotContains(t, string(text), "client_endpoint")
	require.True(t, strings.HasPrefix(string(text), "workflow_id="))
	r, err = eventtest.NewActivityRequest(t.Context(), eventtest.Activity{Code: "c"}, eventtest.WithoutAuth())
	require.NoError(t, err)
	d, err := event.ParseRequest(r)
	require.NoError(t, err)
	require.Zero(t, d.Auth)
}

func FuzzActivity(f *testing.F) {
	f.Add("workflow_id=1&code=c&document_id[]=crm&document_id[]=a&document_id[]=DEAL_1&properties[a]=b&use_subscription=Y&timeout_duration=9")
	f.Add("code[x]=1&workflow_id=2")
	f.Add(`{"workflow_id":1,"code":true,"timeout_duration":1e99,"use_subscription":{},"document_id":{"2":[]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		d, err := event.Parse("", []byte(body))
		if err != nil {
			return
		}
		a, err := d.Activity()
		require.Equal(t, err == nil, d.Kind == event.KindHandler && a.Code != "")
		require.GreaterOrEqual(t, a.Timeout, time.Duration(0))
	})
}
