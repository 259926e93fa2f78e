package polling_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/polling"
)

// drain drains for an hour at most.
func drain(t *testing.T, c *polling.Consumer) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	return c.Drain(ctx)
}

// A portal that returns more events than it was asked for loses none of them. The consumer works on
// the first ones, and its next request brings the others.
func TestMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	type logged struct {
		at  int64
		doc string
	}
	bot := func(at int64, id any, text string) logged {
		return logged{at, fmt.Sprintf(`{"eventId":%v,"type":"ONIMBOTV2MESSAGEADD","data":{"message":{"text":%q}}}`, id, text)}
	}
	user := func(at int64, id any, text string) logged {
		e := bot(at, id, text)
		return logged{at, strings.Replace(e.doc, "BOT", "", 1)}
	}
	for name, events := range map[string][]logged{
		"nothing is odd":          {bot(1, 1, "a"), bot(2, 2, "b"), bot(3, 3, "c"), bot(4, 4, "d")},
		"one has no ID":           {bot(1, `"x"`, "a"), bot(2, 2, "b"), bot(3, 3, "c"), bot(4, 4, "d")},
		"the last has no ID":      {bot(1, 1, "a"), bot(2, 2, "b"), bot(3, 3, "c"), bot(4, `"x"`, "d")},
		"three have no ID":        {bot(1, `"x"`, "a"), bot(2, `"y"`, "b"), bot(3, "null", "c"), bot(4, 4, "d")},
		"none has an ID":          {bot(1, `"x"`, "a"), bot(2, `"y"`, "b"), bot(3, "null", "c"), bot(4, `""`, "d")},
		"the same ID":             {bot(1, 1, "a"), bot(2, 2, "b"), user(2, 2, "c"), bot(3, 3, "d")},
		"the same ID, first":      {bot(1, 1, "a"), user(1, 1, "b"), bot(2, 2, "c"), bot(3, 3, "d")},
		"the same ID, and no IDs": {bot(1, `"x"`, "a"), bot(2, 2, "b"), user(2, 2, "c"), bot(3, 3, "d")},
	} {
		for limit := 1; limit <= 3; limit++ {
			t.Run(fmt.Sprint(name, ", limit ", limit), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					h := &recorder{}
					caller := &scripted{next: func(_ int, params map[string]any) (string, error) {
						offset, _ := params["offset"].(int64)
						var list []string
						next := offset
						for _, e := range events {
							if e.at >= offset {
								list, next = append(list, e.doc), e.at+1
							}
						}
						return fmt.Sprintf(`{"events":[%s],"nextOffset":%d,"hasMore":false}`, strings.Join(list, ","), next), nil
					}}
					c, err := polling.NewBot(caller, 5, h, &growingStore{t: t}, silent(), polling.WithWorkers(1), polling.WithBatchSize(limit))
					require.NoError(t, err)
					require.NoError(t, drain(t, c))
					for _, want := range []string{"a", "b", "c", "d"} {
						require.Contains(t, h.seen(), want)
					}
				})
			})
		}
	}
}

// A portal that takes a subscription and then knows nothing of it is asked less and less often.
func TestSubscriptionThatDoesNotHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.Always("imbot.v2.event.get", eventtest.Fail(400, "USER_NOT_SUBSCRIBED", "User not subscribed"))
		c := f.consumer(&recorder{}, polling.WithUserEvents(eventtest.AdminID))
		r := run(t, c)
		pass(time.Hour)
		require.NoError(t, r.end())
		require.Less(t, c.Stats().Requests, uint64(400), "it was about four a second")
		require.Zero(t, c.Stats().LastResponse, "no response with events came")
	})
}

// A page that does not get through, because it is too large or takes too long, is asked for in
// smaller parts.
func TestPageThatDoesNotGetThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var texts []string
		for n := range 40 {
			texts = append(texts, fmt.Sprint("message ", n))
		}
		f.say(eventtest.AdminID, texts...)
		h := &recorder{}
		caller := callerFunc{f, func(ctx context.Context, method string, params, result any) error {
			if p, _ := params.(map[string]any); method == "imbot.v2.Event.get" && p["limit"].(int) > 3 && len(f.LoggedEvents()) > 10 { //nolint:forcetypeassert // it is
				return errors.New("the response is too large")
			}
			return f.api.Call(ctx, method, params, result)
		}}
		c, err := polling.NewBot(caller, f.bot, h, f.store, silent(), polling.WithBatchSize(1000))
		require.NoError(t, err)
		require.NoError(t, drain(t, c))
		require.Equal(t, append([]string{"ONIMBOTV2JOINCHAT"}, texts...), h.seen())
	})
}

// callerFunc is a caller of the fixture's portal.
type callerFunc struct {
	f    *fixture
	call func(ctx context.Context, method string, params, result any) error
}

func (c callerFunc) MemberID() string { return c.f.MemberID() }

func (c callerFunc) Call(ctx context.Context, method string, params, result any) error {
	return c.call(ctx, method, params, result)
}

// stuckStore is a store whose first calls end with their context only.
type stuckStore struct {
	*polling.MemoryStore

	load, keep int
}

func (s *stuckStore) Load(ctx context.Context, key polling.Key) (int64, error) {
	if s.load--; s.load >= 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return s.MemoryStore.Load(ctx, key)
}

