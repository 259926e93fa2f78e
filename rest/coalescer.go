package rest

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/batch"
)

const (
	// DefaultWindow is how long a [Coalescer] waits for calls to join the first one.
	DefaultWindow = 20 * time.Millisecond
	// MaxWindow is the most that [WithWindow] takes.
	MaxWindow = 5 * time.Second

	// maxBatchable is the largest call that joins others, in bytes of its parameters: 50 of them
	// stay within what web servers accept. Larger calls, such as files, are sent by themselves.
	maxBatchable = 64 << 10
)

// Coalescer makes calls as a [Client] does, and joins calls that different goroutines make at the
// same time into one batch. A portal counts HTTP requests, so 50 calls then cost one. A call that
// no other joins is sent by itself, when the window has passed. While a portal's limit delays
// requests, calls join for as long.
//
// Each caller gets its own result or error, and keeps its own context. If a caller's context ends
// before its call was sent, the call is dropped, and other calls are not affected. If its deadline
// comes before the turn of the request, the caller fails at once, as with a Client. The request is
// canceled when all callers have left. Reads that are equal byte for byte are made once;
// [Idempotent] says which methods are reads.
//
// Some calls are sent by themselves: batch, upload and download, which portals refuse in a batch;
// calls with auth_connector; texts that portals would replace in a batch, for example $result[…];
// more than 64 KiB of parameters; and methods that are paused for their operating time. If the
// portal refuses a call within a batch for a temporary reason, the call is made again by itself. If
// a request with several calls failed, or its response is too large, its reads and idempotent calls
// are made again, each by itself.
//
// Calls in one batch run one after the other, and the portal ends a request after 60 seconds. So
// use a [Client] for calls that take seconds each. The order of calls that are made at the same
// time is not kept. If the credentials or the HTTP client panic, the calls that were to be sent
// return an error.
//
// It is safe for concurrent use. An idle Coalescer uses no resources, and there is nothing to
// close. The zero value is not usable.
type Coalescer struct {
	client  *Client
	batcher *batcher
}

// CoalescerOption configures [NewCoalescer].
type CoalescerOption func(*batcher) error

// WithWindow sets how long the first call waits for others to join it, up to [MaxWindow]. The
// default is [DefaultWindow].
func WithWindow(d time.Duration) CoalescerOption {
	return func(b *batcher) error {
		if d <= 0 || d > MaxWindow {
			return misconfigured("WithWindow: the window must be positive, and not longer than MaxWindow")
		}
		b.window = d
		return nil
	}
}

// WithSize sets how many calls one batch holds, 2 to 50. The default is 50.
func WithSize(n int) CoalescerOption {
	return func(b *batcher) error {
		if n < 2 || n > batch.Max {
			return misconfigured("WithSize: the size must be from 2 to 50, which is the most that portals take")
		}
		b.size = n
		return nil
	}
}

// NewCoalescer returns a coalescer over c, which is a client of an application or a webhook. It
// joins only calls that are made through itself, so share it, or use [Clients.Coalescer]. An error
// matches [ErrConfig].
func NewCoalescer(c *Client, opts ...CoalescerOption) (*Coalescer, error) {
	if c == nil {
		return nil, misconfigured("NewCoalescer: the client is nil")
	}
	b := newBatcher(DefaultWindow, batch.Max)
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(b); err != nil {
			return nil, err
		}
	}
	return &Coalescer{client: c, batcher: b}, nil
}

// Coalescer returns a coalescer for one portal, with the default window and size. All coalescers
// that cs returns for a portal join their calls with each other's, so make one when you need it;
// there is no reason to keep it.
func (cs *Clients) Coalescer(memberID string) *Coalescer {
	return &Coalescer{client: cs.Portal(memberID), batcher: cs.batcher}
}

// MemberID returns the stable identifier of the portal, as [Client.MemberID] does.
func (c *Coalescer) MemberID() string { return c.client.MemberID() }

