package offline_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// TestNothingIsLostWhateverFails lets an ordinary worker (stored tokens, clients with their limits,
// calls joined into batches, a consumer with its defaults) live through hours of bad weather on a
// portal with the platform's limit, while people change deals, some of them in the middle of a
// handler's work. In the end every deal's last state, its deletion included, has reached a handler,
// and the queue is empty.
func TestNothingIsLostWhateverFails(t *testing.T) {
	t.Parallel()
	for seed := range 6 {
		t.Run("seed "+strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWeather(t, seed)
				w.storm(300)
				w.settle()
			})
		})
	}
}

// gone is the state of a deal that was deleted.
const gone = "gone"

var errWeather = errors.New("a handler that does not feel like it")

// weather is a portal on which things go wrong, and a worker on its offline queue.
type weather struct {
	*eventtest.Portal

	t       *testing.T
	app     *eventtest.Application
	store   *oauth.MemoryStore
	portals *oauth.Portals
	api     *rest.Clients
	mux     *event.Mux
	start   time.Time

	mu      sync.Mutex
	random  *rand.Rand
	changes int
	want    map[int64]string // state of the deals on the portal
	have    map[int64]string // state that handlers read last
	handled int
	stopped int // how often the consumer gave up
	faults  map[string]int
}

func newWeather(t *testing.T, seed int) *weather {
	t.Helper()
	n := eventtest.NewNetwork()
	portal := eventtest.NewPortal(t, eventtest.WithNetwork(n), eventtest.WithQuirks(func(m *eventtest.Quirks) {
		m.RatePerSecond, m.RateBurst = rest.DefaultRate, rest.DefaultBurst
		m.Latency = time.Duration(seed) * 100 * time.Millisecond
		m.RacingReservations = seed%2 == 1
	}))
	w := &weather{
		Portal: portal, t: t, store: oauth.NewMemoryStore(), mux: event.NewMux(), start: time.Now(),
		random: rand.New(rand.NewPCG(uint64(seed), 24)), //nolint:gosec // repeatable
		want:   map[int64]string{}, have: map[int64]string{}, faults: map[string]int{},
	}
	var err error
	w.app, err = w.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(t, err)
	require.NoError(t, w.app.Install(t.Context()))
	w.portals, err = oauth.NewPortals(
		oauth.Config{ClientID: w.app.ClientID(), ClientSecret: w.app.ClientSecret()},
		w.store,
		oauth.WithHTTPClient(n.Client()),
		oauth.WithLogger(slog.New(slog.DiscardHandler)),
	)
	require.NoError(t, err)
	w.api, err = rest.NewClients(w.portals, rest.WithHTTPClient(n.Client()))
	require.NoError(t, err)
	w.authorize(t.Context())
	event.On(w.mux, event.OnCrmDealAdd, w.changed)
	event.On(w.mux, event.OnCrmDealUpdate, w.changed)
	event.On(w.mux, event.OnCrmDealDelete, w.changed)
	require.NoError(t, event.NewAPI(w.api.Portal(w.MemberID())).Reconcile(t.Context(), w.mux.OfflineBindings("")))
	for range 10 {
		w.add()
	}
	return w
}

// authorize stores fresh tokens, as when somebody installs the application again.
func (w *weather) authorize(ctx context.Context) {
	g, err := w.app.Grant(eventtest.AdminID)
	require.NoError(w.t, err)
	key := oauth.Key{ClientID: w.app.ClientID(), MemberID: g.MemberID}
	_, version, err := w.store.Load(ctx, key)
	if !errors.Is(err, oauth.ErrNotFound) {
		require.NoError(w.t, err)
	}
	_, err = w.store.Swap(ctx, key, version, oauth.Installation{
		MemberID: g.MemberID, ClientEndpoint: g.ClientEndpoint, ServerEndpoint: g.ServerEndpoint, AccessToken: g.AccessToken, RefreshToken: g.RefreshToken,
		Expires: g.Expires, UserID: g.UserID, Scope: g.Scope, Status: g.Status, ApplicationToken: g.ApplicationToken,
	})
	require.NoError(w.t, err)
}

