package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
)

// TestMerging: an item is a letter for its Merge text, a digit for when it was fired and one for
// its cost. They are all of one object, behind one that runs.
func TestMerging(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		size  int64
		items string
		want  string // the items that are handled, with how many others each stands for
	}{
		"two":                             {0, "a11 a21", "a21+1"},
		"several":                         {0, "a11 a21 a31 a41", "a41+3"},
		"only with the last of the lane":  {0, "a11 b21 a31", "a11+0 b21+0 a31+0"},
		"an update does not pass another": {0, "a11 a21 b31 a41 a51", "a21+1 b31+0 a51+1"},
		"the later one wins":              {0, "a31 a11 a21", "a31+2"},
		"the same second":                 {0, "a11 a12", "a12+1"},
		"of unknown age":                  {0, "a51 a01", "a01+1"},
		"not without a text":              {0, "-11 -21", "-11+0 -21+0"},
		"a larger one takes more room":    {20, "a11 a29", "a29+1"},
		"a larger one that has no room":   {8, "a12 a29", "a12+0"},
		"a smaller one gives room back":   {8, "a15 a21 b34", "a21+1 b34+0"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var handled []string
				r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
					if name(it) == "runs" {
						<-time.After(time.Second)
						return nil
					}
					handled = append(handled, fmt.Sprint(name(it), "+", event.AttemptOf(ctx).Merged))
					return nil
				})
				cfg := setup(r)
				cfg.Size = test.size
				d := dispatch.New(cfg)
				first := named("runs", "1")
				first.Merge = "a" // what runs is merged with nothing
				require.NoError(t, d.Enqueue(portal("a"), first, 0))
				for s := range strings.FieldsSeq(test.items) {
					it := named(s, "1")
					it.Merge = strings.Trim(s[:1], "-")
					if s[1] != '0' {
						it.Delivery.Time = time.Unix(int64(s[1]-'0'), 0)
					}
					it.Cost = int64(s[2] - '0')
					_ = d.Enqueue(portal("a"), it, 0)
				}
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, test.want, strings.Join(handled, " "))
				accountsAddUp(t, d)

				whole := named("whole", "") // no room was lost
				whole.Cost = max(1, test.size)
				require.NoError(t, d.Enqueue(portal("a"), whole, 0))
				require.NoError(t, d.Shutdown(t.Context()))
			})
		})
	}
}

// TestMergingWithOneThatRests: the item takes the place, the wait and all attempts.
func TestMergingWithOneThatRests(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for title, test := range map[string]struct {
		fired, second int64
		at            time.Duration // of the second; the first fails at one second, and rests for ten
		first, later  []time.Duration
		attempts      int // of the last call
	}{
		"while it rests":                         {1, 2, 3 * s, []time.Duration{0}, []time.Duration{11 * s, 22 * s, 33 * s}, 3},
		"an older one, while it rests":           {2, 1, 3 * s, []time.Duration{0, 11 * s, 22 * s}, nil, 3},
		"before it fails":                        {1, 2, s / 2, []time.Duration{0}, []time.Duration{11 * s, 22 * s, 33 * s}, 3},
		"an older one, before it fails":          {2, 1, s / 2, []time.Duration{0, 11 * s, 22 * s}, nil, 3},
		"before it fails for the second time":    {1, 2, 11*s + s/2, []time.Duration{0, 11 * s}, []time.Duration{22 * s, 33 * s, 44 * s}, 3},
		"an older one comes before its last try": {2, 1, 21 * s, []time.Duration{0, 11 * s, 22 * s}, nil, 3},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder(func(context.Context, *dispatch.Item) error {
					<-time.After(s)
					return event.Retry(errBoom, 10*s)
				})
				d := dispatch.New(setup(r))
				first, second := named("first", "1"), named("second", "1")
				first.Merge, second.Merge = "m", "m"
				first.Delivery.Time, second.Delivery.Time = time.Unix(test.fired, 0), time.Unix(test.second, 0)
				require.NoError(t, d.Enqueue(portal("a"), first, 0))
				<-time.After(test.at)
				require.NoError(t, d.Enqueue(portal("a"), second, 0))
				require.NoError(t, d.Idle(t.Context()))
				require.Equal(t, test.first, r.times("first"))
				require.Equal(t, test.later, r.times("second"))
				require.Equal(t, test.attempts, r.calls[len(r.calls)-1].n)
				gone, stays := "first", "second"
				if test.later == nil {
					gone, stays = stays, gone
				}
				require.Equal(t, dispatch.OutcomeMerged, r.outcome(t, gone))
				require.Equal(t, dispatch.OutcomeFailed, r.outcome(t, stays))
				require.Equal(t, 1, r.merged[stays])
				require.NoError(t, d.Shutdown(t.Context()))
				accountsAddUp(t, d)
			})
		})
	}
}