// ClientID returns the ID of the application, as [Client.ClientID] does.
func (c *Coalescer) ClientID() string { return c.client.ClientID() }

// Format prints the client, and never credentials, for every verb.
func (c *Coalescer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "rest.Coalescer(%v)", c.client)
}

// Call calls a method as [Client.Call] does, in a batch with other calls.
func (c *Coalescer) Call(ctx context.Context, method string, params, result any) error {
	return callInto(ctx, c, method, params, result)
}

// Do calls a method as [Client.Do] does, in a batch with other calls.
func (c *Coalescer) Do(ctx context.Context, method string, params any) (*Response, error) {
	call, err := c.client.newCall(method, params)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.client.opts.within(ctx)
	defer cancel()
	switch {
	case ctx.Err() != nil:
		return nil, contextError(ctx, method)
	case !c.batchable(call):
		return c.client.run(ctx, call)
	}
	g, r, err := c.batcher.add(ctx, c.client, call)
	if err != nil {
		return nil, err
	}
	select {
	case <-g.done:
	case err := <-r.late:
		return nil, err
	case <-ctx.Done():
		ran := executedNever
		if g.withdraw(r) {
			ran = executedMaybe
		}
		return nil, contextEnded(ctx, method, ran)
	}
	select {
	case err := <-r.late: // at the same time
		return nil, err
	default:
	}
	s := r.slot
	if s.single {
		call.paused = s.paused
		return c.client.run(ctx, call)
	}
	response, err := s.outcome()
	if err != nil {
		if s.retriesSingly(err, call) {
			call.mayHaveRun = s.requestErr != nil && !surelyNotRun(err)
			return c.client.run(ctx, call)
		}
		return nil, withMethod(err, method)
	}
	if s.shared {
		own := *response
		own.Result = bytes.Clone(response.Result)
		return &own, nil
	}
	return response, nil
}

// batchable reports whether a call may join others.
func (c *Coalescer) batchable(call *call) bool {
	return batch.Takes(call.method) && len(call.form) <= maxBatchable && len(call.gaps) == 0 && !call.suspect && !hasConnector(call.form) &&
		!c.client.opts.limited && !c.client.isPaused(call.method) && !c.client.isPaused(batch.Method)
}

// isPaused reports whether a method is blocked for its operating time.
func (c *Client) isPaused(method string) bool {
	return c.clients.pauses.until(c.memberID, method).After(time.Now())
}

// retriesSingly reports whether a call that failed in a batch is made again by itself.
func (s *slot) retriesSingly(err error, call *call) bool {
	if call.retries == 0 {
		return false
	}
	if s.requestErr != nil { // the request failed, and was retried if that did no harm to any of its calls
		return s.batched && call.idempotent && !s.retried && !surelyNotRun(err)
	}
	return retriableAlone(err, call.idempotent)
}

// batcher joins calls into groups, for any number of portals. It holds only the groups that still
// take calls.
type batcher struct {
	window time.Duration
	size   int

	mu   sync.Mutex
	open map[string]*group // by member identifier
}

func newBatcher(window time.Duration, size int) *batcher {
	return &batcher{window: window, size: size, open: make(map[string]*group)}
}

// group is the calls of one portal that are sent together.
type group struct {
	batcher *batcher
	client  *Client
	request *call // only run uses it, except for its flags
	stop    context.CancelFunc
	full    chan struct{} // closed when no more calls fit
	done    chan struct{} // closed when the outcomes are set

	// The batcher's lock guards these until done is closed.
	slots      []*slot
	reads      map[string]*slot // by method and parameters
	callers    int
	joined     []*caller            // for observers
	timed      map[*caller]struct{} // callers with a deadline
	due        func() time.Time     // when the request will have its turn; nil before it is queued
	flushed    bool
	mayHaveRun bool // the request may have run before
}

// slot is one call in a group, of one or more callers.
type slot struct {
	item

	idempotent bool
	shared     bool
	callers    int
	batched    bool // it was sent with others
	retried    bool // the request was retried although it may have run
	single     bool // it was not sent with the group: the method is blocked
	paused     bool // and it was blocked before, too
}

