package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// upload is a body that comes in pieces, with a pause before each.
type upload struct {
	pieces []string
	pause  time.Duration
	stall  <-chan struct{} // after the pieces nothing comes until it is closed; then the peer is gone
}

func (u *upload) Read(p []byte) (int, error) {
	if len(u.pieces) == 0 {
		if u.stall == nil {
			return 0, io.EOF
		}
		<-u.stall
		return 0, io.ErrUnexpectedEOF
	}
	if u.pause > 0 {
		<-time.After(u.pause)
	}
	n := copy(p, u.pieces[0])
	if u.pieces[0] = u.pieces[0][n:]; u.pieces[0] == "" {
		u.pieces = u.pieces[1:]
	}
	return n, nil
}

// send posts an upload that declares a length, -1 for none, and returns the status.
func (u *upload) send(h http.Handler, declared int64) int {
	r := request("")
	r.Body, r.ContentLength = io.NopCloser(u), declared
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// sized is an event of about n bytes.
func sized(id, n int) string {
	return body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": strconv.Itoa(id), "data[X]": strings.Repeat("x", n)})
}

// hostile is a body of 1 MB that holds as much as a body can once it is parsed.
func hostile() string {
	text := body("ONX", nil) + "&" + strings.Repeat("data[][]&", 19_900/2)
	return text + "b=" + strings.Repeat("x", webhook.DefaultMaxBodyBytes-len(text)-2)
}

// TestSlowVerifiersHoldABoundedAmount: fifty forged bodies of 1 MB wait for a verifier, and what
// they hold stays in bounds. Small requests are served meanwhile.
func TestSlowVerifiersHoldABoundedAmount(t *testing.T) { //nolint:paralleltest // it measures the memory
	const limit = webhook.DefaultInFlightBytes
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		h, err := webhook.NewHandler(verifierFunc(func(_ context.Context, d *event.Delivery) error {
			if d.Name == "ONX" {
				<-release
				return event.ErrForbidden
			}
			return nil
		}), nothing())
		require.NoError(t, err)
		text := hostile()
		before := heap()
		statuses := make(chan int, 50)
		for range 50 {
			go func() { statuses <- post(h, text) }()
		}
		synctest.Wait() // as many as fit are inside, the others wait
		arrived := time.Now()
		require.Equal(t, http.StatusOK, post(h, dealUpdate(9)))
		require.Zero(t, time.Since(arrived), "small ones wait for none of them")
		<-time.After(2 * time.Second) // those who find no room have gone
		inFlight, held := h.Stats().InFlight, heap()-before
		require.Greater(t, inFlight, int64(10<<20), "a few are inside")
		require.LessOrEqual(t, inFlight, int64(limit))
		require.Less(t, held, inFlight+inFlight/4)
		busy := h.Stats().Rejected[webhook.ReasonBusy]
		require.Greater(t, busy, uint64(20))
		require.Equal(t, busy, h.Stats().Lost)

		require.Equal(t, http.StatusOK, post(h, dealUpdate(1)), "small ones have their own room")
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, text))
		require.Equal(t, webhook.DefaultEnqueueTimeout, time.Since(start))

		close(release)
		for range 50 {
			require.Contains(t, []int{http.StatusForbidden, http.StatusServiceUnavailable}, <-statuses)
		}
		require.Zero(t, h.Stats().InFlight)
		shutdown(t, h)
	})
}

