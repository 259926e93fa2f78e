package oauth

import (
	"context"
	"sync"
)

// maxDone is how many keys a once remembers. Lifecycle events are rare, and copies come soon after
// one another.
const maxDone = 1000

// once lets work succeed once for a key. The zero once is ready.
type once struct {
	mu      sync.Mutex
	done    map[string]bool
	order   []string                 // of done, a ring
	next    int                      // where in order the oldest is
	running map[string]chan struct{} // closed when the work ends
}

// do runs work and returns its error; or waits for the same work of others, and runs it again where
// that failed; or does nothing where it has succeeded.
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

// run also ends the wait of others where work panics.
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
