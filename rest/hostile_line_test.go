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

func hostileJoin(t *testing.T, timeout time.Duration) (*Clients, *gathering, *caller) {
	t.Helper()
	p, err := NewClients(hostileCreds{}, WithHTTPClient(&http.Client{Transport: hostileNever{}}))
	require.NoError(t, err)
	c := p.Portal("a")
	call, err := c.newCall("crm.deal.add", nil)
	require.NoError(t, err)
	p.desk.window = time.Hour // the test makes the steps of the gathering's goroutine
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	g, r, err := p.desk.join(ctx, c, call)
	require.NoError(t, err)
	t.Cleanup(g.cancel)
	return p, g, r
}

type hostileNever struct{}

func (hostileNever) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("never") }

type hostileCreds struct{}

func (hostileCreds) Access(context.Context, string) (endpoint, token string, err error) {
	return "https://a.example/rest/", "token", nil
}

func (hostileCreds) Renew(context.Context, string, string) (endpoint, token string, err error) {
	return "", "", errors.New("no")
}

// TestHostileLaterBeforePlaced: the portal refuses a request between the moment at which a gathering takes its place and that at
// which it is told so. The function later runs in a goroutine of its own, so a panic there ends the process.
func TestHostileLaterBeforePlaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, g, _ := hostileJoin(t, time.Minute)
		l := newLimiter(1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		require.NoError(t, l.wait(ctx, &turn{host: "a"})) // the burst
		var panicked any
		tn := &turn{host: "a", later: func() {
			go func() { // as gathering.later does
				defer func() { panicked = recover() }()
				g.later()
			}()
		}}
		tn.placed = func(due func() time.Time) {
			l.refuse("a") // a request of another goroutine, before this one has the lock of the desk
			<-time.After(time.Millisecond)
			g.placed(due)
		}
		go func() { _ = l.wait(ctx, tn) }()
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		require.Nil(t, panicked, "dismissLocked calls g.due, which is nil")
	})
}

// TestHostileDismissedCallIsNotSent: a caller is told that its call was not sent. Then it must not be sent.
func TestHostileDismissedCallIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, g, r := hostileJoin(t, time.Minute)
		g.placed(func() time.Time { return time.Now().Add(time.Hour) })
		require.Len(t, r.late, 1, "it was told so")
		// Those before it in the line leave, so its turn comes at once, before the caller's goroutine runs.
		request := &call{method: "batch"}
		departs := g.depart(request)
		require.False(t, departs, "the caller got an error with NotRun: %v", <-r.late)
	})
}

// TestHostileLeaveGivesBackOnce: what drained meanwhile is not given back a second time.
func TestHostileLeaveGivesBackOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1000, 1)
		ctx := t.Context()
		require.NoError(t, l.wait(ctx, &turn{host: "a"}))
		w, err := l.enter(ctx, &turn{host: "a"})
		require.NoError(t, err)
		<-w.ready // and its goroutine does not run for a while: granted at 1 ms
		<-time.After(5 * time.Millisecond)
		require.NoError(t, l.wait(ctx, &turn{host: "a"})) // at 6 ms
		l.leave("a", w)                                   // its place had drained by 2 ms
		start := time.Now()
		require.NoError(t, l.wait(ctx, &turn{host: "a"}))
		require.Equal(t, time.Millisecond, time.Since(start), "two within one gap are more than the portal allows")
	})
}
