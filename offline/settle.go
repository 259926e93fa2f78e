package offline

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	// flushInterval is how often finished records are cleared while others of their reservation are still worked on. It bounds
	// what a crash makes the next process handle again.
	flushInterval = 5 * time.Second
	// settleTimeout is how long a consumer that was stopped goes on trying to clear what was finished.
	settleTimeout = 10 * time.Second
)

// settlement collects what is to be told to the portal about a reservation.
type settlement struct {
	processID   string
	clear, park []Record
	settled     int
}

func (s *settlement) add(r Record, v verdict) {
	switch v {
	case done:
		s.clear = append(s.clear, r)
	case lost:
		s.park = append(s.park, r)
	case left:
	}
}

// workOff handles the records of a reservation and settles them with the portal, and returns how many it settled. What is neither finished
// nor given up when ctx ends stays reserved. The error is one that waiting cannot mend; the end of ctx is none.
func (c *Consumer) workOff(ctx context.Context, b Batch) (int, error) {
	if len(b.Records) == 0 {
		return 0, nil
	}
	s := &settlement{processID: b.ProcessID}
	err := c.collect(ctx, s, c.prepare(ctx, s, b.Records))
	if err == nil && ctx.Err() == nil {
		err = c.persist(ctx, func(ctx context.Context) error { return c.settle(ctx, s) })
	}
	if ctx.Err() != nil && !permanent(err) {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
		defer cancel()
		err = c.persist(last, func(ctx context.Context) error { return c.settle(ctx, s) })
	}
	if remaining := len(b.Records) - s.settled; remaining > 0 {
		c.meter.count(func(st *Stats) { st.Left += int64(remaining) })
		c.log.LogAttrs(ctx, slog.LevelInfo, "offline queue: records stay reserved until the next start",
			slog.String(keyProcess, b.ProcessID), slog.Int(keyRecords, remaining))
	}
	if !permanent(err) {
		err = nil // ctx ended, or settling in its aftermath failed, which the next start makes good
	}
	return s.settled, err
}

// prepare passes verdicts on that need no handler, and returns the records that do.
func (c *Consumer) prepare(ctx context.Context, s *settlement, records []Record) []Record {
	var open []Record
	for _, r := range records {
		switch v := c.verdicts[r.key()]; {
		case v != left: // finished in an earlier run, which could not tell the portal
			s.add(r, v)
		case r.Err != nil:
			c.giveUp(ctx, r, 0, r.Err)
			c.judge(s, r, lost)
		default:
			r.Delivery.Auth.MemberID = c.cfg.memberID
			open = append(open, r)
		}
	}
	return open
}

func (c *Consumer) judge(s *settlement, r Record, v verdict) {
	c.verdicts[r.key()] = v
	s.add(r, v)
}

// collect runs the handlers and collects what they decide, clearing now and then. It returns when all handlers have. The error is one that
// waiting cannot mend.
func (c *Consumer) collect(ctx context.Context, s *settlement, records []Record) error {
	intake, stop := context.WithCancel(ctx)
	defer stop()
	handling, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)

	results := make(chan result, len(records))
	var running sync.WaitGroup
	running.Go(func() {
		defer close(results)
		c.runLanes(intake, handling, records, results)
	})
	defer running.Wait()

	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	stopped := intake.Done()
	var grace <-chan time.Time
	var failure error
	for {
		select {
		case r, more := <-results:
			if !more {
				return failure
			}
			c.judge(s, r.record, r.verdict)
		case <-flush.C:
			err := c.persist(intake, func(ctx context.Context) error { return c.clear(ctx, s) })
			if permanent(err) {
				failure = err
				stop()
			}
		case <-stopped:
			stopped = nil
			timer := time.NewTimer(c.cfg.grace)
			defer timer.Stop()
			grace = timer.C
		case <-grace:
			end(ErrStopped)
		}
	}
}

// persist calls f until it succeeds, fails for good, or ctx ends. It returns f's last error.
func (c *Consumer) persist(ctx context.Context, f func(context.Context) error) error {
	wait := backoff{shortest: minErrorWait, longest: maxErrorWait}
	for {
		err := f(ctx)
		if err == nil || permanent(err) || ctx.Err() != nil {
			return err
		}
		d := wait.next()
		c.log.LogAttrs(ctx, slog.LevelWarn, "offline queue: cannot settle records, trying again",
			slog.String(keyError, err.Error()), slog.Duration(keyWait, d))
		if !sleep(ctx, d, nil) {
			return err
		}
	}
}