// TestSlowClients: connections that stall do not keep small events out, with any declared length.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sent     int   // bytes before it stalls
		declared int64 // -1: chunked
		clients  int
		charged  bool
		mid      bool // a body of 20 KiB gets in meanwhile
		large    bool // and one of 200 KiB
	}{
		"nothing sent":              {0, 1 << 20, 5000, false, true, true},
		"nothing sent, chunked":     {0, -1, 5000, false, true, true},
		"some bytes sent":           {4000, 1 << 20, 5000, false, true, true},
		"a lie of 1 MiB":            {5000, 1 << 20, 500, true, true, false},
		"a lie of 10 GiB":           {5000, 10 << 30, 500, false, true, true},
		"a large part of it":        {500 << 10, 1 << 20, 100, true, true, false},
		"chunked, a little":         {5000, -1, 500, true, false, true},
		"chunked, much":             {100 << 10, -1, 100, true, true, false},
		"a lie within the small":    {5000, 60 << 10, 500, true, false, true},
		"few enough for everything": {5000, 1 << 20, 10, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHandler(t, nothing())
				gone := make(chan struct{})
				var wait sync.WaitGroup
				for range test.clients {
					wait.Go(func() {
						u := &upload{pieces: []string{strings.Repeat("x", test.sent)}, stall: gone}
						if test.sent == 0 {
							u.pieces = nil
						}
						u.send(h, test.declared)
					})
				}
				<-time.After(3 * time.Second)
				require.Equal(t, test.charged, h.Stats().InFlight > 0)
				require.LessOrEqual(t, h.Stats().InFlight, int64(webhook.DefaultInFlightBytes))
				status := func(ok bool) int {
					if ok {
						return http.StatusOK
					}
					return http.StatusServiceUnavailable
				}
				require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
				require.Equal(t, http.StatusOK, (&upload{pieces: []string{dealUpdate(2)}}).send(h, -1))
				require.Equal(t, status(test.mid), post(h, sized(3, 20<<10)))
				require.Equal(t, status(test.large), post(h, sized(4, 200<<10)))

				close(gone)
				wait.Wait()
				require.Zero(t, h.Stats().InFlight)
				require.Equal(t, http.StatusOK, post(h, sized(5, 20<<10)))
				require.Equal(t, http.StatusOK, post(h, sized(6, 900<<10)))
				shutdown(t, h)
				require.Zero(t, h.Stats().InFlight)
			})
		})
	}
}

// TestNobodyWaitsForEver: hundreds of requests of all sizes share a small room, and all are served.
func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, err := webhook.NewHandler(verifierFunc(func(context.Context, *event.Delivery) error {
			<-time.After(10 * time.Millisecond)
			return nil
		}), nothing(), webhook.WithMaxBodyBytes(1<<20), webhook.WithMaxInFlightBytes(1<<20), webhook.WithEnqueueTimeout(time.Hour))
		require.NoError(t, err)
		random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
		statuses := make(chan int, 1000)
		sent := 0
		for _, n := range []int{0, 3 << 10, 5 << 10, 30 << 10, 63 << 10, 66 << 10, 100 << 10, 500 << 10, 900 << 10} {
			for range 40 {
				sent++
				text := sized(sent, n)
				cut := random.IntN(len(text))
				declared := int64(len(text))
				switch random.IntN(3) {
				case 0:
					declared = -1
				case 1:
					declared = int64(random.IntN(min(2*len(text), 1<<20))) // a lie; net/http would not let a short one through
				}
				u := &upload{pieces: []string{text[:cut], text[cut:]}, pause: time.Duration(random.IntN(50)) * time.Millisecond}
				go func() { statuses <- u.send(h, declared) }()
			}
		}
		for range sent {
			require.Equal(t, http.StatusOK, <-statuses)
		}
		require.Zero(t, h.Stats().InFlight)
		shutdown(t, h)
		require.EqualValues(t, sent, h.Stats().Handled)
	})
}

// full is a handler whose room for large requests is taken, until the returned function is called.
func full(t *testing.T, opts ...webhook.Option) (h *webhook.Handler, release func()) {
	t.Helper()
	held := make(chan struct{})
	h, err := webhook.NewHandler(verifierFunc(func(_ context.Context, d *event.Delivery) error {
		if d.Name == "ONX" {
			<-held
			return event.ErrForbidden
		}
		return nil
	}), nothing(), append(opts, webhook.WithMaxInFlightBytes(webhook.DefaultMaxBodyBytes))...)
	require.NoError(t, err)
	go post(h, hostile())
	synctest.Wait()
	require.Positive(t, h.Stats().InFlight)
	return h, func() { close(held) }
}

func TestWaitingForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log lines
		h, release := full(t, webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, sized(1, 100<<10)))
		require.Equal(t, webhook.DefaultEnqueueTimeout, time.Since(start))
		require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonBusy])
		require.EqualValues(t, 1, h.Stats().Lost)
		require.Contains(t, log.String(), "level=ERROR")
		require.Contains(t, log.String(), "reason=busy")
		require.Contains(t, log.String(), "see WithMaxInFlightBytes")

		time.AfterFunc(time.Second/2, release)
		require.Equal(t, http.StatusOK, post(h, sized(1, 100<<10)), "it waits and gets in")
		shutdown(t, h)
		require.Zero(t, h.Stats().InFlight)
	})
	synctest.Test(t, func(t *testing.T) {
		h, release := full(t, webhook.WithEnqueueTimeout(0))
		start := time.Now()
		require.Equal(t, http.StatusServiceUnavailable, post(h, sized(1, 100<<10)))
		require.Zero(t, time.Since(start), "no time to wait")
		release()
		shutdown(t, h)
	})
	synctest.Test(t, func(t *testing.T) {
		h, release := full(t, webhook.WithEnqueueTimeout(time.Hour))
		status := make(chan int)
		go func() { status <- post(h, sized(1, 100<<10)) }()
		<-time.After(time.Minute)
		shutdown(t, h)
		require.Equal(t, http.StatusServiceUnavailable, <-status)
		require.EqualValues(t, 1, h.Stats().Rejected[webhook.ReasonShuttingDown])
		release()
		synctest.Wait()
		require.Zero(t, h.Stats().InFlight)
	})
}

// TestFailuresGiveRoomBack: after any end of a request nothing of it stays charged.
func TestFailuresGiveRoomBack(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 200<<10)
	for name, test := range map[string]struct {
		body   io.Reader
		verify error
		status int
	}{
		"broken off":       {io.MultiReader(strings.NewReader(large), failing{io.ErrUnexpectedEOF}), nil, 400},
		"reader panics":    {io.MultiReader(strings.NewReader(large), failing{}), nil, 400},
		"too long":         {strings.NewReader(strings.Repeat(large, 6)), nil, 413},
		"too many keys":    {strings.NewReader(strings.Repeat("a[]&", 30_000)), nil, 413},
		"no event":         {strings.NewReader(large), nil, 400},
		"forged":           {strings.NewReader(sized(1, 200<<10)), event.ErrForbidden, 403},
		"verifier unsure":  {strings.NewReader(sized(1, 200<<10)), errors.New("down"), 503},
		"verifier panics":  {strings.NewReader(sized(1, 200<<10)), errPanic, 503},
		"too deep":         {strings.NewReader("event=ONX&a" + strings.Repeat("[x]", 50_000)), nil, 413},
		"taken over":       {strings.NewReader(sized(1, 200<<10)), nil, 200},
		"json, not at all": {strings.NewReader(strings.Repeat("{", 100_000)), nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := webhook.NewHandler(verifierFunc(func(context.Context, *event.Delivery) error {
				if errors.Is(test.verify, errPanic) {
					panic("verifier")
				}
				return test.verify
			}), nothing(), silent())
			require.NoError(t, err)
			r := request("")
			r.Body, r.ContentLength = io.NopCloser(test.body), -1
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, test.status, w.Code)
			require.Zero(t, h.Stats().InFlight)
			shutdown(t, h)
		})
	}
}

