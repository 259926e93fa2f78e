package oauth

import (
	"context"
	"sync"
)

// maxDone is how many keys a once remembers. Lifecycle events are rare, and copies of one follow
// each other closely.
const maxDone = 1000

// once lets work succeed once for a key. The zero once is ready.
type once struct {
	mu      sync.Mutex
	done    map[string]bool
	order   []string                 // of done, a ring
	next    int                      // index of the oldest in order
	running map[string]chan struct{} // closed when the work ends
}

// do runs work until it succeeds once for a key, and returns its error. Concurrent callers wait. If
// work fails, the next caller runs it again. After a success, do does nothing.
func (o *once) do(ctx context.Context, key string, work func() error) error {
	for {
		o.mu.Lock()
		if o.done[key] {
			o.mu.Unlock()
			return nil
		}
		busy, ok := o.running[key]
		if !ok {
			if o.running == nil {
				o.running = make(map[string]chan struct{})
			}
			o.running[key] = make(chan struct{})
			o.mu.Unlock()
			return o.run(key, work)
		}
		o.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run runs work. It also ends the wait of others if work panics.
func (o *once) run(key string, work func() error) error {
	succeeded := false
	defer func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		close(o.running[key])
		delete(o.running, key)
		if succeeded {
			o.rememberLocked(key)
		}
	}()
	err := work()
	succeeded = err == nil
	return err
}

// rememberLocked remembers a key, and forgets the oldest if there are too many. o.mu must be held.
func (o *once) rememberLocked(key string) {
	if o.done == nil {
		o.done = make(map[string]bool)
	}
	o.done[key] = true
	if len(o.order) < maxDone {
		o.order = append(o.order, key)
		return
	}
	delete(o.done, o.order[o.next])
	o.order[o.next] = key
	o.next = (o.next + 1) % maxDone
}
