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

// loader loads records that were put aside. Those that are asked for while a Load of their
// partition is under way are loaded together by the next.
type loader struct {
	store Store
	log   eventLog
	life  context.Context //nolint:containedctx // ends with Shutdown; the parent of loads

	mu     sync.Mutex
	queues  map[int]*loadQueue // by partition; one is there while it is being loaded
	failed failure           // of the last Load
	logged time.Time         // when a failure was logged last
}

// loadQueue is what is to be loaded of a partition next.
type loadQueue struct{ next []*loadRequest }

// loadRequest is a record that somebody waits for.
type loadRequest struct {
	id   string
	rec  *Record
	err  error
	done chan struct{}
}

// load returns a record, nil if it is gone.
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

// run loads what is asked for until there is nothing left.
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

// noteResult notes how a Load went, and logs failures now and then.
func (l *loader) noteResult(err error) {
	l.mu.Lock()
	now := time.Now()
	l.failed = failure{err, now}
	speak := err != nil && now.Sub(l.logged) >= repeatLog
	if speak {
		l.logged = now
	}
	l.mu.Unlock()
	if speak {
		l.log.store(l.life, slog.LevelError, "webhook: the store does not load records that were put aside, trying again", err)
	}
}

// health returns why records cannot be loaded, nil if they can.
func (l *loader) health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.failed.at) < unwellFor {
		return l.failed.err
	}
	return nil
}
