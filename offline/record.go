package offline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/offline/internal/spool"
)

// Record is one row of the queue. The queue is a set and not a log: ten changes of one deal are one
// record, its addition and its deletion two others. If the object changes again while the record
// waits, the record keeps its ID. So IDs do not say what changed last; Delivery.Time does.
type Record struct {
	ID        int64  // of the row; 0 if the portal sent none, or one that cannot be read
	MessageID string // 32 characters that stand for the event and its data together; opaque
	ProcessID string // the reservation that holds the record; empty if none does
	Parked    bool   // parked with event.offline.error
	MemberID  string // the portal; empty if it is not known

	// Delivery is the record as handlers get it. It is nil if the record could not be read, and
	// then Err says why.
	Delivery *event.Delivery
	Err      error

	offset    spool.Offset     // where it is in the spool; zero for a record in the portal's queue
	wasParked bool             // it was parked when it was taken, so it may stand for changes of other users
	raw       *json.RawMessage // behind a pointer, so that fmt prints no payload
}

// Raw returns the record as the portal sent it, payload in clear. The caller must not change it.
func (r Record) Raw() json.RawMessage {
	if r.raw == nil {
		return nil
	}
	return *r.raw
}

// time returns when the record changed last; zero if it could not be read.
func (r Record) time() time.Time {
	if r.Delivery == nil {
		return time.Time{}
	}
	return r.Delivery.Time
}

// Batch is what one reservation holds.
type Batch struct {
	ProcessID string   // of the reservation; there is one even if there are no records
	Records   []Record // in the order in which they changed last
}

// withProof sets the proof of the deliveries in a batch.
func (b Batch) withProof(p event.Proof) Batch {
	for _, r := range b.Records {
		if r.Delivery != nil {
			r.Delivery.SetProof(p)
		}
	}
	return b
}

// newRecord reads a row. processID is the reservation that returned it, for rows that do not name
// theirs.
func newRecord(row json.RawMessage, processID string, parked bool) Record {
	var wire struct {
		ID        text `json:"ID"`
		MessageID text `json:"MESSAGE_ID"`
		ProcessID text `json:"PROCESS_ID"`
		Error     text `json:"ERROR"`
	}
	r := Record{ProcessID: processID, Parked: parked, raw: &row}
	if err := json.Unmarshal(row, &wire); err != nil {
		r.Err = fmt.Errorf("%w: a record is not an object", ErrBadResponse)
		return r
	}
	r.ID, _ = strconv.ParseInt(string(wire.ID), 10, 64)
	r.MessageID = string(wire.MessageID)
	if wire.ProcessID != "" {
		r.ProcessID = string(wire.ProcessID)
	}
	r.Parked = r.Parked || wire.Error == "1" || wire.Error == "Y"
	if r.Delivery, r.Err = event.ParseRecord(row); r.Err != nil {
		r.Delivery = nil
		return r
	}
	r.Delivery.Source = event.SourceOffline
	r.Delivery.ProcessID = r.ProcessID
	return r
}

// newRecords reads the rows of a response and puts them in the order of their last change. The
// portal sorts by time, to the second. Within a second, the IDs of the rows decide.
func newRecords(all rows, processID string, parked bool) []Record {
	records := make([]Record, len(all))
	for i, row := range all {
		records[i] = newRecord(row, processID, parked)
	}
	sortRecords(records)
	return records
}

func sortRecords(records []Record) {
	slices.SortStableFunc(records, func(a, b Record) int {
		return cmp.Or(a.time().Compare(b.time()), cmp.Compare(a.ID, b.ID))
	})
}

// text reads a scalar that comes as a string, a number or a flag. Anything else becomes empty.
type text string

// UnmarshalJSON never fails: a row with one odd column must not hide the others.
func (t *text) UnmarshalJSON(doc []byte) error {
	*t = ""
	switch {
	case len(doc) == 0:
	case doc[0] == '"':
		var s string
		if json.Unmarshal(doc, &s) == nil {
			*t = text(strings.TrimSpace(s))
		}
	case doc[0] == '-' || (doc[0] >= '0' && doc[0] <= '9'):
		*t = text(doc)
	case string(doc) == "true":
		*t = "1"
	}
	return nil
}

// rows are the unread rows of a response. PHP writes an empty list in several ways.
type rows []json.RawMessage

// UnmarshalJSON accepts a list, or any of PHP's empty values.
func (r *rows) UnmarshalJSON(doc []byte) error {
	*r = nil
	switch string(bytes.Join(bytes.Fields(doc), nil)) {
	case "null", "false", `""`, "{}":
		return nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(doc, &list); err != nil {
		return fmt.Errorf("%w: records are not a list", ErrBadResponse)
	}
	*r = list
	return nil
}
