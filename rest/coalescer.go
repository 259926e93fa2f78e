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
// yet, and disturbs no other. The request is cancelled once all have left. Reads that are equal to the byte are made once; which
// methods are reads is said at [WithIdempotent].
//
// Calls by themselves stay what portals refuse in a batch (batch, upload, download), what carries auth_connector, texts that
// portals would replace in a batch ($result[…] and the like), more than 64 KiB of parameters, and methods that are paused for
// their operating time. A call that the portal refuses within a batch for a reason that passes is made again by itself.
//
// Calls in one batch run one after the other, and the portal ends a request after 60 seconds: calls that take seconds each are
// better made through a [Client]. The order of calls that are made at the same time is not kept.
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
		if n < 2 || n > maxBatch {
			return errors.New("rest: WithSize: portals take batches of up to 50 calls, and fewer than 2 are none")
		}
		desk.size = n
		return nil
	}
}

// NewCoalescer returns a coalescer over c, of an application or a webhook. It joins only calls that are made through itself: share
// it, or use [Portals.Coalescer].
func NewCoalescer(c *Client, opts ...CoalescerOption) (*Coalescer, error) {
	if c == nil {
		return nil, errors.New("rest: NewCoalescer: the client is nil")
	}
	desk := newDesk(DefaultWindow, maxBatch)
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
func (p *Portals) Coalescer(memberID string) *Coalescer {
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
	call, err := newCall(ctx, method, params)
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil:
		return nil, contextError(ctx, method)
	case !c.gathers(call):
		return c.client.run(ctx, call)
	}
	g, s := c.desk.join(ctx, c.client, call)
	select {
	case <-g.done:
	case <-ctx.Done():
		g.leave(s)
		return nil, contextError(ctx, method)
	}
	answer, err := s.outcome()
	if err != nil {
		if s.lost == nil && passes(err) {
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
	return batchable(call.method) && len(call.form) <= maxGathered && !call.suspect && !hasConnector(call.form) &&
		!c.client.portals.pauses.until(c.client.memberID, call.method).After(time.Now())
}

// passes reports whether a command was refused before it ran, for a reason that passes.
func passes(err error) bool {
	_, ok := Retryable(err)
	return ok || errors.Is(err, ErrExpiredToken)
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
	desk     *desk
	memberID string
	cancel   context.CancelFunc
	full     chan struct{} // closed when no more calls fit
	done     chan struct{} // closed when the outcomes are there

	// Under the desk's lock, until done is closed.
	seats   []*seat
	reads   map[string]*seat // by method and parameters
	callers int
}

// seat is one call in a gathering, of one or more callers.
type seat struct {
	item

	idempotent bool
	shared     bool
	callers    int
}

// join finds a place for a call, and starts a gathering where there is none.
func (d *desk) join(ctx context.Context, c *Client, call *call) (*gathering, *seat) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.open[c.memberID]
	if g == nil {
		// The request belongs to all callers: it keeps the first one's values, and ends when the last one has left.
		shared, cancel := context.WithCancel(context.WithoutCancel(ctx))
		g = &gathering{
			desk: d, memberID: c.memberID, cancel: cancel,
			full: make(chan struct{}), done: make(chan struct{}), reads: make(map[string]*seat),
		}
		d.open[c.memberID] = g
		go g.run(shared, c) // ends with the request, which ends at the latest when nobody waits for it
	}
	g.callers++
	key := strings.ToLower(call.method) + "?" + call.form
	if s := g.reads[key]; s != nil {
		s.callers++
		s.shared = true
		return g, s
	}
	s := &seat{item: item{method: call.method, form: call.form}, idempotent: call.idempotent, callers: 1}
	if isRead(call.method) {
		g.reads[key] = s
	}
	g.seats = append(g.seats, s)
	if len(g.seats) == d.size {
		g.close()
		close(g.full)
	}
	return g, s
}

// close lets nobody join any more. The desk is locked.
func (g *gathering) close() {
	if g.desk.open[g.memberID] == g {
		delete(g.desk.open, g.memberID)
	}
}

// leave takes one caller out.
func (g *gathering) leave(s *seat) {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	s.callers--
	g.callers--
	if g.callers == 0 {
		g.close()
		g.cancel()
	}
}

// run waits for company, makes the request, and hands out what came of it.
func (g *gathering) run(ctx context.Context, c *Client) {
	defer g.cancel()
	defer close(g.done)
	timer := time.NewTimer(g.desk.window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.full:
	case <-ctx.Done():
	}
	request := &call{method: methodBatch, prepare: g.depart}
	answer, err := c.run(ctx, request)

	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.close() // where it did not come to a departure
	for _, s := range g.seats {
		switch {
		case err != nil:
			s.answer, s.err, s.lost = nil, nil, err
		case request.batch == nil && s.callers > 0:
			s.answer = answer
		}
	}
}

// depart completes the request with the calls that are there now, and reports whether there are any.
func (g *gathering) depart(request *call) bool {
	g.desk.mu.Lock()
	defer g.desk.mu.Unlock()
	g.close()
	var items []*item
	idempotent := true
	for _, s := range g.seats {
		if s.callers > 0 {
			s.name = "c" + strconv.Itoa(len(items)) // a name that PHP does not take for a position in a list
			items = append(items, &s.item)
			idempotent = idempotent && s.idempotent
		}
	}
	switch len(items) {
	case 0:
		return false
	case 1:
		request.method, request.form, request.idempotent = items[0].method, items[0].form, idempotent
	default:
		batch := batchCall(items, false, idempotent)
		request.method, request.form, request.batch, request.idempotent = batch.method, batch.form, batch.batch, batch.idempotent
	}
	return true
}
