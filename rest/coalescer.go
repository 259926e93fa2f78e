package rest

import (
	"bytes"
	"context"
	"errors"
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

	// maxGathered is the most, in bytes of parameters, with which a call joins others: 50 of them stay within what web servers
	// take. Larger ones, such as files, go by themselves.
	maxGathered = 64 << 10
)

// Coalescer makes calls as a [Client] does, and joins those that different goroutines make at the same time into one batch: a
// portal counts HTTP requests, and 50 calls then cost one. A call that finds no company goes out by itself, the window later.
// While a portal's limit holds requests back, calls gather for as long.
//
// Each caller gets its own result or error, and keeps its own context: one that leaves takes its call along if that was not sent
// yet, and disturbs no other. One whose deadline comes before the turn of the request fails at once, as with a Client. The
// request is cancelled once all have left. Reads that are equal to the byte are made once; which methods are reads is said at
// [Idempotent].
//
// Some calls do not gather: batch, upload and download, which portals refuse in a batch; what carries
// auth_connector; texts that portals would replace in a batch, for example $result[…]; more than 64
// KiB of parameters; and methods that are paused for their operating time. A call that the portal refuses within a batch for a reason that passes
// is made again by itself. So are the reads and idempotent calls of a request that failed or whose
// answer is too large, if there were others in it.
//
// Calls in one batch run one after the other, and the portal ends a request after 60 seconds: calls that take seconds each are
// better made through a [Client]. The order of calls that are made at the same time is not kept. A panic of the credentials or
// of the HTTP client is an error of the calls that were to be sent.
//
// It is safe for concurrent use, costs nothing while no call is under way, and needs not be closed. The zero value is not usable.
type Coalescer struct {
	client *Client
	desk   *desk
}

// CoalescerOption configures [NewCoalescer].
type CoalescerOption func(*desk) error

// WithWindow sets how long the first call waits for others to join it, up to [MaxWindow]. The default is [DefaultWindow].
func WithWindow(d time.Duration) CoalescerOption {
	return func(desk *desk) error {
		if d <= 0 || d > MaxWindow {
			return errors.New("rest: WithWindow: the window must be positive and no more than MaxWindow")
		}
		desk.window = d
		return nil
	}
}

// WithSize sets how many calls leave as one batch, 2 to 50. The default is 50.
func WithSize(n int) CoalescerOption {
	return func(desk *desk) error {
		if n < 2 || n > batch.Max {
			return errors.New("rest: WithSize: portals take batches of up to 50 calls, and fewer than 2 are none")
		}
		desk.size = n
		return nil
	}
}

// NewCoalescer returns a coalescer over c, of an application or a webhook. It joins only calls that are made through itself: share
// it, or use [Clients.Coalescer].
func NewCoalescer(c *Client, opts ...CoalescerOption) (*Coalescer, error) {
	if c == nil {
		return nil, errors.New("rest: NewCoalescer: the client is nil")
	}
	desk := newDesk(DefaultWindow, batch.Max)
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(desk); err != nil {
			return nil, err
		}
	}
	return &Coalescer{client: c, desk: desk}, nil
}

// Coalescer returns a coalescer for one portal, with the default window and size. All coalescers that p returns for a portal join
// their calls with each other's: make one where it is needed, keep none.
func (p *Clients) Coalescer(memberID string) *Coalescer {
	return &Coalescer{client: p.Portal(memberID), desk: p.desk}
}

// MemberID returns the stable identifier of the portal, as [Client.MemberID] does.
func (c *Coalescer) MemberID() string { return c.client.MemberID() }

// ClientID returns that of the client.
func (c *Coalescer) ClientID() string { return c.client.ClientID() }

// Format prints the client, and so no credentials, whatever the verb.
func (c *Coalescer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "rest.Coalescer(%v)", c.client)
}

// Call calls a method as [Client.Call] does, together with others.
func (c *Coalescer) Call(ctx context.Context, method string, params, result any) error {
	if err := checkTarget(method, result); err != nil {
		return err
	}
	answer, err := c.Do(ctx, method, params)
	if err != nil {
		return err
	}
	return answer.decode(method, result)
}

