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
	// maxGather is the most that a commit waits for more deliveries if the last one stored several. It
	// waits a quarter of the time that the last one took.
	maxGather = 500 * time.Microsecond
	// markDelay is how long a mark waits for deliveries to be committed with, so that it needs no
	// commit of its own. A record whose mark is late is handled again after a crash.
	markDelay = 20 * time.Millisecond
	// commitTimeout ends a Commit that does not return.
	commitTimeout = 5 * time.Second
	// minMarkWait and maxMarkWait bound the waits after a failed Commit of marks alone. Each wait is
	// twice the last.
	minMarkWait = 50 * time.Millisecond
	maxMarkWait = 5 * time.Second
	// minRetryTimeout is the shortest timeout of a Commit of marks that failed before.
	minRetryTimeout = 250 * time.Millisecond
	// maxMarkRest is the longest rest of a mark that fails alone.
	maxMarkRest = 30 * time.Second
	// unwellFor is how long a failure counts for Health if nothing is committed after it. A load
	// balancer that sends nothing to an unhealthy Handler could not see it recover otherwise.
	unwellFor = 10 * time.Second
	// repeatLog is how often the log repeats that something fails.
	repeatLog = time.Minute
)

// journal stores deliveries and marks. One goroutine commits together what came while the last
// commit was under way. Marks that failed are tried again without deliveries, and fewer at a time.
// So a mark that always fails holds up no other mark and no delivery.
type journal struct {
	store     Store
	log       eventLog
	patience  time.Duration // how long a request waits
	count     *storeCounters
	onSettled func([]*pendingMark) // called with marks that are durable
	onStale   func([]*pendingMark) // called with marks that this process must not make any more

	life context.Context //nolint:containedctx // ends when Shutdown stops waiting; the parent of commits
	end  context.CancelFunc
	wake chan struct{}
	done chan struct{}

	mu          sync.Mutex
	adds        []*pendingAdd
	givenUp     int            // how many of adds nobody waits for any more
	marks       []*pendingMark // never committed so far
	waiting     time.Time      // since when the first of marks waits
	markAwaited bool           // somebody waits for one of marks
	retry       []*pendingMark // that failed
	retryLimit  int            // how many of retry are committed together
	retryWait   time.Duration
	retryAt     time.Time
	addsFirst   bool // deliveries are before retry
	taken       int  // marks that are being committed
	closed      bool
	began       time.Time // of the commit that is under way; zero for none
	addErr      failure   // of the last commit with deliveries
	markErr     failure   // of the last commit with marks
	logged      time.Time // when a failure was logged last
	quiet       []chan struct{}
}

// failure is the error of the last commit of a kind, and when that ended. err is nil after a
// success.
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

// pendingMark is a mark on its way into the store. The lock of the journal guards it. An entry has
// at most one, besides one that is being committed: a newer mark replaces it.
type pendingMark struct {
	Mark

	e         *entry
	begun     chan struct{} // closed once the mark is durable; nil unless somebody waits
	fails     int           // commits of this mark alone
	notBefore time.Time
}

// isStale reports whether this process must not make the mark, because another process may work the
// record. StateDone is never stale: it stays true that the record was handled.
func (m *pendingMark) isStale() bool {
	l := m.e.tenure.lease
	return m.State != StateDone && l != nil && !l.Valid()
}

// start starts the goroutine of a journal of which the fields up to onStale are set.
func (j *journal) start() {
	j.retryLimit = maxMarks
	j.wake, j.done = make(chan struct{}, 1), make(chan struct{})
	j.life, j.end = context.WithCancel(context.Background())
	run := j.run // contextcheck follows calls, and takes those of a goroutine for those of NewHandler's callers
	go run()
}

// put stores a record and returns when it is durable. After patience it returns errSlowStore. If a
// commit of the record had begun, it may be stored all the same.
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

// mark queues a mark of an entry, in place of an earlier one that is still queued. The journal
// tries until it is stored. Then begun is closed, unless it is nil.
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

// batch is the work of one commit.
type batch struct {
	adds       []*pendingAdd
	recs       []*Record
	marks      []*pendingMark
	storeMarks []Mark
	stale      []*pendingMark // that are not committed
	isRetry    bool           // the marks failed before, and are alone
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

// gather waits for more requests after a commit of several that took some time, because a commit
// costs much more than a record in it.
func (j *journal) gather(took time.Duration) {
	timing.Await(j.life.Done(), min(took/4, maxGather))
	for before := -1; ; { // and for requests that are being read
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

// take fills the batch with what to commit now. If there is nothing, it returns how long to wait
// for more, and whether the journal has ended.
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

// marksWaitLocked returns how long new marks still wait for records before they are committed
// alone. j.mu is held.
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

// announceQuietLocked closes the channels of flushed, if everything is committed. j.mu is held.
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

// timeout returns how long a commit may take. For marks that failed before, it is shorter than a
// request waits, so that they cost no delivery.
func (j *journal) timeout(b *batch) time.Duration {
	if !b.isRetry {
		return commitTimeout
	}
	return min(max(j.patience*3/4, minRetryTimeout), commitTimeout)
}

// commit commits a batch, returns the results to the requests that wait, and reports how long the
// commit took.
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
	logIt := err != nil && now.Sub(j.logged) >= repeatLog
	if logIt {
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
	case logIt && len(b.recs) > 0:
		j.log.store(j.life, slog.LevelError, "webhook: the store does not commit; deliveries are refused", err)
	case logIt:
		j.log.store(j.life, slog.LevelError, "webhook: the store does not take the outcome of deliveries, trying again", err)
	case recovered:
		j.log.store(j.life, slog.LevelInfo, "webhook: the store commits again", nil)
	}
	return took
}

// marksCommittedLocked updates the retries after a commit of marks. If it failed, it decides when
// the marks are tried again, and how many at a time. j.mu is held.
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
	case !b.isRetry: // perhaps the records made it fail
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

// giveUp refuses the records that are left when Shutdown stops waiting, and drops the marks: their
// records are handled again.
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

// flushed returns a channel that is closed once everything is committed.
func (j *journal) flushed() <-chan struct{} {
	q := make(chan struct{})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.quiet = append(j.quiet, q)
	j.announceQuietLocked()
	return q
}

// close refuses new records, and ends the journal once everything is committed or ctx has ended. It
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

// health returns an error if commits fail or take too long.
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

// storeText returns the text of an error of a store for logs and marks, without secrets.
func storeText(err error) string {
	return limitText(redact.Line(redact.New(), textual(err).Error(), maxErrorText))
}
