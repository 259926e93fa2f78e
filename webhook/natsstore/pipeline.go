package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// maxAPIRequests bounds the requests to the JetStream API that wait for a reply. If more than
// 10,000 requests of all clients wait, a server drops all of them.
const maxAPIRequests = 256

// replyTimeout is the longest time without a reply in a round.
const replyTimeout = 5 * time.Second

// request is a message to JetStream and its reply: a record to store, or a request to the API.
type request struct {
	stream  string
	subject string
	header  nats.Header
	data    []byte
	api     bool

	// pipeline.mu guards these while a round with the request runs.
	replied bool
	reply   reply
	err     error // why there is no reply
}

// reply has the fields of JetStream's replies to all kinds of requests.
type reply struct {
	Error     *apiError      `json:"error"`
	Stream    string         `json:"stream"`
	Seq       uint64         `json:"seq"`
	Duplicate bool           `json:"duplicate"`
	Success   bool           `json:"success"`
	Pending   uint64         `json:"num_pending"` // how many messages a consumer has not sent yet
	Message   *storedMessage `json:"message"`

	raw []byte
}

// storedMessage is a message in a reply of the API.
type storedMessage struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// again resets the request, so that it can be sent again.
func (r *request) again() { r.replied, r.reply, r.err = false, reply{}, nil }

// stored returns the message in the reply, or nil if there is none.
func (r *request) stored() (*message, error) {
	m := r.reply.Message
	if m == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	out := &message{subject: m.Subject, data: m.Data, seq: m.Seq, time: m.Time}
	if len(m.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			return nil, errBadReply
		}
		out.header = h
	}
	return out, nil
}

// pipeline sends many requests at a time over one connection and matches the replies. It sends the
// requests of a round in order. A round ends when the connection breaks.
type pipeline struct {
	nc    *nats.Conn
	inbox string // prefix of the subjects of replies
	sub   *nats.Subscription
	turn  chan struct{} // full while a round is sent, so that rounds are sent one at a time
	slots chan struct{} // one entry per waiting API request

	mu      sync.Mutex
	next    uint64
	waiting map[string]*waiter // by the last token of the reply subject
	rounds  map[*round]struct{}
	closed  bool
}

// waiter is a request that waits for its reply.
type waiter struct {
	*request

	round *round
}

// round is a set of requests that are sent together.
type round struct {
	size int
	left int // requests without a reply; pipeline.mu guards it
	over bool
	end  chan struct{} // closed when over
	err  error         // why it ended before all requests had a reply
}

func newPipeline(nc *nats.Conn) (*pipeline, error) {
	p := &pipeline{
		nc: nc, inbox: nc.NewInbox() + ".", turn: make(chan struct{}, 1), slots: make(chan struct{}, maxAPIRequests),
		waiting: make(map[string]*waiter), rounds: make(map[*round]struct{}),
	}
	var err error
	if p.sub, err = nc.Subscribe(p.inbox+"*", p.receive); err != nil {
		return nil, err
	}
	// The number of requests is bounded, so that of replies is too.
	if err := p.sub.SetPendingLimits(-1, -1); err != nil {
		return nil, errors.Join(err, p.sub.Unsubscribe())
	}
	return p, nil
}

// do sends the requests that have no reply yet, and waits for the replies. It marks requests that
// got one as replied, and returns an error if some got none.
func (p *pipeline) do(ctx context.Context, requests []*request) error {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var open []*request
	for _, r := range requests {
		if !r.replied {
			r.again()
			open = append(open, r)
		}
	}
	if len(open) == 0 {
		<-p.turn
		return nil
	}
	rd := &round{size: len(open), left: len(open), end: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.turn
		return ErrClosed
	}
	p.rounds[rd] = struct{}{}
	p.mu.Unlock()
	go func() { // the end of ctx does not end a write to a connection that hangs
		defer func() { <-p.turn }()
		p.send(open, rd)
	}()
	p.await(ctx, rd)
	if rd.err != nil {
		return rd.err
	}
	for _, r := range open {
		if r.err != nil {
			return r.err
		}
	}
	return nil
}

// await waits for the end of a round. It ends the round with an error if ctx ends or if replies do
// not come.
func (p *pipeline) await(ctx context.Context, rd *round) {
	pause := time.NewTimer(replyTimeout)
	defer pause.Stop()
	for left := rd.size; ; {
		var err error
		select {
		case <-rd.end:
			return
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-pause.C:
		}
		p.mu.Lock()
		if err == nil && rd.left == left {
			err = errSlow
		}
		if left = rd.left; err != nil {
			p.finishLocked(rd, err)
		}
		p.mu.Unlock()
		pause.Reset(replyTimeout)
	}
}

// send sends the requests of a round, in order, until the round is over.
func (p *pipeline) send(requests []*request, rd *round) {
	for _, r := range requests {
		if r.api {
			select {
			case p.slots <- struct{}{}:
			case <-rd.end:
				return
			}
		}
		token, ok := p.register(r, rd)
		if !ok {
			p.free(r)
			return
		}
		err := p.nc.PublishMsg(&nats.Msg{Subject: r.subject, Reply: p.inbox + token, Header: r.header, Data: r.data})
		if err != nil {
			p.complete(token, reply{}, err)
			if !errors.Is(err, nats.ErrMaxPayload) {
				p.mu.Lock()
				p.finishLocked(rd, err)
				p.mu.Unlock()
				return
			}
		}
	}
}

// free releases the slot of an API request.
func (p *pipeline) free(r *request) {
	if r.api {
		<-p.slots
	}
}

// register notes that a request is about to be sent. It returns false if its round is over.
func (p *pipeline) register(r *request, rd *round) (token string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rd.over {
		return "", false
	}
	p.next++
	token = strconv.FormatUint(p.next, 36)
	p.waiting[token] = &waiter{r, rd}
	return token, true
}

// receive handles a reply.
func (p *pipeline) receive(m *nats.Msg) {
	if len(m.Subject) <= len(p.inbox) {
		return
	}
	var rep reply
	var err error
	switch {
	case len(m.Data) == 0 && m.Header.Get("Status") == "503":
		err = errNoReply
	case json.Unmarshal(m.Data, &rep) != nil:
		err = errBadReply
	}
	rep.raw = m.Data
	p.complete(m.Subject[len(p.inbox):], rep, err)
}

// complete sets the reply of a request, or the error because of which there is none.
func (p *pipeline) complete(token string, rep reply, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f, ok := p.waiting[token]
	if !ok {
		return
	}
	delete(p.waiting, token)
	p.free(f.request)
	f.reply, f.err, f.replied = rep, err, err == nil
	if f.round.left--; f.round.left == 0 {
		p.finishLocked(f.round, nil)
	}
}

// finishLocked ends a round. Its requests without a reply get none any more. p.mu must be held.
func (p *pipeline) finishLocked(rd *round, err error) {
	if rd.over {
		return
	}
	rd.over, rd.err = true, err
	defer close(rd.end) // then the waiting method may use the requests
	delete(p.rounds, rd)
	if err == nil {
		return
	}
	for token, f := range p.waiting {
		if f.round == rd {
			delete(p.waiting, token)
			p.free(f.request)
			f.err = err
		}
	}
}

// interrupt ends all rounds, because their replies are lost.
func (p *pipeline) interrupt(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rd := range p.rounds {
		p.finishLocked(rd, err)
	}
}

// close ends all rounds and the subscription.
func (p *pipeline) close() error {
	p.interrupt(ErrClosed)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	if err := p.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
		return err
	}
	return nil
}
