package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	big := url.Values{}
	for i := range 30_000 {
		big.Set("data["+strconv.Itoa(i)+"]", "1")
	}
	unsure := errors.New("database down")
	frame := url.Values{"DOMAIN": {"p.bitrix24.com"}, "AUTH_ID": {"x"}, "APP_SID": {"y"}, "member_id": {member}}.Encode()
	robot := url.Values{"workflow_id": {"1"}, "code": {"c"}, "event_token": {"t"}, "auth[application_token]": {token}}.Encode()
	tests := map[string]struct {
		method      string // POST where empty
		contentType string // a form where empty
		body        string
		verifier    webhook.Verifier // Tokens(token) where nil
		status      int
		text        string
		reason      webhook.Reason // none where accepted
		handled     bool
		dropped     uint64
	}{
		"known event":           {body: dealUpdate(7), status: 200, handled: true},
		"lower case name":       {body: body("onCrmDealUpdate", fields{"data[FIELDS][ID]": "1"}), status: 200, handled: true},
		"unknown event":         {body: body("ONSOMETHINGNEW", nil), status: 200, handled: true},
		"no data":               {body: body("ONSESSIONEND", nil), status: 200, handled: true},
		"hook, offline event":   {body: body("ONOFFLINEEVENT", nil), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"app, offline event":    {body: body("ONOFFLINEEVENT", nil), verifier: anyPortal(), status: 200, handled: true},
		"charset":               {contentType: form + "; charset=UTF-8", body: dealUpdate(7), status: 200, handled: true},
		"json":                  {contentType: "application/json", body: `{"event":"ONCRMDEALADD","auth":{"application_token":"` + token + `"}}`, status: 200, handled: true},
		"install, token known":  {body: body("ONAPPINSTALL", nil), verifier: anyPortal(), status: 200, handled: true},
		"hook, application's":   {body: body("ONAPPINSTALL", nil), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"GET":                   {method: http.MethodGet, status: 204},
		"GET with an event":     {method: http.MethodGet, body: dealUpdate(7), status: 204},
		"HEAD":                  {method: http.MethodHead, status: 204},
		"PUT":                   {method: http.MethodPut, body: dealUpdate(7), status: 405, text: "method not allowed\n", reason: webhook.ReasonMethod},
		"OPTIONS":               {method: http.MethodOptions, status: 405, text: "method not allowed\n", reason: webhook.ReasonMethod},
		"made-up method":        {method: "EVENT", body: dealUpdate(7), status: 405, text: "method not allowed\n", reason: webhook.ReasonMethod},
		"plain text":            {contentType: "text/plain", body: dealUpdate(7), status: 415, text: "unsupported content type\n", reason: webhook.ReasonContentType},
		"multipart":             {contentType: "multipart/form-data; boundary=x", body: dealUpdate(7), status: 415, text: "unsupported content type\n", reason: webhook.ReasonContentType},
		"bad content type":      {contentType: ";;", body: dealUpdate(7), status: 415, text: "unsupported content type\n", reason: webhook.ReasonContentType},
		"too many bytes":        {body: dealUpdate(7) + "&x=" + strings.Repeat("a", webhook.DefaultMaxBodyBytes), status: 413, text: "body too large\n", reason: webhook.ReasonTooLarge},
		"too many keys":         {body: dealUpdate(7) + "&" + big.Encode(), status: 413, text: "body too large\n", reason: webhook.ReasonTooLarge},
		"too deep":              {body: dealUpdate(7) + "&data" + strings.Repeat("[x]", 5_000) + "=1", status: 413, text: "body too large\n", reason: webhook.ReasonTooLarge},
		"too deep, json":        {contentType: "application/json", body: strings.Repeat(`{"a":`, 50_000), status: 413, text: "body too large\n", reason: webhook.ReasonTooLarge},
		"empty":                 {body: "", status: 400, text: "malformed body\n", reason: webhook.ReasonMalformed},
		"not json":              {contentType: "application/json", body: `{"event":`, status: 400, text: "malformed body\n", reason: webhook.ReasonMalformed},
		"name is a list":        {body: "event[]=ONCRMDEALADD", status: 400, text: "malformed body\n", reason: webhook.ReasonMalformed},
		"application page":      {body: frame, status: 400, text: "not an event\n", reason: webhook.ReasonNotEvent},
		"automation rule":       {body: robot, status: 400, text: "not an event\n", reason: webhook.ReasonNotEvent},
		"something else":        {body: "hello=world", status: 400, text: "not an event\n", reason: webhook.ReasonNotEvent},
		"no token":              {body: body("ONCRMDEALADD", fields{"auth[application_token]": ""}), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"wrong token":           {body: body("ONCRMDEALADD", fields{"auth[application_token]": token[1:]}), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"token with a tail":     {body: body("ONCRMDEALADD", fields{"auth[application_token]": token + "0"}), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"no auth at all":        {body: "event=ONCRMDEALADD", status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"install, token wrong":  {body: body("ONAPPINSTALL", fields{"auth[application_token]": "x"}), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
		"verifier unsure":       {body: dealUpdate(7), verifier: answering(unsure), status: 503, text: "unavailable\n", reason: webhook.ReasonUnavailable, dropped: 1},
		"verifier panics":       {body: dealUpdate(7), verifier: panicking(unsure), status: 503, text: "unavailable\n", reason: webhook.ReasonUnavailable, dropped: 1},
		"panic with forbidden":  {body: dealUpdate(7), verifier: panicking(event.ErrForbidden), status: 503, text: "unavailable\n", reason: webhook.ReasonUnavailable, dropped: 1},
		"verifier wraps refuse": {body: dealUpdate(7), verifier: answering(errors.Join(unsure, event.ErrForbidden)), status: 403, text: "forbidden\n", reason: webhook.ReasonForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			var lost drops
			v := test.verifier
			if v == nil {
				v = webhook.Tokens(token)
			}
			h, err := webhook.NewHandler(v, &rec, lost.option(), silent())
			require.NoError(t, err)
			r := request(test.body)
			if test.method != "" {
				r.Method = test.method
			}
			if test.contentType != "" {
				r.Header.Set("Content-Type", test.contentType)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			shutdown(t, h)

			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.text, w.Body.String())
			s := h.Stats()
			handled, rejected := 0, uint64(0)
			if test.handled {
				handled = 1
			}
			require.Len(t, rec.deliveries(), handled)
			require.EqualValues(t, handled, s.Accepted)
			require.EqualValues(t, handled, s.Handled)
			require.EqualValues(t, handled, s.Ack.Count())
			require.EqualValues(t, handled, s.Lag.Count())
			require.Equal(t, test.dropped, s.Lost)
			for reason, n := range s.Rejected {
				rejected += n
				if reason == test.reason {
					require.EqualValues(t, 1, n)
				}
			}
			if test.reason == "" {
				require.Zero(t, rejected)
			} else {
				require.EqualValues(t, 1, rejected)
				require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
				require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
			}
			require.Equal(t, test.status == http.StatusMethodNotAllowed, w.Header().Get("Allow") == "GET, HEAD, POST")
			ids, _ := lost.list()
			require.Empty(t, ids, "what was not verified is nobody's to keep")
		})
	}
}

func answering(err error) webhook.Verifier {
	return verifierFunc(func(context.Context, *event.Delivery) error { return err })
}

func panicking(v any) webhook.Verifier {
	return verifierFunc(func(context.Context, *event.Delivery) error { panic(v) })
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	fit := dealUpdate(7)
	h := newHandler(t, nothing(), webhook.WithMaxBodyBytes(int64(len(fit))))
	require.Equal(t, http.StatusOK, post(h, fit))
	require.Equal(t, http.StatusRequestEntityTooLarge, post(h, fit+"&"))

	// The same without a declared length.
	r := request("")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(fit+"&")), -1
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	shutdown(t, h)
	require.EqualValues(t, 2, h.Stats().Rejected[webhook.ReasonTooLarge])
}

func TestNilBody(t *testing.T) {
	t.Parallel()
	r := request("")
	r.Body = nil
	w := httptest.NewRecorder()
	newHandler(t, nothing()).ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestBrokenBody(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body   io.Reader
		status int
	}{
		"peer went away": {io.MultiReader(strings.NewReader("event=ON"), failing{io.ErrUnexpectedEOF}), http.StatusBadRequest},
		"reader panics":  {failing{}, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request("")
			r.Body = io.NopCloser(test.body)
			w := httptest.NewRecorder()
			newHandler(t, nothing()).ServeHTTP(w, r)
			require.Equal(t, test.status, w.Code)
		})
	}
}

// failing fails to read with err, or panics if err is nil.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		panic("secret of the reader")
	}
	return 0, f.err
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	type key struct{}
	value := any("nothing yet")
	rec := recorder{then: func(ctx context.Context, _ *event.Delivery) error {
		value = ctx.Value(key{})
		return ctx.Err()
	}}
	h := newHandler(t, &rec)
	ctx, hangUp := context.WithCancel(context.WithValue(t.Context(), key{}, "trace"))
	hangUp() // the platform does not wait
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(dealUpdate(7)).WithContext(ctx))
	require.Equal(t, http.StatusOK, w.Code)
	require.Empty(t, w.Body.String())
	shutdown(t, h)

	d := rec.deliveries()[0]
	require.Equal(t, event.SourceOnline, d.Source)
	require.Equal(t, "ONCRMDEALUPDATE", d.Name)
	require.Equal(t, member, d.MemberID())
	require.Equal(t, event.Entity{Kind: "crm.deal", ID: "7"}, d.Entity())
	require.Nil(t, value, "the request's values are those of another request by now")
	require.EqualValues(t, 1, h.Stats().Handled)
}