// caller is one caller of a slot.
type caller struct {
	slot      *slot
	deadline  time.Time
	late      chan error // gets the error if the turn comes too late
	withdrawn bool
	ctx       context.Context //nolint:containedctx // for observers; nil without any
}

// add puts a call into the group of its portal, and starts a group if there is none.
func (b *batcher) add(ctx context.Context, c *Client, call *call) (*group, *caller, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &caller{}
	r.deadline, _ = ctx.Deadline()
	g := b.open[c.memberID]
	if g == nil {
		// The request belongs to all callers: it keeps the first one's values, and ends when the last one
		// has left.
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		own := *c
		own.opts = callOptions{} // options belong to the calls
		g = &group{
			batcher: b, client: &own, stop: cancel,
			full: make(chan struct{}), done: make(chan struct{}), reads: make(map[string]*slot), timed: make(map[*caller]struct{}),
		}
		g.request = g.newRequest()
		b.open[c.memberID] = g
		go g.run(shared) // ends with the request, which ends at the latest when all callers have left
	}
	if !r.deadline.IsZero() {
		if g.due != nil {
			if due := g.due(); r.deadline.Before(due) {
				return nil, nil, late(call.method, due)
			}
		}
		r.late = make(chan error, 1)
		g.timed[r] = struct{}{}
	}
	g.callers++
	if len(c.clients.meter.observers) > 0 {
		r.ctx = ctx
		g.joined = append(g.joined, r)
	}
	key := strings.ToLower(call.method) + "?" + call.form
	if r.slot = g.reads[key]; r.slot != nil {
		r.slot.callers++
		r.slot.shared = true
		return g, r, nil
	}
	s := &slot{item: item{method: call.method, form: call.form}, idempotent: call.idempotent, callers: 1}
	if isRead(call.method) {
		g.reads[key] = s
	}
	r.slot = s
	g.slots = append(g.slots, s)
	if len(g.slots) == b.size {
		g.closeLocked()
		close(g.full)
	}
	return g, r, nil
}

// newRequest returns the call that the group makes.
func (g *group) newRequest() *call {
	request := &call{method: batch.Method, retries: g.client.clients.retries, prepare: g.flush, onRetry: g.onRetry}
	request.turn.placed, request.turn.later, request.joined = g.onPlaced, g.onLater, g.contexts
	return request
}

// contexts returns the contexts of the callers whose calls the request made.
func (g *group) contexts() []context.Context {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	all := make([]context.Context, 0, len(g.joined))
	for i, r := range g.joined {
		if i == 0 || !r.slot.single {
			all = append(all, r.ctx)
		}
	}
	return all
}

// closeLocked ends the group to new calls. The batcher's lock is held.
func (g *group) closeLocked() {
	if g.batcher.open[g.client.memberID] == g {
		delete(g.batcher.open, g.client.memberID)
	}
}

// withdraw removes one caller, and reports whether its call may be running.
func (g *group) withdraw(r *caller) (maybeRunning bool) {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	maybeRunning = g.flushed && !r.slot.single
	g.withdrawLocked(r)
	return maybeRunning
}

func (g *group) withdrawLocked(r *caller) {
	if r.withdrawn {
		return
	}
	r.withdrawn = true
	delete(g.timed, r)
	r.slot.callers--
	g.callers--
	if g.callers == 0 {
		g.closeLocked()
		g.stop()
	}
}

// onPlaced records when the request will have its turn.
func (g *group) onPlaced(due func() time.Time) {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	g.due = due
	g.expireLocked(due(), nil)
}

// onLater is called when the turn is delayed. The limiter's lock is held.
func (g *group) onLater() {
	go func() {
		g.batcher.mu.Lock()
		defer g.batcher.mu.Unlock()
		if g.due != nil { // otherwise onPlaced follows
			g.expireLocked(g.due(), nil)
		}
	}()
}

