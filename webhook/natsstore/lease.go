package natsstore

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// leaseRounds is how often Acquire tries to write a lease that other processes write at the same
	// time.
	leaseRounds = 8
	// staleLease is how long ago a lease must have ended before Held deletes it.
	staleLease = time.Minute
	// maxLeaseName bounds the name of a lease in bytes, because it is part of a subject.
	maxLeaseName = 1024
)

// leaseValue is the stored value of a lease.
type leaseValue struct {
	Owner string        `json:"owner"`
	TTL   time.Duration `json:"ttl"` // since the server stored it
}

// lease is a stored lease.
type lease struct {
	leaseValue

	revision uint64 // sequence in the stream
	written  time.Time
}

// over reports whether the lease has ended, by the server's time.
func (l *lease) over(now time.Time) bool { return !now.Before(l.written.Add(l.TTL)) }

func leaseOf(m *message) *lease {
	if m == nil {
		return nil
	}
	l := &lease{revision: m.seq, written: m.time}
	if json.Unmarshal(m.data, &l.leaseValue) != nil {
		l.leaseValue = leaseValue{} // another program wrote it; it counts as over
	}
	return l
}

// clock returns the time of the server. It makes the server store a message, and reads the time of
// that. So the clocks of the processes do not matter.
func (s *Store) clock(ctx context.Context) (time.Time, error) {
	write := s.publish(s.leases(), s.clockSubject(), nil, []byte("clock"))
	if err := s.execute(ctx, []*request{write}); err != nil {
		return time.Time{}, err
	}
	if _, err := write.written(); err != nil {
		return time.Time{}, err
	}
	read := s.getLast(s.leases(), s.clockSubject())
	if err := s.execute(ctx, []*request{read}); err != nil {
		return time.Time{}, err
	}
	m, err := read.found()
	if err != nil {
		return time.Time{}, err
	}
	if m == nil {
		return time.Time{}, errBadReply
	}
	return m.time, nil
}

// Acquire implements [webhook.Leaser]. A lease begins when the server stores it, and ends by the
// clock of the server.
func (s *Store) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, failed("acquire leases", err)
	}
	defer leave()
	a := acquiring{s: s, owner: owner}
	a.value, err = json.Marshal(leaseValue{owner, ttl})
	if err != nil {
		return nil, failed("acquire leases", err)
	}
	if a.open, err = distinct(names); err != nil {
		return nil, failed("acquire leases", err)
	}
	for range leaseRounds {
		if len(a.open) == 0 {
			break
		}
		if err := a.round(ctx); err != nil {
			return nil, failed("acquire leases", err)
		}
	}
	return a.held, nil
}

// distinct returns the names of leases, each once.
func distinct(names []string) ([]string, error) {
	seen := make(map[string]bool, len(names))
	var list []string
	for _, name := range names {
		if len(name) > maxLeaseName {
			return nil, misconfigured("the name of a lease has more than %d bytes", maxLeaseName)
		}
		if !seen[name] {
			seen[name] = true
			list = append(list, name)
		}
	}
	return list, nil
}

// acquiring is one call of Acquire.
type acquiring struct {
	s     *Store
	owner string
	value []byte

	open []string // not decided yet
	held []string
	now  time.Time // the server's time; zero until it is needed
}

// round tries to take the leases that are not decided yet.
func (a *acquiring) round(ctx context.Context) error {
	found, err := a.s.readLeases(ctx, a.open)
	if err != nil {
		return err
	}
	var names []string
	var writes []*request
	for i, name := range a.open {
		l := found[i]
		var revision uint64
		if l != nil {
			if l.Owner != a.owner {
				if a.now.IsZero() {
					if a.now, err = a.s.clock(ctx); err != nil {
						return err
					}
				}
				if !l.over(a.now) {
					continue
				}
			}
			revision = l.revision
		}
		names = append(names, name)
		header := nats.Header{headerLastSeq: {strconv.FormatUint(revision, 10)}}
		writes = append(writes, a.s.publish(a.s.leases(), a.s.leaseSubject(name), header, a.value))
	}
	a.open = nil
	if err := a.s.execute(ctx, writes); err != nil {
		return err
	}
	for i, w := range writes {
		if e := w.reply.Error; e != nil && e.isConflict() { // another process wrote it just now
			a.open = append(a.open, names[i])
			continue
		}
		if _, err := w.written(); err != nil {
			return err
		}
		a.held = append(a.held, names[i])
	}
	return nil
}

