package webhook

import (
	"context"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/lease"
)

const (
	// entriesForPlace is how many records may be in memory for each place of WithQueueSize. Those
	// that find no place are there without their delivery, and take about a twentieth of it.
	entriesForPlace = 20
	// maxInterrupted is after how many attempts that ended with the process a record is parked.
	maxInterrupted = 5
	// suspectWait is how long a record waits for another that was interrupted too.
	suspectWait = 50 * time.Millisecond
	// storeWait is how long a record waits if the store does not do what it needs.
	storeWait = time.Second
	// handOverWait is how long handlers may go on after their partition is to be another's, and then
	// once more after their contexts have ended.
	handOverWait = 3 * time.Second
	// stuckWait is how long a partition that came back waits for handlers of its last stay.
	stuckWait = 10 * time.Second
	// tombs is how many records are remembered after they were settled. A feed that read one before
	// that may yield it later.
	tombs = 8192
	// Waits after a feed that failed. Each is twice the last.
	minFeedWait = 250 * time.Millisecond
	maxFeedWait = 5 * time.Second
)

// durable works what a Store keeps: it feeds the partitions of this process to the dispatcher, and
// writes what becomes of each record into the journal.
type durable struct {
	handling

	cfg        config
	store      Store
	tx         Transactor // nil for none
	envelope   envelope
	journal    *journal
	dispatcher *dispatch.Dispatcher
	numbers    *storeCounters
	loader     loader
	suspect    chan struct{} // full while an interrupted record is handled
	shares     *lease.Shares // nil without leases
	feeds      sync.WaitGroup
	over       chan struct{} // closed at the end of Shutdown

	mu         sync.Mutex
	room       *sync.Cond // entries were forgotten, or a tenure ended
	partitions []partition
	entries    int   // in memory, all partitions together
	used       int64 // places of deliveries in memory
	closing    bool
	tombs      [tombs]tomb
	tombNext   int
}

// partition is a part of the store. The lock of durable guards it.
type partition struct {
	entries map[string]*entry // by the ID of the record; nil for one that was settled lately
	tenure  *tenure           // nil while the partition is not this process's
	last    *tenure           // the one before
}

// tomb is the place of a record that was settled.
type tomb struct {
	part int
	id   string
}

// tenure is one stay of a partition with this process.
type tenure struct {
	w     *durable
	part  int
	lease *lease.Lease // nil if the store has one partition

	feeding context.Context //nolint:containedctx // ends with the tenure
	stop    context.CancelCauseFunc

	// The lock of durable guards what follows.
	portals map[dispatch.Key]*openPortal
	entries int // in memory
	ended   bool
	rested  chan struct{} // closed once the tenure has ended and nothing of it is in memory
	again   func()        // ends the feed that is under way, so that another begins
	failed  error         // of the feed
}

// openPortal is a portal of which records are in memory.
type openPortal struct {
	*dispatch.Portal

	key     dispatch.Key
	entries int
	held    int64 // places
}

// entry is a record in memory.
type entry struct {
	item        dispatch.Item
	id          string
	tenure      *tenure
	portal      *openPortal // nil before it is given to the dispatcher
	cost        int64       // places of its delivery
	held        bool        // it has them
	failed      int         // attempts
	interrupted int
	recovered   bool
	suspect     bool          // it was interrupted: it is handled alone
	begun       chan struct{} // closed when the store knows that an attempt begins; nil before
	finished    bool          // its last mark is on its way
	skipped     bool          // a feed yielded it again
}

func newDurable(h *Handler, handler event.Handler) *durable {
	cfg := h.cfg
	w := &durable{
		handling: handling{account: *h.account, handler: handler}, cfg: cfg, store: cfg.store, envelope: envelope{cfg.keys},
		dispatcher: h.dispatcher, numbers: newStoreCounters(), suspect: make(chan struct{}, 1), over: make(chan struct{}),
		partitions: make([]partition, cfg.store.Partitions()),
	}
	w.room = sync.NewCond(&w.mu)
	w.tx, _ = cfg.store.(Transactor)
	w.loader = loader{store: cfg.store}
	w.journal = newJournal(cfg.store, h.log, cfg.enqueueTimeout, w.numbers, w.settled)
	for i := range w.partitions {
		w.partitions[i].entries = make(map[string]*entry)
	}
	return w
}

// start takes the partitions that are this process's.
func (w *durable) start() {
	switch {
	case w.cfg.receiveOnly:
	case len(w.partitions) == 1:
		w.gain(map[int]*lease.Lease{0: nil})
	default:
		w.shares = lease.StartShares(context.Background(), lease.Config{
			Leaser: w.cfg.leaser, TTL: w.cfg.leaseTTL, Prefix: w.cfg.leasePrefix, Log: w.log.Logger,
		}, len(w.partitions), partitionWorker{w})
	}
}

