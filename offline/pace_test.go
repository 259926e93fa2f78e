package offline_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline"
)

func goexit() { runtime.Goexit() }

const (
	emptyQueue = `{"process_id":"p","events":[]}`
	idA        = "182c725fd7969ecbfb0695b95a7f1acd"
	idB        = "1517fab7e719c19d61fe8861d2c3233b"
)

// row is a record of a deal.
func row(id, deal, messageID string) string {
	return `{"ID":` + id + `,"EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":` + deal + `}},
		"MESSAGE_ID":"` + messageID + `","PROCESS_ID":"p"}`
}

// call is one call that a script saw.
type call struct {
	method string
	at     time.Duration // since the script began
	params map[string]any
}

// script answers calls without sockets, so that time can be faked. It holds no state of a queue: the first reservation brings the
// records, all others are empty.
type script struct {
	start   time.Time
	calls   []call
	records string                                            // of the first reservation
	fail    func(n int, c call) error                         // of the n-th call, from 1
	answer  func(method string, params map[string]any) string // "" for the usual one
}

func newScript(records string) *script { return &script{start: time.Now(), records: records} }

func (s *script) Call(ctx context.Context, method string, params, result any) error {
	return callerFunc(s.reply).Call(ctx, method, params, result)
}

func (s *script) reply(_ context.Context, method string, params map[string]any) (string, error) {
	c := call{method: method, at: time.Since(s.start), params: params}
	s.calls = append(s.calls, c)
	if s.fail != nil {
		if err := s.fail(len(s.calls), c); err != nil {
			return "", err
		}
	}
	if s.answer != nil {
		if a := s.answer(method, params); a != "" {
			return a, nil
		}
	}
	switch method {
	case "event.offline.get":
		if s.records == "" {
			return emptyQueue, nil
		}
		answer := `{"process_id":"p","events":[` + s.records + `]}`
		s.records = ""
		return answer, nil
	case "event.offline.list":
		return `[]`, nil
	default:
		return `true`, nil
	}
}

// times returns when a method was called.
func (s *script) times(method string) []time.Duration {
	var at []time.Duration
	for _, c := range s.calls {
		if c.method == method {
			at = append(at, c.at)
		}
	}
	return at
}

// requireWaits checks that the waits between times are within half of those wanted and the whole.
func requireWaits(t *testing.T, at []time.Duration, want ...time.Duration) {
	t.Helper()
	require.Greater(t, len(at), len(want))
	for i, w := range want {
		wait := at[i+1] - at[i]
		require.LessOrEqual(t, wait, w, "wait %d", i)
		require.GreaterOrEqual(t, wait, w/2, "wait %d", i)
	}
}

func TestPaceOfAnEmptyQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("")
		c := newConsumer(t, s, new(journal).HandleEvent, offline.WithInterval(time.Second, 8*time.Second))
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requireWaits(t, s.times("event.offline.get"), time.Second, 2*time.Second, 4*time.Second, 8*time.Second, 8*time.Second, 8*time.Second)
		require.Len(t, s.times("event.offline.list"), 2, "abandoned and parked records are looked for at the start only")
	})
}

func TestPaceQuickensWithRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("")
		c := newConsumer(t, s, new(journal).HandleEvent, offline.WithInterval(time.Second, time.Hour), offline.WithBatchSize(2))
		gets := 0
		s.answer = func(method string, _ map[string]any) string {
			if method != "event.offline.get" {
				return ""
			}
			switch gets++; gets {
			case 4: // a full reservation: there may be more
				return `{"process_id":"p","events":[` + row("1", "1", idA) + `,` + row("2", "2", idB) + `]}`
			case 5: // that was all
				return `{"process_id":"p","events":[` + row("3", "3", idA) + `]}`
			default:
				return ""
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		require.NoError(t, c.Run(ctx))
		requireWaits(t, s.times("event.offline.get"), time.Second, 2*time.Second, 4*time.Second, 0, 0, time.Second, 2*time.Second)
	})
}

