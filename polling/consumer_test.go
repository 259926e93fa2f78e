package polling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/polling"
)

var errTest = errors.New("not today")

func TestBot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		mux := event.NewMux()
		var got []string
		var mu sync.Mutex
		event.On(mux, event.OnImBotV2MessageAdd, func(_ context.Context, d *event.Delivery, e event.BotV2Message) error {
			mu.Lock()
			defer mu.Unlock()
			require.True(t, d.ProvenFor(f.app.ClientID()))
			require.Equal(t, f.MemberID(), d.MemberID())
			require.Equal(t, event.SourcePolled, d.Source)
			require.Equal(t, f.bot, e.Bot.ID)
			require.Empty(t, e.Bot.Auth.AccessToken)
			got = append(got, e.Message.Text)
			return nil
		})
		f.say(eventtest.AdminID, "piled up")
		c := f.consumer(mux)
		r := run(t, c)
		synctest.Wait()
		require.Equal(t, []string{"piled up"}, got)
		last := f.LoggedEvents()[1].ID
		require.Equal(t, last+1, f.kept(c), "the offset is kept as soon as nothing is in work")
		require.Len(t, f.LoggedEvents(), 2, "and acknowledged by the next request")
		pass(polling.DefaultMinInterval)
		synctest.Wait()
		require.Empty(t, f.LoggedEvents())
		f.say(eventtest.AdminID, "one", "two")
		pass(polling.DefaultMaxInterval)
		require.NoError(t, r.end())
		require.Equal(t, []string{"piled up", "one", "two"}, got)
		s := c.Stats()
		balanced(t, s)
		require.EqualValues(t, 3, s.Handled)
		require.EqualValues(t, 1, s.Unhandled, "the bot joined the chat")
		require.Equal(t, last+3, s.Offset)
		require.NotZero(t, s.LastEvent)
		require.Equal(t, polling.Key{ClientID: f.app.ClientID(), MemberID: f.MemberID(), BotID: f.bot}, c.Key())

		f.say(eventtest.AdminID, "three")
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, "three", got[len(got)-1])
		require.Empty(t, f.LoggedEvents(), "Drain acknowledges")
	})
}

func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var at []time.Time
		began := time.Now()
		f.Always("imbot.v2.event.get", eventtest.Before(func(*http.Request) { at = append(at, time.Now()) }))
		c := f.consumer(&recorder{}, polling.WithBatchSize(2))
		f.say(eventtest.AdminID, "a", "b", "c", "d") // five events with the joining of the chat
		r := run(t, c)
		pass(5 * time.Minute)
		require.NoError(t, r.end())
		require.Equal(t, began, at[0])
		require.Equal(t, 2*time.Second, at[1].Sub(at[0]), "hasMore")
		require.Equal(t, 2*time.Second, at[2].Sub(at[1]), "hasMore")
		require.Equal(t, 5*time.Second, at[3].Sub(at[2]), "events came")
		for i := 4; i < len(at); i++ {
			wait := at[i].Sub(at[i-1])
			require.GreaterOrEqual(t, wait, 5*time.Second)
			require.LessOrEqual(t, wait, 30*time.Second)
		}
		require.Greater(t, at[len(at)-1].Sub(at[len(at)-2]), 15*time.Second, "waits grow")
		require.Less(t, len(at), 25)
	})
}

