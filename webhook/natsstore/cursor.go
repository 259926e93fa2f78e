package natsstore

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readAhead is how many messages a cursor requests at a time, and holds in memory at most.
	readAhead = 256
	// minReadBytes is the least bound for the bytes of these messages.
	minReadBytes = 2 << 20
	// pullTime is how long the server keeps a request for messages. pullBeat is how often it sends a
	// heartbeat meanwhile.
	pullTime = 30 * time.Second
	pullBeat = 5 * time.Second
	// statusRoom is room for the status messages of one request.
	statusRoom = 32
	// idleCursor is how long a cursor may be idle before the server deletes it.
	idleCursor = 5 * time.Minute
	// scanWait is how long a scan waits for the next message before it asks whether there is one.
	scanWait = time.Second
)

// Errors that end a cursor. A new cursor can continue.
const (
	errGap      Error = "natsstore: messages from the server were lost"
	errSilence  Error = "natsstore: the server sends no messages"
	errNoCursor Error = "natsstore: the server has ended the cursor"
	errReopen   Error = "natsstore: the cursor of all partitions has read everything"
	errHidden   Error = "natsstore: the server does not send all messages that it has"
)

// errNothing means that no message came in time.
const errNothing Error = "natsstore: no message in time"

// query describes the messages that a cursor reads.
type query struct {
	stream  string
	filter  string
	from    uint64    // first sequence; zero for all
	since   time.Time // instead of from; zero for all
	headers bool      // without the data
	ahead   int       // messages in memory; zero for readAhead
}

// cursor reads the messages of a stream in order. It is a consumer that acknowledges nothing, so it
// does not change the stream.
//
// It does not use the iterators of package jetstream. After a reconnect these continue by
// themselves from the sequence that they had reached. That would miss records if the server had
// lost its last messages, and it blocks while the server is down.
type cursor struct {
	s        *Store
	stream   string
	consumer string
	sub      *nats.Subscription
	msgs     chan *nats.Msg
	inbox    string // prefix of the subjects to which the server sends the status of requests
	ahead    int
	bytes    int64

	requests int    // how many were sent
	asked    int    // messages that the last one may still bring
	last     uint64 // consumer sequence of the last message
	left     uint64 // how many messages there were when the cursor was opened
	more     bool   // the server has said that there are more messages
}

// open makes a cursor.
func (s *Store) open(ctx context.Context, q query) (*cursor, error) {
	if q.ahead == 0 {
		q.ahead = readAhead
	}
	c := &cursor{
		s: s, stream: q.stream, consumer: "b24-" + rand.Text()[:16], inbox: s.nc.NewInbox() + ".", ahead: q.ahead,
		bytes: max(minReadBytes, 2*s.linkNow().maxPayload), msgs: make(chan *nats.Msg, q.ahead+statusRoom),
	}
	config := jetstream.ConsumerConfig{
		Name: c.consumer, FilterSubject: q.filter, HeadersOnly: q.headers, AckPolicy: jetstream.AckNonePolicy,
		DeliverPolicy: jetstream.DeliverAllPolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: idleCursor,
	}
	switch {
	case q.from > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, q.from
	case !q.since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &q.since
	}
	body, err := json.Marshal(struct {
		Stream string                   `json:"stream_name"`
		Config jetstream.ConsumerConfig `json:"config"`
	}{q.stream, config})
	if err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	create := s.apiRequest(q.stream, "CONSUMER.CREATE", string(body))
	create.subject += "." + c.consumer
	if q.filter != "" {
		create.subject += "." + q.filter
	}
	if err := s.execute(ctx, []*request{create}); err != nil {
		go c.remove()
		return nil, err
	}
	if err := create.refused(); err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	c.left = create.reply.Pending
	c.more = c.left > 0
	if err := c.subscribe(ctx); err != nil {
		return nil, fmt.Errorf("cursor: %w", err)
	}
	return c, nil
}

// subscribe subscribes to the messages of the cursor. It closes the cursor if ctx ends before that.
func (c *cursor) subscribe(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		var err error
		c.sub, err = c.s.nc.ChanSubscribe(c.inbox+"*", c.msgs)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			go c.remove()
		}
		return err
	case <-ctx.Done():
		go func() {
			if <-done == nil {
				c.close()
			}
		}()
		return context.Cause(ctx)
	}
}

// close ends the cursor. It does not wait for the server.
func (c *cursor) close() {
	go func() {
		_ = c.sub.Unsubscribe() // fails if the connection is closed, which ends it too
		c.remove()
	}()
}

