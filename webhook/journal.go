package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/redact"
	"github.com/b24events/b24events/internal/timing"
)

const (
	// maxBatch and maxBatchBytes bound what one Commit stores.
	maxBatch      = 512
	maxBatchBytes = 4 << 20
	// maxMarks bounds the marks of one Commit.
	maxMarks = 4096
	// maxGather is how long a commit waits for more deliveries at most, if those before came in
	// groups. It waits for a quarter of what the last one took.
	maxGather = 500 * time.Microsecond
	// markDelay is how long a mark waits for deliveries that are stored with it. A mark costs a
	// commit of its own otherwise. What is marked later is handled again after a crash.
	markDelay = 20 * time.Millisecond
	// commitTimeout ends a Commit that does not return.
	commitTimeout = 5 * time.Second
	// Waits after a Commit of marks alone that failed. Each is twice the last.
	minMarkWait = 50 * time.Millisecond
	maxMarkWait = 5 * time.Second
	// minRetryTimeout is the least that marks get that failed before.
	minRetryTimeout = 250 * time.Millisecond
	// maxMarkRest is how long one mark rests that fails alone.
	maxMarkRest = 30 * time.Second
	// unwellFor is how long a failure counts if nothing is committed after it. A load balancer that
	// sends nothing to a Handler that is not well could not find out that it is well again.
	unwellFor = 10 * time.Second
	// repeatLog is how often the log says that something goes on failing.
	repeatLog = time.Minute
)

// journal stores deliveries and marks: one goroutine that commits together what came while the last
// commit was under way. Marks that could not be committed are tried again by themselves, fewer at a
// time, so that one that always fails holds up no other, and no delivery.
type journal struct {
	store    Store
	log      eventLog
	patience time.Duration // how long a request waits
	count    *storeCounters
	onSettled  func([]*pendingMark) // called with marks that are durable
	onStale  func([]*pendingMark) // called with marks that are not this process's to make any more

	life context.Context //nolint:containedctx // ends when Shutdown stops waiting; the parent of commits
	end  context.CancelFunc
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	adds    []*pendingAdd
	givenUp    int        // of adds, those that nobody waits for any more
	marks   []*pendingMark // never committed so far
	waiting time.Time  // since when the first of marks waits
	markAwaited  bool       // somebody waits for one of marks
	retry   []*pendingMark // that failed
	retryLimit   int        // how many of retry are committed together
	retryWait    time.Duration
	retryAt time.Time
	addsFirst    bool // deliveries are before retry
	taken   int  // marks that are being committed
	closed  bool
	began   time.Time // of the commit that is under way; zero for none
	addErr  failure   // of the last commit with deliveries
	markErr failure   // of the last commit with marks
	logged  time.Time // when a failure was logged last
	quiet   []chan struct{}
}

// failure is an error of the last commit of a kind. It is zero after one that succeeded.
type failure struct {
	err error
	at  time.Time
}

// pendingAdd is a record on its way into the store. The lock of the journal guards it.
type pendingAdd struct {
	rec   *Record // nil after the request gave up
	taken bool    // a commit of it is or was under way
	done  chan error
}

// pendingMark is a mark on its way into the store. The lock of the journal guards it. There is one of
// an entry at most, besides one that is being committed: a newer mark replaces it.
type pendingMark struct {
	Mark

	e         *entry
	begun     chan struct{} // closed once the mark is durable; nil unless somebody waits
	fails     int           // commits of this mark alone
	notBefore time.Time
}

// isStale reports whether the mark is not this process's to make, because another may work the
// record. That a record was handled is true all the same.
func (m *pendingMark) isStale() bool {
	l := m.e.tenure.lease
	return m.State != StateDone && l != nil && !l.Valid()
}

