package offline_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

// second installs another application on the portal, with a queue of its own, and returns a client
// of it.
func (f *fixture) second(events ...string) *rest.Client {
	f.t.Helper()
	app, err := f.AddApp(eventtest.App{Scope: []string{"crm"}})
	require.NoError(f.t, err)
	require.NoError(f.t, app.Install(f.t.Context()))
	g, err := app.Grant(eventtest.AdminID)
	require.NoError(f.t, err)
	api := newClient(
		f.t,
		f.net.Client(),
		credentials{endpoint: g.ClientEndpoint, token: string(g.AccessToken), client: app.ClientID()},
		f.MemberID(),
	)
	for _, name := range events {
		require.NoError(f.t, event.NewAPI(api).Bind(f.t.Context(), event.Binding{Event: name, Offline: true}))
	}
	return api
}

// interrupted works a queue with a handler that is stopped in the middle of its first record, which
// stays in the spool.
func interrupted(tb testing.TB, c event.Caller, opts ...offline.ConsumerOption) {
	tb.Helper()
	ctx, kill := context.WithCancel(tb.Context())
	defer kill()
	consumer := newConsumer(tb, c, func(ctx context.Context, _ *event.Delivery) error {
		kill()
		<-ctx.Done()
		return ctx.Err()
	}, append(opts, offline.WithGrace(0))...)
	require.ErrorIs(tb, consumer.Drain(ctx), context.Canceled)
}

// files returns what is in a folder and below, by path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	require.NoError(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(dir, path)) //nolint:gosec // a path of the test
		found[path] = string(text)
		return err
	}))
	return found
}

func TestStateNeedsAnIdentity(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	anonymous := tap{Caller: f.api}
	lease, spool := offline.WithLeaser(offline.NewMemoryLeaser()), offline.WithSpool(filepath.Join(t.TempDir(), "spool"))
	client, member := offline.WithClientID("app.1"), offline.WithMemberID("m")
	consumer := func(c event.Caller, opts ...offline.ConsumerOption) error {
		_, err := offline.NewConsumer(c, new(journal), opts...)
		return err
	}
	fleet := func(opts ...offline.FleetOption) error {
		_, err := offline.NewFleet(func(string) event.Caller { return f.api }, new(journal), opts...)
		return err
	}
	for name, tt := range map[string]struct {
		err  error
		says string // empty for success
	}{
		"neither needed":                     {consumer(anonymous), ""},
		"lease, from the caller":             {consumer(f.api, lease), ""},
		"lease, from options":                {consumer(anonymous, lease, client, member), ""},
		"lease without an application":       {consumer(anonymous, lease, member), "add WithClientID"},
		"lease without a portal":             {consumer(anonymous, lease, client), "add WithMemberID"},
		"spool, from the caller":             {consumer(f.api, spool), ""},
		"spool, from options":                {consumer(anonymous, spool, client, member), ""},
		"spool without an application":       {consumer(anonymous, spool, member), "add WithClientID"},
		"spool without a portal":             {consumer(anonymous, spool, client), "add WithMemberID"},
		"spool and lease":                    {consumer(f.api, spool, lease), "exclude each other"},
		"fleet":                              {fleet(), ""},
		"fleet, lease":                       {fleet(lease, client), ""},
		"fleet, spool":                       {fleet(spool, client), ""},
		"fleet, lease, no application":       {fleet(lease), "add WithClientID"},
		"fleet, spool, no application":       {fleet(spool), "add WithClientID"},
		"fleet, spool and lease":             {fleet(spool, lease, client), "exclude each other"},
		"caller of another application":      {consumer(f.api, client), offline.ErrIdentity.Error()},
		"caller of another portal":           {consumer(f.api, member), offline.ErrIdentity.Error()},
		"caller of the same":                 {consumer(f.api, offline.WithClientID(f.app.ClientID()), offline.WithMemberID(f.MemberID())), ""},
		"an application of a fleet's caller": {fleet(client), ""},
	} {
		if tt.says == "" {
			require.NoError(t, tt.err, name)
			continue
		}
		require.ErrorContains(t, tt.err, tt.says, name)
		require.ErrorContains(t, tt.err, "offline: ", name)
	}
}

