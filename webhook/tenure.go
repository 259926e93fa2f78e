package webhook

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/lease"
	"github.com/b24events/b24events/internal/timing"
)

const (
	// handOverWait is how long handlers may go on after another process is to have their partition,
	// and then once more after their contexts have ended.
	handOverWait = 3 * time.Second
	// minFeedWait and maxFeedWait bound the waits after a failed feed. Each wait is twice the last.
	minFeedWait = 250 * time.Millisecond
	maxFeedWait = 5 * time.Second
	// minRestartWait and maxRestartWait are the waits between two feeds of a partition if a feed is
	// restarted because records were left in the store.
	minRestartWait = 100 * time.Millisecond
	maxRestartWait = time.Second
	// readOnInterval is the time between two feeds that read on to the end, although they leave what
	// they read in the store. It is longer if such a feed takes long, so that other feeds have two
	// thirds of the time. The others end after twice as many records as may be in memory.
	readOnInterval = 3 * time.Second
	// maxReadPause is the longest pause between two records of a store that is still reading. A feed
	// may read on for maxReadOn.
	maxReadPause = 5 * time.Second
	maxReadOn    = 10 * time.Minute
)

// tenure is one period in which this process works a partition. The lock of durable guards it.
type tenure struct {
	w     *durable
	part  int
	lease *lease.Lease // nil if the store has one partition

	feeding context.Context //nolint:containedctx // ends with the tenure
	stop    context.CancelCauseFunc

	portals      map[dispatch.Key]*openPortal
	entries      int // in memory
	ended        bool
	before       *tenure       // the previous one, if it was not drained when this one began
	after        *tenure       // the next one, if this one was not drained when that began
	drained      chan struct{} // closed once the tenure has ended and nothing of it, or of one before, is in memory
	restart      func()        // ends the feed that is under way, so that another begins
	feedBegan    time.Time     // when the feed began
	lastRead     time.Time     // when the feed last yielded a record that is older than itself; zero if it has not
	restartTimer *time.Timer   // restarts the feed; nil if nothing was left in the store
	restartAt    time.Time     // when restartTimer fires
	skipped      int           // records that the feed left in the store
	caughtUp     bool          // the feed has yielded all records that are older than itself
	readsOn      bool          // the feed reads on to the end, and has not come there
	readOnAt     time.Time     // when another feed may read on
	failed       error         // of the feed; nil if it works
}

// partitionWorker implements [lease.Worker]: it begins and ends tenures.
type partitionWorker struct{ *durable }

// Gained begins the work on partitions.
func (w partitionWorker) Gained(parts map[int]*lease.Lease) {
	w.gain(parts)
	w.log.store(w.life, slog.LevelInfo, "webhook: took partitions of the store", nil, slog.Int(KeyPartitions, len(parts)))
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
	w.log.store(w.life, slog.LevelWarn, "webhook: leases of partitions were lost", nil, slog.Int(KeyPartitions, len(parts)))
}

// Noted does nothing, because nobody leaves notes.
func (partitionWorker) Noted(string) {}

// gain begins tenures.
func (w *durable) gain(parts map[int]*lease.Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for part, l := range parts {
		w.beginTenureLocked(part, l)
	}
}

// beginTenureLocked begins a tenure of a partition, with its lease. w.mu is held.
func (w *durable) beginTenureLocked(part int, l *lease.Lease) {
	if w.closing {
		return
	}
	t := &tenure{
		w: w, part: part, lease: l, portals: make(map[dispatch.Key]*openPortal), drained: make(chan struct{}), restart: func() {},
		readOnAt: time.Now().Add(readOnInterval),
	}
	t.feeding, t.stop = context.WithCancelCause(context.Background())
	p := &w.partitions[part]
	if p.last != nil && !p.last.isDrained() {
		t.before, p.last.after = p.last, t
	}
	p.tenure = t
	w.feeds.Go(t.run)
}

// endTenure ends the tenure of a partition. Nothing more is fed, and records that wait leave
// memory. What runs goes on. It returns the tenure. If that has ended before, it returns the last
// one, and nil if there was none.
func (w *durable) endTenure(part int, cause error) *tenure {
	t, empty := w.stopTenure(part, cause)
	empty()
	return t
}