// An event that is retried holds up its chat, and the offset, and nothing else.
func TestRetriesHoldUpTheirChatOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(2)
		h := &recorder{fail: func(text string) error {
			if text == "bad" {
				return event.Retry(errTest, 20*time.Second)
			}
			return nil
		}}
		c := f.consumer(h, polling.WithMaxAttempts(3), polling.WithWorkers(1))
		f.say(users[0], "bad", "behind")
		bad := f.LoggedEvents()[0].ID
		f.say(users[1], "other")
		r := run(t, c)
		pass(10 * time.Second)
		f.say(users[1], "later")
		pass(6 * time.Second)
		require.Equal(t, []string{"bad", "other", "later"}, h.seen())
		require.Equal(t, bad, f.kept(c), "the offset waits")
		require.Equal(t, 2, c.Stats().InWork)
		require.Equal(t, bad, f.LoggedEvents()[0].ID, "the portal still has it")
		pass(time.Minute)
		require.Equal(t, []string{"bad", "other", "later", "bad", "bad", "behind"}, h.seen())
		require.Empty(t, f.LoggedEvents(), "then it is given up")
		require.NoError(t, r.end())
		s := c.Stats()
		balanced(t, s)
		require.EqualValues(t, 1, s.Failed)
		require.EqualValues(t, 2, s.Retried)
		require.EqualValues(t, 3, s.Handled)
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(1)
		errs := map[string]error{"drop": event.Drop(errTest), "gone": event.ErrGone, "fail": errTest, "ok": nil}
		var dropped []string
		var hooks polling.Hooks
		failures := 0
		hooks.Dropped = func(_ context.Context, e polling.Event, err error) error {
			if failures++; failures == 1 {
				return errors.New("the table is gone")
			} else if failures == 2 {
				panic("a hook")
			}
			require.ErrorIs(t, err, errTest)
			require.Contains(t, string(e.Raw()), "eventId")
			dropped = append(dropped, e.Delivery.Data.Get("message", "text").Text())
			return nil
		}
		handled := 0
		hooks.Handled = func(context.Context, *event.Delivery, time.Duration) { handled++ }
		var log bytes.Buffer
		c := f.consumer(&recorder{fail: func(text string) error { return errs[text] }}, polling.WithHooks(hooks), polling.WithMaxAttempts(2),
			polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		f.say(users[0], "drop", "gone", "fail", "ok")
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, []string{"drop", "fail"}, dropped)
		require.Equal(t, 2, handled)
		s := c.Stats()
		balanced(t, s)
		require.EqualValues(t, 1, s.Dropped)
		require.EqualValues(t, 1, s.Failed)
		require.EqualValues(t, 2, s.Handled)
		require.Empty(t, f.LoggedEvents())
		for _, want := range []string{
			"level=WARN msg=\"polling: the handler dropped the event\" member_id=" + f.MemberID(),
			"level=ERROR msg=\"polling: the event failed for good and is given up\"", "level=WARN msg=\"polling: Hooks.Dropped failed, the event is kept; trying again\"",
			fmt.Sprint("bot_id=", f.bot), "event=ONIMBOTV2MESSAGEADD", "attempt=2",
		} {
			require.Contains(t, log.String(), want)
		}
	})
}

func TestUserEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(1)
		h := &recorder{}
		c := f.consumer(h, polling.WithUserEvents(eventtest.AdminID), polling.WithWorkers(1))
		r := run(t, c)
		synctest.Wait()
		_, err := f.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": eventtest.AdminID, "MESSAGE": "to the user"}, users[0])
		require.NoError(t, err)
		f.say(users[0], "to the bot")
		pass(time.Minute)
		require.Equal(t, []string{"to the user", "to the bot"}, h.seen())
		require.Empty(t, f.LoggedEvents())
		require.ErrorIs(t, c.Unsubscribe(t.Context()), polling.ErrRunning)

		require.NoError(t, f.api.Call(t.Context(), "im.v2.Event.unsubscribe", nil, nil)) // somebody else
		pass(time.Minute)
		require.NoError(t, f.RaiseForUser(eventtest.AdminID, "ONIMV2JOINCHAT", nil))
		require.Len(t, f.LoggedEvents(), 1, "the consumer has subscribed again")
		pass(time.Minute)
		require.Equal(t, "ONIMV2JOINCHAT", h.seen()[2])
		require.NoError(t, r.end())
		require.NoError(t, c.Unsubscribe(t.Context()))
		require.NoError(t, f.RaiseForUser(eventtest.AdminID, "ONIMV2JOINCHAT", nil))
		require.Empty(t, f.LoggedEvents())
		require.ErrorIs(t, f.consumer(h).Unsubscribe(t.Context()), polling.ErrConfig)
	})
}

func TestUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(2)
		mux := event.NewMux()
		var texts []string
		event.On(mux, event.OnImV2MessageAdd, func(_ context.Context, _ *event.Delivery, e event.IMV2Message) error {
			texts = append(texts, e.Message.Text)
			return nil
		})
		c, err := polling.NewUser(f.as(users[0]), users[0], mux, f.store, silent())
		require.NoError(t, err)
		require.NoError(t, c.Drain(t.Context()), "it subscribes")
		_, err = f.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": users[0], "MESSAGE": "Hello"}, users[1])
		require.NoError(t, err)
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, []string{"Hello"}, texts)
		require.Equal(t, polling.Key{ClientID: f.app.ClientID(), MemberID: f.MemberID(), UserID: users[0]}, c.Key())

		// The token of another user would acknowledge the other one's events.
		c, err = polling.NewUser(f.as(users[1]), users[0], mux, f.store, silent())
		require.NoError(t, err)
		f.ResetRecords()
		require.ErrorIs(t, c.Run(t.Context()), polling.ErrIdentity)
		require.ErrorIs(t, c.Unsubscribe(t.Context()), polling.ErrIdentity)
		require.Zero(t, f.CallCount("im.v2.event.get")+f.CallCount("im.v2.event.subscribe")+f.CallCount("im.v2.event.unsubscribe"))
	})
}

func TestPermanentErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault eventtest.Fault
		want  error
	}{
		"no bot":          {eventtest.Fail(400, "BOT_NOT_FOUND", "Bot not found"), polling.ErrBot},
		"another's bot":   {eventtest.Fail(403, "BOT_OWNERSHIP_ERROR", ""), polling.ErrBot},
		"no botToken":     {eventtest.Fail(400, "BOT_TOKEN_NOT_SPECIFIED", ""), polling.ErrBot},
		"scope im":        {eventtest.Fail(403, "SCOPE_ERROR", ""), polling.ErrScope},
		"scope imbot":     {eventtest.Fail(401, "insufficient_scope", ""), polling.ErrScope},
		"no user":         {eventtest.Fail(403, "AUTH_ERROR", ""), nil},
		"token is dead":   {eventtest.Fail(401, "invalid_token", ""), nil},
		"application out": {eventtest.Fail(401, "APPLICATION_NOT_FOUND", ""), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.Always("imbot.v2.event.get", tt.fault)
				for _, work := range []func(context.Context) error{f.consumer(&recorder{}).Run, f.consumer(&recorder{}).Drain} {
					err := work(t.Context())
					require.Error(t, err)
					require.NotContains(t, err.Error(), "https://")
					if tt.want != nil {
						require.ErrorIs(t, err, tt.want)
					}
					var refusal event.CallError
					require.ErrorAs(t, err, &refusal)
				}
			})
		})
	}
}

