package webhook

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/lease"
)

const (
	// entriesForPlace is how many records may be in memory for each place of WithQueueSize. A record
	// that finds no place is there without its delivery, and takes about a twentieth of a place.
	entriesForPlace = 20
	// maxInterrupted is how many attempts may end with the process before a record is parked.
	maxInterrupted = 5
	// suspectWait is how long a suspect waits if another one is being handled.
	suspectWait = 50 * time.Millisecond
	// storeWait is how long a record waits if the store fails to do what it needs.
	storeWait = time.Second
	// maxTombstones is how many records are remembered after they were settled. A feed may have read
	// one before that, and yield it later.
	maxTombstones = 8192
	// removalKept is how long a removal is remembered, for records that come into memory later.
	removalKept = time.Hour
	// maxRemembered bounds the removals, and the cut attempts of each partition, that are remembered.
	maxRemembered = 10_000
)

// durable works the records of a Store. It feeds the partitions of this process to the dispatcher,
// and writes the outcome of each record into the journal.
type durable struct {
	handlerFront

	cfg          config
	store        Store
	tx           Transactor // nil for none
	envelope     envelope
	journal      *journal
	dispatcher   *dispatch.Dispatcher
	storeCount   *storeCounters
	loader       loader
	suspectSlot  chan struct{} // full while an interrupted record is handled
	feeds        sync.WaitGroup
	feedsStopped chan struct{}   // closed when nothing more is fed
	life         context.Context //nolint:containedctx // ends when Shutdown must return
	endLife      context.CancelFunc
	stopped      chan struct{} // closed at the end of Shutdown

	mu            sync.Mutex
	shares        *lease.Shares // nil without leases
	partitions    []partition
	maxEntries    int
	starved       map[int]struct{} // partitions with skipped records whose feed is not to be restarted yet
	entries       int              // in memory, all partitions together
	used          int64            // places of deliveries in memory
	closing       bool             // Shutdown was called
	handlersDone  bool             // and has waited for handlers
	removals      map[dispatch.Key]removal
	unreported    []*entry // removed, and not reported because the store did not load them
	tombstones    [maxTombstones]tombstone
	nextTombstone int
}

// partition is the state of a partition of the store. The lock of durable guards it.
type partition struct {
	entries map[string]*entry // by the ID of the record; nil for one that has a tombstone
	tenure  *tenure           // nil while this process does not work the partition
	last    *tenure           // the last one that ended
	// unfinished counts, by lane, the records of ended tenures that are still in work. New records of
	// the lane wait for them, so that no object has two handlers.
	unfinished map[laneKey]int
	// skipped has the keys of records that were left in the store because the memory is full. No more
	// records with these keys come into memory before the feed is restarted.
	skipped map[orderKey]struct{}
	passes  uint64 // how many records feeds have passed
	// cutAttempts has records of which this process cut an attempt, by ID, with the interruptions
	// before it. The store counts one more, although this process lives.
	cutAttempts map[string]int
}

// laneKey names a lane. It is zero for a record that is in no lane.
type laneKey struct {
	orderKey

	lane event.Entity
}

// orderKey names the records that must come into memory in order: those of a portal, or its
// application events.
type orderKey struct {
	dispatch.Key

	urgent bool
}

// removal says when a portal removed the application, and when a handler reported it.
type removal struct{ at, reported time.Time }

func newDurable(h *Handler, handler event.Handler) *durable {
	cfg := h.cfg
	w := &durable{
		handlerFront: handlerFront{reporter: *h.reporter, handler: handler},
		cfg:          cfg,
		store:        cfg.store,
		envelope:     envelope{cfg.keys},
		dispatcher:   h.dispatcher,
		storeCount:   newStoreCounters(),
		suspectSlot:  make(chan struct{}, 1),
		feedsStopped: make(chan struct{}),
		stopped:      make(chan struct{}),
		partitions:   make([]partition, cfg.store.Partitions()),
		starved:      make(map[int]struct{}),
		removals:     make(map[dispatch.Key]removal),
		maxEntries:   math.MaxInt / 2,
	}
	if cfg.queueSize < math.MaxInt/2/entriesForPlace {
		w.maxEntries = entriesForPlace * int(cfg.queueSize)
	}
	w.life, w.endLife = context.WithCancel(context.Background())
	w.loader = loader{store: cfg.store, log: h.log, life: w.life}
	w.tx, _ = cfg.store.(Transactor)
	for i := range w.partitions {
		w.partitions[i] = partition{
			entries:     make(map[string]*entry),
			unfinished:  make(map[laneKey]int),
			skipped:     make(map[orderKey]struct{}),
			cutAttempts: make(map[string]int),
		}
	}
	w.journal = &journal{
		store: cfg.store, log: h.log, patience: cfg.enqueueTimeout, count: w.storeCount,
		onSettled: w.marksCommitted, onStale: w.marksAbandoned,
	}
	w.journal.start()
	return w
}

