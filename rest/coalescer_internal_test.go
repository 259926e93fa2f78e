package rest

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBatcherIsEmptyAfterwards(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := newClients(nil, true)
		require.NoError(t, err)
		p.hook = &hook{endpoint: "ftp://example/", host: "example", secret: "x"} // nothing can be sent
		c := &Coalescer{client: &Client{clients: p}, batcher: p.batcher}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		_, err = c.Do(ctx, "profile", nil)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, p.batcher.open)
		_, err = c.Do(t.Context(), "profile", nil)
		require.ErrorIs(t, err, ErrBadEndpoint)
		require.Empty(t, p.batcher.open)
	})
}

// TestCallerLeavesOnce: the turn of a caller's call comes too late, and the caller's context ends
// at that moment. The other caller stays.
func TestCallerLeavesOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, g, r := joinGroup(t, time.Minute)
		c := p.Portal("a")
		other, err := c.newCall("crm.contact.add", nil)
		require.NoError(t, err)
		_, _, err = p.batcher.add(t.Context(), c, other)
		require.NoError(t, err)
		g.onPlaced(func() time.Time { return time.Now().Add(time.Hour) })
		require.Len(t, r.late, 1)
		g.withdraw(r)
		require.Equal(t, 1, g.callers)
		require.True(t, g.flush(&call{}), "there is a call to be sent")
	})
}

func joinGroup(t *testing.T, timeout time.Duration) (*Clients, *group, *caller) {
	t.Helper()
	p, err := NewClients(staticCreds{}, WithHTTPClient(&http.Client{Transport: neverTransport{}}))
	require.NoError(t, err)
	c := p.Portal("a")
	call, err := c.newCall("crm.deal.add", nil)
	require.NoError(t, err)
	p.batcher.window = time.Hour // the test makes the steps of the gathering's goroutine
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	g, r, err := p.batcher.add(ctx, c, call)
	require.NoError(t, err)
	t.Cleanup(g.stop)
	return p, g, r
}

type neverTransport struct{}

func (neverTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("never")
}

type staticCreds struct{}

func (staticCreds) Access(context.Context, string) (endpoint, token string, err error) {
	return "https://a.example/rest/", "token", nil
}

func (staticCreds) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("no")
}

// TestOnLaterBeforeOnPlaced: the portal refuses a request after a group took its place, and before
// onPlaced is called. onLater runs in its own goroutine, so a panic there ends the process.
func TestOnLaterBeforeOnPlaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, g, _ := joinGroup(t, time.Minute)
		l := newLimiter(1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		require.NoError(t, l.wait(ctx, &turn{host: "a"})) // the burst
		var panicked any
		tn := &turn{host: "a", later: func() {
			go func() { // as gathering.later does
				defer func() { panicked = recover() }()
				g.onLater()
			}()
		}}
		tn.placed = func(due func() time.Time) {
			l.recordRefusal("a") // a request of another goroutine, before this one has the lock of the desk
			<-time.After(time.Millisecond)
			g.onPlaced(due)
		}
		go func() { _ = l.wait(ctx, tn) }()
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		require.Nil(t, panicked, "dismissLocked calls g.due, which is nil")
	})
}

// TestExpiredCallIsNotSent: a caller gets the error that its call was not sent. Then the call must
// not be sent.
func TestExpiredCallIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, g, r := joinGroup(t, time.Minute)
		g.onPlaced(func() time.Time { return time.Now().Add(time.Hour) })
		require.Len(t, r.late, 1, "it was told so")
		// The calls before it in the line are withdrawn, so its turn comes at once, before the
		// caller's goroutine runs.
		request := &call{method: "batch"}
		departs := g.flush(request)
		require.False(t, departs, "the caller got an error with NotRun: %v", <-r.late)
	})
}
