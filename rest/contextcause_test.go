package rest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// hanging reads the request and responds only when its context ends.
func hanging(tb testing.TB) roundTrip {
	tb.Helper()
	tr := newTransport(tb, fine)
	return func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/profile") {
			return tr.RoundTrip(r)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
}

// notingCreds records the calls of its methods.
type notingCreds struct {
	hosts

	mu      sync.Mutex
	removed []string
	renewed int
}

func (c *notingCreds) Removed(_ context.Context, memberID, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed = append(c.removed, memberID+" "+code)
}

func (c *notingCreds) Renew(_ context.Context, memberID, _ string) (endpoint, token string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed++
	return "https://" + memberID + ".example/rest/", "fresh", nil
}

// cancelledByAnother makes a write to portal b that is under way when its context is cancelled with
// an error of portal a as the cause, which is what an errgroup does.
func cancelledByAnother(t *testing.T, code rest.ErrorCode) (*notingCreds, *rest.Clients, error) {
	t.Helper()
	creds := &notingCreds{}
	api, err := rest.NewClients(creds, on(hanging(t)))
	require.NoError(t, err)
	ofA := &rest.Error{Method: "crm.item.update", Status: 403, Code: code}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Second, func() { cancel(ofA) })
	err = api.Portal("b").Call(ctx, "crm.deal.add", nil, nil)
	require.Error(t, err)
	return creds, api, err
}

func TestCauseOfAnotherPortalRemoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		creds, _, _ := cancelledByAnother(t, rest.ErrApplicationMissing)
		require.Empty(t, creds.removed, "portal b did not say that the application is gone")
	})
}

func TestCauseOfAnotherPortalIsPermanent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		creds := &notingCreds{}
		api, err := rest.NewClients(creds, on(hanging(t)))
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(&rest.Error{Status: 403, Code: rest.ErrApplicationMissing})
		require.Error(t, api.Portal("b").Call(ctx, "crm.deal.add", nil, nil))
		require.Empty(t, creds.removed, "nothing was even sent to b")
	})
}

func TestCauseOfAnotherPortalRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, api, _ := cancelledByAnother(t, rest.ErrQueryLimit)
		start := time.Now()
		require.NoError(t, api.Portal("b").Call(t.Context(), "profile", nil, nil))
		require.Zero(t, time.Since(start), "portal b refused nothing, and has 48 places left")
		require.Zero(t, api.Stats().Refused)
	})
}

func TestCauseOfAnotherPortalPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, api, _ := cancelledByAnother(t, rest.ErrOperationTimeLimit)
		require.Zero(t, api.Stats().Paused)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := api.Portal("b").Call(ctx, "crm.item.update", nil, nil)
		require.NotErrorIs(t, err, rest.ErrOperationTimeLimit, "portal b has not blocked the method")
	})
}

func TestCauseExpiredToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		creds, _, err := cancelledByAnother(t, rest.ErrExpiredToken)
		require.Zero(t, creds.renewed, "portal b did not refuse the token")
		var n interface{ NotRun() bool }
		require.ErrorAs(t, err, &n)
		require.False(t, n.NotRun(), "the write was sent")
	})
}

// TestCauseIsNotWritten is for -race: the calls of a group write to the error of another
// call, which its owner reads.
func TestCauseIsNotWritten(t *testing.T) {
	t.Parallel()
	api, err := rest.NewClients(&notingCreds{}, on(hanging(t)))
	require.NoError(t, err)
	ofA := &rest.Error{Method: "crm.item.update", Status: 503, Code: rest.ErrQueryLimit}
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	for _, portal := range []string{"b", "c", "d", "e"} {
		wg.Go(func() { _ = api.Portal(portal).Call(ctx, "crm.deal.add", nil, nil) })
	}
	for api.Stats().Waiting > 0 {
	}
	<-time.After(20 * time.Millisecond)
	cancel(ofA)
	_, _ = rest.Retryable(ofA)
	wg.Wait()
	after, ok := rest.Retryable(ofA)
	require.True(t, ok)
	require.Equal(t, time.Second, after, "nobody but a's call knows until when")
}