// The records in a spool are those of one application, of one portal and of one connector, whoever
// else uses the folder.
func TestSpoolOfSeveralQueues(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := newFixture(t, eventtest.WithoutExtendedOffline()), newFixture(t, eventtest.WithoutExtendedOffline())
	second := a.second("ONCRMDEALDELETE")
	a.bind("erp", "ONCRMDEALUPDATE")
	a.change("UPDATE", 1)
	spool := offline.WithSpool(dir)
	interrupted(t, a.api, spool)
	a.change("DELETE", 2)
	b.change("ADD", 3)

	var own, others, portals, connected journal
	require.NoError(t, newConsumer(t, second, others.HandleEvent, spool).Drain(t.Context()))
	require.NoError(t, newConsumer(t, b.api, portals.HandleEvent, spool).Drain(t.Context()))
	require.NoError(t, newConsumer(t, a.api, connected.HandleEvent, spool, offline.WithConnector("erp")).Drain(t.Context()))
	require.NoError(t, newConsumer(t, a.api, own.HandleEvent, spool).Drain(t.Context()))
	require.Equal(t, []string{"DELETE 2"}, others.entries(), "the second application bound this event only")
	require.Equal(t, []string{"ADD 3"}, portals.entries())
	require.Equal(t, []string{"UPDATE 1"}, connected.entries())
	require.ElementsMatch(t, []string{"UPDATE 1", "DELETE 2"}, own.entries())
}

func TestSpoolOfAnotherQueueIsRefused(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, folder string){
		"another application": func(t *testing.T, folder string) {
			t.Helper()
			other := newFixture(t, eventtest.WithoutExtendedOffline())
			dir := t.TempDir()
			other.change("UPDATE", 9)
			interrupted(t, other.api, offline.WithSpool(dir))
			require.NoError(t, os.RemoveAll(folder))
			require.NoError(t, os.Rename(other.spoolDir(dir), folder))
		},
		"an owner that cannot be read": func(t *testing.T, folder string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(folder, "identity.json"), []byte("{"), 0o600))
		},
		"a newer format": func(t *testing.T, folder string) {
			t.Helper()
			require.NoError(t, os.WriteFile(filepath.Join(folder, "identity.json"), []byte(`{"version":3}`), 0o600))
		},
		"no owner": func(t *testing.T, folder string) {
			t.Helper()
			require.NoError(t, os.Remove(filepath.Join(folder, "identity.json")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, eventtest.WithoutExtendedOffline())
			dir := t.TempDir()
			f.change("UPDATE", 1)
			interrupted(t, f.api, offline.WithSpool(dir))
			spoil(t, f.spoolDir(dir))
			before := files(t, dir)
			var seen journal
			err := newConsumer(t, f.api, seen.HandleEvent, offline.WithSpool(dir)).Drain(t.Context())
			require.ErrorIs(t, err, offline.ErrSpoolOwner)
			require.Empty(t, seen.entries())
			require.Equal(t, before, files(t, dir), "nothing was touched")
		})
	}
}

// The folders in testdata were written by the first version, which named them after the portal and
// the connector only.
func TestSpoolOfTheFirstFormatIsRefused(t *testing.T) {
	t.Parallel()
	const member = "a223c6b3710f85df22e9377d6c4f7553"
	for name, tt := range map[string]struct {
		member, connector string
		refused           bool
	}{
		"the queue":             {member: member, refused: true},
		"the connector's queue": {member: member, connector: "erp", refused: true},
		"another connector's":   {member: member, connector: "crm"},
		"another portal's":      {member: "b223c6b3710f85df22e9377d6c4f7553"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS("testdata/oldspool")))
			before := files(t, dir)
			require.NotEmpty(t, before)
			f := newFixture(t, eventtest.WithoutExtendedOffline(), eventtest.WithMemberID(tt.member))
			opts := []offline.ConsumerOption{offline.WithSpool(dir), offline.WithConnector(tt.connector)}
			var seen journal
			err := newConsumer(t, f.api, seen.HandleEvent, opts...).Drain(t.Context())
			require.Empty(t, seen.entries())
			if !tt.refused {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, offline.ErrSpoolOwner)
			require.ErrorContains(t, err, "finish its records with that version, or move the folder away")
			require.Equal(t, before, files(t, dir), "nothing was touched")
		})
	}
}