// TestVerifierOutlivesTheRequest: the platform hangs up while the verifier asks the OAuth server,
// and the event still counts.
func TestVerifierOutlivesTheRequest(t *testing.T) {
	t.Parallel()
	ctx, hangUp := context.WithCancel(t.Context())
	h, err := webhook.NewHandler(verifierFunc(func(ctx context.Context, _ *event.Delivery) error {
		hangUp()
		return ctx.Err()
	}), nothing())
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(dealUpdate(7)).WithContext(ctx))
	require.Equal(t, http.StatusOK, w.Code)
	shutdown(t, h)
}

func TestUnhandled(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]webhook.Option{
		"queued": nil,
		"sync":   {webhook.WithSync()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mux := event.NewMux()
			mux.Handle("ONMYEVENT", nothing())
			mux.Handle("ONBOTH", event.Join(event.NewMux(), do(func(context.Context, *event.Delivery) error { return event.Drop(io.EOF) })))
			var lost drops
			h := newHandler(t, mux, append(opts, lost.option())...)
			require.Equal(t, http.StatusOK, post(h, body("ONMYEVENT", nil)))
			require.Equal(t, http.StatusOK, post(h, dealUpdate(7)), "acknowledged: a retry would not help")
			post(h, body("ONBOTH", nil))
			shutdown(t, h)
			s := h.Stats()
			require.EqualValues(t, 1, s.Handled)
			require.EqualValues(t, 1, s.Unhandled)
			require.EqualValues(t, 1, s.Failed, "one of two handlers took it, and failed")
			require.EqualValues(t, 3, s.Accepted)
			require.Zero(t, s.Retried)
			ids, _ := lost.list()
			require.Len(t, ids, 1)
		})
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		handler event.Handler
		status  int
		failed  uint64
	}{
		"success": {nothing(), http.StatusOK, 0},
		"error":   {do(func(context.Context, *event.Delivery) error { return io.EOF }), http.StatusInternalServerError, 1},
		"drop":    {do(func(context.Context, *event.Delivery) error { return event.Drop(io.EOF) }), http.StatusInternalServerError, 1},
		"retry": {
			do(func(context.Context, *event.Delivery) error { return event.Retry(io.EOF, time.Second) }),
			http.StatusInternalServerError, 1,
		},
		"panic": {do(func(context.Context, *event.Delivery) error { panic(http.ErrAbortHandler) }), http.StatusInternalServerError, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lost drops
			h := newHandler(t, test.handler, webhook.WithSync(), lost.option())
			require.Equal(t, test.status, post(h, dealUpdate(7)))
			s := h.Stats()
			require.EqualValues(t, 1, s.Accepted)
			require.Equal(t, test.failed, s.Failed)
			require.Zero(t, s.Retried)
			balanced(t, s, 0)
			ids, _ := lost.list()
			require.Len(t, ids, int(test.failed)) //nolint:gosec // 0 or 1
			shutdown(t, h)
			require.Equal(t, http.StatusServiceUnavailable, post(h, dealUpdate(7)))
		})
	}
}

