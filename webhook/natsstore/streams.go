package natsstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/b24events/b24events/internal/timing"
)

const (
	// dedupWindow is how long the server remembers the IDs of pending records. Commit retries only for
	// a part of that time. Each ID takes about 150 bytes of the server's memory.
	dedupWindow = 30 * time.Second
	// ensureTries is how often New looks for a stream that another process may be making.
	ensureTries = 10
	// minDedupWindow is the shortest window that an existing stream may have.
	minDedupWindow = 5 * time.Second
)

// layout names the streams and the subjects of a store.
//
//	stream        subjects                        message
//	NAME          NAME.in.PARTITIONS.PARTITION    a pending record
//	NAME-marks    NAME.mark.PARTITION.ID          the counters of a pending record
//	NAME-parked   NAME.parked.PARTITION.ID        a parked record
//	NAME-done     NAME.done.PARTITION.ID          a record that is kept
//	NAME-leases   NAME.lease.LEASE, NAME.clock    a lease; the server's clock
//
// The number of partitions is part of the subjects of pending records. So it cannot change
// unnoticed on any version of the server, and a process with another number cannot write.
type layout struct {
	name  string
	parts int
}

func (l layout) pending() string { return l.name }
func (l layout) marks() string   { return l.name + "-marks" }
func (l layout) parked() string  { return l.name + "-parked" }
func (l layout) done() string    { return l.name + "-done" }
func (l layout) leases() string  { return l.name + "-leases" }

func (l layout) inAll() string { return l.name + ".in." + strconv.Itoa(l.parts) + ".*" }
func (l layout) in(part int) string {
	return l.name + ".in." + strconv.Itoa(l.parts) + "." + strconv.Itoa(part)
}

func (l layout) markSubject(id recordID) string {
	return l.name + ".mark." + strconv.Itoa(id.part) + "." + id.String()
}
func (l layout) markAll(part int) string { return l.name + ".mark." + strconv.Itoa(part) + ".*" }

func (l layout) clockSubject() string { return l.name + ".clock" }
func (l layout) leaseAll() string     { return l.name + ".lease.*" }
func (l layout) leaseSubject(name string) string {
	return l.name + ".lease." + encodeLease(name)
}

// encodeLease turns the name of a lease into a token of a subject.
func encodeLease(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func decodeLease(token string) (string, bool) {
	token, ok := strings.CutPrefix(token, "n")
	name, err := base64.RawURLEncoding.DecodeString(token)
	return string(name), ok && err == nil
}

// archive is a stream of settled records.
type archive struct {
	stream string
	prefix string // of its subjects
}

func (l layout) archiveParked() archive { return archive{l.parked(), l.name + ".parked."} }
func (l layout) archiveDone() archive   { return archive{l.done(), l.name + ".done."} }

func (a archive) all() string          { return a.prefix + "*.*" }
func (a archive) part(part int) string { return a.prefix + strconv.Itoa(part) + ".*" }
func (a archive) subject(id recordID) string {
	return a.prefix + strconv.Itoa(id.part) + "." + id.String()
}

// lastToken returns the last token of a subject, which is an ID, a partition or a lease.
func lastToken(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// partOf returns the partition of the subject of a pending record.
func (l layout) partOf(subject string) (int, bool) {
	part, err := strconv.Atoi(lastToken(subject))
	return part, err == nil && part >= 0 && part < l.parts && subject == l.in(part)
}

// setUp makes the streams, or checks those that exist. It sets the number of partitions.
func (s *Store) setUp(ctx context.Context, js jetstream.JetStream, c config) error {
	if err := s.findPartitions(ctx, js, c); err != nil {
		return err
	}
	for _, want := range s.streams(c) {
		have, err := ensure(ctx, js, want)
		if err != nil {
			return err
		}
		if err := checkStream(have.CachedInfo().Config, want); err != nil {
			return err
		}
		if err := s.applyLimits(ctx, js, have.CachedInfo().Config, want, c); err != nil {
			return err
		}
	}
	st, err := js.Stream(ctx, s.pending())
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.pending(), err)
	}
	info := st.CachedInfo()
	s.created = info.Created
	s.note(info.Config)
	return nil
}