// onRetry is called when the request failed and will be made again, at until or later.
func (g *group) onRetry(err error, until time.Time) {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	g.due = nil // until it is queued again
	g.mayHaveRun = g.request.mayHaveRun
	if e, ok := err.(*Error); ok && e.until.After(until) { //nolint:errorlint // of this package, not wrapped
		until = e.until
	}
	g.expireLocked(until, err)
}

// expireLocked removes the callers whose deadline comes before the next turn. They get the error of
// the request, or one that says that the turn comes too late. The batcher's lock is held.
func (g *group) expireLocked(due time.Time, err error) {
	for r := range g.timed {
		if !r.deadline.Before(due) {
			continue
		}
		if err != nil {
			r.late <- withMethod(err, r.slot.method)
		} else {
			r.late <- g.lateError(r.slot.method, due)
		}
		g.withdrawLocked(r)
	}
}

// lateError returns the error of a caller whose deadline comes before the turn. If the request may
// have run before, the error says so.
func (g *group) lateError(method string, due time.Time) error {
	if g.mayHaveRun {
		return withMayHaveRun(late(method, due))
	}
	return late(method, due)
}

// run waits for calls to join, makes the request, and gives each slot its outcome.
func (g *group) run(ctx context.Context) {
	defer g.stop()
	defer close(g.done)
	err := error(g.panicError(executedNever)) // unless the credentials or the HTTP client return
	var response *Response
	defer func() { g.deliver(response, err) }()
	timer := time.NewTimer(g.batcher.window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.full:
	case <-ctx.Done():
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		if recover() != nil {
			g.client.logPanic(ctx, "the credentials or the HTTP client panicked", g.request.method)
		}
		if g.request.inFlight || g.request.mayHaveRun {
			err = g.panicError(executedMaybe)
		}
	}()
	response, err = g.client.run(ctx, g.request)
	returned = true
}

// panicError is the error of calls whose request ended with a panic, or with its goroutine.
func (g *group) panicError(ran executed) *callError {
	return &callError{method: batch.Method, what: "the credentials or the HTTP client panicked, or ended the goroutine", executed: ran}
}

// deliver gives each slot its outcome. After an error of the request, that is the error.
func (g *group) deliver(response *Response, err error) {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	g.closeLocked() // if flush was not called
	for _, s := range g.slots {
		switch {
		case s.single:
		case err != nil:
			s.response, s.err, s.requestErr, s.retried = nil, nil, err, g.request.idempotent && !hasCode(err, ErrTooLarge)
		case g.request.batch == nil && s.callers > 0:
			s.response = response
		}
	}
}

// flush completes the request with the calls that the group has now, and reports whether there are
// any.
func (g *group) flush(request *call) bool {
	g.batcher.mu.Lock()
	defer g.batcher.mu.Unlock()
	g.closeLocked()
	g.flushed = true
	request.method, request.form, request.batch = batch.Method, "", nil // it may be a repetition, with fewer calls
	batchPaused := g.client.isPaused(batch.Method)
	var seats []*slot
	var items []*item
	idempotent := true
	for _, s := range g.slots {
		switch {
		case s.callers == 0:
		case batchPaused || g.client.isPaused(s.method):
			s.single, s.paused = true, request.paused
		default:
			s.name = "c" + strconv.Itoa(len(items)) // a name that PHP does not take for a position in a list
			seats, items = append(seats, s), append(items, &s.item)
			idempotent = idempotent && s.idempotent
		}
	}
	switch len(items) {
	case 0:
		return false
	case 1:
		request.method, request.form, request.idempotent = items[0].method, items[0].form, idempotent
	default:
		whole := batchCall(items, batchOptions{idempotent: idempotent, retries: request.retries})
		request.method, request.form, request.batch, request.idempotent = whole.method, whole.form, whole.batch, whole.idempotent
		for _, s := range seats {
			s.batched = true
		}
	}
	return true
}