func (s *stuckStore) Keep(ctx context.Context, key polling.Key, offset int64) error {
	if s.keep--; s.keep >= 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.MemoryStore.Keep(ctx, key, offset)
}

// A store that does not return, for example a database behind a dead connection, is asked again.
func TestStoreHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.say(eventtest.AdminID, "Hello")
		h := &recorder{}
		var log bytes.Buffer
		c, err := polling.NewBot(f.api, f.bot, h, &stuckStore{f.store, 1, 1}, polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		require.NoError(t, err)
		require.NoError(t, drain(t, c))
		require.Contains(t, h.seen(), "Hello")
		require.Contains(t, log.String(), "cannot ask for events yet")
		require.Contains(t, log.String(), "the offset cannot be kept")
	})
}

// A portal that says that there is more, and never returns it, is asked less and less often.
func TestEndlessMore(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]string{
		"no nextOffset":        `{"events":[],"hasMore":true}`,
		"nextOffset stays":     `{"events":[],"nextOffset":7,"hasMore":true}`,
		"nextOffset goes back": `{"events":[],"nextOffset":3,"hasMore":true}`,
		"acknowledged events":  `{"events":[{"eventId":6,"type":"X"}],"nextOffset":7,"hasMore":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				caller := &scripted{next: func(int, map[string]any) (string, error) { return doc, nil }}
				c, err := polling.NewBot(caller, 5, &recorder{}, &growingStore{t: t, offset: 7}, polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				require.NoError(t, err)
				r := run(t, c)
				pass(time.Hour)
				require.NoError(t, r.end())
				require.Less(t, len(caller.offsets()), 100)
				require.Contains(t, log.String(), polling.ErrBadResponse.Error())
				require.Zero(t, c.Stats().LastResponse)
			})
		})
	}
}

// im.v2.Event.get does not report that the subscription is gone: it returns no events.
func TestUserIsSubscribedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c, err := polling.NewUser(f.api, eventtest.AdminID, &recorder{}, f.store, silent())
		require.NoError(t, err)
		r := run(t, c)
		synctest.Wait()
		require.NoError(t, f.api.Call(t.Context(), "im.v2.Event.unsubscribe", nil, nil)) // somebody else
		pass(time.Hour)
		require.NoError(t, f.RaiseForUser(eventtest.AdminID, "ONIMV2JOINCHAT", nil))
		require.Len(t, f.LoggedEvents(), 1)
		require.NoError(t, r.end())
	})
}

// A bot in webhook mode gets its events elsewhere, and the portal does not say so.
func TestBotInWebhookMode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		var log bytes.Buffer
		c := f.consumer(&recorder{}, polling.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		r := run(t, c)
		pass(time.Hour)
		require.NoError(t, f.api.Call(t.Context(), "imbot.v2.Bot.update", map[string]any{
			"botId": f.bot, "fields": map[string]any{"eventMode": "webhook", "webhookUrl": "https://app.example.com/"},
		}, nil))
		pass(time.Hour)
		require.NoError(t, r.end())
		require.Contains(t, log.String(), "webhook mode")
	})
}

// Drain does not wait for more events as long as Run does: its last request acknowledges.
func TestDrainIsQuick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.say(eventtest.AdminID, "Hello")
		began := time.Now()
		require.NoError(t, drain(t, f.consumer(&recorder{})))
		require.Equal(t, polling.MinInterval, time.Since(began))
	})
}

// Drain waits for an event in work, and for its offset, even if the portal no longer has the event.
func TestDrainWaitsForWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		caller := &scripted{next: func(n int, _ map[string]any) (string, error) {
			if n > 1 {
				return `{"events":[]}`, nil
			}
			return `{"events":[{"eventId":1,"type":"X"}],"nextOffset":2}`, nil
		}}
		handled := false
		s := &flakyStore{MemoryStore: polling.NewMemoryStore(), keep: 7}
		c, err := polling.NewBot(caller, 5, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			pass(20 * time.Second)
			handled = true
			return nil
		}), s, silent())
		require.NoError(t, err)
		require.NoError(t, s.MemoryStore.Keep(t.Context(), c.Key(), 1))
		require.NoError(t, drain(t, c))
		require.True(t, handled)
		require.EqualValues(t, 2, c.Stats().Offset)
		balanced(t, c.Stats())
	})
}

// After a success, the consumer asks for full pages again, and failures begin with a short wait.
func TestFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		caller := &scripted{next: func(n int, _ map[string]any) (string, error) {
			at = append(at, time.Now())
			if n <= 5 || n == 7 {
				return "", errTest
			}
			return `{"events":[]}`, nil
		}}
		c, err := polling.NewBot(caller, 5, &recorder{}, polling.NewMemoryStore(), silent())
		require.NoError(t, err)
		r := run(t, c)
		pass(5 * time.Minute)
		require.NoError(t, r.end())
		var limits []any
		for _, p := range caller.calls[:8] {
			limits = append(limits, p["limit"])
		}
		require.Equal(t, []any{100, 50, 25, 12, 6, 3, 100, 50}, limits)
		require.LessOrEqual(t, at[7].Sub(at[6]), time.Second)
	})
}