// The name that the first format used is taken by nothing when it holds no records.
func TestFinishedSpoolOfTheFirstFormat(t *testing.T) {
	t.Parallel()
	f := newFixture(t, eventtest.WithoutExtendedOffline())
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, f.MemberID()), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, f.MemberID(), "lock"), nil, 0o600))
	f.change("UPDATE", 1)
	var seen journal
	f.drain(seen.HandleEvent, offline.WithSpool(dir))
	require.Equal(t, []string{"UPDATE 1"}, seen.entries())
}

// A record that was parked stands for changes of others than the user that it names, also after a
// restart.
func TestSpoolRemembersThatARecordWasParked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	opts := []offline.ConsumerOption{offline.WithIgnoredUsers(9), offline.WithSpool(t.TempDir())}
	f.change("UPDATE", 1) // by user 7
	var h refuses
	h.set(true, "1")
	f.drain(h.HandleEvent, opts...)
	require.NoError(t, f.Raise("ONCRMDEALUPDATE", map[string]any{"FIELDS": map[string]any{"ID": 1}}, 9), "it merges into the parked record")
	require.Equal(t, []string{"parked"}, f.states())
	require.NoError(t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
	interrupted(t, f.api, opts...)
	require.Empty(t, f.states(), "it is in the spool only")
	h.set(false, "1")
	c := f.drain(h.HandleEvent, opts...)
	require.Zero(t, c.Stats().Ignored)
	require.EqualValues(t, 1, c.Stats().Handled, "user 7's change")
}

// appOnPortals is a fleet of one application, with the portals that it works.
type appOnPortals struct {
	*offline.Fleet

	mu    sync.Mutex
	asked map[string]int // reservations, by portal
}

func newAppOnPortals(t *testing.T, clientID string, l offline.Leaser, ids []string) *appOnPortals {
	t.Helper()
	a := &appOnPortals{asked: make(map[string]int)}
	var err error
	a.Fleet, err = offline.NewFleet(func(id string) event.Caller {
		return callerOf(func(context.Context, string, any, any) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.asked[id]++
			return context.DeadlineExceeded // it may pass: the portal is asked again
		})
	}, new(journal), silent(), offline.WithLeaser(l), offline.WithClientID(clientID))
	require.NoError(t, err)
	for _, id := range ids {
		require.NoError(t, a.Add(id))
	}
	return a
}

// Two applications that share a leaser work all their portals, each as if the other were not there.
func TestFleetsOfTwoApplicationsShareALeaser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		leaser := offline.NewMemoryLeaser()
		var ids []string
		for i := range 20 {
			ids = append(ids, "portal"+strconv.Itoa(i))
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		apps := []*appOnPortals{newAppOnPortals(t, "app.1", leaser, ids), newAppOnPortals(t, "app.2", leaser, ids)}
		for _, a := range apps {
			running.Go(func() { _ = a.Run(ctx) })
		}
		pass(t, time.Hour)
		stop()
		running.Wait()
		for i, a := range apps {
			require.Len(t, a.asked, len(ids), "application %d", i+1)
		}
	})
}

// The leases of two applications on one portal have different names.
func TestConsumersOfTwoApplicationsShareALeaser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	second := f.second("ONCRMDEALUPDATE")
	leaser := offline.NewMemoryLeaser()
	f.change("UPDATE", 1)
	var first, other journal
	c := newConsumer(t, f.api, func(ctx context.Context, d *event.Delivery) error { // holds its lease now
		require.NoError(t, newConsumer(t, second, other.HandleEvent, offline.WithLeaser(leaser)).Drain(ctx))
		return first.HandleEvent(ctx, d)
	}, offline.WithLeaser(leaser))
	require.NoError(t, c.Drain(t.Context()))
	require.Equal(t, []string{"UPDATE 1"}, first.entries())
	require.Equal(t, []string{"UPDATE 1"}, other.entries())
}

