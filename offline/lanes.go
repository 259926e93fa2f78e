package offline

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
)

// Waits between attempts of a handler that asks for none.
const (
	minRetryWait = time.Second
	maxRetryWait = 30 * time.Second
)

// verdict is what becomes of a record.
type verdict int

const (
	left verdict = iota // not finished: it stays reserved
	done                // handled: to be cleared
	lost                // given up: to be parked
)

// result is a record that a lane has finished with.
type result struct {
	record  Record
	verdict verdict
}

// lanes groups records by the object that they are about, in order. A record about no known object has a lane of its own.
func lanes(records []Record) [][]Record {
	var all [][]Record
	index := make(map[event.Entity]int)
	for i, r := range records {
		object := r.Delivery.Entity()
		if object == (event.Entity{}) {
			object = event.Entity{ID: strconv.Itoa(i)} // no entity of the catalogue lacks a kind
		}
		at, ok := index[object]
		if !ok {
			at = len(all)
			index[object] = at
			all = append(all, nil)
		}
		all[at] = append(all[at], r)
	}
	return all
}

// runLanes handles the records, those of one object one after the other, and sends what became of them to results, which has room for all.
// It starts no handler after intake has ended; handlers run under handling. What it left is not sent. It returns when all handlers have.
func (c *Consumer) runLanes(intake, handling context.Context, records []Record, results chan<- result) {
	var workers errgroup.Group
	workers.SetLimit(c.cfg.workers)
	for _, lane := range lanes(records) {
		if intake.Err() != nil {
			break
		}
		workers.Go(func() error {
			for _, r := range lane {
				v := c.conclude(intake, handling, r)
				if v == left {
					break // what comes later must not overtake it
				}
				results <- result{record: r, verdict: v}
			}
			return nil
		})
	}
	_ = workers.Wait() // no lane returns an error
}

// conclude tries a record until it is finished, given up or left.
func (c *Consumer) conclude(intake, handling context.Context, r Record) verdict {
	wait := backoff{shortest: minRetryWait, longest: maxRetryWait}
	for attempt := 1; intake.Err() == nil; attempt++ {
		err := c.attempt(handling, r.Delivery)
		if err == nil {
			c.meter.count(func(s *Stats) { s.Handled++ })
			return done
		}
		if handling.Err() != nil {
			return left // it failed because its context was ended
		}
		outcome, after := event.OutcomeOf(err)
		var panicked *event.PanicError
		if outcome == event.Dropped || errors.As(err, &panicked) || attempt >= c.cfg.maxAttempts {
			c.giveUp(handling, r, attempt, err)
			return lost
		}
		if outcome == event.Default {
			after = wait.next()
		}
		c.log.LogAttrs(handling, slog.LevelInfo, "offline queue: the handler failed, trying again", append(about(r),
			slog.Int(keyAttempts, attempt), slog.String(keyError, withoutURL(err).Error()), slog.Duration(keyWait, after))...)
		if !sleep(intake, after, nil) {
			return left
		}
		c.meter.count(func(s *Stats) { s.Retries++ })
	}
	return left
}

// attempt calls the handler once.
func (c *Consumer) attempt(ctx context.Context, d *event.Delivery) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.handlerTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = &event.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return c.handle(ctx, d)
}

// giveUp says why a record will be parked.
func (c *Consumer) giveUp(ctx context.Context, r Record, attempts int, err error) {
	c.log.LogAttrs(ctx, slog.LevelError, "offline queue: given up, the record will be parked", append(about(r),
		slog.Int(keyAttempts, attempts), slog.String(keyError, withoutURL(err).Error()))...)
}

// about identifies a record in the log.
func about(r Record) []slog.Attr {
	attrs := []slog.Attr{slog.Int64(keyRecord, r.ID), slog.String(keyMessage, r.MessageID)}
	if r.Delivery != nil {
		attrs = append(attrs, slog.String(keyEvent, r.Delivery.Name))
	}
	return attrs
}