// changed is the handler: it reads the deal as it is now.
func (w *weather) changed(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
	switch w.dice(20) {
	case 0:
		return errWeather
	case 1:
		w.change() // somebody works while the reservation is held
	}
	deal, err := event.Fetch[struct{ TITLE string }](ctx, w.api.Coalescer(w.MemberID()), d)
	if errors.Is(err, event.ErrGone) {
		deal.TITLE, err = gone, nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.have[e.ID] = deal.TITLE
	w.handled++
	return nil
}

func (w *weather) dice(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

// title is a state that no deal had before.
func (w *weather) title() string {
	w.changes++
	return "state " + strconv.Itoa(w.changes)
}

func (w *weather) add() {
	w.mu.Lock()
	defer w.mu.Unlock()
	title := w.title()
	id, err := w.Add(eventtest.Deal, map[string]any{"TITLE": title}, eventtest.AdminID)
	require.NoError(w.t, err)
	w.want[id] = title
}

// change lets somebody add, change or delete a deal.
func (w *weather) change() {
	kind := w.dice(10)
	if kind == 0 {
		w.add()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := 1 + int64(w.random.IntN(len(w.want)))
	switch {
	case w.want[id] == gone:
	case kind == 1:
		require.NoError(w.t, w.Delete(eventtest.Deal, id, eventtest.AdminID))
		w.want[id] = gone
	default:
		title := w.title()
		require.NoError(w.t, w.Update(eventtest.Deal, id, map[string]any{"TITLE": title}, eventtest.AdminID))
		w.want[id] = title
	}
}

// worsen lets something go wrong.
func (w *weather) worsen() {
	calls := []string{
		"event.offline.get",
		"event.offline.clear",
		"event.offline.error",
		"event.offline.list",
		"crm.deal.get",
		"batch",
		eventtest.AnyMethod,
	}
	faults := map[string]eventtest.Fault{
		"limit":          eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"),
		"operating time": eventtest.Fail(429, "OPERATION_TIME_LIMIT", "Method is blocked due to operation time limit."),
		"429 page":       eventtest.HTML(429),
		"page":           eventtest.HTML(200),
		"gateway":        eventtest.HTML(502),
		"database":       eventtest.Fail(500, "ERROR_CORE", "SQL query error!"),
		"inside":         eventtest.Fail(500, "INTERNAL_SERVER_ERROR", "Internal server error"),
		"reset":          eventtest.Reset(),
		"lost answer":    eventtest.LoseAnswer(),
		"slow":           eventtest.Delay(time.Duration(w.dice(150)) * time.Second),
		"expired":        eventtest.Fail(401, "expired_token", "The access token provided has expired"),
		"no OAuth":       eventtest.Fail(401, "CONNECTION_ERROR", "Error connecting to authorization server"),
	}
	names := []string{
		"limit", "limit", "operating time", "429 page", "page", "gateway", "gateway", "database", "inside", "reset", "reset", "reset",
		"lost answer", "lost answer", "lost answer", "lost answer", "slow", "slow", "expired", "expired", "no OAuth",
		"tokens expire", "tokens expire", "OAuth page", "OAuth reset", "refused refresh", "revoked", "outage",
	}
	name := names[w.dice(len(names))]
	w.mu.Lock()
	w.faults[name]++
	w.mu.Unlock()
	switch name {
	case "tokens expire":
		w.ExpireAccessTokens()
	case "OAuth page", "OAuth reset":
		fault := eventtest.HTML(502)
		if name == "OAuth reset" {
			fault = eventtest.Reset()
		}
		for range 1 + w.dice(4) {
			w.Once("oauth/token", fault)
		}
		w.ExpireAccessTokens()
	case "refused refresh": // somebody has to install the application again
		w.Once("oauth/token", eventtest.Fail(400, "invalid_grant", ""))
		w.ExpireAccessTokens()
	case "revoked":
		w.spell(eventtest.AnyMethod, eventtest.Fail(401, "invalid_token", "Unable to get application by token"))
	case "outage":
		w.spell(eventtest.AnyMethod, eventtest.HTML(503))
	default:
		method := calls[w.dice(len(calls))]
		for range 1 + w.dice(3) {
			w.Once(method, faults[name])
		}
	}
}

// spell is a fault that goes on for a while.
func (w *weather) spell(method string, f eventtest.Fault) {
	w.Always(method, f)
	time.AfterFunc(time.Duration(1+w.dice(300))*time.Second, func() { w.Heal(method) })
}

// storm lets n things go wrong while the worker works, and deals change.
func (w *weather) storm(n int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var worker sync.WaitGroup
	worker.Go(func() { w.work(ctx) })
	w.t.Cleanup(func() { cancel(); worker.Wait() })
	for range n {
		<-time.After(time.Duration(w.dice(40_000)) * time.Millisecond)
		for range w.dice(4) {
			w.change()
		}
		w.worsen()
	}
	w.Heal()
}

// work is the worker's process: if the consumer gives up, somebody looks after the application,
// and it is started again.
func (w *weather) work(ctx context.Context) {
	for {
		consumer, err := offline.NewConsumer(w.api.Portal(w.MemberID()), w.mux, silent())
		if err != nil {
			w.t.Error(err)
			return
		}
		_ = consumer.Run(ctx) // the tokens were refused
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		w.stopped++
		w.mu.Unlock()
		select {
		case <-time.After(2 * time.Minute):
			w.authorize(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// settle waits, in better weather, until all is done.
func (w *weather) settle() {
	deadline := time.Now().Add(45 * time.Minute)
	for len(w.OfflineRows()) > 0 && time.Now().Before(deadline) {
		<-time.After(time.Second)
	}
	<-time.After(time.Minute)
	w.mu.Lock()
	defer w.mu.Unlock()
	took := time.Since(w.start)
	w.t.Logf("%d changes, %d records handled, %d requests in %s; started again %d times; faults: %v",
		w.changes, w.handled, w.Requests().REST, took.Round(time.Minute), w.stopped, w.faults)
	require.Empty(w.t, w.OfflineRows())
	require.Equal(w.t, w.want, w.have)
	require.Less(w.t, float64(w.Requests().REST), 20*took.Minutes(), "a loop runs wild")
}
