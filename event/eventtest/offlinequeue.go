package eventtest

import (
	"slices"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// retention is how long the purge agent keeps a record of the offline queue. It is the constant in
// the platform's code, whose comment says 30 days.
const retention = 2_952_000 * time.Second

// offlineRow is one record of an application's offline queue. Message, application, connector and
// process make it unique.
type offlineRow struct {
	id        int64
	time      time.Time
	messageID string
	app       *Application
	connector string
	event     string
	data      phpform.Value
	user      int64
	processID string
	failed    bool
	merged    int
	deleted   bool // deleted
}

// offlineQueue holds the offline queues of all applications. Portal.mu guards it.
type offlineQueue struct {
	rows       []*offlineRow          // by ID
	unreserved map[rowKey]*offlineRow // the rows that no process has reserved
	purged     time.Time              // when old rows were deleted last
}

// messageID returns the ID of an event with its data.
func messageID(name string, data phpform.Value) string {
	return md5Hex(appendJSON([]byte(name+"|"), data))
}

// storeLocked adds an occurrence to the offline queue of a binding. If an unreserved row has the
// same message, the occurrence merges into it. That row keeps its place, its ID and its error mark.
func (p *Portal) storeLocked(b *binding, o occurrence) {
	p.purgeIfDueLocked()
	id := messageID(o.event, o.data)
	now := p.nowLocked().Truncate(time.Second)
	if r := p.offline.unreserved[rowKey{id, b.connector, b.app}]; r != nil {
		r.time, r.event, r.data, r.user = now, o.event, o.data, o.user
		r.merged++
		return
	}
	r := &offlineRow{
		id: p.nextIDLocked("offline"), time: now, messageID: id, app: b.app, connector: b.connector,
		event: o.event, data: o.data, user: o.user,
	}
	p.offline.rows = append(p.offline.rows, r)
	p.offline.unreserved[r.key()] = r
}

// rowKey identifies a row among the unreserved ones.
type rowKey struct {
	messageID, connector string
	app                  *Application
}

func (r *offlineRow) key() rowKey { return rowKey{r.messageID, r.connector, r.app} }

// reserveLocked adds a row to a reservation. An empty processID releases it.
func (p *Portal) reserveLocked(r *offlineRow, processID string) {
	if p.offline.unreserved[r.key()] == r {
		delete(p.offline.unreserved, r.key())
	}
	if r.processID = processID; processID == "" {
		p.offline.unreserved[r.key()] = r
	}
}

// purgeIfDueLocked runs the daily agent if it is due. It is called before the rows are read.
func (p *Portal) purgeIfDueLocked() {
	if p.nowLocked().Sub(p.offline.purged) >= 24*time.Hour {
		p.purgeLocked()
	}
}

// purgeLocked is the daily agent. It deletes old rows, including reserved ones.
func (p *Portal) purgeLocked() {
	p.offline.purged = p.nowLocked()
	limit := p.offline.purged.Add(-retention)
	p.dropRowsLocked(func(r *offlineRow) bool { return r.time.Before(limit) })
}

// dropRowsLocked deletes the rows that match.
func (p *Portal) dropRowsLocked(match func(*offlineRow) bool) {
	p.offline.rows = slices.DeleteFunc(p.offline.rows, func(r *offlineRow) bool {
		if !match(r) {
			return false
		}
		if r.deleted = true; p.offline.unreserved[r.key()] == r {
			delete(p.offline.unreserved, r.key())
		}
		return true
	})
}

// rowsOfLocked returns an application's rows of one connector that match.
func (p *Portal) rowsOfLocked(a *Application, connector string, match func(*offlineRow) bool) []*offlineRow {
	p.purgeIfDueLocked()
	var found []*offlineRow
	for _, r := range p.offline.rows {
		if r.app == a && r.connector == connector && match(r) {
			found = append(found, r)
		}
	}
	return found
}

func (p *Portal) deleteRowsLocked(gone []*offlineRow) {
	if len(gone) == 0 {
		return
	}
	set := make(map[*offlineRow]bool, len(gone))
	for _, r := range gone {
		set[r] = true
	}
	p.dropRowsLocked(func(r *offlineRow) bool { return set[r] })
}

// value returns the row as event.offline.get shows it or, with state, as event.offline.list does.
func (r *offlineRow) value(state bool) phpform.Value {
	entries := []phpform.Entry{
		digits("ID", r.id),
		text("TIMESTAMP_X", isoTime(r.time)),
		text("EVENT_NAME", r.event),
		kv("EVENT_DATA", r.data),
		kv("EVENT_ADDITIONAL", phpform.Map(number("user_id", r.user))),
		text("MESSAGE_ID", r.messageID),
	}
	if state {
		entries = append(entries, text("PROCESS_ID", r.processID), text("ERROR", r.errorMark()))
	}
	return phpform.Map(entries...)
}

func (r *offlineRow) errorMark() string {
	if r.failed {
		return "1"
	}
	return "0"
}

// OfflineRow is one record of an offline queue.
type OfflineRow struct {
	ID        int64
	MessageID string
	ClientID  string
	Connector string
	Event     string
	Data      event.Data
	UserID    int64     // the user who caused it; 0 for nobody
	ProcessID string    // its reservation; empty if it is not reserved
	Error     bool      // parked by event.offline.error
	Merged    int       // number of later occurrences merged into it
	Time      time.Time // of the latest occurrence, by the portal's clock, to the second
}

// OfflineRows returns the records of all offline queues in the order of their IDs.
func (p *Portal) OfflineRows() []OfflineRow {
	p.mu.Lock()
	p.purgeIfDueLocked()
	rows := make([]offlineRow, len(p.offline.rows))
	for i, r := range p.offline.rows {
		rows[i] = *r
	}
	p.mu.Unlock()
	list := make([]OfflineRow, len(rows)) // without the lock, because converting the data takes time
	for i, r := range rows {
		list[i] = OfflineRow{
			ID: r.id, MessageID: r.messageID, ClientID: r.app.spec.ClientID, Connector: r.connector, Event: r.event,
			Data: dataOf(r.data), UserID: r.user, ProcessID: r.processID, Error: r.failed,
			Merged: r.merged, Time: r.time,
		}
	}
	return list
}
