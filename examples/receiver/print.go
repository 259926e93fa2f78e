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
	// hookTimeout bounds what is done with an event before it is printed.
	hookTimeout = 5 * time.Minute
	// handlerTimeout is longer than anybody waits for room on a disk: handlers wait for stdout.
	handlerTimeout = 365 * 24 * time.Hour
	// firstProbe and lastProbe bound the wait between two attempts to write to stdout.
	firstProbe = 100 * time.Millisecond
	lastProbe  = 2 * time.Second
	// drainPatience is how long stdout may fail once the receiver is told to stop.
	drainPatience = 10 * time.Second
)

// printer prints every delivery, as one line, once it was handled. While stdout cannot be written,
// it keeps what was accepted, tries again, and has new events refused. It loses what it holds only
// when stdout is gone for good.
//
//	ready --write fails--> failing --write succeeds--> ready
//	                       failing --reader is gone, or drainPatience is over--> lost
type printer struct {
	delay    time.Duration
	durable  bool // what is not printed stays in the queue
	log      *slog.Logger
	draining <-chan struct{}         // closed when the receiver takes no more events
	abort    context.CancelCauseFunc // stops the receiver

	turn  chan struct{} // holds an element while somebody uses lines
	lines *program.LineWriter

	mu      sync.Mutex
	state   outputState
	err     error // of the last write that failed; nil after one that succeeded
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

// snapshot does not wait for a write that hangs.
func (p *printer) snapshot() output {
	p.mu.Lock()
	defer p.mu.Unlock()
	return output{state: p.state, err: p.err, printed: p.printed, refused: p.refused}
}

// guard refuses events that could not be printed at the moment, instead of acknowledging them.
func (p *printer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.refuses() {
			http.Error(w, "events cannot be processed at the moment", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuses reports whether stdout cannot be written, and counts what is refused for that.
func (p *printer) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == outputReady {
		return false
	}
	p.refused++
	return true
}

// printing prints what the handler has finished.
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

// print prints what examples/decode prints, and "source":"online", once the delay has passed. It
// returns when the line is written, or cannot be any more.
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

// write writes a line and repeats that for as long as stdout may recover. The caller has the turn.
// When ctx ends, the next line may try.
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
			p.let()
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

// fail has events refused until a line can be written.
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

// lose stops the receiver: no line will be written any more.
func (p *printer) lose(ctx context.Context, err error) error {
	p.mu.Lock()
	p.state, p.err = outputLost, err
	p.mu.Unlock()
	p.log.LogAttrs(ctx, slog.LevelError, "stdout is gone: events are refused with 503, and the receiver stops", slog.String("error", err.Error()))
	p.abort(err)
	return p.giveUp(ctx, err)
}

// giveUp returns what a handler returns when stdout is gone. With a durable queue the event is not
// given up: it stays there for the next start, and its handler waits for the end of this one.
func (p *printer) giveUp(ctx context.Context, err error) error {
	if !p.durable {
		return event.Drop(err)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// let lets events in although the last line could not be written, because nothing tries to write it
// any more: the next one finds out.
func (p *printer) let() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = outputReady
}

// wait reports false when ctx ends before d is over.
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

// ours reports whether an event was not printed because of stdout.
func ours(err error) bool { return errors.As(err, new(*program.OutputError)) }