// TestAbortedBody: a body that breaks off may have been an event. It is lost, and counts so.
func TestAbortedBody(t *testing.T) {
	t.Parallel()
	half := dealUpdate(1)[:200]
	for name, test := range map[string]struct {
		body    io.Reader
		aborted uint64
		status  int
	}{
		"broken off":          {io.MultiReader(strings.NewReader(half), failing{io.ErrUnexpectedEOF}), 1, 400},
		"broken off at once":  {failing{errors.New("connection reset by peer")}, 1, 400},
		"cut, and ended well": {strings.NewReader("event"), 0, 400},
		"too slow":            {failing{os.ErrDeadlineExceeded}, 0, 408},
		"cut by a limit":      {failing{&http.MaxBytesError{Limit: 1}}, 0, 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log lines
			h := newHandler(t, nothing(), webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			r := request("")
			r.Body, r.ContentLength = io.NopCloser(test.body), -1
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.aborted, h.Stats().Rejected[webhook.ReasonAborted])
			require.Equal(t, test.aborted, h.Stats().Lost)
			require.Equal(t, test.aborted == 1, strings.Contains(log.String(), "level=ERROR msg=\"webhook: event lost\" reason=aborted status=400"))
		})
	}
}

// TestKeptMemory: a body shows nothing of an earlier one that was read into the same memory.
func TestKeptMemory(t *testing.T) {
	t.Parallel()
	var rec recorder
	h := newHandler(t, &rec)
	long := sized(1, 20<<10)
	require.Equal(t, http.StatusOK, post(h, long))
	require.Equal(t, http.StatusBadRequest, post(h, dealUpdate(2)[:3]))
	require.Equal(t, http.StatusForbidden, post(h, "event=ONCRMDEALUPDATE&auth[member_id]="+member), "the token is another body's")
	require.Equal(t, http.StatusOK, post(h, dealUpdate(3)))
	require.Equal(t, http.StatusOK, post(h, sized(4, 10<<10)))
	shutdown(t, h)
	require.ElementsMatch(t, []string{"1", "3", "4"}, rec.ids())
	for _, d := range rec.deliveries() {
		want := map[string]int{"1": 20 << 10, "3": 0, "4": 10 << 10}[d.Entity().ID]
		require.Equal(t, strings.Repeat("x", want), d.Data.Get("X").Text())
	}
}

// TestHeldMemory: n places of the queue hold no more than n × 8 KiB of memory, however a body is
// made.
func TestHeldMemory(t *testing.T) { //nolint:paralleltest // it measures the memory
	const places, placeBytes = 512, 8 << 10
	head := body("ONX", nil) + "&"
	fill := func(piece string) string { return head + strings.Repeat(piece, (8<<10-len(head))/len(piece)) }
	var distinct strings.Builder
	distinct.WriteString(head)
	for i := 0; distinct.Len() < 8<<10-8; i++ {
		_, _ = fmt.Fprintf(&distinct, "data[%x]&", i)
	}
	for name, text := range map[string]string{ //nolint:paralleltest // as above
		"usual":           dealUpdate(1),
		"a list":          fill("data[]&"),
		"lists of lists":  fill("data[][]&"),
		"three levels":    fill("data[][][]&"),
		"64 levels":       fill("data" + strings.Repeat("[]", 64) + "&"),
		"many keys":       distinct.String(),
		"one long text":   fill("x"),
		"escapes":         head + "data=" + strings.Repeat("%41", (8<<10-len(head))/3),
		"named, 8 levels": fill("data[a][b][c][d][e][f][g][]&"),
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			h, err := webhook.NewHandler(anyPortal(), do(func(context.Context, *event.Delivery) error {
				<-release
				return nil
			}), webhook.WithQueueSize(places), webhook.WithEnqueueTimeout(0))
			require.NoError(t, err)
			before := heap()
			accepted := 0
			// Each is of another portal, because one alone may not fill the queue.
			for post(h, fmt.Sprintf("%s&auth[member_id]=%d", text, accepted)) == http.StatusOK {
				accepted++
			}
			require.Positive(t, accepted)
			require.LessOrEqual(t, accepted, places)
			const ours = 1 << 10 // of the queue itself, for each delivery
			require.Less(t, heap()-before, int64(places*placeBytes*5/4+accepted*ours), "%d deliveries", accepted)
			close(release)
			shutdown(t, h)
		})
	}
}
