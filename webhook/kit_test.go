package webhook_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/webhook"
)

const (
	token  = "0123456789abcdef0123456789abcdef"
	member = "a223c6b3710f85df22e9377d6c4f7553"
	form   = "application/x-www-form-urlencoded"

	clientID = "local.test"
)

// fields of a delivery, by their bracket names.
type fields map[string]string

// body builds the body of an event as the platform sends it, followed by the fields of more. Of two
// fields with the same name the later one counts.
func body(name string, more fields) string {
	doc, err := eventtest.Body(eventtest.Name(name), nil, eventtest.WithHandlerID(58), eventtest.WithTime(time.Unix(1727018926, 0)),
		eventtest.WithMember(member), eventtest.WithDomain("p.bitrix24.com"), eventtest.WithToken(token))
	if err != nil {
		panic(err)
	}
	v := url.Values{"event": {name}}
	for key, value := range more {
		v.Set(key, value)
	}
	return string(doc) + "&" + v.Encode()
}

func dealUpdate(id int) string {
	return body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(id)})
}

func request(body string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/bitrix24", strings.NewReader(body))
	r.Header.Set("Content-Type", form)
	return r
}

// send posts a body over the network and returns the status of the response, 0 if there is none.
func send(address, body string) int {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return 0
	}
	r.Header.Set("Content-Type", form)
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// post sends a body and returns the status of the response.
func post(h http.Handler, body string) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, request(body))
	return w.Code
}

// newHandler makes a silent handler with the verifier anyPortal.
func newHandler(tb testing.TB, h event.Handler, opts ...webhook.Option) *webhook.Handler {
	tb.Helper()
	handler, err := webhook.NewHandler(anyPortal(), h, append([]webhook.Option{silent()}, opts...)...)
	require.NoError(tb, err)
	tb.Cleanup(func() { stop(handler) })
	return handler
}

// stop ends a handler at the end of a test. Its idle workers would last another second, and a
// synctest bubble does not wait for them.
func stop(h *webhook.Handler) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.Shutdown(ended)
}

// silent keeps the log lines of a test out of its output.
func silent() webhook.Option { return webhook.WithLogger(slog.New(slog.DiscardHandler)) }

// recorder is an event handler that records the deliveries that it gets.
type recorder struct {
	mu   sync.Mutex
	got  []*event.Delivery
	then func(ctx context.Context, d *event.Delivery) error
}

func (r *recorder) HandleEvent(ctx context.Context, d *event.Delivery) error {
	r.mu.Lock()
	r.got = append(r.got, d)
	r.mu.Unlock()
	if r.then == nil {
		return nil
	}
	return r.then(ctx, d)
}

func (r *recorder) deliveries() []*event.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*event.Delivery(nil), r.got...)
}

// ids returns the numbers of the objects in the order in which they were handled.
func (r *recorder) ids() []string {
	var all []string
	for _, d := range r.deliveries() {
		all = append(all, d.Entity().ID)
	}
	return all
}

// drops records the reports of WithOnDropped.
type drops struct {
	mu   sync.Mutex
	ids  []string
	errs []error
}

func (l *drops) option() webhook.Option {
	return webhook.WithOnDropped(func(d *event.Delivery, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ids = append(l.ids, d.Entity().ID)
		l.errs = append(l.errs, err)
	})
}

func (l *drops) list() ([]string, []error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.ids...), append([]error(nil), l.errs...)
}

// do makes a function an event handler.
func do(f func(ctx context.Context, d *event.Delivery) error) event.Handler {
	return event.HandlerFunc(f)
}

func nothing() event.Handler { return do(func(context.Context, *event.Delivery) error { return nil }) }

// verifierFunc makes a function a verifier for one application. It proves what the sender claims.
type verifierFunc func(ctx context.Context, d *event.Delivery) error

func (f verifierFunc) Verify(ctx context.Context, d *event.Delivery) (event.Proof, error) {
	if err := f(ctx, d); err != nil {
		return event.Proof{}, err
	}
	return installed(d.ClaimedMemberID()), nil
}

// installed is the proof of an application's delivery.
func installed(member string) event.Proof {
	return event.Proof{
		By: event.ProofInstallation, ClientID: clientID, MemberID: member,
		ClientEndpoint: "https://p.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
	}
}

// anyPortal accepts the token of the tests from every portal.
func anyPortal() webhook.Verifier {
	return verifierFunc(func(_ context.Context, d *event.Delivery) error {
		if d.Auth.ApplicationToken != token {
			return event.ErrForbidden
		}
		return nil
	})
}

// shutdown drains a handler.
func shutdown(tb testing.TB, h *webhook.Handler) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 20*time.Second)
	defer cancel()
	require.NoError(tb, h.Shutdown(ctx))
}

// balanced checks that every accepted delivery was counted once the handler is idle.
func balanced(tb testing.TB, s webhook.Stats, cutOff int) {
	tb.Helper()
	require.Zero(tb, s.Queued)
	require.Zero(tb, s.Running)
	require.Equal(tb, s.Accepted, s.Coalesced+s.Handled+s.Unhandled+s.Failed+s.Removed+uint64(cutOff)) //nolint:gosec // small
}