// TestRemoval: what waits is dropped, what runs is not retried, and what may be a new installation
// stays.
func TestRemoval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var remove event.RemovalReporter
		r := newRecorder(func(ctx context.Context, it *dispatch.Item) error {
			switch name(it) {
			case "fails":
				<-time.After(2 * time.Second)
				return errBoom
			case "rests":
				return event.Retry(errBoom, time.Hour)
			case "uninstalls":
				remove, _ = ctx.Value(event.RemovalReporterKey{}).(event.RemovalReporter)
			case "keeps urgent busy":
				<-time.After(2 * time.Second)
			}
			return nil
		})
		cfg := setup(r)
		cfg.Size = 8
		dropped := make(map[dispatch.Key]int)
		cfg.Removed = func(k dispatch.Key, n int) { dropped[k] += n }
		d := dispatch.New(cfg)
		removal := time.Unix(100, 0)
		add := func(p, what, object string, change func(it *dispatch.Item)) {
			it := named(what, object)
			it.Delivery.Time = removal
			if change != nil {
				change(it)
			}
			require.NoError(t, d.Enqueue(portal(p), it, 0))
			synctest.Wait()
		}
		isUrgent := func(it *dispatch.Item) { it.Urgent = true }
		add("a", "uninstalls", "", isUrgent)
		add("a", "rests", "1", nil)
		add("a", "fails", "2", nil)
		add("a", "keeps urgent busy", "", isUrgent)
		add("a", "installs", "", isUrgent)
		add("a", "waits", "3", nil)
		add("a", "later", "3", func(it *dispatch.Item) { it.Delivery.Time = removal.Add(time.Second) })
		add("a", "of unknown age", "4", func(it *dispatch.Item) { it.Delivery.Time = time.Time{} })
		add("b", "another portal", "1", nil)
		full := make(chan error, 1)
		waiting(d, "a", costly("waits for room", "3", 6), time.Hour, func(_ string, err error) { full <- err })
		remove("app", "a", removal)
		remove("app", "nobody", removal)
		remove("another app", "b", removal)
		synctest.Wait()
		require.NoError(t, <-full)
		require.Equal(t, map[dispatch.Key]int{portal("a"): 4}, dropped)
		require.NoError(t, d.Idle(t.Context()))
		for what, want := range map[string]dispatch.Outcome{
			"uninstalls": dispatch.OutcomeDone, "rests": dispatch.OutcomeRemoved, "fails": dispatch.OutcomeRemoved,
			"keeps urgent busy": dispatch.OutcomeDone, "installs": dispatch.OutcomeDone, "waits": dispatch.OutcomeRemoved,
			"later": dispatch.OutcomeDone, "of unknown age": dispatch.OutcomeRemoved, "another portal": dispatch.OutcomeDone,
			"waits for room": dispatch.OutcomeRemoved,
		} {
			require.Equal(t, want, r.outcome(t, what), what)
		}
		require.Len(t, r.times("rests"), 1)
		require.Len(t, r.times("fails"), 1)
		require.NoError(t, d.Shutdown(t.Context()))
		accountsAddUp(t, d)
	})
}