func newJournal(s Store, log eventLog, patience time.Duration, count *storeCounters, settled, dropped func([]*pendingMark)) *journal {
	j := &journal{
		store: s, log: log, patience: patience, count: count, onSettled: settled, onStale: dropped, retryLimit: maxMarks,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	j.life, j.end = context.WithCancel(context.Background())
	run := j.run // contextcheck follows calls, and takes those of a goroutine for those of NewHandler's callers
	go run()
	return j
}

// put stores a record and returns when that is durable. It returns errSlowStore after patience; the
// record may be stored all the same if a commit of it had begun.
func (j *journal) put(rec *Record) error {
	a := &pendingAdd{rec: rec, done: make(chan error, 1)}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrShutdown
	}
	j.adds = append(j.adds, a)
	j.mu.Unlock()
	j.kick()
	timer := time.NewTimer(j.patience)
	defer timer.Stop()
	select {
	case err := <-a.done:
		return err
	case <-timer.C:
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	select {
	case err := <-a.done: // just now
		return err
	default:
	}
	if !a.taken {
		a.rec = nil
		if j.givenUp++; j.givenUp > len(j.adds)/2 { // a store that hangs must not fill the memory
			j.adds = slices.DeleteFunc(j.adds, func(a *pendingAdd) bool { return a.rec == nil })
			j.givenUp = 0
		}
	}
	return errSlowStore
}

// mark stores a mark of an entry soon, and until it succeeds, in place of one that was not stored
// yet. begun is closed then; it may be nil.
func (j *journal) mark(e *entry, m Mark, begun chan struct{}) {
	m.Part, m.ID = e.tenure.part, e.id
	j.mu.Lock()
	if q := e.mark; q != nil {
		q.Mark, q.begun = m, begun
	} else {
		if len(j.marks) == 0 {
			j.waiting = time.Now()
		}
		e.mark = &pendingMark{Mark: m, e: e, begun: begun}
		j.marks = append(j.marks, e.mark)
	}
	j.markAwaited = j.markAwaited || begun != nil
	j.mu.Unlock()
	j.kick()
}

func (j *journal) kick() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// batch is what one commit does.
type batch struct {
	adds  []*pendingAdd
	recs  []*Record
	marks []*pendingMark
	storeMarks []Mark
	stale []*pendingMark // that are not committed
	isRetry bool       // the marks failed before, and are alone
}

func (b *batch) reset() {
	clear(b.adds)
	clear(b.recs)
	clear(b.marks)
	b.adds, b.recs, b.marks, b.storeMarks, b.stale, b.isRetry = b.adds[:0], b.recs[:0], b.marks[:0], b.storeMarks[:0], nil, false
}

func (b *batch) empty() bool { return len(b.recs)+len(b.storeMarks) == 0 }

// add adds a mark, unless it is stale. The lock of the journal is held.
func (b *batch) add(m *pendingMark) {
	if m.e.mark == m {
		m.e.mark = nil
	}
	if m.isStale() {
		b.stale = append(b.stale, m)
		return
	}
	b.marks, b.storeMarks = append(b.marks, m), append(b.storeMarks, m.Mark)
}

func (j *journal) run() {
	defer close(j.done)
	defer j.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var b batch
	for {
		wait, over := j.take(&b)
		if len(b.stale) > 0 {
			j.onStale(b.stale)
		}
		switch {
		case over:
			return
		case !b.empty():
			if took := j.commit(&b); len(b.recs) > 1 {
				j.gather(took)
			}
			continue
		case len(b.stale) > 0:
			continue
		}
		timer.Reset(wait)
		select {
		case <-j.wake:
		case <-timer.C:
		case <-j.life.Done():
			j.giveUp()
			return
		}
	}
}

// gather lets more requests come in after a commit of several, which took some time: one costs much
// more than a record in it.
func (j *journal) gather(took time.Duration) {
	timing.Await(j.life.Done(), min(took/4, maxGather))
	for before := -1; ; { // and those that are being read
		j.mu.Lock()
		n := len(j.adds)
		j.mu.Unlock()
		if n == before || n >= maxBatch {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// take fills the batch with what is to be committed now. If that is nothing, it returns how long to
// wait for more, and whether the journal is over.
func (j *journal) take(b *batch) (wait time.Duration, over bool) {
	b.reset()
	j.mu.Lock()
	defer j.mu.Unlock()
	now := time.Now()
	if !j.addsFirst || len(j.adds) == j.givenUp {
		j.takeRetryLocked(b, now)
	}
	if b.empty() {
		j.takeAddsLocked(b)
		if len(j.marks) > 0 && (len(b.recs) > 0 || j.marksWaitLocked(now) <= 0) {
			j.takeMarksLocked(b)
		}
	}
	j.addsFirst = b.isRetry
	if !b.empty() {
		j.taken, j.began = len(b.storeMarks), now
		return 0, false
	}
	j.announceQuietLocked()
	wait = j.marksWaitLocked(now)
	for _, m := range j.retry {
		wait = min(wait, max(m.notBefore.Sub(now), j.retryAt.Sub(now), time.Millisecond))
	}
	return wait, j.closed && j.quietLocked()
}

// takeRetryLocked adds marks that failed and are due. j.mu is held.
func (j *journal) takeRetryLocked(b *batch, now time.Time) {
	if len(j.retry) == 0 || now.Before(j.retryAt) {
		return
	}
	rest := j.retry[:0]
	for _, m := range j.retry {
		if len(b.storeMarks) < j.retryLimit && !now.Before(m.notBefore) {
			b.add(m)
		} else {
			rest = append(rest, m)
		}
	}
	clear(j.retry[len(rest):])
	j.retry = rest
	b.isRetry = len(b.storeMarks) > 0
}

// takeAddsLocked adds records to the batch. j.mu is held.
func (j *journal) takeAddsLocked(b *batch) {
	size, n := 0, 0
	for _, a := range j.adds {
		if a.rec != nil && len(b.recs) > 0 && (len(b.recs) == maxBatch || size+len(a.rec.Data) > maxBatchBytes) {
			break
		}
		n++
		if a.rec == nil {
			j.givenUp--
			continue
		}
		a.taken = true
		size += len(a.rec.Data)
		b.adds, b.recs = append(b.adds, a), append(b.recs, a.rec)
	}
	j.adds = slices.Delete(j.adds, 0, n)
}

// takeMarksLocked adds marks to the batch. j.mu is held.
func (j *journal) takeMarksLocked(b *batch) {
	n := min(len(j.marks), maxMarks)
	for _, m := range j.marks[:n] {
		b.add(m)
	}
	j.marks = slices.Delete(j.marks, 0, n)
	j.markAwaited = j.markAwaited && len(j.marks) > 0
	j.waiting = time.Now()
}

// marksWaitLocked returns after what time marks are committed that were not tried, with or without
// records. j.mu is held.
func (j *journal) marksWaitLocked(now time.Time) time.Duration {
	switch {
	case len(j.marks) == 0:
		return time.Hour
	case j.markAwaited || j.closed || len(j.marks) >= maxBatch:
		return 0
	default:
		return j.waiting.Add(markDelay).Sub(now)
	}
}

// announceQuietLocked tells who waits for it that everything is committed, if so. j.mu is held.
func (j *journal) announceQuietLocked() {
	if !j.quietLocked() {
		return
	}
	for _, q := range j.quiet {
		close(q)
	}
	j.quiet = nil
}

// quietLocked reports whether everything is committed. j.mu is held.
func (j *journal) quietLocked() bool {
	return len(j.adds)-j.givenUp+len(j.marks)+len(j.retry) == 0 && j.began.IsZero()
}

// timeout returns how long a commit may take. Marks that failed have less than a request waits, so
// that they cost no delivery.
func (j *journal) timeout(b *batch) time.Duration {
	if !b.isRetry {
		return commitTimeout
	}
	return min(max(j.patience*3/4, minRetryTimeout), commitTimeout)
}

// commit commits a batch, tells those who wait, and returns how long that took.
func (j *journal) commit(b *batch) (took time.Duration) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(j.life, j.timeout(b))
	err := protect(func() error { return j.store.Commit(ctx, b.recs, b.storeMarks) })
	cancel()
	took = time.Since(start)
	j.count.committed(len(b.recs), len(b.storeMarks), took, err)
	if err == nil && len(b.marks) > 0 {
		j.onSettled(b.marks)
	}
	j.mu.Lock()
	now := time.Now()
	wasWell := j.addErr.err == nil && j.markErr.err == nil
	j.began, j.taken = time.Time{}, 0
	if len(b.recs) > 0 {
		j.addErr = failure{err, now}
	}
	if len(b.marks) > 0 {
		j.markErr = failure{err, now}
		j.marksCommittedLocked(b, err, now, took)
	}
	isWell := j.addErr.err == nil && j.markErr.err == nil
	speak := err != nil && now.Sub(j.logged) >= repeatLog
	if speak {
		j.logged = now
	}
	recovered := isWell && !wasWell && !j.logged.IsZero()
	if recovered {
		j.logged = time.Time{}
	}
	j.announceQuietLocked()
	j.mu.Unlock()
	for _, a := range b.adds {
		switch {
		case err != nil:
			a.done <- fmt.Errorf("%w: %w", ErrNotStored, err)
		case a.rec.Rejected != nil:
			a.done <- fmt.Errorf("%w: %w", ErrNotStored, textual(a.rec.Rejected))
		default:
			a.done <- nil
		}
	}
	switch {
	case speak && len(b.recs) > 0:
		j.log.store(j.life, slog.LevelError, "webhook: the store does not commit; deliveries are refused", err)
	case speak:
		j.log.store(j.life, slog.LevelError, "webhook: the store does not take the outcome of deliveries, trying again", err)
	case recovered:
		j.log.store(j.life, slog.LevelInfo, "webhook: the store commits again", nil)
	}
	return took
}

// marksCommittedLocked decides when marks are tried again that failed, and how many at a time. j.mu
// is held.
func (j *journal) marksCommittedLocked(b *batch, err error, now time.Time, took time.Duration) {
	if err == nil {
		j.retryLimit, j.retryWait, j.retryAt = min(2*j.retryLimit, maxMarks), 0, time.Time{}
		return
	}
	for _, m := range b.marks {
		if m.e.mark != nil {
			continue // a newer one replaces it
		}
		m.e.mark = m
		j.retry = append(j.retry, m)
	}
	switch n := len(b.marks); {
	case !b.isRetry: // they may have failed because of the records
		j.retryAt = now
	case n > 1: // one of them may be to blame
		j.retryLimit = n / 2
	default:
		m := b.marks[0]
		m.fails++
		m.notBefore = now.Add(min(max(minMarkWait<<min(m.fails, 16), 10*took), maxMarkRest))
		j.retryWait = min(max(2*j.retryWait, minMarkWait), maxMarkWait)
		j.retryAt = now.Add(j.retryWait)
	}
}

// giveUp refuses what is left when Shutdown stops waiting. Marks that were not committed are
// forgotten: their records are handled again.
func (j *journal) giveUp() {
	j.mu.Lock()
	adds := j.adds
	j.adds, j.givenUp, j.marks, j.retry = nil, 0, nil, nil
	j.announceQuietLocked()
	j.mu.Unlock()
	for _, a := range adds {
		a.done <- ErrShutdown
	}
}

// flushed returns a channel that is closed once nothing waits to be committed.
func (j *journal) flushed() <-chan struct{} {
	q := make(chan struct{})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.quiet = append(j.quiet, q)
	j.announceQuietLocked()
	return q
}

// close refuses new records and ends the journal once everything is committed, or ctx has ended. It
// returns how many marks were not committed.
func (j *journal) close(ctx context.Context) (left int) {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.kick()
	select {
	case <-j.done:
		return 0
	case <-ctx.Done():
	}
	j.mu.Lock()
	left = len(j.marks) + len(j.retry) + j.taken
	j.mu.Unlock()
	j.end()
	return left
}

// health returns why the journal is not well, nil if it is.
func (j *journal) health() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, f := range []failure{j.addErr, j.markErr} {
		if f.err != nil && time.Since(f.at) < unwellFor {
			return fmt.Errorf("%w: %w", ErrNotStored, f.err)
		}
	}
	if !j.began.IsZero() && time.Since(j.began) > j.patience {
		return errSlowStore
	}
	return nil
}

// storeText is the text of an error of a store, which may quote anything.
func storeText(err error) string {
	return limitText(redact.Line(redact.New(), textual(err).Error(), maxErrorText))
}