func TestPaceOfAFailingPortal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("")
		s.fail = func(n int, _ call) error {
			if n <= 8 {
				return errors.New("connection refused")
			}
			return nil
		}
		c := newConsumer(t, s, new(journal).HandleEvent)
		c.Wake() // does not cut these waits short
		require.NoError(t, c.Drain(t.Context()))
		var at []time.Duration
		for _, one := range s.calls {
			at = append(at, one.at)
		}
		requireWaits(t, at, time.Second, 2*time.Second, 0, 4*time.Second, 8*time.Second, 16*time.Second, 32*time.Second, time.Minute)
		require.EqualValues(t, 9, c.Stats().Requests)
	})
}

func TestReservationIsLookedForOnlyWhereItMayHaveBeenMade(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		err   error
		lists int
	}{
		{"over the limit", refusal{code: "query_limit_exceeded"}, 2},
		{"blocked for a while", refusal{code: "OPERATION_TIME_LIMIT"}, 2},
		{"no connection", errors.New("connection reset"), 4},
		{"broken database", refusal{code: "ERROR_CORE"}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScript("")
				failed := false
				s.fail = func(_ int, c call) error {
					if c.method == "event.offline.get" && !failed {
						failed = true
						return tt.err
					}
					return nil
				}
				require.NoError(t, newConsumer(t, s, new(journal).HandleEvent).Drain(t.Context()))
				require.Len(t, s.times("event.offline.list"), tt.lists)
			})
		})
	}
}

func TestReservationsGrowAndShrink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript("")
		var limits []any
		s.fail = func(_ int, c call) error {
			if c.method != "event.offline.get" {
				return nil
			}
			limits = append(limits, fmt.Sprint(c.params["limit"]))
			if n := len(limits); n >= 5 && n <= 6 {
				return errors.New("unexpected end")
			}
			return nil
		}
		s.answer = func(method string, params map[string]any) string {
			if method != "event.offline.get" || len(limits) > 8 {
				return ""
			}
			n, err := strconv.Atoi(fmt.Sprint(params["limit"]))
			require.NoError(t, err)
			return `{"process_id":"p","events":[` + strings.Repeat(row("1", "1", idA)+",", n-1) + row("1", "1", idA) + `]}`
		}
		require.NoError(t, newConsumer(t, s, new(journal).HandleEvent, offline.WithBatchSize(300)).Drain(t.Context()))
		require.Equal(t, []any{"50", "100", "200", "300", "300", "150", "75", "150", "300"}, limits)
	})
}

func TestPaceOfAttempts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		err   error
		waits []time.Duration
	}{
		{"by default", errHandler, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}},
		{"at the handler's wish", event.Retry(errHandler, time.Minute), []time.Duration{time.Minute, time.Minute, time.Minute, time.Minute}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScript(row("1", "1", idA))
				s.answer = held
				var at []time.Duration
				c := newConsumer(t, s, func(context.Context, *event.Delivery) error {
					at = append(at, time.Since(s.start))
					return tt.err
				})
				require.NoError(t, c.Drain(t.Context()))
				require.Len(t, at, offline.DefaultMaxAttempts)
				requireWaits(t, at, tt.waits...)
				require.EqualValues(t, 1, c.Stats().Parked)
			})
		})
	}
}

// held lets a look before parking find record 1 still reserved.
func held(method string, params map[string]any) string {
	filter, _ := params["filter"].(map[string]any)
	if method == "event.offline.list" && filter["=PROCESS_ID"] == "p" {
		return `[` + row("1", "1", idA) + `]`
	}
	return ""
}

func TestHandlerTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(row("1", "1", idA))
		s.answer = held
		var took []time.Duration
		c := newConsumer(t, s, func(ctx context.Context, _ *event.Delivery) error {
			start := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(start))
			return ctx.Err()
		}, offline.WithHandlerTimeout(20*time.Second), offline.WithMaxAttempts(2))
		require.NoError(t, c.Drain(t.Context()))
		require.Equal(t, []time.Duration{20 * time.Second, 20 * time.Second}, took, "a time-out is tried again")
		require.EqualValues(t, 1, c.Stats().Parked)
	})
}

