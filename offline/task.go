package offline

import (
	"context"
	"time"

	"github.com/b24events/b24events/event"
)

// task is a record that is to be handled.
type task struct {
	Record

	attempts int
	due      time.Time // of the next attempt; zero for at once
}

// rowKey names a record in a reservation.
type rowKey struct {
	processID, messageID string
	id                   int64
}

func (r Record) key() rowKey { return rowKey{r.ProcessID, r.MessageID, r.ID} }

// due takes out of the waiting records those that can be handled now. A record whose object waits for another attempt of an
// earlier one waits with it.
func (e *engine) due(now time.Time) []task {
	var ready, later []task
	var blocked map[event.Entity]time.Time
	for _, t := range e.waiting {
		object := t.Delivery.Lane()
		named := object != event.Entity{}
		if named && blocked[object].After(t.due) {
			t.due = blocked[object]
		}
		if !t.due.After(now) {
			ready = append(ready, t)
			continue
		}
		later = append(later, t)
		if named {
			if blocked == nil {
				blocked = make(map[event.Entity]time.Time)
			}
			blocked[object] = t.due
		}
	}
	e.waiting = later
	return ready
}

// take makes tasks of records, but for those that need no handler.
func (e *engine) take(ctx context.Context, records []Record) []task {
	tasks := make([]task, 0, len(records))
	for _, r := range records {
		switch {
		case r.Err != nil:
			e.giveUp(ctx, r, 0, r.Err)
			e.conclude(r, lost)
		case !r.stands && !r.Parked && e.cfg.ignored[r.Delivery.Auth.UserID]:
			e.meter.count(func(s *Stats) { s.Ignored++ })
			e.conclude(r, done)
		default:
			r.Delivery.SetProof(event.Proof{By: event.ProofCall, ClientID: e.clientID, MemberID: e.memberID})
			tasks = append(tasks, task{Record: r})
		}
	}
	return tasks
}
