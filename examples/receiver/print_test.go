package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/webhook"
)

// disk is a file on a disk with room for so many bytes.
type disk struct {
	err error // of a write without room

	mu   sync.Mutex
	text strings.Builder
	room int
}

// empty makes room.
func (d *disk) empty() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = 1 << 20
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(d.room, len(p))
	d.room -= n
	d.text.Write(p[:n])
	if n < len(p) {
		return n, d.err
	}
	return n, nil
}

var errFull = errors.New("no space left")

// desk is a printer with what it needs.
type desk struct {
	*printer

	serving context.Context //nolint:containedctx // of the receiver
	log     programtest.Output
}

func newDesk(t *testing.T, w io.Writer) *desk {
	t.Helper()
	d := &desk{}
	serving, abort := context.WithCancelCause(t.Context())
	t.Cleanup(func() { abort(nil) })
	logger, err := program.Values{"log-format": "text"}.Logger(&d.log, 0)
	require.NoError(t, err)
	d.serving, d.printer = serving, newPrinter(serving, abort, config{logger: logger}, w)
	return d
}

// status is the answer to an event.
func (d *desk) status(t *testing.T) int {
	t.Helper()
	w := httptest.NewRecorder()
	d.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
		ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil))
	return w.Code
}

// begin prints events at the same time, and returns what becomes of them.
func (d *desk) begin(ctx context.Context, events int) <-chan error {
	ended := make(chan error, events)
	for range events {
		go func() { ended <- d.print(ctx, &event.Delivery{Name: "ONCRMDEALADD"}) }()
	}
	return ended
}

// A disk that is full for a time loses nothing, and no line is broken, wherever the disk was full.
func TestFullDiskRecovers(t *testing.T) {
	t.Parallel()
	for _, room := range []int{0, 1, 20, 300, 500} {
		synctest.Test(t, func(t *testing.T) {
			file := &disk{room: room, err: errFull}
			d := newDesk(t, file)
			const events = 20
			ended := d.begin(t.Context(), events)
			synctest.Wait()
			require.Equal(t, http.StatusServiceUnavailable, d.status(t))
			require.ErrorIs(t, d.snapshot().err, errFull)
			time.Sleep(time.Hour) //nolint:forbidigo // in a bubble
			require.Equal(t, http.StatusServiceUnavailable, d.status(t))
			require.NoError(t, d.serving.Err(), "it waits")
			file.empty()
			time.Sleep(lastProbe) //nolint:forbidigo // in a bubble
			synctest.Wait()
			require.Equal(t, http.StatusOK, d.status(t))
			for range events {
				require.NoError(t, <-ended)
			}
			require.Len(t, programtest.Lines(t, file.text.String()), events)
			require.Equal(t, output{printed: events, refused: 2}, d.snapshot())
			require.Equal(t, 1, strings.Count(d.log.String(), "level=ERROR"), "once")
			require.Equal(t, 1, strings.Count(d.log.String(), "can be written again"))
		})
	}
}

// dropped expects that events were dropped because of an error.
func dropped(t *testing.T, ended <-chan error, events int, want error) {
	t.Helper()
	for range events {
		err := <-ended
		require.ErrorIs(t, err, want)
		require.True(t, unprintable(err))
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome)
	}
}

// When the reader is gone, the receiver stops at once, and writes nothing more.
func TestReaderIsGone(t *testing.T) {
	t.Parallel()
	for _, gone := range []error{syscall.EPIPE, os.ErrClosed} {
		synctest.Test(t, func(t *testing.T) {
			file := &disk{room: 20, err: gone}
			d := newDesk(t, file)
			dropped(t, d.begin(t.Context(), 3), 3, gone)
			require.ErrorIs(t, context.Cause(d.serving), gone)
			require.Equal(t, http.StatusServiceUnavailable, d.status(t))
			file.empty()
			dropped(t, d.begin(t.Context(), 3), 3, gone)
			require.Len(t, file.text.String(), 20)
			require.Zero(t, d.snapshot().printed)
			require.Equal(t, 1, strings.Count(d.log.String(), "level=ERROR"), "once")
		})
	}
}

// After a stop signal, a receiver does not wait forever for a full disk.
func TestFullDiskAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, &disk{err: errFull})
		ended := d.begin(t.Context(), 3)
		time.Sleep(time.Hour) //nolint:forbidigo // in a bubble
		stopped := time.Now()
		d.abort(nil)
		dropped(t, ended, 3, errFull)
		require.Equal(t, drainPatience, time.Since(stopped))
		require.Equal(t, outputLost, d.snapshot().state)
	})
}

// An event whose time is over is not printed, and does not keep the next ones out: they begin a
// line of their own.
func TestEventThatCannotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file := &disk{room: 20, err: errFull}
		d := newDesk(t, file)
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := d.begin(ctx, 2)
		synctest.Wait()
		errOver := errors.New("over")
		cancel(errOver)
		require.ErrorIs(t, <-ended, errOver)
		require.ErrorIs(t, <-ended, errOver)
		require.Equal(t, http.StatusOK, d.status(t))
		file.empty()
		require.NoError(t, <-d.begin(t.Context(), 1))
		begun, whole, _ := strings.Cut(file.text.String(), "\n")
		require.Len(t, begun, 20)
		require.Len(t, programtest.Lines(t, whole), 1)
	})
}

// Events that handlers gave up do not count as lost by the output.
func TestUnprinted(t *testing.T) {
	t.Parallel()
	n := webhook.Stats{Accepted: 10, Coalesced: 1, Unhandled: 1}
	require.Equal(t, uint64(3), unprinted(n, output{printed: 4}, 1))
	require.Zero(t, unprinted(n, output{printed: 20}, 1))
	require.NoError(t, loss(3, nil))
	require.EqualError(t, loss(0, errFull), "no space left")
	require.EqualError(t, loss(1, errFull), "1 accepted event was not printed: no space left")
	require.EqualError(t, loss(2, errFull), "2 accepted events were not printed: no space left")
}

func TestParkedLinesAreOnlyShown(t *testing.T) {
	t.Parallel()
	const hostile = "a\u009b31m\x7f\u202eb"
	var out strings.Builder
	require.NoError(t, printParked(&out, webhook.Archived{ID: "7", Event: hostile, MemberID: hostile, Err: hostile}))
	for _, raw := range []string{"\u009b", "\x7f", "\u202e"} {
		require.NotContains(t, out.String(), raw)
	}
	require.Contains(t, out.String(), `"event":"a\u009b31m\u007f\u202eb"`)
	require.True(t, strings.HasSuffix(out.String(), "\n"))
}