func TestFinishedRecordsAreClearedWhileOthersRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(row("1", "1", idA) + "," + row("2", "2", idB))
		c := newConsumer(t, s, func(_ context.Context, d *event.Delivery) error {
			if dealID(t, d) == 2 {
				time.Sleep(20 * time.Second) //nolint:forbidigo // a slow handler, in fake time
			}
			return nil
		})
		require.NoError(t, c.Drain(t.Context()))
		cleared := s.times("event.offline.clear")
		require.Len(t, cleared, 2)
		require.LessOrEqual(t, cleared[0], 5*time.Second)
		require.GreaterOrEqual(t, cleared[1], 20*time.Second)
	})
}

func TestStopGivesHandlersTheirGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(row("1", "1", idA) + "," + row("2", "2", idB))
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		defer stop()
		var ended time.Duration
		c := newConsumer(t, s, func(ctx context.Context, d *event.Delivery) error {
			if dealID(t, d) == 1 {
				time.Sleep(8 * time.Second) //nolint:forbidigo // ends within the grace period
				return nil
			}
			<-ctx.Done()
			ended = time.Since(s.start)
			return ctx.Err()
		}, offline.WithGrace(7*time.Second))
		require.NoError(t, c.Run(ctx))
		require.Equal(t, 10*time.Second, ended)
		require.EqualValues(t, 1, c.Stats().Cleared)
		require.EqualValues(t, 1, c.Stats().Left)
	})
}

func TestStopDoesNotClearForever(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScript(row("1", "1", idA))
		s.fail = func(_ int, c call) error {
			if c.method == "event.offline.clear" {
				return errors.New("connection refused")
			}
			return nil
		}
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		c := newConsumer(t, s, new(journal).HandleEvent)
		require.NoError(t, c.Run(ctx))
		require.LessOrEqual(t, time.Since(s.start), 41*time.Second)
		require.Len(t, s.times("event.offline.get"), 1, "nothing new is reserved while records cannot be cleared")
		require.EqualValues(t, 1, c.Stats().Left)

		s.fail = nil
		s.answer = func(method string, params map[string]any) string {
			_, again := params["process_id"]
			switch {
			case method == "event.offline.list" && len(s.times("event.offline.list")) == 2:
				return `[` + row("1", "1", idA) + `]`
			case method == "event.offline.get" && again:
				return `{"process_id":"p","events":[` + row("1", "1", idA) + `]}`
			default:
				return ""
			}
		}
		require.NoError(t, c.Drain(t.Context()))
		require.EqualValues(t, 1, c.Stats().Handled, "the handler is not called again")
		require.EqualValues(t, 1, c.Stats().Cleared)
	})
}

func TestACallThatNeverReturnsIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hung := 0
		c := newConsumer(t, callerFunc(func(ctx context.Context, method string, _ map[string]any) (string, error) {
			if hung++; hung == 1 {
				<-ctx.Done()
				return "", ctx.Err()
			}
			if method == "event.offline.list" {
				return `[]`, nil
			}
			return emptyQueue, nil
		}), new(journal).HandleEvent)
		require.NoError(t, c.Drain(t.Context()))
		require.EqualValues(t, 2, c.Stats().Requests)
	})
}

func TestRecordsWithoutAUsableMessageID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, row string
		err       error
		byNumber  int
		left      int64
	}{
		{name: "cleared by number", row: row("1", "1", "1"), byNumber: 1},
		{name: "cannot be parked", row: row("1", "1", "1"), err: event.Drop(errHandler), left: 1},
		{name: "cannot be cleared", row: row("0", "1", ""), left: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newScript(tt.row)
				c := newConsumer(t, s, func(context.Context, *event.Delivery) error { return tt.err })
				require.NoError(t, c.Drain(t.Context()))
				require.Equal(t, tt.left, c.Stats().Left)
				require.Empty(t, s.times("event.offline.error"))
				clears := slices.DeleteFunc(slices.Clone(s.calls), func(c call) bool { return c.method != "event.offline.clear" })
				require.Len(t, clears, tt.byNumber)
				for _, c := range clears {
					require.Equal(t, []any{"1"}, c.params["id"])
					require.NotContains(t, c.params, "message_id")
				}
			})
		})
	}
}
