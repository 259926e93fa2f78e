package offline

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// oneRecord is the caller of a portal whose queue holds a record.
type oneRecord struct{ cleared atomic.Bool }

func (o *oneRecord) Call(_ context.Context, method string, _, result any) error {
	answer := `[]`
	switch method {
	case methodGet:
		answer = `{"process_id":"p1","events":[]}`
		if !o.cleared.Load() {
			answer = `{"process_id":"p1","events":[{"ID":"1","MESSAGE_ID":"0123456789abcdef0123456789abcdef",` +
				`"EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":"7"}}}]}`
		}
	case methodClear:
		o.cleared.Store(true)
		answer = `true`
	}
	return json.Unmarshal([]byte(answer), result)
}

// A turn may be asked to end when it has done its work, just before its place is given back. Its
// handlers end all the same.
func TestTurnThatIsAskedToEndAtItsEnd(t *testing.T) {
	t.Parallel()
	for name, tell := range map[string]func(*Fleet, *portal, context.CancelFunc){
		"removed":     func(f *Fleet, p *portal, _ context.CancelFunc) { f.Remove(p.id) },
		"handed over": func(f *Fleet, p *portal, _ context.CancelFunc) { shardWorker{f}.Leave([]int{int(p.shard)}) },
		"lease lost":  func(f *Fleet, p *portal, _ context.CancelFunc) { shardWorker{f}.Lost([]int{int(p.shard)}) },
		"end of Run":  func(_ *Fleet, _ *portal, end context.CancelFunc) { end() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var o oneRecord
				var ended bool
				f, err := NewFleet(func(string) event.Caller { return &o }, event.HandlerFunc(func(ctx context.Context, _ *event.Delivery) error {
					<-ctx.Done()
					ended = true
					return ctx.Err()
				}), WithClientID("app.1"), WithHandlerTimeout(time.Hour), WithLogger(slog.New(slog.DiscardHandler)))
				require.NoError(t, err)
				run, end := context.WithCancel(t.Context())
				defer end()
				p := newPortal(f, "portal")
				p.engine = newEngine(f.cfg, p.call, "app.1", p.id, func() { f.onSlack(p) })
				p.engine.sender.batchAt = time.Now().Add(time.Hour)
				p.engine.start(run)
				f.run, f.portals[p.id] = run, p
				f.shards[p.shard].held = true
				ctx, cancel := context.WithCancelCause(run)
				turn := &turn{portal: p, run: run, cancel: cancel, timer: time.AfterFunc(time.Hour, func() {})}
				p.turn = turn
				f.lines[p.kind].taken++
				f.shards[p.shard].turns++

				wait, err := p.engine.turn(ctx)
				require.NoError(t, err)
				synctest.Wait()
				tell(f, p, end)
				f.endTurn(ctx, turn, wait, err)
				f.turns.Wait()
				require.True(t, ended)
				require.Nil(t, p.turn)
				require.Zero(t, f.lines[kindOrdinary].taken)
				f.cfg.dispatcher.Dismiss()
			})
		})
	}
}

// spoiled is the caller of a portal whose queue holds a record and one that cannot be read.
type spoiled struct {
	mu      sync.Mutex
	cleared []string
	taken   bool
}

const (
	goodRow = `{"ID":"1","MESSAGE_ID":"0123456789abcdef0123456789abcdef","PROCESS_ID":"p1","EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":"7"}}}`
	badRow  = `{"ID":"2","MESSAGE_ID":"f123456789abcdef0123456789abcdef","PROCESS_ID":"p1","EVENT_NAME":""}`
)

func (s *spoiled) Call(_ context.Context, method string, params, result any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, _ := params.(map[string]any)
	filter, _ := sent["filter"].(map[string]any)
	answer := `[]`
	switch {
	case method == methodGet && !s.taken:
		s.taken = true
		answer = `{"process_id":"p1","events":[` + goodRow + `,` + badRow + `]}`
	case method == methodGet:
		answer = `{"process_id":"p2","events":[]}`
	case method == methodList && filter["=ERROR"] == 0 && s.taken && s.cleared == nil:
		answer = `[` + goodRow + `,` + badRow + `]`
	case method == methodClear:
		s.cleared = append(s.cleared, "good")
		answer = `true`
	case method == methodError:
		answer = `true`
	case method != methodList:
		return noCallerError{} // no batches
	}
	return json.Unmarshal([]byte(answer), result)
}

// A hook that panics within a turn leaves nothing in work that no later turn finds.
func TestHookThatPanicsInATurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s spoiled
		var handled atomic.Int64
		panicked := false
		f, err := NewFleet(func(string) event.Caller { return &s }, event.HandlerFunc(func(context.Context, *event.Delivery) error {
			handled.Add(1)
			return nil
		}), WithClientID("app.1"), WithLogger(slog.New(slog.DiscardHandler)), WithHooks(Hooks{Parked: func(context.Context, Record, error) {
			if !panicked {
				panicked = true
				panic("hook")
			}
		}}))
		require.NoError(t, err)
		require.NoError(t, f.Add("portal"))
		run, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		require.NoError(t, f.Run(run))
		require.True(t, panicked)
		require.EqualValues(t, 1, handled.Load())
		require.Equal(t, []string{"good"}, s.cleared)
	})
}