// partOf returns the partition of a portal. It never changes. All records of a portal are in one
// partition, so that one process at a time makes its calls, which have a limit for each portal.
func (w *durable) partOf(key dispatch.Key) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.ClientID))
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(key.MemberID))
	return int(h.Sum32() % uint32(len(w.partitions))) //nolint:gosec // there are few
}

// put stores a verified delivery.
func (w *durable) put(d *event.Delivery, arrived time.Time) error {
	w.envelope.prepare(d)
	rec := &Record{
		Part: w.partOf(keyOf(d)), Name: label(d.Name), MemberID: label(d.MemberID()), Received: arrived.UTC().Truncate(time.Microsecond),
		Data: w.envelope.seal(d), delivery: d,
	}
	err := w.journal.put(rec)
	if err == nil {
		w.numbers.stored.Add(1)
	}
	return err
}

// partitionWorker is what the leases of partitions call.
type partitionWorker struct{ *durable }

// Gained implements [lease.Worker], as the next three do.
func (w partitionWorker) Gained(parts map[int]*lease.Lease) {
	w.gain(parts)
	w.log.store(slog.LevelInfo, "webhook: took partitions of the store", nil, slog.Int(KeyPartitions, len(parts)))
}

// Leave hands partitions over.
func (w partitionWorker) Leave(parts []int) {
	for _, part := range parts {
		t := w.endTenure(part, ErrLeaseLost)
		go w.handOver(part, t)
	}
}

// Lost ends the work on partitions at once.
func (w partitionWorker) Lost(parts []int) {
	for _, part := range parts {
		if t := w.endTenure(part, ErrLeaseLost); t != nil {
			w.cancel(t, ErrLeaseLost)
		}
	}
	w.log.store(slog.LevelWarn, "webhook: leases of partitions were lost", nil, slog.Int(KeyPartitions, len(parts)))
}

// Noted does nothing: there are no notes.
func (partitionWorker) Noted(string) {}

// gain begins tenures.
func (w *durable) gain(parts map[int]*lease.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for part, l := range parts {
		w.beginLocked(part, l)
	}
}

// beginLocked begins a tenure. w.mu is held.
func (w *durable) beginLocked(part int, l *lease.Lease) {
	if w.closing {
		return
	}
	p := &w.partitions[part]
	t := &tenure{w: w, part: part, lease: l, portals: make(map[dispatch.Key]*openPortal), rested: make(chan struct{})}
	t.feeding, t.stop = context.WithCancelCause(context.Background())
	t.again = func() {}
	p.tenure = t
	before := p.last
	w.feeds.Go(func() { t.run(before) })
}

// endTenure ends the tenure of a partition: nothing more is fed, and what waits in memory is
// forgotten. What runs goes on. It returns the tenure, the last one if that has ended before, and
// nil if there was none.
func (w *durable) endTenure(part int, cause error) *tenure {
	w.mu.Lock()
	p := &w.partitions[part]
	t := p.tenure
	if t == nil {
		defer w.mu.Unlock()
		return p.last
	}
	p.tenure, p.last = nil, t
	t.ended = true
	t.restLocked()
	portals := slices.Collect(maps.Values(t.portals))
	w.room.Broadcast()
	w.mu.Unlock()
	t.stop(cause)
	for _, portal := range portals {
		portal.Stop(cause)
	}
	return t
}

// cancel ends the contexts of the handlers of a tenure that has ended.
func (w *durable) cancel(t *tenure, cause error) {
	w.mu.Lock()
	portals := slices.Collect(maps.Values(t.portals))
	w.mu.Unlock()
	for _, portal := range portals {
		portal.Cancel(cause)
	}
}

// restLocked announces that nothing of the tenure is in memory, if so. w.mu is held.
func (t *tenure) restLocked() {
	if t.ended && t.entries == 0 {
		select {
		case <-t.rested:
		default:
			close(t.rested)
		}
	}
}

// handOver gives a partition to another process once nothing of a tenure, which has ended, is in
// memory. If a handler does not end although its context has, the process goes on with the rest of
// the partition instead.
func (w *durable) handOver(part int, t *tenure) {
	if t == nil || waitFor(t.rested, handOverWait) {
		w.rest(part, t)
		return
	}
	w.mu.Lock()
	closing := w.closing
	w.mu.Unlock()
	if !closing { // Shutdown gives handlers the time that they need
		w.cancel(t, ErrLeaseLost)
		if !waitFor(t.rested, handOverWait) && w.takeBack(part, t) {
			if w.await(t.rested) {
				w.shares.Unpin(part)
			}
			return
		}
	}
	if w.await(t.rested) {
		w.rest(part, t)
	}
}