func TestRecordsAreProven(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		run  func(f *fixture, h event.Handler) error
		want func(f *fixture) event.Proof
	}{
		"consumer": {
			run: func(f *fixture, h event.Handler) error {
				return newConsumer(f.t, f.api, h.HandleEvent).Drain(f.t.Context())
			},
			want: func(f *fixture) event.Proof {
				return event.Proof{By: event.ProofCall, ClientID: f.app.ClientID(), MemberID: f.MemberID()}
			},
		},
		"consumer with a spool": {
			run: func(f *fixture, h event.Handler) error {
				require.NoError(f.t, f.ChangeQuirks(func(m *eventtest.Quirks) { m.NoExtendedOffline = true }))
				dir := f.t.TempDir()
				interrupted(f.t, f.api, offline.WithSpool(dir))
				return newConsumer(f.t, f.api, h.HandleEvent, offline.WithSpool(dir)).Drain(f.t.Context())
			},
			want: func(f *fixture) event.Proof {
				return event.Proof{By: event.ProofCall, ClientID: f.app.ClientID(), MemberID: f.MemberID()}
			},
		},
		"queue": {
			run: func(f *fixture, h event.Handler) error {
				q := f.queue()
				var listed []offline.Record
				for r, err := range q.List(f.t.Context()) {
					require.NoError(f.t, err)
					listed = append(listed, r)
				}
				require.Len(f.t, listed, 1)
				b, err := q.Reserve(f.t.Context(), 1)
				require.NoError(f.t, err)
				require.Equal(f.t, b.Records[0].Delivery.Proof, listed[0].Delivery.Proof)
				return h.HandleEvent(f.t.Context(), b.Records[0].Delivery)
			},
			want: func(f *fixture) event.Proof {
				return event.Proof{By: event.ProofCall, ClientID: f.app.ClientID(), MemberID: f.MemberID()}
			},
		},
		"caller that does not tell": {
			run: func(f *fixture, h event.Handler) error {
				return newConsumer(f.t, tap{Caller: f.api}, h.HandleEvent).Drain(f.t.Context())
			},
			want: func(*fixture) event.Proof { return event.Proof{By: event.ProofCall} },
		},
		"fleet": {
			run: func(f *fixture, h event.Handler) error {
				ctx, stop := context.WithCancel(f.t.Context())
				fleet, err := offline.NewFleet(func(string) event.Caller { return f.api }, event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
					defer stop()
					return h.HandleEvent(ctx, d)
				}), silent())
				require.NoError(f.t, err)
				require.NoError(f.t, fleet.Add(f.MemberID()))
				return fleet.Run(ctx)
			},
			want: func(f *fixture) event.Proof {
				return event.Proof{By: event.ProofCall, ClientID: f.app.ClientID(), MemberID: f.MemberID()}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("UPDATE", 1)
			var proofs []event.Proof
			require.NoError(t, tt.run(f, event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
				proofs = append(proofs, d.Proof)
				return nil
			})))
			require.Equal(t, []event.Proof{tt.want(f)}, proofs)
		})
	}
}

// A fleet whose function hands out the caller of another portal, or of another application, does
// not call it.
func TestFleetRefusesCallersOfOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		id   func(f *fixture) string
		opts func(f *fixture) []offline.FleetOption
	}{
		"another portal's": {func(*fixture) string { return "b223c6b3710f85df22e9377d6c4f7553" }, func(*fixture) []offline.FleetOption { return nil }},
		"another application's": {
			func(f *fixture) string { return f.MemberID() },
			func(*fixture) []offline.FleetOption { return []offline.FleetOption{offline.WithClientID("app.1")} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.change("UPDATE", 1)
			f.ResetRecords()
			ctx, stop := context.WithCancel(t.Context())
			var refusal error
			var seen journal
			fleet, err := offline.NewFleet(
				func(string) event.Caller { return f.api },
				&seen,
				append(tt.opts(f), silent(), offline.WithOnRefused(func(_ string, err error) {
					refusal = err
					stop()
				}))...)
			require.NoError(t, err)
			require.NoError(t, fleet.Add(tt.id(f)))
			require.NoError(t, fleet.Run(ctx))
			require.ErrorIs(t, refusal, offline.ErrIdentity)
			require.Empty(t, seen.entries())
			require.Zero(t, f.Requests().REST)
		})
	}
}