// stopTenure is the part of endTenure that takes no time. Nothing of the tenure begins afterwards.
// The function empty removes from memory what waits there.
func (w *durable) stopTenure(part int, cause error) (t *tenure, empty func()) {
	w.mu.Lock()
	p := &w.partitions[part]
	t = p.tenure
	if t == nil {
		defer w.mu.Unlock()
		return p.last, func() {}
	}
	p.tenure, p.last = nil, t
	t.ended = true
	t.announceDrainedLocked()
	portals := slices.Collect(maps.Values(t.portals))
	var waiting []*entry
	for _, portal := range portals {
		for _, some := range portal.waiting {
			waiting = append(waiting, some...)
		}
		portal.waiting = nil
	}
	for _, e := range p.entries {
		if e != nil && e.tenure == t && e.portal != nil && e.lane != (laneKey{}) {
			p.unfinished[e.lane]++
		}
	}
	w.mu.Unlock()
	t.stop(cause)
	return t, func() {
		for _, e := range waiting {
			w.cut(e)
		}
		for _, portal := range portals {
			portal.Stop(cause)
		}
	}
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

// announceDrainedLocked closes drained of the tenure, and of those after it, if nothing of them is
// in memory. w.mu is held.
func (t *tenure) announceDrainedLocked() {
	for ; t != nil && t.ended && t.entries == 0 && !t.isDrained() && (t.before == nil || t.before.isDrained()); t = t.after {
		close(t.drained)
	}
}

// isDrained reports whether nothing of the tenure, or of one before, is in memory any more.
func (t *tenure) isDrained() bool {
	select {
	case <-t.drained:
		return true
	default:
		return false
	}
}

// handOver gives a partition to another process once nothing of a tenure, which has ended, is in
// memory. If a handler does not end although its context has, this process takes the partition back
// instead, and goes on with the other records.
func (w *durable) handOver(part int, t *tenure) {
	if t == nil || timing.Await(t.drained, handOverWait) {
		w.reportDrained(part, t)
		return
	}
	w.mu.Lock()
	closing := w.closing
	w.mu.Unlock()
	if !closing { // Shutdown gives handlers the time that they need
		w.cancel(t, ErrLeaseLost)
		if !timing.Await(t.drained, handOverWait) && w.takeBack(part, t) {
			return
		}
	}
	if w.await(t.drained) {
		w.reportDrained(part, t)
	}
}

// reportDrained reports to the leases that nothing of a partition is in memory, unless another
// tenure has begun.
func (w *durable) reportDrained(part int, t *tenure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := &w.partitions[part]; p.tenure == nil && p.last == t {
		w.shares.Rest(part)
	}
}

// takeBack begins another tenure of a partition that another process was to have, and reports
// whether it could. Once nothing of the old tenure is in memory, the partition may be asked for
// again.
func (w *durable) takeBack(part int, t *tenure) bool {
	w.mu.Lock()
	p := &w.partitions[part]
	if w.closing || p.tenure != nil || p.last != t || !w.shares.TakeBack(part) {
		w.mu.Unlock()
		return false
	}
	w.beginTenureLocked(part, t.lease)
	shares := w.shares
	w.mu.Unlock()
	if w.await(t.drained) {
		shares.Unpin(part)
	}
	return true
}

// await waits for a signal. It reports false if Shutdown ends first.
func (w *durable) await(signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	case <-w.stopped:
		return false
	}
}

// run feeds a partition until the tenure ends.
func (t *tenure) run() {
	var logged time.Time
	for wait := minFeedWait; t.feeding.Err() == nil; {
		began := time.Now()
		err := protect(t.feed)
		if t.feeding.Err() != nil {
			return
		}
		t.w.mu.Lock()
		t.failed = err
		t.w.mu.Unlock()
		if err == nil { // the feed was restarted
			continue
		}
		if time.Since(began) > maxFeedWait {
			wait = minFeedWait
		}
		if time.Since(logged) >= repeatLog {
			logged = time.Now()
			t.w.log.store(t.feeding, slog.LevelWarn, "webhook: the store does not feed a partition, trying again", err,
				slog.Int(KeyPartition, t.part))
		}
		select {
		case <-time.After(wait):
		case <-t.feeding.Done():
		}
		wait = min(2*wait, maxFeedWait)
	}
}