// readLeases reads leases. It returns nil for those that do not exist.
func (s *Store) readLeases(ctx context.Context, names []string) ([]*lease, error) {
	reads := make([]*request, len(names))
	for i, name := range names {
		reads[i] = s.getLast(s.leases(), s.leaseSubject(name))
	}
	if err := s.execute(ctx, reads); err != nil {
		return nil, err
	}
	list := make([]*lease, len(names))
	for i, r := range reads {
		m, err := r.found()
		if err != nil {
			return nil, err
		}
		list[i] = leaseOf(m)
	}
	return list, nil
}

// Release implements [webhook.Leaser]. It deletes the revisions that it has read, so it does not
// end a lease that another owner took meanwhile.
func (s *Store) Release(ctx context.Context, owner string, names ...string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return failed("release leases", err)
	}
	defer leave()
	return failed("release leases", s.release(ctx, owner, names))
}

func (s *Store) release(ctx context.Context, owner string, names []string) error {
	names, err := distinct(names)
	if err != nil {
		return err
	}
	found, err := s.readLeases(ctx, names)
	if err != nil {
		return err
	}
	var deletes []*request
	for _, l := range found {
		if l != nil && l.Owner == owner {
			deletes = append(deletes, s.deleteMessage(s.leases(), l.revision))
		}
	}
	return s.deleteAll(ctx, deletes)
}

// deleteAll deletes messages, some of which may be gone already.
func (s *Store) deleteAll(ctx context.Context, deletes []*request) error {
	if err := s.execute(ctx, deletes); err != nil {
		return err
	}
	for _, r := range deletes {
		if _, err := r.deleted(); err != nil {
			return err
		}
	}
	return nil
}

// Held implements [webhook.Leaser]. It also deletes leases that have been over for a minute.
func (s *Store) Held(ctx context.Context, prefix string) (map[string]string, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, failed("list leases", err)
	}
	defer leave()
	held, err := s.held(ctx, prefix)
	return held, failed("list leases", err)
}

func (s *Store) held(ctx context.Context, prefix string) (map[string]string, error) {
	subjects, err := s.subjects(ctx, s.leases(), s.leaseAll())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, subject := range subjects {
		if name, ok := decodeLease(lastToken(subject)); ok && s.leaseSubject(name) == subject {
			names = append(names, name)
		}
	}
	owners := make(map[string]string)
	if len(names) == 0 {
		return owners, nil
	}
	found, err := s.readLeases(ctx, names)
	if err != nil {
		return nil, err
	}
	now, err := s.clock(ctx)
	if err != nil {
		return nil, err
	}
	var stale []*request
	for i, l := range found {
		switch {
		case l == nil: // released just now
		case l.over(now.Add(-staleLease)):
			stale = append(stale, s.deleteMessage(s.leases(), l.revision))
		case !l.over(now) && strings.HasPrefix(names[i], prefix):
			owners[names[i]] = l.Owner
		}
	}
	if len(stale) > 0 {
		s.repair(ctx, s.leases(), func(ctx context.Context) error { return s.deleteAll(ctx, stale) })
	}
	return owners, nil
}

// Fence returns a number for a lease that owner holds. The number grows each time that any owner
// takes or renews the lease. A handler can add it to what it writes elsewhere. A database that
// refuses numbers below the highest that it has seen then refuses an owner that was frozen and has
// lost its lease. It returns an error that matches [ErrNotHeld] if owner does not hold the lease
// now.
func (s *Store) Fence(ctx context.Context, owner, name string) (uint64, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, failed("fence", err)
	}
	defer leave()
	names, err := distinct([]string{name})
	if err != nil {
		return 0, failed("fence", err)
	}
	found, err := s.readLeases(ctx, names)
	if err != nil {
		return 0, failed("fence", err)
	}
	now, err := s.clock(ctx)
	if err != nil {
		return 0, failed("fence", err)
	}
	if l := found[0]; l != nil && l.Owner == owner && !l.over(now) {
		return l.revision, nil
	}
	return 0, failed("fence", ErrNotHeld)
}
