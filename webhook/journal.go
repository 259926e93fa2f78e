package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/redact"
)

const (
	// maxBatch and maxBatchBytes bound what one Commit stores.
	maxBatch      = 512
	maxBatchBytes = 4 << 20
	// maxMarks bounds the marks of one Commit.
	maxMarks = 4096
	// markDelay is how long a mark waits for deliveries that are stored with it. A mark costs a
	// commit of its own otherwise. What is marked later is handled again after a crash.
	markDelay = 20 * time.Millisecond
	// commitTimeout ends a Commit that does not return.
	commitTimeout = 5 * time.Second
	// Waits after a Commit of marks that failed. Each is twice the last.
	minMarkWait = 50 * time.Millisecond
	maxMarkWait = 5 * time.Second
	// unwellFor is how long a failure counts if nothing is committed after it. A load balancer that
	// sends nothing to a Handler that is not well could not find out that it is well again.
	unwellFor = 10 * time.Second
	// repeatLog is how often the log says that commits go on failing.
	repeatLog = time.Minute
)

// journal stores deliveries and marks: one goroutine that commits together what came while the last
// commit was under way.
type journal struct {
	store    Store
	log      eventLog
	patience time.Duration // how long a commit takes until the journal counts as slow
	count    *storeCounters
	settled  func([]marking) // called with marks that are durable

	life context.Context //nolint:containedctx // ends when Shutdown stops waiting; the parent of commits
	end  context.CancelFunc
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	adds    []*adding
	gone    int // of adds, those that nobody waits for any more
	marks   []marking
	waiting time.Time // since when the first of marks waits
	urgent  bool      // somebody waits for one of marks
	taken   int       // marks that are being committed
	closed  bool
	apart   bool          // the last commit with marks failed: they are tried by themselves
	wait    time.Duration // after the last such failure
	retryAt time.Time
	began   time.Time // of the commit that is under way; zero for none
	failed  error     // of the last commit; nil if it succeeded
	ended   time.Time // of the last commit
	logged  time.Time // when a failure was logged last
	quiet   []chan struct{}
}

// adding is a record on its way into the store. The lock of the journal guards it.
type adding struct {
	rec   *Record // nil after the request gave up
	taken bool    // a commit of it is or was under way
	done  chan error
}

// marking is a mark on its way into the store.
type marking struct {
	Mark

	e     *entry
	begun chan struct{} // closed once the mark is durable; nil unless somebody waits
}

func newJournal(s Store, log eventLog, patience time.Duration, count *storeCounters, settled func([]marking)) *journal {
	j := &journal{
		store: s, log: log, patience: patience, count: count, settled: settled,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	j.life, j.end = context.WithCancel(context.Background())
	go j.run()
	return j
}

// put stores a record and returns when that is durable. It returns errSlowStore after patience; the
// record may be stored all the same if a commit of it had begun.
func (j *journal) put(rec *Record) error {
	a := &adding{rec: rec, done: make(chan error, 1)}
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
		if j.gone++; j.gone > len(j.adds)/2 { // a store that hangs must not fill the memory
			j.adds = slices.DeleteFunc(j.adds, func(a *adding) bool { return a.rec == nil })
			j.gone = 0
		}
	}
	return errSlowStore
}

// mark stores a mark soon, and until it succeeds.
func (j *journal) mark(m marking) {
	j.mu.Lock()
	if len(j.marks) == 0 {
		j.waiting = time.Now()
	}
	j.marks = append(j.marks, m)
	j.urgent = j.urgent || m.begun != nil
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
	adds  []*adding
	recs  []*Record
	marks []marking
	plain []Mark
}