// settle tells the portal everything that s holds. What was told leaves s, also where an error comes later.
func (c *Consumer) settle(ctx context.Context, s *settlement) error {
	if err := c.clear(ctx, s); err != nil {
		return err
	}
	return c.park(ctx, s)
}

// clear removes finished records from the queue.
func (c *Consumer) clear(ctx context.Context, s *settlement) error {
	var byMessage, byID, neither []Record
	for _, r := range s.clear {
		switch {
		case isMessageID(r.MessageID):
			byMessage = append(byMessage, r)
		case r.ID > 0:
			byID = append(byID, r)
		default:
			neither = append(neither, r)
		}
	}
	for chunk := range slices.Chunk(byMessage, maxNamed) {
		if err := c.queue.Clear(ctx, s.processID, messageIDs(chunk)...); err != nil {
			return err
		}
		c.cleared(ctx, s, chunk)
	}
	for chunk := range slices.Chunk(byID, maxNamed) {
		ids := make([]int64, len(chunk))
		for i, r := range chunk {
			ids[i] = r.ID
		}
		if err := c.queue.ClearIDs(ctx, s.processID, ids...); err != nil {
			return err
		}
		c.cleared(ctx, s, chunk)
	}
	c.forget(ctx, &s.clear, neither)
	return nil
}

func (c *Consumer) cleared(ctx context.Context, s *settlement, records []Record) {
	c.settled(s, &s.clear, records)
	c.meter.count(func(st *Stats) { st.Cleared += int64(len(records)) })
	c.log.LogAttrs(ctx, slog.LevelDebug, "offline queue: cleared", slog.String(keyProcess, s.processID), slog.Int(keyRecords, len(records)))
}

// park parks the records that were given up. It looks first which of them the reservation still holds: parking one that is gone, because
// another process finished it, would delete the newer change of its object; see [Queue.Park].
func (c *Consumer) park(ctx context.Context, s *settlement) error {
	if len(s.park) == 0 {
		return nil
	}
	held := make(map[string]bool)
	for r, err := range c.queue.List(ctx, Filter{"=PROCESS_ID": s.processID}) {
		if err != nil {
			return err
		}
		held[r.MessageID] = true
	}
	var parkable, gone, nameless []Record
	for _, r := range s.park {
		switch {
		case !isMessageID(r.MessageID):
			nameless = append(nameless, r)
		case held[r.MessageID]:
			parkable = append(parkable, r)
		default:
			gone = append(gone, r)
		}
	}
	c.forget(ctx, &s.park, nameless)
	c.settled(s, &s.park, gone)
	for chunk := range slices.Chunk(parkable, maxNamed) {
		if err := c.queue.Park(ctx, s.processID, messageIDs(chunk)...); err != nil {
			return err
		}
		c.settled(s, &s.park, chunk)
		c.meter.count(func(st *Stats) { st.Parked += int64(len(chunk)) })
	}
	return nil
}

// settled takes records out of a list of s, and out of memory.
func (c *Consumer) settled(s *settlement, list *[]Record, records []Record) {
	s.settled += len(records)
	c.drop(list, records)
	for _, r := range records {
		delete(c.verdicts, r.key())
	}
}

// forget gives up on records that nothing can name to the portal. They stay reserved, and their verdicts stay in memory.
func (c *Consumer) forget(ctx context.Context, list *[]Record, records []Record) {
	for _, r := range records {
		c.log.LogAttrs(ctx, slog.LevelError, "offline queue: a record without a usable message id cannot be settled and stays reserved", about(r)...)
	}
	c.drop(list, records)
}

func (c *Consumer) drop(list *[]Record, records []Record) {
	gone := make(map[rowKey]bool, len(records))
	for _, r := range records {
		gone[r.key()] = true
	}
	*list = slices.DeleteFunc(*list, func(r Record) bool { return gone[r.key()] })
}

func messageIDs(records []Record) []string {
	ids := make([]string, len(records))
	for i, r := range records {
		ids[i] = r.MessageID
	}
	return ids
}