func TestPassingErrors(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]eventtest.Fault{
		"too many":        eventtest.Fail(429, "QUERY_LIMIT_EXCEEDED", "Too many requests"),
		"page":            eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })),
		"server":          eventtest.Fail(500, "INTERNAL_SERVER_ERROR", ""),
		"expired":         eventtest.Fail(401, "expired_token", ""),
		"lost":            eventtest.LoseAnswer(),
		"another result":  eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"result":[1]}`)) })),
		"unknown refusal": eventtest.Fail(400, "SOMETHING_NEW", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.say(eventtest.AdminID, "Hello")
				f.Times(4, "imbot.v2.event.get", fault)
				h := &recorder{}
				c := f.consumer(h)
				began := time.Now()
				require.NoError(t, c.Drain(t.Context()))
				require.Contains(t, h.seen(), "Hello")
				require.Greater(t, time.Since(began), 3*time.Second, "it backs off")
				require.Less(t, time.Since(began), time.Minute)
				balanced(t, c.Stats())
			})
		})
	}
}

// flakyStore is a store that fails.
type flakyStore struct {
	*polling.MemoryStore

	mu         sync.Mutex
	load, keep int // how often they fail
}

func (s *flakyStore) Load(ctx context.Context, key polling.Key) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.load--; s.load >= 0 {
		return 0, errTest
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *flakyStore) Keep(ctx context.Context, key polling.Key, offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keep--; s.keep >= 0 {
		return errTest
	}
	return s.MemoryStore.Keep(ctx, key, offset)
}

func TestStoreFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.say(eventtest.AdminID, "Hello")
		h := &recorder{}
		s := &flakyStore{MemoryStore: f.store, load: 3, keep: 5}
		c, err := polling.NewBot(f.api, f.bot, h, s, silent())
		require.NoError(t, err)
		var offsets []string
		f.Always("imbot.v2.event.get", eventtest.Before(func(*http.Request) { offsets = append(offsets, strconv.FormatInt(f.kept(c), 10)) }))
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, []string{"ONIMBOTV2JOINCHAT", "Hello"}, h.seen(), "nothing is asked for before the offset is kept")
		require.Len(t, offsets, 2)
		require.Equal(t, "0", offsets[0])
		balanced(t, c.Stats())

		// At the end it goes on for ten seconds.
		f.say(eventtest.AdminID, "again")
		s.keep = 1000
		r := run(t, c)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, r.end())
		require.Equal(t, 10*time.Second, time.Since(began))
		s.keep = 0
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, []string{"ONIMBOTV2JOINCHAT", "Hello", "again", "again"}, h.seen(), "it is repeated")

		bad, err := polling.NewBot(f.api, f.bot, h, badStore(-1), silent())
		require.NoError(t, err)
		require.ErrorIs(t, bad.Run(t.Context()), polling.ErrStore)
	})
}

type badStore int64

func (s badStore) Load(context.Context, polling.Key) (int64, error) { return int64(s), nil }
func (badStore) Keep(context.Context, polling.Key, int64) error     { return nil }

func TestStop(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		grace     time.Duration
		needs     time.Duration // that the handler takes, unless its context ends
		handled   uint64
		abandoned uint64
	}{
		"within the grace period": {10 * time.Second, 9 * time.Second, 3, 1},
		"cut":                     {10 * time.Second, 11 * time.Second, 2, 2},
		"no grace":                {0, time.Second, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				users := f.users(1)
				c := f.consumer(event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
					if d.Data.Get("message", "text").Text() != "slow" {
						return nil
					}
					select {
					case <-time.After(tt.needs):
						return nil
					case <-ctx.Done():
						require.ErrorIs(t, context.Cause(ctx), polling.ErrStopped)
						return ctx.Err()
					}
				}), polling.WithGrace(tt.grace))
				f.say(users[0], "quick", "quick", "slow", "waits")
				slow := f.LoggedEvents()[2].ID
				r := run(t, c)
				synctest.Wait()
				require.ErrorIs(t, c.Run(t.Context()), polling.ErrRunning)
				began := time.Now()
				require.NoError(t, r.end())
				require.Equal(t, min(tt.grace, tt.needs), time.Since(began))
				s := c.Stats()
				balanced(t, s)
				require.Equal(t, tt.handled, s.Handled)
				require.Equal(t, tt.abandoned, s.Abandoned)
				require.Equal(t, slow+int64(tt.handled)-2, f.kept(c)) //nolint:gosec // small

				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				require.NoError(t, c.Run(ctx))
				require.ErrorIs(t, c.Drain(ctx), context.Canceled)
			})
		})
	}
}

func TestScriptedResponses(t *testing.T) {
	t.Parallel()
	ev := func(id any, text string) string {
		return fmt.Sprintf(`{"eventId":%v,"type":"ONIMBOTV2MESSAGEADD","data":{"message":{"id":1,"text":%q},"chat":{"id":%q}}}`, id, text, text)
	}
	pg := func(next any, more bool, events ...string) string {
		return fmt.Sprintf(`{"events":[%s],"nextOffset":%v,"hasMore":%v}`, strings.Join(events, ","), next, more)
	}
	const foreign = `{"eventId":1,"type":"ONIMBOTV2MESSAGEADD","data":{"bot":{"auth":{"access_token":"t","member_id":"x"}}}}`
	for name, tt := range map[string]struct {
		pages   []string // then empty ones
		want    []string // that is handled
		damaged uint64
		offsets []any
	}{
		"in order":              {[]string{pg(3, false, ev(1, "a"), ev(2, "b"))}, []string{"a", "b"}, 0, []any{nil, int64(3)}},
		"no nextOffset":         {[]string{pg("null", false, ev(1, "a"))}, []string{"a"}, 0, []any{nil, int64(2)}},
		"nextOffset is behind":  {[]string{pg(1, false, ev(1, "a"))}, []string{"a"}, 0, []any{nil, int64(2)}},
		"nextOffset is too far": {[]string{pg(1000, false, ev(1, "a"))}, []string{"a"}, 0, []any{nil, int64(2)}},
		"nextOffset is short":   {[]string{pg(2, true, ev(1, "a"), ev(7, "c")), pg(8, false, ev(5, "b"), ev(7, "c"))}, []string{"a", "c", "b"}, 0, []any{nil, int64(2), int64(8)}},
		"IDs are texts":         {[]string{pg(`"3"`, false, ev(`"1"`, "a"), ev(`"2"`, "b"))}, []string{"a", "b"}, 0, []any{nil, int64(3)}},
		"PHP's empty list":      {[]string{`{"events":{},"nextOffset":0,"hasMore":"0"}`}, nil, 0, []any{nil}},
		"repeated":              {[]string{pg(3, true, ev(1, "a"), ev(2, "b")), pg(3, false, ev(1, "a"), ev(2, "b"))}, []string{"a", "b"}, 0, []any{nil, int64(3), int64(3)}},
		"a bot's and a user's":  {[]string{pg(2, false, ev(1, "a"), strings.Replace(ev(1, "b"), "BOT", "", 1))}, []string{"a", "b"}, 0, []any{nil, int64(2)}},
		"no ID":                 {[]string{pg(3, false, ev(`"x"`, "a"), ev(2, "b"))}, []string{"a", "b"}, 0, []any{nil, int64(3)}},
		"no ID and no way on":   {[]string{pg(2, false, ev("null", "a"), ev(2, "b")), pg(3, false, ev(1, "a"), ev(2, "b"))}, []string{"a", "b"}, 0, []any{nil, nil, int64(3)}},
		"no ID, later":          {[]string{pg(3, true, ev(2, "a")), pg(5, false, ev(`"x"`, "b"), ev(4, "c"))}, []string{"a", "b", "c"}, 0, []any{nil, int64(3), int64(5)}},
		"nothing but more":      {[]string{pg(9, true), pg(11, false, ev(10, "a"))}, []string{"a"}, 0, []any{nil, int64(9), int64(11)}},
		"damaged":               {[]string{pg(4, false, `{"eventId":1,"type":5}`, `{"eventId":2}`, ev(3, "a"), `7`)}, []string{"a"}, 3, []any{nil, int64(4)}},
		"another portal's":      {[]string{pg(2, false, foreign)}, nil, 1, []any{nil, int64(2)}},
		"huge ID":               {[]string{pg(5, false, ev("9223372036854775807", "a"))}, []string{"a"}, 0, []any{nil, int64(5)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := &recorder{}
				caller := &scripted{next: func(n int, _ map[string]any) (string, error) {
					if n > len(tt.pages) {
						return `{"events":[],"nextOffset":0,"hasMore":false}`, nil
					}
					return tt.pages[n-1], nil
				}}
				lost := uint64(0)
				c, err := polling.NewBot(caller, 5, h, &growingStore{t: t}, silent(), polling.WithWorkers(1),
					polling.WithHooks(polling.Hooks{Dropped: func(_ context.Context, e polling.Event, err error) error {
						require.Error(t, err)
						require.NotEmpty(t, e.Raw())
						require.Equal(t, "portal", e.MemberID)
						lost++
						return nil
					}}))
				require.NoError(t, err)
				require.NoError(t, c.Drain(t.Context()))
				require.Equal(t, tt.want, h.seen())
				require.Equal(t, tt.damaged, c.Stats().Damaged)
				require.Equal(t, tt.damaged, lost)
				require.Equal(t, tt.offsets, caller.offsets()[:len(tt.offsets)])
				balanced(t, c.Stats())
			})
		})
	}
}

// While an event without an ID is in work, the offset stays where it is.
func TestEventWithoutID(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pages := []string{
			`{"events":[{"eventId":2,"type":"X"}],"nextOffset":3,"hasMore":true}`,
			`{"events":[{"type":"X"},{"eventId":4,"type":"X"}],"nextOffset":5,"hasMore":true}`,
		}
		caller := &scripted{next: func(n int, _ map[string]any) (string, error) {
			if n > len(pages) {
				return `{"events":[]}`, nil
			}
			return pages[n-1], nil
		}}
		c, err := polling.NewBot(caller, 5, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			pass(10 * time.Second)
			return nil
		}), &growingStore{t: t}, silent(), polling.WithWorkers(1))
		require.NoError(t, err)
		require.NoError(t, c.Drain(t.Context()))
		require.EqualValues(t, 3, c.Stats().Handled)
		offsets := caller.offsets()
		require.Equal(t, []any{int64(5)}, offsets[len(offsets)-1:])
		require.NotContains(t, offsets, int64(4))
	})
}

// growingStore is a store whose offset only grows.
type growingStore struct {
	t      *testing.T
	offset int64
}

func (s *growingStore) Load(context.Context, polling.Key) (int64, error) { return s.offset, nil }

func (s *growingStore) Keep(_ context.Context, _ polling.Key, offset int64) error {
	require.Greater(s.t, offset, s.offset)
	s.offset = offset
	return nil
}

// A portal that returns ever more while nothing ends does not fill the memory.
func TestWindowIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		var log bytes.Buffer
		caller := &scripted{next: func(_ int, params map[string]any) (string, error) {
			limit, _ := params["limit"].(int)
			var list []string
			for n := range limit {
				list = append(list, fmt.Sprintf(`{"eventId":%d,"type":"X"}`, n+1))
			}
			return fmt.Sprintf(`{"events":[%s],"nextOffset":%d,"hasMore":true}`, strings.Join(list, ","), limit+1), nil
		}}
		c, err := polling.NewBot(caller, 5, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			<-block
			return nil
		}), polling.NewMemoryStore(), polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, err)
		r := run(t, c)
		pass(time.Hour)
		require.Len(t, caller.offsets(), 10, "after a thousand events it waits")
		require.Equal(t, 1000, c.Stats().InWork)
		close(block)
		require.NoError(t, r.end())
		balanced(t, c.Stats())
		require.Equal(t, 11, strings.Count(log.String(), "no more are asked for"), "every five minutes")
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good, h, s := &scripted{}, event.NewMux(), polling.NewMemoryStore()
	for name, opt := range map[string]polling.Option{
		"batch 0": polling.WithBatchSize(0), "batch 1001": polling.WithBatchSize(1001), "workers": polling.WithWorkers(0),
		"interval": polling.WithInterval(time.Second, time.Minute), "intervals": polling.WithInterval(time.Minute, time.Second),
		"timeout": polling.WithHandlerTimeout(0), "grace": polling.WithGrace(-1), "attempts": polling.WithMaxAttempts(0),
		"leaser": polling.WithLeaser(nil), "TTL": polling.WithLeaseTTL(time.Second), "logger": polling.WithLogger(nil),
		"user": polling.WithUserEvents(0), "botToken": polling.WithBotToken(""), "client": polling.WithClientID(""), "member": polling.WithMemberID(""),
		"other portal": polling.WithMemberID("other"),
	} {
		_, err := polling.NewBot(good, 5, h, s, nil, opt)
		require.ErrorIs(t, err, polling.ErrConfig, name)
	}
	for name, make := range map[string]func() (*polling.Consumer, error){
		"no caller":         func() (*polling.Consumer, error) { return polling.NewBot(nil, 5, h, s) },
		"no handler":        func() (*polling.Consumer, error) { return polling.NewBot(good, 5, nil, s) },
		"no store":          func() (*polling.Consumer, error) { return polling.NewBot(good, 5, h, (*polling.FileStore)(nil)) },
		"no bot":            func() (*polling.Consumer, error) { return polling.NewBot(good, 0, h, s) },
		"no user":           func() (*polling.Consumer, error) { return polling.NewUser(good, 0, h, s) },
		"no portal":         func() (*polling.Consumer, error) { return polling.NewBot(anonymous{}, 5, h, s) },
		"user of a user":    func() (*polling.Consumer, error) { return polling.NewUser(good, 5, h, s, polling.WithUserEvents(5)) },
		"token of a user":   func() (*polling.Consumer, error) { return polling.NewUser(good, 5, h, s, polling.WithBotToken("x")) },
		"other application": func() (*polling.Consumer, error) { return polling.NewBot(named{}, 5, h, s, polling.WithClientID("b")) },
	} {
		_, err := make()
		require.ErrorIs(t, err, polling.ErrConfig, name)
	}
	c, err := polling.NewBot(anonymous{}, 5, h, s, polling.WithMemberID("m"))
	require.NoError(t, err)
	require.Equal(t, polling.Key{MemberID: "m", BotID: 5}, c.Key())
}

type anonymous struct{}

func (anonymous) Call(context.Context, string, any, any) error { return nil }

type named struct{ anonymous }

func (named) ClientID() string { return "a" }
func (named) MemberID() string { return "m" }

// The botToken of an incoming webhook reaches the portal, and no log.
func TestBotToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		caller := &scripted{next: func(n int, params map[string]any) (string, error) {
			require.Equal(t, "very-secret", params["botToken"])
			if n == 1 {
				return "", errors.New(`post failed: {"botToken":"very-secret"} botToken=very-secret`)
			}
			return `{"events":[]}`, nil
		}}
		c, err := polling.NewBot(caller, 5, &recorder{}, polling.NewMemoryStore(), polling.WithBotToken("very-secret"),
			polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, err)
		require.NoError(t, c.Drain(t.Context()))
		require.Contains(t, log.String(), "the portal could not be asked")
		require.NotContains(t, log.String(), "very-secret")
		require.NotContains(t, fmt.Sprintf("%+v", c.Stats()), "very-secret")
	})
}

// An event that cannot be put aside stays on the portal.
func TestDroppedHookFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		users := f.users(2)
		broken := true
		var mu sync.Mutex
		h := &recorder{fail: func(text string) error {
			if text == "bad" {
				return event.Drop(errTest)
			}
			return nil
		}}
		c := f.consumer(h, polling.WithHooks(polling.Hooks{Dropped: func(context.Context, polling.Event, error) error {
			mu.Lock()
			defer mu.Unlock()
			if broken {
				return errTest
			}
			return nil
		}}))
		f.say(users[0], "bad", "behind")
		f.say(users[1], "other")
		bad := f.LoggedEvents()[0].ID
		r := run(t, c)
		pass(time.Hour)
		require.ElementsMatch(t, []string{"bad", "other"}, h.seen())
		require.Equal(t, bad, f.kept(c))
		require.NoError(t, r.end(), "it does not hold up the stop")
		balanced(t, c.Stats())
		require.EqualValues(t, 2, c.Stats().Abandoned)
		mu.Lock()
		broken = false
		mu.Unlock()
		require.NoError(t, c.Drain(t.Context()))
		require.Empty(t, f.LoggedEvents())
		require.EqualValues(t, 1, c.Stats().Dropped)
		balanced(t, c.Stats())
	})
}
