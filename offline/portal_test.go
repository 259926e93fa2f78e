package offline_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// fixture is a portal with an application whose offline queue is under test, on a network in
// memory: it works in a bubble of synctest.
type fixture struct {
	*eventtest.Portal
	t   testing.TB
	net *eventtest.Network
	app *eventtest.Application
	api *rest.Client // as the administrator
}

func newFixture(tb testing.TB, opts ...eventtest.Option) *fixture {
	tb.Helper()
	network := eventtest.NewNetwork()
	f := &fixture{
		Portal: eventtest.NewPortal(
			tb,
			append([]eventtest.Option{eventtest.WithTokenLifetime(1000 * time.Hour), eventtest.WithNetwork(network)}, opts...)...),
		t:   tb,
		net: network,
	}
	addUsers(f.Portal)
	app, err := f.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(tb, err)
	require.NoError(tb, app.Install(tb.Context()))
	f.app = app
	f.api = f.as(eventtest.AdminID)
	f.bind("", "ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE")
	f.ResetRecords()
	return f
}

// addUsers adds the users with the IDs 2 to 9, who cause the changes.
func addUsers(p *eventtest.Portal) {
	for range 8 {
		p.AddUser(eventtest.User{})
	}
}

// as returns a client with a user's token.
func (f *fixture) as(user int64) *rest.Client {
	f.t.Helper()
	g, err := f.app.Grant(user)
	require.NoError(f.t, err)
	return newClient(
		f.t,
		f.net.Client(),
		credentials{endpoint: g.ClientEndpoint, token: string(g.AccessToken), client: f.app.ClientID()},
		f.MemberID(),
	)
}

func newClient(tb testing.TB, h *http.Client, c credentials, memberID string) *rest.Client {
	tb.Helper()
	portals, err := rest.NewClients(c, rest.WithHTTPClient(h), rest.WithoutRateLimit(), rest.WithRetries(0))
	require.NoError(tb, err)
	return portals.Portal(memberID)
}

// bind binds events to the queue of a connector.
func (f *fixture) bind(connector string, names ...string) {
	f.t.Helper()
	for _, name := range names {
		b := event.Binding{Event: name, Offline: true, Connector: connector}
		require.NoError(f.t, event.NewAPI(f.api).Bind(f.t.Context(), b))
	}
}

// change lets something happen to deals.
func (f *fixture) change(what string, ids ...int) {
	f.t.Helper()
	for _, id := range ids {
		require.NoError(f.t, f.Raise("ONCRMDEAL"+what, map[string]any{"FIELDS": map[string]any{"ID": id}}, 7))
	}
}

func (f *fixture) queue(opts ...offline.QueueOption) *offline.Queue {
	f.t.Helper()
	return newQueue(f.t, f.api, opts...)
}

func newQueue(tb testing.TB, c event.Caller, opts ...offline.QueueOption) *offline.Queue {
	tb.Helper()
	q, err := offline.NewQueue(c, opts...)
	require.NoError(tb, err)
	return q
}

// silent keeps what a test provokes out of its output. Later options can set another logger.
func silent() offline.WorkOption { return offline.WithLogger(slog.New(slog.DiscardHandler)) }

// optionsAs returns options of consumers and fleets as those of one of the two.
func optionsAs[O any](tb testing.TB, opts []offline.WorkOption) []O {
	tb.Helper()
	all := make([]O, len(opts))
	for i, opt := range opts {
		one, ok := opt.(O)
		require.True(tb, ok)
		all[i] = one
	}
	return all
}

func newConsumer(tb testing.TB, c event.Caller, h event.HandlerFunc, opts ...offline.ConsumerOption) *offline.Consumer {
	tb.Helper()
	consumer, err := offline.NewConsumer(c, h, append([]offline.ConsumerOption{silent()}, opts...)...)
	require.NoError(tb, err)
	return consumer
}

// drain works the portal's queue with a fresh consumer until it is empty.
func (f *fixture) drain(h event.HandlerFunc, opts ...offline.ConsumerOption) *offline.Consumer {
	f.t.Helper()
	c := newConsumer(f.t, f.api, h, opts...)
	require.NoError(f.t, c.Drain(f.t.Context()))
	return c
}