// queueFunc makes a function a queue.
type queueFunc func(ctx context.Context, d *event.Delivery) error

func (f queueFunc) Enqueue(ctx context.Context, d *event.Delivery) error { return f(ctx, d) }

func TestQueueOption(t *testing.T) {
	t.Parallel()
	down := errors.New("no connection")
	for name, test := range map[string]struct {
		result error
		status int
		reason webhook.Reason
	}{
		"stored": {nil, http.StatusOK, ""},
		"full":   {errors.Join(webhook.ErrQueueFull), http.StatusServiceUnavailable, webhook.ReasonQueueFull},
		"down":   {down, http.StatusServiceUnavailable, webhook.ReasonUnavailable},
		"panic":  {errPanic, http.StatusServiceUnavailable, webhook.ReasonUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			var lost drops
			var stored int
			h := newHandler(t, &rec, lost.option(), webhook.WithQueue(queueFunc(func(ctx context.Context, d *event.Delivery) error {
				deadline, limited := ctx.Deadline()
				require.True(t, limited)
				require.LessOrEqual(t, time.Until(deadline), webhook.DefaultEnqueueTimeout)
				if errors.Is(test.result, errPanic) {
					panic("queue")
				}
				require.Equal(t, "7", d.Entity().ID)
				stored++
				return test.result
			})))
			require.Equal(t, test.status, post(h, dealUpdate(7)))
			shutdown(t, h)
			require.Empty(t, rec.deliveries(), "the queue's workers run the handlers")
			s := h.Stats()
			ids, errs := lost.list()
			if test.reason == "" {
				require.EqualValues(t, 1, s.Accepted)
				require.Empty(t, ids)
				return
			}
			require.Zero(t, s.Accepted)
			require.EqualValues(t, 1, s.Lost)
			require.EqualValues(t, 1, s.Rejected[test.reason])
			require.Equal(t, []string{"7"}, ids)
			if !errors.Is(test.result, errPanic) {
				require.ErrorIs(t, errs[0], test.result)
			}
		})
	}
}

const errPanic webhook.Error = "panic instead"

// TestMisfits: one odd field does not lose the event.
func TestMisfits(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	mux := event.NewMux()
	var calls []string
	event.On(mux, event.OnVoximplantCallEnd, func(_ context.Context, d *event.Delivery, e event.CallEnd) error {
		for _, m := range d.Misfits() {
			calls = append(calls, e.CallID+" "+m.Path)
		}
		return nil
	})
	h := newHandler(t, mux, webhook.WithWorkers(1), webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for _, id := range []string{"a", "b"} {
		require.Equal(t, http.StatusOK, post(h, body("ONVOXIMPLANTCALLEND", fields{"data[CALL_ID]": id, "data[COST]": "planted 1,25"})))
	}
	shutdown(t, h)
	require.ElementsMatch(t, []string{"a data.COST", "b data.COST"}, calls)
	s := h.Stats()
	require.EqualValues(t, 2, s.Handled)
	require.EqualValues(t, 2, s.Misfits)
	require.Equal(t, 1, strings.Count(log.String(), "does not fit its field"), log.String())
	require.Contains(t, log.String(), "path=data.COST")
	require.NotContains(t, log.String(), "planted")
}
