package offline_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

var errHandler = errors.New("the handler's reason")

func TestConsumerEmptiesTheQueue(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("ADD", 1, 2, 3)
	f.change("UPDATE", 1, 1, 1)
	var seen journal
	var mu sync.Mutex
	var deliveries []*event.Delivery
	before := time.Now()
	c := f.drain(func(ctx context.Context, d *event.Delivery) error {
		_, limited := ctx.Deadline()
		mu.Lock()
		defer mu.Unlock()
		if !limited {
			return event.Drop(errors.New("no time limit"))
		}
		deliveries = append(deliveries, d)
		return seen.HandleEvent(ctx, d)
	})
	require.ElementsMatch(t, []string{"ADD 1", "ADD 2", "ADD 3", "UPDATE 1"}, seen.entries())
	require.Empty(t, f.OfflineRows())
	for _, d := range deliveries {
		require.Equal(t, event.SourceOffline, d.Source)
		require.Equal(t, f.MemberID(), d.MemberID())
		require.Equal(t, int64(7), d.Auth.UserID)
		require.Len(t, d.ProcessID, 32)
		require.Len(t, d.MessageID, 32)
		require.Positive(t, d.ID)
	}
	s := c.Stats()
	require.False(t, s.LastResponse.Before(before))
	require.False(t, s.LastRecord.Before(before))
	s.LastResponse, s.LastRecord, s.LastLag, s.Backlog = time.Time{}, time.Time{}, 0, offline.Backlog{}
	s.Lag, s.Handlers = offline.Latency{}, nil
	require.Equal(t, offline.Stats{Requests: 2, Reserved: 4, Handled: 4, Cleared: 4}, s)
	require.Equal(t, 2, f.Requests().REST, "looks and a reservation in one batch, clearings and a reservation that is empty in another")
}

func TestConsumerCostsFewRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", upTo(500)...)
	var seen journal
	f.drain(seen.HandleEvent, offline.WithBatchSize(500), offline.WithWorkers(16))
	require.Len(t, seen.entries(), 500)
	require.Empty(t, f.OfflineRows())
	require.Equal(t, 5, f.Requests().REST, "reservations of 50, 100, 200, 150 and none, with the clearings")
}

// The goal is six hundredths of a request for each event, its object included.
func TestRequestsPerEventWithObjects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, portals := loaded(t, 500, rest.WithoutRateLimit())
		c := newConsumer(t, portals.Portal(f.MemberID()), fetching(portals))
		require.NoError(t, c.Drain(t.Context()))
		require.EqualValues(t, 500, c.Stats().Handled)
		require.LessOrEqual(t, f.Requests().REST, 500*6/100)
	})
}

func TestConsumerKeepsOrderWithinAnObject(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const objects = 16 // their records fit into the first reservation
	for _, what := range []string{"ADD", "UPDATE", "DELETE"} {
		f.change(what, upTo(objects)...)
		f.Advance(time.Second)
	}
	f.change("UPDATE", 1) // the row that is second by number is now last by time

	var mu sync.Mutex
	order := make(map[int][]string)
	busy := make(map[int]bool)
	clashes, most, running := 0, 0, 0
	enter := func(id int) {
		mu.Lock()
		defer mu.Unlock()
		if busy[id] {
			clashes++
		}
		busy[id] = true
		running++
		most = max(most, running)
	}
	var others sync.WaitGroup
	others.Add(3 * (objects - 1))
	f.drain(func(_ context.Context, d *event.Delivery) error {
		id := dealID(t, d)
		enter(id)
		if id == 1 {
			others.Wait() // its later records have all the time to overtake
		}
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		order[id] = append(order[id], strings.Fields(name(d))[0])
		busy[id] = false
		running--
		if id != 1 {
			others.Done()
		}
		return nil
	}, offline.WithBatchSize(200), offline.WithWorkers(8))

	require.Zero(t, clashes, "deliveries of one object overlapped")
	require.LessOrEqual(t, most, 8)
	require.Len(t, order, objects)
	require.Equal(t, []string{"ADD", "DELETE", "UPDATE"}, order[1])
	for id := 2; id <= objects; id++ {
		require.Equal(t, []string{"ADD", "UPDATE", "DELETE"}, order[id])
	}
}

func TestConsumerWorksOnObjectsAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1, 2, 3)
	var together sync.WaitGroup
	together.Add(3)
	f.drain(func(context.Context, *event.Delivery) error {
		together.Done()
		together.Wait() // passes only if all three are handled at once
		return nil
	}, offline.WithWorkers(3))
	require.Empty(t, f.OfflineRows())
}

func TestConsumerGoesOnAfterAnObjectsFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("ADD", 1)
	f.change("UPDATE", 1)
	var seen journal
	f.drain(func(ctx context.Context, d *event.Delivery) error {
		if d.Name == "ONCRMDEALADD" {
			return final(errHandler)
		}
		return seen.HandleEvent(ctx, d)
	})
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
	require.Len(t, f.OfflineRows(), 1)
}

func TestConsumerParksWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.AddEvent("ON ODD", "") // no event has a space in its name
	f.bindRaw("ON ODD")
	f.change("UPDATE", 1)
	require.NoError(t, f.Raise("ON ODD", nil, 0))
	f.change("UPDATE", 2)
	var seen journal
	c := f.drain(seen.HandleEvent)
	require.ElementsMatch(t, []string{"UPDATE 1", "UPDATE 2"}, seen.entries())
	rows := f.OfflineRows()
	require.Len(t, rows, 1)
	require.Equal(t, "ON ODD", rows[0].Event)
	require.True(t, rows[0].Error)
	require.EqualValues(t, 1, c.Stats().Parked)

	failed, err := f.queue().ReserveParked(t.Context(), 50)
	require.NoError(t, err)
	require.Len(t, failed.Records, 1)
	require.ErrorIs(t, failed.Records[0].Err, event.ErrMalformed)
}

// bindRaw binds an event offline that package event would not.
func (f *fixture) bindRaw(name string) {
	f.t.Helper()
	require.NoError(f.t, f.api.Call(f.t.Context(), "event.bind", map[string]any{"event": name, "event_type": "offline"}, nil))
}

func TestConsumerConnector(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.bind("erp", "ONCRMDEALUPDATE")
	f.change("UPDATE", 1)
	var seen journal
	f.drain(seen.HandleEvent, offline.WithConnector("erp"))
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
	rows := f.OfflineRows()
	require.Len(t, rows, 1, "the queue without a connector is another's")
	require.Empty(t, rows[0].ProcessID)
}

func TestConsumerMemberID(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tt := range []struct {
		name   string
		caller event.Caller
		opt    offline.ConsumerOption
		want   string
	}{
		{"from the caller", f.api, nil, f.MemberID()},
		{"from the option", tap{Caller: f.api}, offline.WithMemberID("m1"), "m1"},
		{"from both", f.api, offline.WithMemberID(f.MemberID()), f.MemberID()},
		{"from nowhere", tap{Caller: f.api}, nil, ""},
	} {
		f.change("UPDATE", 1)
		got := "none"
		c := newConsumer(t, tt.caller, func(_ context.Context, d *event.Delivery) error {
			got = d.MemberID()
			return nil
		}, tt.opt)
		require.NoError(t, c.Drain(t.Context()), tt.name)
		require.Equal(t, tt.want, got, tt.name)
	}
}

func TestConsumerEndsOnPermanentErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   []eventtest.Option
		mine   offline.ConsumerOption
		client func(*fixture) event.Caller
		want   error
	}{
		{name: "no extended mode", opts: []eventtest.Option{eventtest.WithoutExtendedOffline()}, want: offline.ErrExtendedModeRequired},
		{
			name: "no connectors",
			opts: []eventtest.Option{eventtest.WithoutConnectors()},
			mine: offline.WithConnector("erp"),
			want: offline.ErrConnectorRefused,
		},
		{
			name: "no administrator", want: offline.ErrAccessDenied,
			client: func(f *fixture) event.Caller { return f.as(f.AddUser(eventtest.User{Name: "Bob"})) },
		},
		{
			name: "incoming webhook", want: offline.ErrWrongAuthType,
			client: func(f *fixture) event.Caller {
				url, err := f.AddIncomingWebhook(eventtest.AdminID)
				require.NoError(f.t, err)
				return newClient(f.t, f.net.Client(), credentials{endpoint: string(url), token: "none"}, f.MemberID())
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, tt.opts...)
			f.change("UPDATE", 1)
			var c event.Caller = f.api
			if tt.client != nil {
				c = tt.client(f)
			}
			var seen journal
			consumer := newConsumer(t, c, seen.HandleEvent, tt.mine)
			require.ErrorIs(t, consumer.Run(t.Context()), tt.want)
			require.ErrorIs(t, consumer.Drain(t.Context()), tt.want)
			require.Empty(t, seen.entries())
			require.Len(t, f.OfflineRows(), 1, "nothing is lost")
		})
	}
}

// A consumer that ended because of the portal's plan reserves again once the plan has changed.
func TestConsumerRunsAgainOnALargerPlan(t *testing.T) {
	t.Parallel()
	f := withoutReservations(t)
	f.change("UPDATE", 1)
	var seen journal
	c := newConsumer(t, f.api, seen.HandleEvent)
	require.ErrorIs(t, c.Drain(t.Context()), offline.ErrExtendedModeRequired)
	require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = false }))
	require.NoError(t, c.Drain(t.Context()))
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
}

func TestConsumerRunsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.change("UPDATE", 1)
	var inside, nested error
	var c *offline.Consumer
	c = newConsumer(t, f.api, func(ctx context.Context, _ *event.Delivery) error {
		inside, nested = c.Run(ctx), c.Drain(ctx)
		return nil
	})
	require.NoError(t, c.Drain(t.Context()))
	require.ErrorIs(t, inside, offline.ErrRunning)
	require.ErrorIs(t, nested, offline.ErrRunning)
	require.NoError(t, c.Drain(t.Context()), "one after the other is fine")
}

func TestConsumerWakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	handled := make(chan string, 10)
	c := newConsumer(t, f.api, func(_ context.Context, d *event.Delivery) error {
		handled <- name(d)
		return nil
	}, offline.WithInterval(time.Hour, time.Hour))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for id := range 5 {
		f.change("UPDATE", id+1)
		c.Wake()
		c.Wake()
		require.Equal(t, fmt.Sprintf("UPDATE %d", id+1), <-handled)
	}
	stop()
	require.NoError(t, <-ended)
}

func TestConsumerLogsNoSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.NoError(t, f.Raise("ONCRMDEALUPDATE", map[string]any{"FIELDS": map[string]any{"ID": 1}, "access_token": "s3cr3t"}, 7))
	var log bytes.Buffer
	f.drain(func(context.Context, *event.Delivery) error { return final(errHandler) },
		offline.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	require.Contains(t, log.String(), `"event":"ONCRMDEALUPDATE"`)
	require.Contains(t, log.String(), errHandler.Error())
	require.NotContains(t, log.String(), "s3cr3t")
}

// TestConsumerLogsLines covers texts of others in log lines: of a handler's error, which may quote
// what it called, and of a portal that refuses a command of a batch and quotes the access token.
func TestConsumerLogsLines(t *testing.T) {
	t.Parallel()
	const forged = "\nlevel=ERROR msg=forged \x1b[2J\u009b31m\u202e"
	f := newFixture(t)
	g, err := f.app.Grant(eventtest.AdminID)
	require.NoError(t, err)
	token := string(g.AccessToken)
	api := newClient(t, f.net.Client(), credentials{endpoint: g.ClientEndpoint, token: token}, f.MemberID())
	require.NoError(t, f.Raise("ONCRMDEALUPDATE", map[string]any{
		"FIELDS": map[string]any{"ID": 1}, "access_token": "planted-in-data-1", "options": `{"refresh_token":"planted-in-json-1"}`,
	}, 7))
	var log bytes.Buffer
	f.Once("event.offline.list", eventtest.Fail(400, "E "+token+forged, "see ?auth="+url.QueryEscape(token)+forged))
	f.api = api
	f.drain(func(_ context.Context, d *event.Delivery) error {
		return event.Drop(&url.Error{Op: "Post", URL: "https://p/", Err: fmt.Errorf("a: %s %s ?token=planted-unknown-1%s",
			d.Data.Get("access_token").Text(), url.QueryEscape(string(d.Data.JSON())), forged)})
	}, offline.WithLogger(slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	require.Contains(t, log.String(), "a: [redacted]")
	require.NotContains(t, log.String(), "planted")
	require.NotContains(t, log.String(), token)
	for line := range strings.Lines(log.String()) {
		var attrs map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &attrs))
		for key, value := range attrs {
			require.Equal(t, -1, strings.IndexFunc(fmt.Sprint(value), func(r rune) bool { return !unicode.IsPrint(r) }), "%s: %q", key, value)
		}
	}
}

func TestConsumerPrintsNoCredentials(t *testing.T) {
	t.Parallel()
	c := newConsumer(
		t,
		tap{Caller: newClient(t, eventtest.NewNetwork().Client(), credentials{token: "s3cr3t"}, "m")},
		new(journal).HandleEvent,
	)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", c, c, c), "s3cr3t")
}

// TestMisfits: one odd field does not lose the record.
func TestMisfits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for id := range 2 {
		fields := map[string]any{"FIELDS": map[string]any{"ID": id + 1, "COST": "planted 1,25"}}
		require.NoError(t, f.Raise("ONCRMDEALUPDATE", fields, 0))
	}
	type deal struct {
		ID   int64   `b24:"FIELDS.ID"`
		Cost float64 `b24:"FIELDS.COST"`
	}
	var log bytes.Buffer
	var misfits []event.Misfit
	mux := event.NewMux()
	event.On(mux, event.Define[deal]("ONCRMDEALUPDATE"), func(_ context.Context, d *event.Delivery, e deal) error {
		require.NotZero(t, e.ID)
		misfits = append(misfits, d.Misfits()...)
		return nil
	})
	s := f.drain(mux.HandleEvent, offline.WithWorkers(1), offline.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Stats()
	require.EqualValues(t, 2, s.Handled)
	require.EqualValues(t, 2, s.Misfits)
	require.Len(t, misfits, 2)
	require.Equal(t, 1, strings.Count(log.String(), "does not fit its field"), log.String())
	require.NotContains(t, log.String(), "planted")
	require.Empty(t, f.OfflineRows())
}
