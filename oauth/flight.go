package oauth

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// flightTimeout limits one piece of work on an installation, which goes on after its callers leave.
const flightTimeout = 30 * time.Second

// flights shares work: callers that ask for the same work while it runs get its result. Work goes
// on after its callers leave, because it may already have spent a token that works once.
type flights struct {
	log *slog.Logger

	mu      sync.Mutex
	closed  bool
	running map[string]*flight
	work    sync.WaitGroup // Add under mu while not closed
}

// flight is work under way. in and err are set before done is closed.
type flight struct {
	done chan struct{}
	in   Installation
	err  error
}

// do runs work under a name, or joins the work of that name that runs already. It returns early
// with the error of ctx. After close it returns [ErrShutdown].
func (fs *flights) do(
	ctx context.Context, name, op string, work func(context.Context) (Installation, error),
) (Installation, error) {
	if err := ctx.Err(); err != nil {
		return Installation{}, fmt.Errorf("oauth: %s: %w", op, err)
	}
	f, err := fs.join(ctx, name, op, work)
	if err != nil {
		return Installation{}, err
	}
	select {
	case <-ctx.Done():
		return Installation{}, fmt.Errorf("oauth: %s: %w", op, ctx.Err())
	case <-f.done:
		return f.in.clone(), f.err
	}
}

// join returns the flight of a name. If there is none, it starts one.
func (fs *flights) join(
	ctx context.Context, name, op string, work func(context.Context) (Installation, error),
) (*flight, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.running[name]; f != nil {
		return f, nil
	}
	if fs.closed {
		return nil, &Error{Op: op, Kind: ErrShutdown}
	}
	if fs.running == nil {
		fs.running = make(map[string]*flight)
	}
	f := &flight{done: make(chan struct{})}
	fs.running[name] = f
	fs.work.Add(1)
	go fs.run(context.WithoutCancel(ctx), f, name, op, work)
	return f, nil
}

func (fs *flights) run(
	ctx context.Context, f *flight, name, op string, work func(context.Context) (Installation, error),
) {
	ctx, cancel := context.WithTimeout(ctx, flightTimeout)
	defer cancel()
	returned := false
	defer func() {
		// Only a store, a policy or a hook can panic here. No caller could recover that.
		if v := recover(); v != nil || !returned {
			fs.log.LogAttrs(ctx, slog.LevelError, "panic in a store, a policy or a hook",
				slog.String(keyPanic, panicType(v)), slog.String(keyStack, string(debug.Stack())))
			f.in, f.err = Installation{}, &Error{Op: op, Kind: ErrStore, Detail: fmt.Sprintf("it panicked with a %T", v)}
		}
		fs.mu.Lock()
		delete(fs.running, name)
		fs.mu.Unlock()
		close(f.done)
		fs.work.Done()
	}()
	in, err := work(ctx)
	if err != nil {
		in = Installation{}
	}
	f.in, f.err = in, err
	returned = true
}

// panicType describes a panic without its text, which may hold secrets.
func panicType(v any) string { return fmt.Sprintf("%T", v) }

// close refuses new work. It returns a channel that is closed once no work runs any more.
func (fs *flights) close() <-chan struct{} {
	fs.mu.Lock()
	fs.closed = true
	fs.mu.Unlock()
	idle := make(chan struct{})
	go func() { // ends with the flights, which have a time limit
		fs.work.Wait()
		close(idle)
	}()
	return idle
}
