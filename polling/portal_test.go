package polling_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/polling"
	"github.com/b24events/b24events/rest"
)

// credentials are those of one token, for package rest.
type credentials struct{ endpoint, token, client string }

func (c credentials) ClientID() string { return c.client }

func (c credentials) Access(context.Context, string) (endpoint, token string, err error) {
	return c.endpoint, c.token, nil
}

func (c credentials) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return c.endpoint, c.token, nil
}

// fixture is a portal with a bot in fetch mode, on a network in memory.
type fixture struct {
	*eventtest.Portal
	t     testing.TB
	net   *eventtest.Network
	app   *eventtest.Application
	api   *rest.Client // as the administrator
	bot   int64
	store *polling.MemoryStore
}

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	network := eventtest.NewNetwork()
	f := &fixture{t: tb, net: network, store: polling.NewMemoryStore(), Portal: eventtest.NewPortal(tb,
		eventtest.WithTokenLifetime(1000*time.Hour), eventtest.WithNetwork(network))}
	var err error
	f.app, err = f.AddApp(eventtest.App{Scope: []string{"imbot", "im"}})
	require.NoError(tb, err)
	require.NoError(tb, f.app.Install(tb.Context()))
	f.api = f.as(eventtest.AdminID)
	f.bot = f.register("helper")
	f.ResetRecords()
	return f
}

func (f *fixture) register(code string) int64 {
	f.t.Helper()
	var got struct {
		Bot struct {
			ID int64 `json:"id"`
		} `json:"bot"`
	}
	require.NoError(f.t, f.api.Call(f.t.Context(), "imbot.v2.Bot.register", map[string]any{"fields": map[string]any{
		"code": code, "properties": map[string]any{"name": code}, "botToken": "secret-token-of-" + code,
	}}, &got))
	return got.Bot.ID
}

// as returns a client with a user's token.
func (f *fixture) as(user int64) *rest.Client {
	f.t.Helper()
	g, err := f.app.Grant(user)
	require.NoError(f.t, err)
	clients, err := rest.NewClients(credentials{g.ClientEndpoint, string(g.AccessToken), f.app.ClientID()},
		rest.WithHTTPClient(f.net.Client()), rest.WithoutRateLimit(), rest.WithRetries(0))
	require.NoError(f.t, err)
	return clients.Portal(f.MemberID())
}

// say sends messages of a user to the bot.
func (f *fixture) say(user int64, texts ...string) {
	f.t.Helper()
	for _, text := range texts {
		_, err := f.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": f.bot, "MESSAGE": text}, user)
		require.NoError(f.t, err)
	}
}

// users adds users who have opened a chat with the bot, and drops the events of that.
func (f *fixture) users(n int) []int64 {
	f.t.Helper()
	list := make([]int64, n)
	for i := range list {
		list[i] = f.AddUser(eventtest.User{Name: fmt.Sprint("user ", i)})
		f.say(list[i], "open")
	}
	logged := f.LoggedEvents()
	require.NoError(f.t, f.api.Call(f.t.Context(), "imbot.v2.Event.get",
		map[string]any{"botId": f.bot, "offset": logged[len(logged)-1].ID + 1}, nil))
	require.Empty(f.t, f.LoggedEvents())
	return list
}

func silent() polling.Option { return polling.WithLogger(slog.New(slog.DiscardHandler)) }

func (f *fixture) consumer(h event.Handler, opts ...polling.Option) *polling.Consumer {
	f.t.Helper()
	c, err := polling.NewBot(f.api, f.bot, h, f.store, append([]polling.Option{silent()}, opts...)...)
	require.NoError(f.t, err)
	return c
}

// running is a consumer that runs.
type running struct {
	stop context.CancelFunc
	done chan error
}

func run(tb testing.TB, c *polling.Consumer) *running {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &running{stop: stop, done: make(chan error, 1)}
	go func() { r.done <- c.Run(ctx) }()
	tb.Cleanup(stop)
	return r
}

// end stops the consumer and returns the error of Run.
func (r *running) end() error {
	r.stop()
	return <-r.done
}

// recorder is a handler that records the texts of messages.
type recorder struct {
	mu    sync.Mutex
	texts []string
	fail  func(text string) error // nil for none
}

func (r *recorder) HandleEvent(_ context.Context, d *event.Delivery) error {
	text := d.Data.Get("message", "text").Text()
	if text == "" {
		text = d.Name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, text)
	if r.fail != nil {
		return r.fail(text)
	}
	return nil
}

func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.texts)
}

// kept returns the offset in the store.
func (f *fixture) kept(c *polling.Consumer) int64 {
	f.t.Helper()
	offset, err := f.store.Load(context.Background(), c.Key())
	require.NoError(f.t, err)
	return offset
}

// balanced checks the sum of the counters of a consumer that does not run.
func balanced(tb testing.TB, s polling.Stats) {
	tb.Helper()
	require.Equal(tb, s.Received, s.Handled+s.Unhandled+s.Dropped+s.Failed+s.Damaged+s.Abandoned, "%+v", s)
	require.Zero(tb, s.InWork)
}

// scripted is a caller whose responses a test writes.
type scripted struct {
	mu    sync.Mutex
	calls []map[string]any // parameters of Event.get
	next  func(n int, params map[string]any) (result string, err error)
}

func (*scripted) MemberID() string { return "portal" }

func (s *scripted) Call(_ context.Context, method string, params, result any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch method {
	case "profile", "im.v2.Event.subscribe", "imbot.v2.Bot.get":
		return nil
	}
	p, _ := params.(map[string]any)
	s.calls = append(s.calls, p)
	text, err := s.next(len(s.calls), p)
	if err != nil {
		return err
	}
	if doc, ok := result.(interface{ UnmarshalJSON(doc []byte) error }); ok {
		return doc.UnmarshalJSON([]byte(text))
	}
	return nil
}

func (s *scripted) offsets() []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []any
	for _, p := range s.calls {
		list = append(list, p["offset"])
	}
	return list
}

// pass lets fake time pass.
func pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in fake time
