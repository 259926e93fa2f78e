package dispatch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

var (
	errTimedOut = errors.New("timed out")
	errEnded    = errors.New("ended")
)

// contextKey is the key of a value that an item brings.
type contextKey struct{}

// contextOf returns the context of an attempt of up to a minute, what ends the life of its portal,
// and what ends the context that its values are from.
func contextOf(t *testing.T, owned bool) (ctx *Context, endLife context.CancelCauseFunc, endValues context.CancelFunc) {
	t.Helper()
	life, endLife := context.WithCancelCause(context.Background())
	t.Cleanup(func() { endLife(nil) })
	values, endValues := context.WithCancel(context.WithValue(context.Background(), contextKey{}, "value"))
	t.Cleanup(endValues)
	d := New(Config{Timeout: time.Minute, TimedOut: errTimedOut, MaxAttempts: 7})
	p := &Portal{life: life, owned: owned}
	p.opts.Misfits = func(context.Context, *event.Delivery) {}
	if !owned {
		p.opts.Removal = d.remove
	}
	ctx = d.context(&Item{portal: p, Values: values, Began: time.Now(), Attempts: 2, Parked: true, Merged: 3})
	t.Cleanup(ctx.End)
	return ctx, endLife, endValues
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	child := func(parent context.Context) context.Context {
		ctx, cancel := context.WithCancel(parent)
		context.AfterFunc(ctx, cancel)
		return ctx
	}
	same := func(ctx context.Context) context.Context { return ctx }
	for name, test := range map[string]struct {
		end   func(ctx *Context, endLife context.CancelCauseFunc)
		err   error
		cause error
	}{
		"its time is over":    {func(*Context, context.CancelCauseFunc) { <-time.After(time.Minute) }, context.DeadlineExceeded, errTimedOut},
		"its portal is ended": {func(_ *Context, end context.CancelCauseFunc) { end(errEnded) }, context.Canceled, errEnded},
		"the call is over":    {func(ctx *Context, _ context.CancelCauseFunc) { ctx.End() }, context.Canceled, context.Canceled},
	} {
		for used, derive := range map[string]func(context.Context) context.Context{"itself": same, "a child": child} {
			t.Run(name+", "+used, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, endLife, _ := contextOf(t, false)
					waiting := derive(ctx)
					require.NoError(t, waiting.Err())
					ended := make(chan error)
					go func() {
						<-waiting.Done()
						ended <- context.Cause(waiting)
					}()
					synctest.Wait()
					test.end(ctx, endLife)
					require.ErrorIs(t, <-ended, test.cause)
					require.ErrorIs(t, waiting.Err(), test.err)
				})
			})
			t.Run(name+", "+used+", made afterwards", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, endLife, _ := contextOf(t, false)
					test.end(ctx, endLife)
					late := derive(ctx)
					require.ErrorIs(t, late.Err(), test.err)
					<-late.Done()
					require.ErrorIs(t, context.Cause(late), test.cause)
					require.ErrorIs(t, ctx.Err(), test.err, "it stays so")
				})
			})
		}
	}
}

func TestContextValues(t *testing.T) {
	t.Parallel()
	for name, owned := range map[string]bool{"of Enqueue": false, "of Open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, _, endValues := contextOf(t, owned)
				endValues()
				deadline, limited := ctx.Deadline()
				require.True(t, limited)
				require.Equal(t, time.Now().Add(time.Minute), deadline)
				require.NoError(t, ctx.Err(), "it does not end with the values")
				require.Equal(t, "value", ctx.Value(contextKey{}))
				require.Nil(t, ctx.Value("another key"))
				require.Equal(t, event.Attempt{Number: 2, Max: 7, Parked: true, Merged: 3}, event.AttemptOf(ctx))
				require.NotNil(t, ctx.Value(event.MisfitReporterKey{}))
				require.Equal(t, owned, ctx.Value(event.RemovalReporterKey{}) == nil)
				require.Nil(t, ctx.made, "nobody has waited so far")

				child, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				require.Equal(t, "value", child.Value(contextKey{}))
				require.NotNil(t, ctx.made)
				<-child.Done()
				require.NoError(t, ctx.Err(), "the child's end is not its own")
			})
		})
	}
}

// TestNewContext: one that is no attempt says so.
func TestNewContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := New(Config{Closed: errEnded})
		ctx := d.NewContext(context.Background(), time.Second)
		require.Equal(t, event.Attempt{Number: 1}, event.AttemptOf(ctx))
		require.Nil(t, ctx.Value(event.MisfitReporterKey{}))
		require.Nil(t, ctx.Value(event.RemovalReporterKey{}))
		require.Nil(t, ctx.Value(contextKey{}))
		<-ctx.Done()
		require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		ctx = d.NewContext(context.Background(), time.Hour)
		d.end(errEnded)
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errEnded)
		ctx.End()
	})
}

// TestContextAtOnce: many wait for it while the call ends.
func TestContextAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		ctx, _, _ := contextOf(t, false)
		ended := make(chan error)
		for range 4 {
			go func() {
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				<-child.Done()
				ended <- child.Err()
			}()
		}
		ctx.End()
		for range 4 {
			require.ErrorIs(t, <-ended, context.Canceled)
		}
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	}
}
