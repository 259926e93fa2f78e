package webhook

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// key is the key of a value of a request.
type key struct{}

// callContextOf returns the context of a call of up to a minute, and what ends the life of the
// handler and the request.
func callContextOf(t *testing.T) (ctx *callContext, endLife context.CancelCauseFunc, endRequest context.CancelFunc) {
	t.Helper()
	life, endLife := context.WithCancelCause(context.Background())
	t.Cleanup(func() { endLife(nil) })
	request, endRequest := context.WithCancel(context.WithValue(context.Background(), key{}, "value"))
	t.Cleanup(endRequest)
	q := &queue{life: life}
	ctx = q.context(&item{values: request, begun: time.Now()}, time.Minute)
	t.Cleanup(ctx.end)
	return ctx, endLife, endRequest
}

func TestCallContext(t *testing.T) {
	t.Parallel()
	child := func(parent context.Context) context.Context {
		ctx, cancel := context.WithCancel(parent)
		context.AfterFunc(ctx, cancel)
		return ctx
	}
	same := func(ctx context.Context) context.Context { return ctx }
	for name, test := range map[string]struct {
		end   func(ctx *callContext, endLife context.CancelCauseFunc)
		err   error
		cause error
	}{
		"its time is over":     {func(*callContext, context.CancelCauseFunc) { <-time.After(time.Minute) }, context.DeadlineExceeded, ErrTimeout},
		"the handler is ended": {func(_ *callContext, end context.CancelCauseFunc) { end(ErrShutdown) }, context.Canceled, ErrShutdown},
		"the call is over":     {func(ctx *callContext, _ context.CancelCauseFunc) { ctx.end() }, context.Canceled, context.Canceled},
	} {
		for used, derive := range map[string]func(context.Context) context.Context{"itself": same, "a child": child} {
			t.Run(name+", "+used, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, endLife, _ := callContextOf(t)
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
			t.Run(name+", "+used+", asked afterwards", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, endLife, _ := callContextOf(t)
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

func TestCallContextOfARequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, _, endRequest := callContextOf(t)
		endRequest()
		deadline, limited := ctx.Deadline()
		require.True(t, limited)
		require.Equal(t, time.Now().Add(time.Minute), deadline)
		require.NoError(t, ctx.Err(), "it does not end with the request")
		require.Equal(t, "value", ctx.Value(key{}))
		require.Nil(t, ctx.Value("another key"))
		require.Nil(t, ctx.made, "nobody has waited so far")

		child, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.Equal(t, "value", child.Value(key{}))
		require.NotNil(t, ctx.made)
		<-child.Done()
		require.NoError(t, ctx.Err(), "the child's end is not its own")
	})
}

// TestCallContextAtOnce: many wait for it while the call ends.
func TestCallContextAtOnce(t *testing.T) {
	t.Parallel()
	for range 50 {
		ctx, _, _ := callContextOf(t)
		ended := make(chan error)
		for range 4 {
			go func() {
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				<-child.Done()
				ended <- child.Err()
			}()
		}
		ctx.end()
		for range 4 {
			require.ErrorIs(t, <-ended, context.Canceled)
		}
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	}
}
