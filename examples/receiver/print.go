package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
)

const (
	// hookTimeout bounds the handling of an event before it is printed.
	hookTimeout = 5 * time.Minute
	// handlerTimeout is very long, because handlers wait for stdout, for example while a disk is full.
	handlerTimeout = 365 * 24 * time.Hour
	// firstProbe and lastProbe bound the wait between two attempts to write to stdout.
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
	// drainPatience is how long stdout may fail after a stop signal.
	drainPatience = 10 * time.Second
)

// printer prints each handled delivery as one line. While stdout cannot be written, it keeps
// accepted events, retries, and makes the receiver refuse new events. It loses events only if
// stdout is gone for good.
//
//	ready --write fails--> failing --write succeeds--> ready
//	                       failing --reader is gone, or drainPatience is over--> lost
type printer struct {
	delay    time.Duration
	durable  bool // events that are not printed stay in the queue
	log      *slog.Logger
	draining <-chan struct{}         // closed when the receiver accepts no more events
	abort    context.CancelCauseFunc // stops the receiver

	turn  chan struct{} // full while a goroutine uses lines
	lines *program.LineWriter

	mu      sync.Mutex
	state   outputState
	err     error // of the last write
	printed uint64
	refused uint64
}

// outputState is whether stdout can be written.
type outputState int

const (
	outputReady outputState = iota
	outputFailing
	outputLost
)

// output is a snapshot of a printer.
type output struct {
	state            outputState
	err              error
	printed, refused uint64
}

func newPrinter(serving context.Context, abort context.CancelCauseFunc, cfg config, stdout io.Writer) *printer {
	return &printer{
		delay: cfg.handlerDelay, durable: cfg.queue != queueMemory, log: cfg.logger, draining: serving.Done(), abort: abort,
		turn: make(chan struct{}, 1), lines: program.NewLineWriter(stdout),
	}
}

// snapshot returns the state. It does not wait for a write that hangs.
func (p *printer) snapshot() output {
	p.mu.Lock()
	defer p.mu.Unlock()
	return output{state: p.state, err: p.err, printed: p.printed, refused: p.refused}
}

// guard refuses events while stdout cannot be written.
func (p *printer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.refuses() {
			http.Error(w, "events cannot be processed at the moment", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuses reports whether stdout cannot be written, and counts the refused requests.
func (p *printer) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == outputReady {
		return false
	}
	p.refused++
	return true
}

// printing is middleware that prints each event that its handler has finished.
func (p *printer) printing(next event.Handler) event.Handler {
	return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		timed, cancel := context.WithTimeout(ctx, hookTimeout)
		defer cancel()
		if err := next.HandleEvent(timed, d); err != nil {
			return err
		}
		return p.print(ctx, d)
	})
}

// print waits for the delay and then prints the same line as examples/decode, with
// "source":"online". It returns when the line is written, or if it can never be written.
func (p *printer) print(ctx context.Context, d *event.Delivery) error {
	if o := p.snapshot(); o.state == outputLost {
		return p.giveUp(ctx, o.err)
	}
	if p.delay > 0 && !wait(ctx, p.delay) {
		return context.Cause(ctx)
	}
	line, err := d.MarshalJSON()
	if err != nil {
		return event.Drop(err)
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if o := p.snapshot(); o.state == outputLost {
		return p.giveUp(ctx, o.err)
	}
	return p.write(ctx, append(bytes.TrimSpace(line), '\n'))
}

// write writes a line, and retries as long as stdout may recover. The caller has the turn. After
// ctx has ended, the next line tries.
func (p *printer) write(ctx context.Context, line []byte) error {
	draining := p.draining
	var patience <-chan time.Time
	_, err := p.lines.Write(line)
	for probe := firstProbe; err != nil; probe = min(2*probe, lastProbe) {
		if program.Gone(err) {
			return p.lose(ctx, err)
		}
		p.fail(ctx, err)
		timer := time.NewTimer(probe)
		select {
		case <-timer.C:
		case <-draining:
			draining, patience = nil, time.After(drainPatience)
		case <-patience:
			return p.lose(ctx, err)
		case <-ctx.Done():
			p.accept()
			return context.Cause(ctx)
		}
		timer.Stop()
		err = p.lines.Resume()
	}
	p.wrote(ctx)
	return nil
}

// wrote notes a line that was written.
func (p *printer) wrote(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.printed++
	if p.state == outputFailing {
		p.log.LogAttrs(ctx, slog.LevelInfo, "stdout can be written again; events are accepted", slog.Uint64("refused", p.refused))
	}
	p.state, p.err = outputReady, nil
}

// fail makes the receiver refuse events until a line can be written.
func (p *printer) fail(ctx context.Context, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if p.state == outputReady {
		p.state = outputFailing
		p.log.LogAttrs(ctx, slog.LevelError, "stdout cannot be written: events are refused with 503, and those accepted wait until it can",
			slog.String("error", err.Error()))
	}
}

// lose stops the receiver, because no line can be written any more.
func (p *printer) lose(ctx context.Context, err error) error {
	p.mu.Lock()
	p.state, p.err = outputLost, err
	p.mu.Unlock()
	p.log.LogAttrs(ctx, slog.LevelError, "stdout is gone: events are refused with 503, and the receiver stops",
		slog.String("error", err.Error()))
	p.abort(err)
	return p.giveUp(ctx, err)
}

// giveUp returns the error for an event that cannot be printed because stdout is gone. With a
// durable queue the event stays in the queue for the next start, so its handler waits until the
// receiver ends.
func (p *printer) giveUp(ctx context.Context, err error) error {
	if !p.durable {
		return event.Drop(err)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// accept accepts events again although the last line could not be written, because no goroutine
// retries that line any more. The next line shows whether stdout works.
func (p *printer) accept() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = outputReady
}

// wait waits for d. It returns false if ctx ends before that.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// unprintable reports whether an event was not printed because of stdout.
func unprintable(err error) bool { return errors.As(err, new(*program.OutputError)) }