// Do calls a method as [Client.Do] does, together with others.
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
	case !c.gathers(call):
		return c.client.run(ctx, call)
	}
	g, r, err := c.desk.join(ctx, c.client, call)
	if err != nil {
		return nil, err
	}
	select {
	case <-g.done:
	case err := <-r.late:
		return nil, err
	case <-ctx.Done():
		ran := ranNever
		if g.leave(r) {
			ran = ranMaybe
		}
		return nil, ended(ctx, method, ran)
	}
	select {
	case err := <-r.late: // at the same time
		return nil, err
	default:
	}
	s := r.seat
	if s.alone {
		call.paused = s.paused
		return c.client.run(ctx, call)
	}
	answer, err := s.outcome()
	if err != nil {
		if s.aloneAfter(err, call) {
			call.doubtful = s.lost != nil && !surelyNotRun(err)
			return c.client.run(ctx, call)
		}
		return nil, about(err, method)
	}
	if s.shared {
		own := *answer
		own.Result = bytes.Clone(answer.Result)
		return &own, nil
	}
	return answer, nil
}

// gathers reports whether a call may leave together with others.
func (c *Coalescer) gathers(call *call) bool {
	return batch.Takes(call.method) && len(call.form) <= maxGathered && len(call.gaps) == 0 && !call.suspect && !hasConnector(call.form) &&
		!c.client.opts.limited && !c.client.isPaused(call.method) && !c.client.isPaused(batch.Method)
}

// isPaused reports whether a method is blocked for the time that it took.
func (c *Client) isPaused(method string) bool {
	return c.portals.pauses.until(c.memberID, method).After(time.Now())
}

// aloneAfter reports whether a call that failed in company is made by itself.
func (s *seat) aloneAfter(err error, call *call) bool {
	if call.retries == 0 {
		return false
	}
	if s.lost != nil { // the request failed, and was repeated as far as that did no harm to any of its calls
		return s.company && call.idempotent && !s.repeated && !surelyNotRun(err)
	}
	return passesAlone(err, call.idempotent)
}

// desk is where calls gather, for any number of portals. It knows only the gatherings that still take calls.
type desk struct {
	window time.Duration
	size   int

	mu   sync.Mutex
	open map[string]*gathering // by member identifier
}

func newDesk(window time.Duration, size int) *desk {
	return &desk{window: window, size: size, open: make(map[string]*gathering)}
}

// gathering is calls of one portal that leave together.
type gathering struct {
	desk    *desk
	client  *Client
	request *call // run's alone, but for its flags
	cancel  context.CancelFunc
	full    chan struct{} // closed when no more calls fit
	done    chan struct{} // closed when the outcomes are there

	// Under the desk's lock, until done is closed.
	seats    []*seat
	reads    map[string]*seat // by method and parameters
	callers  int
	timed    map[*caller]struct{} // those with a deadline
	due      func() time.Time     // when the request will have its turn; nil before it waits for that
	departed bool
	doubtful bool // the request may have run before
}

// seat is one call in a gathering, of one or more callers.
type seat struct {
	item

	idempotent bool
	shared     bool
	callers    int
	company    bool // it left with others
	repeated   bool // their request was, for what may have run
	alone      bool // it did not leave: the method is blocked
	paused     bool // and was when it left before
}

// caller is one caller of a seat.
type caller struct {
	seat     *seat
	deadline time.Time
	late     chan error // gets the error if the turn comes too late
	left     bool
}

