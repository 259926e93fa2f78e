package natsstore

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// linkCheck is how often the state of the connection is read even if the client reported no change.
const linkCheck = time.Second

// link is the known state of the connection. Methods do not ask the connection itself, because that
// can wait for a write that hangs, even after their context has ended.
type link struct {
	up         bool
	closed     bool
	server     string // ID; each start of a server has another
	maxPayload int64
	changed    chan struct{} // closed at the next change
}

// watch keeps track of the connection, until the store is closed.
func (s *Store) watch() {
	check := time.NewTicker(linkCheck)
	defer check.Stop()
	for changes := (<-chan nats.Status)(s.status); ; {
		select {
		case status, ok := <-changes:
			if !ok {
				changes = nil // the connection, or the store, is closed
			}
			if status != nats.CONNECTED {
				s.lost()
			}
			s.readLink()
		case <-check.C:
			s.readLink()
		case <-s.life.Done():
			return
		}
	}
}

// lost ends all waits for replies, because these will not come.
func (s *Store) lost() {
	s.mu.Lock()
	s.link.up = false
	waiting := make([]func(), 0, len(s.waiting))
	for f := range s.waiting {
		waiting = append(waiting, *f)
	}
	s.mu.Unlock()
	s.pipe.interrupt(ErrDisconnected)
	for _, f := range waiting {
		f()
	}
}

// readLink reads the state of the connection. If it goes to another server, or to a restarted one,
// the known pending records are in doubt: a server that lost its last messages in a power failure
// gives their sequences again.
func (s *Store) readLink() {
	status, server, maxPayload := s.nc.Status(), s.nc.ConnectedServerId(), s.nc.MaxPayload()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link.up = status == nats.CONNECTED
	s.link.closed = status == nats.CLOSED || status == nats.DRAINING_SUBS || status == nats.DRAINING_PUBS
	if s.link.up {
		s.link.maxPayload = maxPayload
		if server != s.link.server {
			s.link.server = server
			s.doubtLocked()
		}
	}
	close(s.link.changed)
	s.link.changed = make(chan struct{})
}

// linkNow returns the known state of the connection.
func (s *Store) linkNow() link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link
}

// online waits until the connection is up. Nothing is sent while it is down, because the client
// would buffer it and send it later, when no method waits for the reply any more.
func (s *Store) online(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch l := s.linkNow(); {
		case l.closed:
			return ErrClosed
		case l.up:
			return nil
		default:
			select {
			case <-l.changed:
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", ErrDisconnected, context.Cause(ctx))
			}
		}
	}
}

// whileConnected returns a context that also ends when the connection breaks.
func (s *Store) whileConnected(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	f := func() { cancel(ErrDisconnected) }
	s.mu.Lock()
	s.waiting[&f] = struct{}{}
	up := s.link.up
	s.mu.Unlock()
	if !up {
		f()
	}
	return ctx, func() {
		s.mu.Lock()
		delete(s.waiting, &f)
		s.mu.Unlock()
		cancel(context.Canceled)
	}
}

// outside calls f, which uses the connection, in a goroutine. It waits for f until ctx ends,
// because a write to a connection that hangs blocks until the client gives up.
func outside(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// knew notes that this Store knows a pending record, by its sequence.
func (s *Store) knew(seq uint64) {
	s.mu.Lock()
	s.seen = max(s.seen, seq)
	s.mu.Unlock()
}

// doubtLocked puts all known records in doubt: another record may have their sequence by now. s.mu
// must be held.
func (s *Store) doubtLocked() { s.doubt = s.seen }