func TestWakeFor(t *testing.T) {
	t.Parallel()
	const client, member, other = "app.1", "a223c6b3710f85df22e9377d6c4f7553", "b223c6b3710f85df22e9377d6c4f7553"
	nobody := callerOf(nothing)
	named, err := offline.NewFleet(func(string) event.Caller { return nobody }, new(journal), offline.WithClientID(client))
	require.NoError(t, err)
	told, err := offline.NewFleet(func(id string) event.Caller {
		return newClient(t, eventtest.NewNetwork().Client(), credentials{client: client}, id)
	}, new(journal))
	require.NoError(t, err)
	silent, err := offline.NewFleet(func(string) event.Caller { return nobody }, new(journal))
	require.NoError(t, err)
	broken, err := offline.NewFleet(func(string) event.Caller { panic("no caller") }, new(journal))
	require.NoError(t, err)
	consumer := newConsumer(t, nobody, new(journal).HandleEvent, offline.WithClientID(client), offline.WithMemberID(member))

	for name, tt := range map[string]struct {
		proof           event.Proof
		fleet, consumer bool
	}{
		"its application token":          {event.Proof{By: event.ProofInstallation, ClientID: client, MemberID: member}, true, true},
		"its tokens":                     {event.Proof{By: event.ProofTokens, ClientID: client, MemberID: member}, true, true},
		"another portal of its":          {event.Proof{By: event.ProofInstallation, ClientID: client, MemberID: other}, true, false},
		"another application":            {event.Proof{By: event.ProofInstallation, ClientID: "app.2", MemberID: member}, false, false},
		"a fixed token":                  {event.Proof{By: event.ProofWebhook, MemberID: member}, false, false},
		"a fixed token with a client ID": {event.Proof{By: event.ProofWebhook, ClientID: client, MemberID: member}, false, false},
		"nobody checked":                 {event.Proof{By: event.ProofInsecure, ClientID: client, MemberID: member}, false, false},
		"no proof":                       {event.Proof{}, false, false},
		"no application":                 {event.Proof{By: event.ProofInstallation, MemberID: member}, false, false},
		"no portal":                      {event.Proof{By: event.ProofInstallation, ClientID: client}, false, false},
	} {
		d := &event.Delivery{Name: "ONOFFLINEEVENT", Auth: event.Auth{MemberID: member}}
		d.Proof = tt.proof
		require.Equal(t, tt.fleet, named.WakeFor(d), name)
		require.Equal(t, tt.fleet, told.WakeFor(d), name)
		require.False(t, silent.WakeFor(d), "%s: the fleet knows no application", name)
		require.False(t, broken.WakeFor(d), name)
		require.Equal(t, tt.consumer, consumer.WakeFor(d), name)
	}
}

// A delivery that is proven wakes the portal: its queue is asked at once. The interval is so long
// that the fleet asks only then: half of it has to pass before the first turn of its own.
func TestWakeForAsksTheQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		f := w.fleet(offline.WithInterval(day, day))
		w.add(f, w.ids...)
		defer running(t, f)()
		pass(t, time.Hour)
		w.change(w.ids[0], 1)
		d := &event.Delivery{Name: "ONOFFLINEEVENT"}
		d.SetProof(event.Proof{By: event.ProofWebhook, MemberID: w.ids[0]})
		require.False(t, f.WakeFor(d))
		pass(t, time.Second)
		require.Empty(t, w.deals(w.ids[0]))
		d.SetProof(event.Proof{By: event.ProofInstallation, ClientID: "app.1", MemberID: w.ids[0]})
		require.True(t, f.WakeFor(d))
		pass(t, time.Second)
		require.Equal(t, []string{"1"}, w.deals(w.ids[0]))
	})
}