// join finds a place for a call, and starts a gathering if there is none.
func (d *desk) join(ctx context.Context, c *Client, call *call) (*gathering, *caller, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &caller{}
	r.deadline, _ = ctx.Deadline()
	g := d.open[c.memberID]
	if g == nil {
		// The request belongs to all callers: it keeps the first one's values, and ends when the last one has left.
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		own := *c
		own.opts = callOptions{} // they are of the calls
		g = &gathering{
			desk: d, client: &own, cancel: cancel,
			full: make(chan struct{}), done: make(chan struct{}), reads: make(map[string]*seat), timed: make(map[*caller]struct{}),
		}
		g.request = g.newRequest()
		d.open[c.memberID] = g
		go g.run(shared) // ends with the request, which ends at the latest when nobody waits for it
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
	key := strings.ToLower(call.method) + "?" + call.form
	if r.seat = g.reads[key]; r.seat != nil {
		r.seat.callers++
		r.seat.shared = true
		return g, r, nil
	}
	s := &seat{item: item{method: call.method, form: call.form}, idempotent: call.idempotent, callers: 1}
	if isRead(call.method) {
		g.reads[key] = s
	}
	r.seat = s
	g.seats = append(g.seats, s)
	if len(g.seats) == d.size {
		g.close()
		close(g.full)
	}
	return g, r, nil
}

// newRequest returns the call that the gathering makes.
func (g *gathering) newRequest() *call {
	request := &call{method: batch.Method, retries: g.client.portals.retries, prepare: g.depart, repeating: g.repeating}
	request.turn.placed, request.turn.later = g.placed, g.later
	return request
}

// close lets nobody join any more. The desk is locked.
func (g *gathering) close() {
	if g.desk.open[g.client.memberID] == g {
		delete(g.desk.open, g.client.memberID)
	}
}

// leave takes one caller out, and reports whether its call may be under way.
func (g *gathering) leave(r *caller) (departed bool) {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	departed = g.departed && !r.seat.alone
	g.leaveLocked(r)
	return departed
}

func (g *gathering) leaveLocked(r *caller) {
	if r.left {
		return
	}
	r.left = true
	delete(g.timed, r)
	r.seat.callers--
	g.callers--
	if g.callers == 0 {
		g.close()
		g.cancel()
	}
}

// placed notes when the request will have its turn.
func (g *gathering) placed(due func() time.Time) {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.due = due
	g.dismissLocked(due(), nil)
}

// later is called when the turn comes later than it was said. The limiter is locked.
func (g *gathering) later() {
	go func() {
		g.desk.mu.Lock()
		defer g.desk.mu.Unlock()
		if g.due != nil { // else placed comes
			g.dismissLocked(g.due(), nil)
		}
	}()
}

// repeating is called when the request was refused and is to be made again, at until or later.
func (g *gathering) repeating(err error, until time.Time) {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.due = nil // until it has a place again
	g.doubtful = g.request.doubtful
	if e, ok := err.(*Error); ok && e.until.After(until) { //nolint:errorlint // of this package, not wrapped
		until = e.until
	}
	g.dismissLocked(until, err)
}

// dismissLocked takes those out for whom the next turn comes too late. They get the error of the request, or one that says so. The
// desk is locked.
func (g *gathering) dismissLocked(due time.Time, err error) {
	for r := range g.timed {
		if !r.deadline.Before(due) {
			continue
		}
		if err != nil {
			r.late <- about(err, r.seat.method)
		} else {
			r.late <- g.lateError(r.seat.method, due)
		}
		g.leaveLocked(r)
	}
}

// lateError is late, unless the request may have run before.
func (g *gathering) lateError(method string, due time.Time) error {
	if g.doubtful {
		return doubted(late(method, due))
	}
	return late(method, due)
}

// run waits for company, makes the request, and hands out what came of it.
func (g *gathering) run(ctx context.Context) {
	defer g.cancel()
	defer close(g.done)
	err := error(g.broken(ranNever)) // unless the credentials or the HTTP client return
	var answer *Response
	defer func() { g.settle(answer, err) }()
	timer := time.NewTimer(g.desk.window)
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
		if g.request.exchanging || g.request.doubtful {
			err = g.broken(ranMaybe)
		}
	}()
	answer, err = g.client.run(ctx, g.request)
	returned = true
}

// broken is the error of calls whose request ended with a panic, or with its goroutine.
func (g *gathering) broken(ran ran) *callError {
	return &callError{method: batch.Method, what: "the credentials or the HTTP client panicked, or ended the goroutine", ran: ran}
}

// settle hands out what came of the request.
func (g *gathering) settle(answer *Response, err error) {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.close() // if it did not come to a departure
	for _, s := range g.seats {
		switch {
		case s.alone:
		case err != nil:
			s.answer, s.err, s.lost, s.repeated = nil, nil, err, g.request.idempotent && !hasCode(err, ErrTooLarge)
		case g.request.batch == nil && s.callers > 0:
			s.answer = answer
		}
	}
}

// depart completes the request with the calls that are there now, and reports whether there are any.
func (g *gathering) depart(request *call) bool {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.close()
	g.departed = true
	request.method, request.form, request.batch = batch.Method, "", nil // it may be a repetition, with fewer calls
	batchPaused := g.client.isPaused(batch.Method)
	var seats []*seat
	var items []*item
	idempotent := true
	for _, s := range g.seats {
		switch {
		case s.callers == 0:
		case batchPaused || g.client.isPaused(s.method):
			s.alone, s.paused = true, request.paused
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
		whole := batchCall(items, false, idempotent, request.retries)
		request.method, request.form, request.batch, request.idempotent = whole.method, whole.form, whole.batch, whole.idempotent
		for _, s := range seats {
			s.company = true
		}
	}
	return true
}
