package webhook

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/b24events/b24events/event"
)

const (
	// freeBytes is how much of a body is read before it is charged, as much as net/http itself keeps
	// for a connection. So connections that send nothing take no room from others.
	freeBytes = 4 << 10
	// smallBytes is the most that a small request is charged. Usual events stay far below it.
	smallBytes = 64 << 10
	// smallBound is the bound of [parsingBound] up to which a request counts as small before it is
	// parsed. That is several times what usual events really hold.
	smallBound = 256 << 10
	// elementBytes is the most memory that one element of a body takes while it is parsed: a node, a
	// place in an index, and what both leave behind when they grow.
	elementBytes = 168
	// maxElements is the limit of package event on the elements of a body.
	maxElements = 20_000
)

// inFlight bounds the memory of the requests that are being read, parsed and verified. A request
// passes two stages: its body, and the parsed data. In both stages small requests have a room of
// their own, which large ones cannot take. A request that holds a share of a room waits only for a
// room further down this list, and takes its share of that at once and whole. So no two requests
// can wait for each other:
//
//	small bodies, large bodies, small data, large data
type inFlight struct {
	bodies, data stage
	used         atomic.Int64
	intake       context.Context //nolint:containedctx // ends when Shutdown is called
	patience     time.Duration
}

// stage is the room for bodies, or for parsed data.
type stage struct{ small, large room }

// room is a number of bytes.
type room struct {
	sem  *semaphore.Weighted
	size int64
}

func newRoom(size int64) room { return room{semaphore.NewWeighted(size), size} }

func newStage(size int64) stage {
	return stage{small: newRoom(size / 4), large: newRoom(size - size/4)}
}

func newInFlight(limit int64, intake context.Context, patience time.Duration) *inFlight { //nolint:revive // the context is kept
	return &inFlight{bodies: newStage(limit / 2), data: newStage(limit - limit/2), intake: intake, patience: patience}
}

// ticket has the shares of one request. The zero share is nothing.
type ticket struct {
	of         *inFlight
	body, data share
	waited     time.Duration // all waits for room together
}

// share is a part of a room, in bytes.
type share struct {
	of room
	n  int64
}

// take takes n bytes of a room. It returns ErrBusy if they are not free in time, or ErrShutdown.
func (t *ticket) take(from room, n int64) (share, error) {
	n = min(n, from.size) // one request alone always fits
	if !from.sem.TryAcquire(n) {
		if err := t.wait(from, n); err != nil {
			return share{}, err
		}
	}
	t.of.used.Add(n)
	return share{of: from, n: n}, nil
}

func (t *ticket) wait(from room, n int64) error {
	start := time.Now()
	defer func() { t.waited += time.Since(start) }()
	ctx, cancel := context.WithTimeoutCause(t.of.intake, t.of.patience-t.waited, ErrBusy)
	defer cancel()
	if from.sem.Acquire(ctx, n) != nil {
		return context.Cause(ctx)
	}
	return nil
}

// shrink gives back what a share has beyond n bytes.
func (t *ticket) shrink(s *share, n int64) {
	if n = max(n, 0); s.n > n {
		s.of.sem.Release(s.n - n)
		t.of.used.Add(n - s.n)
		s.n = n
	}
}

// release gives everything back.
func (t *ticket) release() {
	t.shrink(&t.body, 0)
	t.shrink(&t.data, 0)
}

// grow takes room for a body of more than freeBytes, and returns the size that its buffer may have
// now. declared is the length that the client declares, or -1; most is the limit on the body.
func (t *ticket) grow(size int, declared, most int64) (int, error) {
	var err error
	small := declared <= smallBytes && (declared >= 0 || int64(size) < smallBytes)
	switch {
	case small && t.body.n == 0:
		t.body, err = t.take(t.of.bodies.small, smallBytes)
	case !small && (t.body.n == 0 || t.body.of == t.of.bodies.small):
		end := most // chunked: it may become as long as is allowed
		if declared >= 0 {
			end = min(declared, most)
		}
		earlier := t.body
		if t.body, err = t.take(t.of.bodies.large, end); err != nil {
			t.body = earlier
			break
		}
		t.shrink(&earlier, 0)
	}
	if err != nil {
		return 0, err
	}
	if declared >= 0 {
		return int(min(declared, most)) + 1, nil // one more, to see the end
	}
	return int(min(2*int64(size), most+1)), nil
}

// parsing takes room for the memory that parsing body may take.
func (t *ticket) parsing(contentType string, body []byte) error {
	from, n := t.of.data.large, parsingBound(contentType, body)
	if n <= smallBound {
		from = t.of.data.small
	}
	var err error
	t.data, err = t.take(from, n)
	return err
}

// parsed replaces the charge for parsing by what the delivery holds. A delivery that turned out to
// be small moves to the room for small ones, and a large one to the room for large ones.
func (t *ticket) parsed(d *event.Delivery) error {
	held := d.Size()
	t.shrink(&t.body, 0)
	t.shrink(&t.data, held)
	small, large := t.of.data.small, t.of.data.large
	switch earlier := t.data; {
	case held > smallBytes && earlier.of == small:
		var err error
		if t.data, err = t.take(large, held); err != nil {
			t.data = earlier
			return err
		}
		t.shrink(&earlier, 0)
	case held <= smallBytes && earlier.of == large && small.sem.TryAcquire(earlier.n):
		large.sem.Release(earlier.n)
		t.data.of = small
	}
	return nil
}

// parsingBound returns the most memory that a body takes while it is parsed: the copies of its
// text, and an element for everything that can begin one. A level of a name in a form takes a
// bracket, or two escapes. It counts only single bytes, which takes little time.
func parsingBound(contentType string, body []byte) int64 {
	count := func(sign byte) int { return bytes.Count(body, []byte{sign}) }
	elements := 1 + count('&') + count('[') + count('%')/2
	if contentType != formType { // perhaps JSON
		elements += count('{') + count(',')
	}
	return 3*int64(len(body)) + elementBytes*int64(min(elements, maxElements))
}
