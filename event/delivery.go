package event

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
	"unsafe"

	"github.com/b24events/b24events/internal/phpform"
)

// Kind tells the bodies that Bitrix24 posts to an application apart.
type Kind string

// The kinds of a posted body.
const (
	// KindEvent is an event: it has the key event.
	KindEvent Kind = "event"
	// KindFrame is the opening of an application page or placement: DOMAIN, AUTH_ID, PLACEMENT.
	KindFrame Kind = "frame"
	// KindHandler is a call of an automation rule or workflow activity: code, workflow_id,
	// document_id.
	KindHandler Kind = "handler"
	// KindUnknown is any other well-formed body.
	KindUnknown Kind = "unknown"
)

// Source tells how a delivery came.
type Source string

// The sources of a delivery. [Parse] leaves it empty; whoever received the delivery sets it.
const (
	SourceOnline  Source = "online"
	SourceOffline Source = "offline"
)

// Delivery is one event as it reached us, over HTTP or from the offline queue. It is not generic,
// so that middleware, queues and logs share one type; [On] and [Descriptor.Decode] give the typed
// payload.
//
// A Delivery must not be changed once it was handed to a handler. Printing it, logging it and
// encoding it to JSON redact every token, wherever it stands, of the value and of a pointer; see
// [Delivery.Redact] and [Delivery.MarshalUnredacted]. encoding/gob refuses it.
type Delivery struct { //nolint:recvcheck // what prints takes the value, so that a value prints like a pointer
	Kind      Kind
	Name      string    // wire name in upper case, such as ONCRMDEALUPDATE; empty for other kinds than KindEvent
	HandlerID int64     // event_handler_id, the portal's number of the binding; 0 where absent
	Time      time.Time // when the event fired on the portal (ts), UTC, to the second; zero where absent
	Auth      Auth
	Data      Data
	Source    Source
	Proof     Proof // what established where the delivery comes from; zero until it was verified

	// For records of the offline queue only.
	ID        int64  // number of the row in the portal's queue
	MessageID string // MESSAGE_ID, opaque
	ProcessID string // the reservation that holds the row

	misfits []Misfit // of the payload that a handler got
	body    held
}

// held is the body of a delivery, in one text, of which Data and the texts of Auth are parts.
type held struct {
	packed string // the whole body; empty if the delivery was not parsed
	bytes  int32  // of memory, beside that of Delivery
	n      int32  // bytes of the body that was parsed
	left   bool   // packed holds only what Extra returns
	row    bool   // it is a record of the offline queue
}

// hold keeps the decoded body, which had n bytes.
func (d *Delivery) hold(root phpform.Value, n int) {
	d.body = held{packed: root.Packed(), bytes: int32(root.Size()), n: int32(n)} //nolint:gosec // bounded by phpform
}

func (h *held) root() phpform.Value { return phpform.Unpacked(h.packed) }

const deliveryBytes = int64(unsafe.Sizeof(Delivery{}))

// Size returns about how many bytes of memory d holds. For a delivery that was parsed that is less
// than twice the length of its body plus 512, hostile ones included. Limits on what waits or is
// stored count this number. Texts of a [Proof] do not count: they are those of the receiver.
func (d *Delivery) Size() int64 {
	if d.body.n > 0 {
		return deliveryBytes + int64(d.body.bytes)
	}
	return deliveryBytes + d.textBytes() + d.Data.v.Size()
}

// textBytes is the length of the texts outside Data.
func (d *Delivery) textBytes() int64 {
	a := &d.Auth
	return int64(len(d.Name) + len(a.AccessToken) + len(a.RefreshToken) + len(a.ApplicationToken) + len(a.Scope) + len(a.Domain) +
		len(a.MemberID) + len(a.ServerEndpoint) + len(a.ClientEndpoint) + len(a.Status) + len(d.MessageID) + len(d.ProcessID))
}

// restore gives a stored delivery of n bytes its data, and what [Delivery.Extra] returns.
func (d *Delivery) restore(data, extra phpform.Value, n int) {
	d.Data = d.data(data)
	d.body = held{packed: extra.Packed(), left: true, n: int32(n)}   //nolint:gosec // bounded by what was stored
	d.body.bytes = int32(d.textBytes() + data.Size() + extra.Size()) //nolint:gosec // no more than that
}

// Key identifies the delivery for deduplication: the same for a delivery that is sent twice,
// different for another change of the same object (unless both fell into one second: Bitrix24
// numbers no deliveries, so this is the best there is). It reveals nothing of the data. Mark a key
// as seen only after the handler succeeded, or an error loses the event.
func (d *Delivery) Key() string {
	h := sha256.New()
	for _, part := range []string{
		d.Proof.ClientID, d.Auth.MemberID, d.Name, string(d.Source), d.MessageID,
		strconv.FormatInt(d.HandlerID, 10), strconv.FormatInt(d.ID, 10), strconv.FormatInt(d.Time.Unix(), 10),
	} {
		_, _ = fmt.Fprintf(h, "%d:%s", len(part), part) // lengths keep neighbours apart
	}
	h.Write(d.Data.v.AppendJSON(nil))
	return hex.EncodeToString(h.Sum(nil)[:16])
}