// feed takes the records of a partition into memory, those that are in the store and those that
// come. It returns nil if it is to be restarted, or if the tenure ended.
func (t *tenure) feed() error {
	ctx, again := context.WithCancel(t.feeding)
	defer again()
	t.w.mu.Lock()
	if t.restartTimer != nil {
		t.restartTimer.Stop()
		t.restartTimer = nil
	}
	t.endReadOnLocked()
	t.restart, t.feedBegan, t.lastRead, t.caughtUp, t.skipped = again, time.Now(), time.Time{}, false, 0
	t.readsOn = !t.feedBegan.Before(t.readOnAt)
	clear(t.w.partitions[t.part].skipped)
	delete(t.w.starved, t.part)
	t.w.mu.Unlock()
	works := time.AfterFunc(maxFeedWait, t.clearFailure) // a feed that works may have nothing to yield
	defer works.Stop()
	for rec, err := range t.w.store.Feed(ctx, t.part) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case rec == nil:
			return errNilRecord
		case !t.offer(rec): //nolint:contextcheck // handlers have contexts of their own
			return nil
		case !t.wantsMore(rec):
			select { // until there is room, or a feed may read on to the end
			case <-ctx.Done():
			case <-time.After(time.Until(t.readOnAt)):
			}
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return errFeedEnded
}

// wantsMore reports whether the feed should yield more after a record. If it has left very many
// records in the store, it goes on only now and then, because all of them are read again.
func (t *tenure) wantsMore(rec *Record) bool {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if !rec.Recovered { // the feed has yielded all older records
		t.caughtUp = true
		t.endReadOnLocked()
		return true
	}
	t.lastRead = time.Now()
	return t.readsOn || t.skipped < 2*t.w.maxEntries
}

// endReadOnLocked notes, if the feed was to read on to the end, that it has come there or has had
// its time. The lock of durable is held.
func (t *tenure) endReadOnLocked() {
	if t.readsOn {
		t.readsOn = false
		t.readOnAt = time.Now().Add(max(readOnInterval, 2*t.lastRead.Sub(t.feedBegan)))
	}
}

// restartLaterLocked restarts the feed of a partition after a while, for records that were left in
// the store. The wait is longer if the memory is more than half full. w.mu is held.
func (w *durable) restartLaterLocked(p *partition, full bool) {
	t := p.tenure
	wait := minRestartWait
	if full {
		wait = maxRestartWait
	}
	if t == nil || t.restartTimer != nil && !t.restartAt.After(time.Now().Add(wait)) {
		return
	}
	if t.restartTimer != nil {
		t.restartTimer.Stop()
	}
	t.restartAt = t.feedBegan.Add(wait)
	t.restartTimer = time.AfterFunc(max(0, time.Until(t.restartAt)), t.tryRestart)
}

// tryRestart restarts the feed. If the feed is still reading, it tries again later.
func (t *tenure) tryRestart() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if wait := t.restartWaitLocked(time.Now()); wait <= 0 {
		t.restart()
	} else if t.restartTimer != nil {
		t.restartTimer.Reset(wait)
	}
}

// restartWaitLocked returns how long to wait before the feed is restarted, because it is still
// reading. The lock of durable is held.
func (t *tenure) restartWaitLocked(now time.Time) time.Duration {
	took := now.Sub(t.feedBegan)
	switch {
	case t.caughtUp: // it only waits for new records
		return 0
	case t.lastRead.IsZero() && took < maxReadPause:
		return minRestartWait
	case t.readsOn && took < maxReadOn: // the next page may take as long as the last one
		pause := min(max(2*t.lastRead.Sub(t.feedBegan), minRestartWait), maxReadPause)
		return pause - now.Sub(t.lastRead)
	default:
		return 0
	}
}

// clearFailure notes that the feed works again.
func (t *tenure) clearFailure() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.failed = nil
}