// rest reports that nothing of a partition is in memory, unless another tenure has begun.
func (w *durable) rest(part int, t *tenure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := &w.partitions[part]; p.tenure == nil && p.last == t {
		w.shares.Rest(part)
	}
}

// takeBack begins another tenure of a partition that was to be another's, and reports whether it
// could.
func (w *durable) takeBack(part int, t *tenure) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &w.partitions[part]
	if w.closing || p.tenure != nil || p.last != t || !w.shares.TakeBack(part) {
		return false
	}
	w.beginLocked(part, t.lease)
	return true
}

// await waits for a signal, and reports whether it came before the end of Shutdown.
func (w *durable) await(signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	case <-w.over:
		return false
	}
}

// waitFor waits for a signal, and reports whether it came in time.
func waitFor(signal <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-signal:
		return true
	case <-timer.C:
		return false
	}
}

// run feeds a partition until the tenure ends.
func (t *tenure) run(before *tenure) {
	if before != nil { // one at a time of each object, as far as handlers end when they are told to
		select {
		case <-before.rested:
		case <-t.feeding.Done():
		case <-time.After(stuckWait):
		}
	}
	for wait := minFeedWait; t.feeding.Err() == nil; {
		began := time.Now()
		err := dispatch.Guard(t.feed)
		if t.feeding.Err() != nil {
			return
		}
		t.w.mu.Lock()
		t.failed = err
		t.w.mu.Unlock()
		if err == nil { // to begin anew
			continue
		}
		if time.Since(began) > maxFeedWait {
			wait = minFeedWait
		}
		t.w.log.store(slog.LevelWarn, "webhook: the store does not feed a partition, trying again", err,
			slog.Int(KeyPartition, t.part), slog.String(KeyWait, wait.String()))
		select {
		case <-time.After(wait):
		case <-t.feeding.Done():
		}
		wait = min(2*wait, maxFeedWait)
	}
}

