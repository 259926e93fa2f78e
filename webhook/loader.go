package webhook

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxLoad bounds the records of one Load.
	maxLoad = 64
	// loadTimeout ends a Load that does not return.
	loadTimeout = 5 * time.Second
)

// loader loads the deliveries of records that were put aside. Requests that come while a Load of
// their partition is under way share the next one.
type loader struct {
	store Store
	log   eventLog
	life  context.Context //nolint:containedctx // ends with Shutdown; the parent of loads

	mu     sync.Mutex
	queues map[int]*loadQueue // by partition; there is one while run serves it
	failed failure            // of the last Load
	logged time.Time          // when a failure was logged last
}

// loadQueue has the requests for a partition.
type loadQueue struct{ next []*loadRequest }

// loadRequest is a request for one record.
type loadRequest struct {
	id   string
	rec  *Record
	err  error
	done chan struct{}
}

// load returns a record, nil if it is gone from the store.
func (l *loader) load(ctx context.Context, part int, id string) (*Record, error) {
	one := &loadRequest{id: id, done: make(chan struct{})}
	l.mu.Lock()
	line := l.queues[part]
	if line == nil {
		if l.queues == nil {
			l.queues = make(map[int]*loadQueue)
		}
		line = &loadQueue{}
		l.queues[part] = line
		go l.run(part, line) //nolint:contextcheck // others wait for it, too
	}
	line.next = append(line.next, one)
	l.mu.Unlock()
	select {
	case <-one.done:
		return one.rec, one.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run serves the requests for a partition until there are none.
func (l *loader) run(part int, line *loadQueue) {
	for {
		l.mu.Lock()
		n := min(len(line.next), maxLoad)
		if n == 0 {
			delete(l.queues, part)
			l.mu.Unlock()
			return
		}
		some := line.next[:n:n]
		line.next = line.next[n:]
		l.mu.Unlock()
		l.loadBatch(part, some)
	}
}

// loadBatch serves some requests with one Load.
func (l *loader) loadBatch(part int, some []*loadRequest) {
	ids := make([]string, 0, len(some))
	for _, one := range some {
		ids = append(ids, one.id)
	}
	ctx, cancel := context.WithTimeout(l.life, loadTimeout)
	defer cancel()
	var recs []*Record
	err := protect(func() (err error) {
		recs, err = l.store.Load(ctx, part, ids)
		return err
	})
	l.noteResult(err)
	byID := make(map[string]*Record, len(recs))
	for _, rec := range recs {
		if rec != nil {
			byID[rec.ID] = rec
		}
	}
	for _, one := range some {
		if one.err = err; err == nil {
			one.rec = byID[one.id]
		}
		close(one.done)
	}
}

// noteResult remembers the result of a Load, and logs failures now and then.
func (l *loader) noteResult(err error) {
	l.mu.Lock()
	now := time.Now()
	l.failed = failure{err, now}
	logIt := err != nil && now.Sub(l.logged) >= repeatLog
	if logIt {
		l.logged = now
	}
	l.mu.Unlock()
	if logIt {
		l.log.store(l.life, slog.LevelError, "webhook: the store does not load records that were put aside, trying again", err)
	}
}

// health returns the error of the last Load, if it failed a short time ago.
func (l *loader) health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.failed.at) < unwellFor {
		return l.failed.err
	}
	return nil
}