// start begins to work the partitions of this process.
func (w *durable) start() {
	switch {
	case w.cfg.receiveOnly:
	case len(w.partitions) == 1:
		w.gain(map[int]*lease.Lease{0: nil})
	default:
		w.mu.Lock() // callbacks wait until w.shares is there
		defer w.mu.Unlock()
		w.shares = lease.StartShares(w.life, lease.Config{
			Leaser: w.cfg.leaser, TTL: w.cfg.leaseTTL, Prefix: w.cfg.leasePrefix, Log: w.log.Logger,
		}, len(w.partitions), partitionWorker{w})
	}
}

// partOf returns the partition of a portal. It never changes. All records of a portal are in one
// partition, so that one process at a time makes the calls to it, which have a limit for each
// portal.
func (w *durable) partOf(key dispatch.Key) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.ClientID))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(key.MemberID))
	return int(h.Sum32() % uint32(len(w.partitions))) //nolint:gosec // there are few
}

// put stores a verified delivery, and returns when it is durable.
func (w *durable) put(d *event.Delivery, saved savedTexts, arrived time.Time) error {
	w.envelope.prepare(d)
	rec := &Record{
		Part:     w.partOf(keyOf(d)),
		Name:     label(d.Name),
		MemberID: label(d.MemberID()),
		Received: arrived.UTC().Truncate(time.Microsecond),
		delivery: d,
		saved:    saved,
	}
	rec.Data = w.envelope.seal(rec, d)
	err := w.journal.put(rec)
	if err == nil {
		w.storeCount.stored.Add(1)
	}
	return err
}

// park gives up a record that cannot be handled. d is nil if the record cannot be read.
func (w *durable) park(e *entry, rec *Record, d *event.Delivery, err error) {
	w.storeCount.parked.Add(1)
	w.storeCount.failed.Add(1)
	text := storeText(err)
	defer w.finish(e, Mark{State: StateParked, Attempts: e.failed, Interrupted: e.interrupted, Err: text})
	w.log.store(w.life, slog.LevelError, "webhook: a stored delivery cannot be handled; it is parked", err,
		slog.String(KeyEvent, plainName(rec.Name)), slog.String(KeyMemberID, memberText(rec.MemberID)), slog.String(KeyRecordID, rec.ID))
	if d != nil {
		w.report(&dispatch.Item{Delivery: d}, err)
	}
}

// wasRemovedLocked reports whether the portal of a record removed the application after the record
// was stored. A record that was stored later may be of a new installation. w.mu is held.
func (w *durable) wasRemovedLocked(rec *Record, d *event.Delivery) bool {
	if isLifecycle(d) {
		return false
	}
	r, ok := w.removals[keyOf(d)]
	return ok && rec.Received.Before(r.reported) && (r.at.IsZero() || !d.Time.After(r.at))
}

// dropRemoved drops a record of a portal that removed the application.
func (w *durable) dropRemoved(e *entry, d *event.Delivery) {
	w.storeCount.removed.Add(1)
	defer w.finish(e, Mark{State: StateDone})
	w.report(&dispatch.Item{Delivery: d}, ErrRemoved)
}

// removed drops what waits for a portal, and remembers the removal for records that are fed later.
func (w *durable) removed(clientID, memberID string, at time.Time) {
	key := dispatch.Key{ClientID: strings.Clone(clientID), MemberID: strings.Clone(memberID)}
	now := time.Now()
	w.mu.Lock()
	for other, r := range w.removals {
		if len(w.removals) >= maxRemembered || now.Sub(r.reported) > removalKept {
			delete(w.removals, other)
		}
	}
	w.removals[key] = removal{at: at, reported: now}
	var portal *openPortal
	if t := w.partitions[w.partOf(key)].tenure; t != nil {
		portal = t.portals[key]
	}
	var waiting []*entry
	if portal != nil {
		for lane, some := range portal.waiting {
			if lane.urgent {
				continue
			}
			portal.waiting[lane] = slices.DeleteFunc(some, func(e *entry) bool {
				drop := at.IsZero() || e.item.Fired <= at.Unix()
				if drop {
					waiting = append(waiting, e)
				}
				return drop
			})
		}
	}
	w.mu.Unlock()
	for _, e := range waiting {
		w.storeCount.removed.Add(1)
		if w.onDropped != nil {
			w.reportLater(e)
		} else {
			w.finish(e, Mark{State: StateDone})
		}
	}
	if portal != nil {
		portal.Remove(at)
	}
}