// feed takes the records of a partition from the store into memory, those that are there and those
// that come. It returns nil if it has to begin anew, or if the tenure ended.
func (t *tenure) feed() error {
	ctx, again := context.WithCancel(t.feeding)
	defer again()
	t.w.mu.Lock()
	t.again = again
	t.w.mu.Unlock()
	well := time.AfterFunc(maxFeedWait, t.feedsWell) // it may have nothing to yield
	defer well.Stop()
	for rec, err := range t.w.store.Feed(ctx, t.part) {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !t.offer(rec) || ctx.Err() != nil {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errFeedEnded
}

// feedsWell notes that the feed works.
func (t *tenure) feedsWell() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.failed = nil
}

// offer takes a record into memory, once there is room. It reports whether the feed goes on.
func (t *tenure) offer(rec *Record) bool {
	w := t.w
	p := &w.partitions[t.part]
	w.mu.Lock()
	t.failed = nil
	if old, known := p.entries[rec.ID]; known {
		if old != nil {
			old.skipped = true
		}
		w.mu.Unlock()
		return true
	}
	for w.entries >= entriesForPlace*int(w.cfg.queueSize) && !t.ended {
		w.room.Wait()
	}
	if t.ended {
		w.mu.Unlock()
		return false
	}
	e := &entry{
		id: rec.ID, tenure: t, failed: rec.Attempts, interrupted: rec.Interrupted, recovered: rec.Recovered,
		suspect: rec.Recovered && rec.Interrupted > 0,
	}
	p.entries[rec.ID] = e
	w.entries++
	t.entries++
	w.mu.Unlock()
	if rec.Recovered {
		w.numbers.recovered.Add(1)
	}
	d, err := rec.delivery, error(nil)
	rec.delivery = nil // the store may keep the record
	if d == nil {
		d, err = w.envelope.open(rec.Data)
	}
	switch {
	case err != nil:
		w.park(e, rec, err)
	case e.interrupted >= maxInterrupted:
		w.park(e, rec, errInterrupted)
	default:
		w.add(e, rec, d)
	}
	return true
}

// park gives up a record that is not handled.
func (w *durable) park(e *entry, rec *Record, err error) {
	w.numbers.parked.Add(1)
	w.log.store(slog.LevelError, "webhook: a stored delivery cannot be handled; it is parked", err,
		slog.String(KeyEvent, plainName(rec.Name)), slog.String(KeyMemberID, memberText(rec.MemberID)), slog.String(KeyRecordID, rec.ID))
	w.finish(e, Mark{State: StateParked, Attempts: e.failed, Interrupted: e.interrupted, Err: storeText(err)})
}

// add gives a record to the dispatcher.
func (w *durable) add(e *entry, rec *Record, d *event.Delivery) {
	e.item = *newItem(&w.cfg, d, rec.Received)
	it := &e.item
	it.Front, it.Attempts, it.Due, e.cost = e, rec.Attempts, rec.Due, it.Cost
	if !d.Time.IsZero() {
		it.Fired = d.Time.Unix()
	}
	key := keyOf(d)
	w.mu.Lock()
	t := e.tenure
	if t.ended {
		w.mu.Unlock()
		w.cut(e)
		return
	}
	portal := t.portals[key]
	if portal == nil {
		key = dispatch.Key{ClientID: strings.Clone(key.ClientID), MemberID: strings.Clone(key.MemberID)}
		portal = &openPortal{key: key}
		portal.Portal = w.dispatcher.Open(key, dispatch.PortalOptions{
			Front: w, Limit: w.cfg.portalWorkers, Misfits: w.misfits, Removal: w.removed, Intake: t.feeding,
		})
		t.portals[key] = portal
	}
	portal.entries++
	e.portal = portal
	if !w.holdLocked(e, false) { // its texts are parts of the delivery
		it.Delivery, it.Lane.ID, it.Merge = nil, strings.Clone(it.Lane.ID), strings.Clone(it.Merge)
	}
	w.mu.Unlock()
	portal.Add(it)
}

// holdLocked charges the delivery of an entry, if there is room for it or it must be there. A portal
// has no more than three times what is free. w.mu is held.
func (w *durable) holdLocked(e *entry, must bool) bool {
	free := w.cfg.queueSize - w.used - e.cost
	p := e.portal
	if !must && (free < 0 || p.held > 0 && p.held+e.cost > 3*free) {
		return false
	}
	w.used += e.cost
	p.held += e.cost
	e.held = true
	return true
}

// letGoLocked gives back what the delivery of an entry holds. w.mu is held.
func (w *durable) letGoLocked(e *entry) {
	if e.held {
		w.used -= e.cost
		e.portal.held -= e.cost
		e.held = false
	}
}

// removed drops what waits for a portal.
func (w *durable) removed(clientID, memberID string, at time.Time) {
	key := dispatch.Key{ClientID: clientID, MemberID: memberID}
	w.mu.Lock()
	var portal *openPortal
	if t := w.partitions[w.partOf(key)].tenure; t != nil {
		portal = t.portals[key]
	}
	w.mu.Unlock()
	if portal != nil {
		portal.Remove(at)
	}
}

// finish writes the last mark of an entry. The entry is forgotten when that is durable.
func (w *durable) finish(e *entry, m Mark) {
	w.leave(e)
	m.Part, m.ID = e.tenure.part, e.id
	w.journal.mark(marking{Mark: m, e: e})
}

// leave takes an entry off its portal.
func (w *durable) leave(e *entry) {
	w.mu.Lock()
	e.finished = true
	p := e.portal
	if p == nil {
		w.mu.Unlock()
		return
	}
	w.letGoLocked(e)
	e.item.Delivery = nil
	e.portal = nil
	p.entries--
	last := p.entries == 0
	if last && e.tenure.portals[p.key] == p {
		delete(e.tenure.portals, p.key)
	}
	w.mu.Unlock()
	if last {
		p.Close()
	}
}

// settled takes in marks that are durable.
func (w *durable) settled(marks []marking) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range marks {
		if m.begun != nil {
			close(m.begun)
		}
		if m.State != StatePending {
			w.forgetLocked(m.e, true)
		}
	}
	w.room.Broadcast()
}

// forgetLocked removes an entry from memory. A record that was settled is remembered for a while,
// because a feed may have read it before. w.mu is held.
func (w *durable) forgetLocked(e *entry, settled bool) {
	t := e.tenure
	entries := w.partitions[t.part].entries
	if settled {
		entries[e.id] = nil
		old := &w.tombs[w.tombNext]
		if old.id != "" {
			if at, there := w.partitions[old.part].entries[old.id]; there && at == nil {
				delete(w.partitions[old.part].entries, old.id)
			}
		}
		*old = tomb{part: t.part, id: e.id}
		w.tombNext = (w.tombNext + 1) % tombs
	} else {
		delete(entries, e.id)
		if now := w.partitions[t.part].tenure; e.skipped && now != nil {
			now.again()
		}
	}
	w.entries--
	t.entries--
	t.restLocked()
}