// findPartitions sets the number of partitions to that of the existing stream, or to the configured
// number.
func (s *Store) findPartitions(ctx context.Context, js jetstream.JetStream, c config) error {
	s.parts = DefaultPartitions
	if c.partitions > 0 {
		s.parts = c.partitions
	}
	st, err := js.Stream(ctx, s.pending())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stream %s: %w", s.pending(), err)
	}
	n, ok := partitionsOf(s.name, st.CachedInfo().Config.Subjects)
	switch {
	case !ok:
		return misconfigured("the stream %s exists, and its subjects are not those of a store; choose another name with WithName",
			s.pending())
	case c.partitions > 0 && n != c.partitions:
		return misconfigured("the stream %s has %d partitions, which cannot change while records are pending, and the program wants %d: "+
			"use WithPartitions(%d) or omit the option; to change the number, wait until the store is empty and delete the stream",
			s.pending(), n, c.partitions, n)
	}
	s.parts = n
	return nil
}

// partitionsOf reads the number of partitions from the subjects of the stream of pending records.
func partitionsOf(name string, subjects []string) (int, bool) {
	if len(subjects) != 1 {
		return 0, false
	}
	rest, ok := strings.CutPrefix(subjects[0], name+".in.")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSuffix(rest, ".*"))
	if err != nil || n < MinPartitions || n > MaxPartitions {
		return 0, false
	}
	return n, layout{name, n}.inAll() == subjects[0]
}

// streams returns the required configuration of the store's streams.
func (s *Store) streams(c config) []jetstream.StreamConfig {
	stream := func(name, what string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Description: "b24events: " + what, Subjects: subjects, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: max(1, c.replicas),
			MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
		}
	}
	pending := stream(s.pending(), "pending records", s.inAll())
	pending.Duplicates, pending.MaxMsgs = dedupWindow, DefaultMaxPending
	if c.maxPending > 0 {
		pending.MaxMsgs = c.maxPending
	}
	if c.maxBytes > 0 {
		pending.MaxBytes = c.maxBytes
	}
	marks := stream(s.marks(), "counters of pending records", s.name+".mark.*.*")
	marks.MaxMsgsPerSubject = 1
	leases := stream(s.leases(), "leases of partitions", s.leaseAll(), s.clockSubject())
	leases.MaxMsgsPerSubject = 1
	list := []jetstream.StreamConfig{pending, marks, stream(s.parked(), "parked records", s.archiveParked().all()), leases}
	if c.keep > 0 {
		done := stream(s.done(), "records that are done", s.archiveDone().all())
		done.MaxAge = c.keep
		list = append(list, done)
	}
	return list
}

// ensure returns the stream, and makes it if it does not exist. If another process makes it at the
// same time, the server refuses the second stream with errors that depend on its version.
func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	var made error
	for range ensureTries {
		st, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			st, err = js.CreateStream(ctx, want)
			made = err
		}
		if err == nil {
			return st, nil
		}
		api, ok := errors.AsType[*jetstream.APIError](err)
		if !ok || api.ErrorCode != codeNameInUse && api.ErrorCode != codeSubjectsOverlap {
			return nil, fmt.Errorf("stream %s: %w", want.Name, err)
		}
		if timing.Sleep(ctx, minRetry) != nil {
			return nil, fmt.Errorf("stream %s: %w", want.Name, context.Cause(ctx))
		}
	}
	return nil, misconfigured("the stream %s cannot be made: %v; choose another name with WithName", want.Name, made)
}