func (j *journal) run() {
	defer close(j.done)
	defer j.end()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var b batch
	for {
		wait, over := j.take(&b)
		if over {
			return
		}
		if len(b.recs)+len(b.plain) > 0 {
			j.commit(&b)
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

// take fills the batch with what is to be committed now. If that is nothing, it returns how long to
// wait for more, and whether the journal is over.
func (j *journal) take(b *batch) (wait time.Duration, over bool) {
	clear(b.adds)
	clear(b.recs)
	clear(b.marks)
	b.adds, b.recs, b.marks, b.plain = b.adds[:0], b.recs[:0], b.marks[:0], b.plain[:0]
	j.mu.Lock()
	defer j.mu.Unlock()
	wait = j.marksDueLocked()
	if !j.apart || wait > 0 { // otherwise marks alone are next
		j.takeAddsLocked(b)
	}
	if len(j.marks) > 0 && (wait <= 0 || !j.apart && len(b.recs) > 0) {
		j.takeMarksLocked(b)
	}
	if len(b.recs)+len(b.plain) > 0 {
		j.began = time.Now()
		return 0, false
	}
	j.settleLocked()
	return wait, j.closed && len(j.marks) == 0
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
			j.gone--
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
		b.marks, b.plain = append(b.marks, m), append(b.plain, m.Mark)
	}
	j.marks = slices.Delete(j.marks, 0, n)
	j.taken = n
	j.urgent = j.urgent && len(j.marks) > 0
	j.waiting = time.Now()
}

// marksDueLocked returns after what time marks are committed, with or without records. j.mu is
// held.
func (j *journal) marksDueLocked() time.Duration {
	switch {
	case len(j.marks) == 0:
		return time.Hour
	case j.apart:
		return time.Until(j.retryAt)
	case j.urgent || j.closed || len(j.marks) >= maxBatch:
		return 0
	default:
		return time.Until(j.waiting.Add(markDelay))
	}
}

// settleLocked tells who waits for it that everything is committed, if so. j.mu is held.
func (j *journal) settleLocked() {
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
	return len(j.adds)-j.gone+len(j.marks) == 0 && j.began.IsZero()
}

// commit commits a batch and reports how it went.
func (j *journal) commit(b *batch) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(j.life, commitTimeout)
	err := dispatch.Guard(func() error { return j.store.Commit(ctx, b.recs, b.plain) })
	cancel()
	j.count.committed(len(b.recs), len(b.plain), time.Since(start), err)
	if err == nil && len(b.marks) > 0 {
		j.settled(b.marks)
	}
	j.mu.Lock()
	recovered := err == nil && j.failed != nil
	j.began, j.failed, j.ended, j.taken = time.Time{}, err, time.Now(), 0
	switch {
	case len(b.marks) == 0:
	case err == nil:
		j.apart, j.wait = false, 0
	default:
		j.marks = slices.Insert(j.marks, 0, b.marks...)
		j.urgent = j.urgent || slices.ContainsFunc(b.marks, func(m marking) bool { return m.begun != nil })
		if j.apart {
			j.wait = min(max(2*j.wait, minMarkWait), maxMarkWait)
		}
		j.apart = true // with records they may have failed because of these, which are tried no more
		j.retryAt = time.Now().Add(j.wait)
	}
	repeat := err != nil && time.Since(j.logged) >= repeatLog
	if repeat {
		j.logged = time.Now()
	}
	if recovered {
		j.logged = time.Time{}
	}
	j.settleLocked()
	j.mu.Unlock()
	for _, a := range b.adds {
		switch {
		case err != nil:
			a.done <- fmt.Errorf("%w: %w", ErrNotStored, err)
		case a.rec.Rejected != nil:
			a.done <- fmt.Errorf("%w: %w", ErrNotStored, a.rec.Rejected)
		default:
			a.done <- nil
		}
	}
	switch {
	case repeat:
		j.log.store(slog.LevelError, "webhook: the store does not commit; deliveries are refused", err)
	case recovered:
		j.log.store(slog.LevelInfo, "webhook: the store commits again", nil)
	}
}

// giveUp refuses what is left when Shutdown stops waiting. Marks that were not committed are
// forgotten: their records are handled again.
func (j *journal) giveUp() {
	j.mu.Lock()
	adds := j.adds
	j.adds, j.gone, j.marks = nil, 0, nil
	j.settleLocked()
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
	j.settleLocked()
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
	left = len(j.marks) + j.taken
	j.mu.Unlock()
	j.end()
	return left
}

// health returns why the journal is not well, nil if it is.
func (j *journal) health() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.failed != nil && time.Since(j.ended) < unwellFor:
		return fmt.Errorf("%w: %w", ErrNotStored, j.failed)
	case !j.began.IsZero() && time.Since(j.began) > j.patience:
		return errSlowStore
	default:
		return nil
	}
}

// storeText is the text of an error of a store, which may quote anything.
func storeText(err error) string {
	text := redact.Line(redact.New(), err.Error(), maxErrorText)
	return text[:min(len(text), maxErrorText)]
}