// credentials are a token that does not change.
type credentials struct{ endpoint, token, client string }

// ClientID is the application's.
func (c credentials) ClientID() string { return c.client }

func (c credentials) Access(context.Context, string) (endpoint, token string, err error) {
	return c.endpoint, c.token, nil
}

func (c credentials) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("no renewal in this test")
}

// tap stands between the code under test and the portal. before may respond in the portal's place
// with an error, after may spoil what the portal returned.
type tap struct {
	event.Caller
	whole  func(method string, params map[string]any) // as it is sent; before and after see the commands of a batch
	before func(method string, params map[string]any) error
	after  func(method string, answer json.RawMessage) json.RawMessage
}

func (c tap) Call(ctx context.Context, method string, params, result any) error {
	sent, _ := params.(map[string]any)
	if c.whole != nil {
		c.whole(method, sent)
	}
	if c.before != nil {
		for _, one := range commands(method, sent) {
			if err := c.before(one.method, one.params); err != nil {
				return err
			}
		}
	}
	var answer json.RawMessage
	if err := c.Caller.Call(ctx, method, params, &answer); err != nil {
		return err
	}
	if c.after != nil {
		answer = c.after(method, answer)
	}
	return json.Unmarshal(answer, result)
}

// command is a call, or one of the calls in a batch.
type command struct {
	name, method string
	params       map[string]any
}

// commands returns what a call runs: itself, or the commands of a batch in their order.
func commands(method string, params map[string]any) []command {
	cmd, batch := params["cmd"].(map[string]any)
	if !batch {
		return []command{{method: method, params: params}}
	}
	list := make([]command, 0, len(cmd))
	for _, name := range slices.Sorted(maps.Keys(cmd)) {
		text, _ := cmd[name].(string)
		method, query, _ := strings.Cut(text, "?")
		form, err := phpform.Decode(query, phpform.Limits{})
		if err != nil {
			panic(err)
		}
		inner, _ := form.Any().(map[string]any)
		list = append(list, command{name: name, method: method, params: inner})
	}
	return list
}

// answering returns the queue of a portal that returns this result for a method.
func answering(t *testing.T, method, result string) *offline.Queue {
	t.Helper()
	f := newFixture(t)
	f.Always(method, eventtest.Raw(200, "application/json", `{"result":`+result+`}`))
	return f.queue()
}

// unreachable is a caller of a portal that is not there, for what must fail before it calls.
func unreachable(t *testing.T) event.Caller {
	t.Helper()
	return newClient(t, eventtest.NewNetwork().Client(), credentials{endpoint: "https://nowhere.bitrix24.com/rest/", token: "none"}, "m")
}

// refusal is a portal's error.
type refusal struct{ code, description string }

func (r refusal) Error() string            { return "portal: " + r.code }
func (r refusal) ErrorCode() string        { return r.code }
func (r refusal) ErrorDescription() string { return r.description }

// journal keeps what a handler saw.
type journal struct {
	mu   sync.Mutex
	seen []string
}

func (j *journal) HandleEvent(_ context.Context, d *event.Delivery) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seen = append(j.seen, name(d))
	return nil
}

func (j *journal) entries() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.seen...)
}

// name is short for a change of a deal, for example "UPDATE 7".
func name(d *event.Delivery) string {
	return d.Name[len("ONCRMDEAL"):] + " " + d.Data.Get("FIELDS", "ID").Text()
}

func dealID(t *testing.T, d *event.Delivery) int {
	t.Helper()
	id, err := strconv.Atoi(d.Entity().ID)
	require.NoError(t, err)
	return id
}

// upTo returns 1, …, n.
func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// final makes an error one that no retry helps with: its record is parked at once.
func final(err error) error { return finalError{err} }

type finalError struct{ error }

func (finalError) Permanent() bool { return true }
func (e finalError) Unwrap() error { return e.error }

// requireDrains drains a queue, which must not take hours.
func requireDrains(t *testing.T, c *offline.Consumer) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Hour)
	defer stop()
	require.NoError(t, c.Drain(ctx))
}

// expect fails a test unless ok. Call it outside of a bubble.
func expect(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}