// remove asks the server to delete the consumer. If the request is lost, the server deletes the
// idle consumer later.
func (c *cursor) remove() {
	if c.s.nc.IsConnected() {
		_ = c.s.nc.PublishRequest(c.s.api+"CONSUMER.DELETE."+c.stream+"."+c.consumer, c.s.nc.NewInbox(), nil)
	}
}

// unread returns how many messages the server has not sent yet.
func (c *cursor) unread(ctx context.Context) (uint64, error) {
	info := c.s.apiRequest(c.stream, "CONSUMER.INFO", "")
	info.subject += "." + c.consumer
	if err := c.s.execute(ctx, []*request{info}); err != nil {
		return 0, err
	}
	return info.reply.Pending, info.refused()
}

// pull asks for more messages.
func (c *cursor) pull(ctx context.Context) error {
	c.requests++
	c.asked = c.ahead
	body := fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}`, c.ahead, c.bytes, pullTime, pullBeat)
	reply := c.inbox + strconv.Itoa(c.requests)
	return outside(ctx, func() error {
		return c.s.nc.PublishRequest(c.s.api+"CONSUMER.MSG.NEXT."+c.stream+"."+c.consumer, reply, body)
	})
}

// next returns the next message. If ctx ends, it returns the cause. If wait is not zero, it returns
// errNothing after wait. After any other error, the cursor cannot be used any more.
func (c *cursor) next(ctx context.Context, wait time.Duration) (*message, error) {
	quiet := 2*pullBeat + pullBeat/2
	if wait > 0 {
		quiet = wait
	}
	var silence *time.Timer // made when needed, because most messages have arrived already
	for {
		if c.asked == 0 {
			if err := c.pull(ctx); err != nil {
				return nil, err
			}
		}
		var msg *nats.Msg
		select {
		case msg = <-c.msgs:
		default:
			if silence == nil {
				silence = time.NewTimer(quiet)
				defer silence.Stop()
			}
			select {
			case msg = <-c.msgs:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-silence.C:
				if wait > 0 {
					return nil, errNothing
				}
				return nil, errSilence
			}
		}
		if strings.HasPrefix(msg.Subject, c.inbox) {
			if err := c.status(msg); err != nil {
				return nil, err
			}
			if silence != nil && wait == 0 {
				silence.Reset(quiet)
			}
			continue
		}
		return c.read(msg)
	}
}

// read reads a message of the stream.
func (c *cursor) read(msg *nats.Msg) (*message, error) {
	about, err := msg.Metadata()
	if err != nil {
		return nil, errBadReply
	}
	if c.last++; about.Sequence.Consumer != c.last {
		return nil, errGap
	}
	c.asked = max(0, c.asked-1)
	c.more = about.NumPending > 0
	return &message{
		subject: msg.Subject, header: msg.Header, data: msg.Data,
		seq: about.Sequence.Stream, time: about.Timestamp, pending: about.NumPending,
	}, nil
}

// status handles a status message about a request for messages.
func (c *cursor) status(msg *nats.Msg) error {
	code, text := first(msg.Header, "Status"), first(msg.Header, "Description")
	switch {
	case code == "503":
		return errNoReply
	case code == "100":
		if sent, err := strconv.ParseUint(first(msg.Header, "Nats-Last-Consumer"), 10, 64); err == nil && sent > c.last {
			return errGap // a message that was sent earlier is missing
		}
		if c.more { // it has sent nothing for the time of a beat
			return errHidden
		}
	case msg.Subject != c.inbox+strconv.Itoa(c.requests):
		// an earlier request, which has brought all its messages
	case code == "404", code == "408", code == "409" && (strings.Contains(text, "MaxBytes") || strings.Contains(text, "Batch Completed")):
		c.asked = 0 // it brings no more
	default:
		return fmt.Errorf("%w: status %s, %s", errNoCursor, code, text)
	}
	return nil
}

// scan calls f for each message of a stream, in order, until f returns false.
func (s *Store) scan(ctx context.Context, q query, f func(*message) bool) error {
	if err := s.online(ctx); err != nil {
		return err
	}
	ctx, release := s.whileConnected(ctx)
	defer release()
	err := s.scanOnce(ctx, q, f)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *Store) scanOnce(ctx context.Context, q query, f func(*message) bool) error {
	c, err := s.open(ctx, q)
	if err != nil {
		return err
	}
	defer c.close()
	for left := c.left; left > 0; {
		m, err := c.next(ctx, scanWait)
		if err == errNothing { //nolint:errorlint // the value itself; the rest may have been deleted
			if left, err = c.unread(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if !f(m) {
			return nil
		}
		left = m.pending
	}
	return nil
}
