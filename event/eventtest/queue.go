package eventtest

import (
	"slices"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// retention is how long the purge agent lets a record of the offline queue stand: the constant of
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
	gone      bool // deleted
}

// messageID identifies an event with its data.
func messageID(name string, data phpform.Value) string {
	return md5Hex(appendJSON([]byte(name+"|"), data))
}

// store records an occurrence for an offline binding. It merges with the row that nobody has
// reserved, which keeps its place, its number and, where it has one, its error mark.
func (p *Portal) store(b *binding, o occurrence) {
	p.daily()
	id := messageID(o.event, o.data)
	now := p.now().Truncate(time.Second)
	if r := p.free[rowKey{id, b.connector, b.app}]; r != nil {
		r.time, r.event, r.data, r.user = now, o.event, o.data, o.user
		r.merged++
		return
	}
	r := &offlineRow{
		id: p.next("offline"), time: now, messageID: id, app: b.app, connector: b.connector,
		event: o.event, data: o.data, user: o.user,
	}
	p.rows = append(p.rows, r)
	p.free[r.key()] = r
}

// rowKey is what makes a row unique among those that nobody has reserved.
type rowKey struct {
	messageID, connector string
	app                  *Application
}

func (r *offlineRow) key() rowKey { return rowKey{r.messageID, r.connector, r.app} }

// hold puts a row into a reservation, or takes it out where the process is empty.
func (p *Portal) hold(r *offlineRow, processID string) {
	if p.free[r.key()] == r {
		delete(p.free, r.key())
	}
	if r.processID = processID; processID == "" {
		p.free[r.key()] = r
	}
}

// daily runs the agents that are due, before anything looks at the rows.
func (p *Portal) daily() {
	if p.now().Sub(p.purged) >= 24*time.Hour {
		p.purge()
	}
}

// purge is the daily agent. It deletes old rows, reserved or not.
func (p *Portal) purge() {
	p.purged = p.now()
	limit := p.purged.Add(-retention)
	p.dropRows(func(r *offlineRow) bool { return r.time.Before(limit) })
}

// dropRows deletes the rows that match.
func (p *Portal) dropRows(match func(*offlineRow) bool) {
	p.rows = slices.DeleteFunc(p.rows, func(r *offlineRow) bool {
		if !match(r) {
			return false
		}
		if r.gone = true; p.free[r.key()] == r {
			delete(p.free, r.key())
		}
		return true
	})
}

// rowsOf returns an application's rows of one connector that match.
func (p *Portal) rowsOf(a *Application, connector string, match func(*offlineRow) bool) []*offlineRow {
	p.daily()
	var found []*offlineRow
	for _, r := range p.rows {
		if r.app == a && r.connector == connector && match(r) {
			found = append(found, r)
		}
	}
	return found
}

func (p *Portal) deleteRows(gone []*offlineRow) {
	if len(gone) == 0 {
		return
	}
	set := make(map[*offlineRow]bool, len(gone))
	for _, r := range gone {
		set[r] = true
	}
	p.dropRows(func(r *offlineRow) bool { return set[r] })
}

// value is the row as event.offline.get shows it; with state, as event.offline.list does.
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