// checkStream refuses a stream with which the store would lose records, or their order.
func checkStream(have, want jetstream.StreamConfig) error {
	refuse := func(field string, is, wants any, why string) error {
		return misconfigured("the stream %s has %s %v, and the store needs %v: %s; change the stream or choose another name with WithName",
			want.Name, field, is, wants, why)
	}
	isDone := want.MaxAge > 0
	switch {
	case have.Retention != want.Retention:
		return refuse("retention", have.Retention, want.Retention, "other policies delete records that a consumer has seen")
	case have.Storage != want.Storage:
		return refuse("storage", have.Storage, want.Storage, "a restart of the server would lose all records")
	case have.PersistMode != want.PersistMode:
		return refuse("persist_mode", have.PersistMode, want.PersistMode, "the server would acknowledge records before it writes them")
	case len(have.Subjects) != len(want.Subjects) || strings.Join(have.Subjects, " ") != strings.Join(want.Subjects, " "):
		return refuse("subjects", have.Subjects, want.Subjects, "records would go elsewhere")
	case have.Mirror != nil || len(have.Sources) > 0:
		return refuse("mirror or sources", "set", "none", "the records of another stream would come in")
	case have.SubjectTransform != nil:
		return refuse("subject_transform", "set", "none", "records would go elsewhere")
	case have.NoAck:
		return refuse("no_ack", true, false, "the server would not acknowledge records")
	case have.Sealed:
		return refuse("sealed", true, false, "nothing can be stored or deleted")
	case have.DenyDelete:
		return refuse("deny_delete", true, false, "the store must delete records that are done")
	case have.MaxConsumers > 0:
		return refuse("max_consumers", have.MaxConsumers, -1, "each partition needs a consumer")
	case have.Discard != want.Discard && !isDone:
		return refuse("discard", have.Discard, want.Discard, "new records would push out old ones")
	case have.MaxAge != 0 && !isDone:
		return refuse("max_age", have.MaxAge, 0, "records would be lost after it")
	case max(0, have.MaxMsgsPerSubject) != max(0, want.MaxMsgsPerSubject):
		return refuse("max_msgs_per_subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject, "it decides which messages replace others")
	case want.Duplicates > 0 && have.Duplicates < minDedupWindow:
		return refuse("duplicate_window", have.Duplicates, minDedupWindow.String()+" or more",
			"a repeated Commit would store records twice")
	case have.Replicas < want.Replicas:
		return refuse("num_replicas", have.Replicas, want.Replicas, "WithReplicas asks for more")
	default:
		return nil
	}
}

// applyLimits changes the limits of an existing stream to those of the options.
func (s *Store) applyLimits(ctx context.Context, js jetstream.JetStream, have, want jetstream.StreamConfig, c config) error {
	changed := have
	switch want.Name {
	case s.pending():
		if c.maxPending > 0 {
			changed.MaxMsgs = c.maxPending
		}
		if c.maxBytes > 0 {
			changed.MaxBytes = c.maxBytes
		}
	case s.done():
		changed.MaxAge = c.keep
		changed.Duplicates = min(changed.Duplicates, changed.MaxAge)
	}
	if changed.MaxMsgs == have.MaxMsgs && changed.MaxBytes == have.MaxBytes && changed.MaxAge == have.MaxAge {
		return nil
	}
	if _, err := js.UpdateStream(ctx, changed); err != nil {
		return fmt.Errorf("limits of the stream %s: %w", want.Name, err)
	}
	return nil
}

// adopt notes the present state of the stream of pending records. It reports whether it is still
// the same stream. Otherwise somebody deleted it and made it again.
func (s *Store) adopt(info *streamInfo) (same bool, err error) {
	s.mu.Lock()
	same = info.Created.Equal(s.created)
	s.mu.Unlock()
	if same {
		s.note(info.Config)
		return true, nil
	}
	if n, ok := partitionsOf(s.name, info.Config.Subjects); !ok || n != s.parts {
		return false, fmt.Errorf("%w and made again with other subjects; open the store again", ErrNoStream)
	}
	if err := checkStream(info.Config, s.streams(config{})[0]); err != nil {
		return false, err
	}
	s.mu.Lock()
	s.created = info.Created
	s.doubtLocked()
	s.mu.Unlock()
	s.note(info.Config)
	return false, nil
}

// note keeps the limits of the stream, which decide which records can never be stored.
func (s *Store) note(c jetstream.StreamConfig) {
	limit := int64(0)
	if n := int64(c.MaxMsgSize); n > 0 {
		limit = n
	}
	if n := c.MaxBytes; n > 0 && (limit == 0 || n < limit) {
		limit = n
	}
	s.maxMessage.Store(limit)
	s.window.Store(int64(c.Duplicates))
}
