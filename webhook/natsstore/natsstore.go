package natsstore

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/b24events/b24events/webhook"
)

const (
	// rememberSettled is the least number of settled records that a Store remembers. Servers before
	// 2.10 may bring back about as many after they were killed: those in a file of 8 MiB.
	rememberSettled = 16 << 10
	// rememberListed is the least number of listed records after which List can continue even if they
	// are gone.
	rememberListed = 4 << 10
	// closeTimeout is how long Close waits for a connection that hangs.
	closeTimeout = 5 * time.Second
	// repairTimeout ends repairs in the background.
	repairTimeout = 10 * time.Second
)

// Keys of log records.
const (
	KeyStream    = "stream"
	KeyPartition = webhook.KeyPartition
	KeyRecords   = webhook.KeyRecords
	KeyError     = webhook.KeyError
)

// Store is a [webhook.Store] and a [webhook.Leaser] on streams of NATS JetStream. It is safe for
// concurrent use; so is a second Store, in this process or another, on the same streams. Make one
// with [New].
type Store struct {
	layout

	nc   *nats.Conn
	api  string // prefix of the subjects of the JetStream API
	keep bool   // archive records that are done
	log  *slog.Logger
	pipe *pipeline

	settled *recentIDs // records that this Store has settled
	listed  *recentIDs // records that List has returned, with their sequence in the archive

	maxMessage atomic.Int64 // bytes of a record that the stream can hold; zero for no limit
	window     atomic.Int64 // how long the server remembers the IDs of records, a time.Duration

	status chan nats.Status // changes of the connection

	life context.Context //nolint:containedctx // ends with Close; the parent of repairs
	end  context.CancelCauseFunc
	runs sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	link    link
	waiting map[*func()]struct{} // called when the connection breaks
	created time.Time            // when the stream of pending records was made
	seen    uint64               // highest sequence of a pending record that this Store knew
	doubt   uint64               // other records may have sequences up to this one by now
	marked  []map[string]uint64  // sequences of the counters of pending records, by partition and ID
}

var (
	_ webhook.Store  = (*Store)(nil)
	_ webhook.Leaser = (*Store)(nil)
)

// New returns a store on the JetStream of a connection. It makes the streams that do not exist and
// checks the others; several processes may do that at the same time. An error matches [ErrConfig]
// if options are invalid, or if a stream has a configuration under which the store could not keep
// its guarantees. The text names the setting. Other errors are those of the server.
//
// The connection belongs to the caller, who closes it after [Store.Close]. It should never stop
// reconnecting; see the documentation of the package.
func New(ctx context.Context, nc *nats.Conn, opts ...Option) (*Store, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if nc == nil {
		return nil, misconfigured("no connection")
	}
	s := &Store{
		layout: layout{name: c.name}, nc: nc, api: "$JS.API.", keep: c.keep > 0, log: c.logger,
		settled: newRecentIDs(rememberSettled), listed: newRecentIDs(rememberListed),
		link: link{changed: make(chan struct{})}, waiting: make(map[*func()]struct{}),
	}
	js, err := jetstream.New(nc)
	if c.domain != "" {
		s.api = "$JS." + c.domain + ".API."
		js, err = jetstream.NewWithDomain(nc, c.domain)
	}
	if err != nil {
		return nil, failed("open", err)
	}
	if err := s.setUp(ctx, js, c); err != nil {
		return nil, failed("open", err)
	}
	s.marked = make([]map[string]uint64, s.parts)
	for i := range s.marked {
		s.marked[i] = make(map[string]uint64)
	}
	if s.pipe, err = newPipeline(nc); err != nil {
		return nil, failed("open", err)
	}
	s.life, s.end = context.WithCancelCause(context.WithoutCancel(ctx))
	s.status = nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	s.readLink()
	s.runs.Go(s.watch)
	return s, nil
}

// Partitions implements [webhook.Store].
func (s *Store) Partitions() int { return s.parts }

// Close ends the background work of the store and its subscription. Running methods, and later
// ones, fail with [ErrClosed]. The connection stays open. A second Close does nothing. If the
// connection hangs, Close returns an error after five seconds, and what is left ends with the
// connection.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end(ErrClosed)
	done := make(chan error, 1)
	go func() { // all of this can block if the connection hangs
		s.nc.RemoveStatusListener(s.status)
		err := s.pipe.close()
		s.runs.Wait()
		done <- err
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-done:
		return failed("close", err)
	case <-timer.C:
		return failed("close", errSlow)
	}
}

// enter begins a method. The context that it returns also ends when the store is closed.
func (s *Store) enter(ctx context.Context) (context.Context, func(), error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(ErrClosed) })
	return ctx, func() {
		stop()
		cancel(context.Canceled)
	}, nil
}

// repair runs f in the background, until the store is closed. It ignores the end of ctx.
func (s *Store) repair(ctx context.Context, stream string, f func(ctx context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.runs.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), repairTimeout)
		defer cancel()
		stop := context.AfterFunc(s.life, cancel) //nolint:contextcheck // the end of the store
		defer stop()
		if err := f(ctx); err != nil && s.life.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "natsstore: could not clean up; the next feed tries again",
				slog.String(KeyStream, stream), slog.String(KeyError, err.Error()))
		}
	})
}
