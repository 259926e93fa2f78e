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

// Kind is the kind of a body that Bitrix24 posts to an application.
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

// Source is the way a delivery took.
type Source string

// The sources of a delivery. [Parse] leaves it empty, and the receiver sets it.
const (
	SourceOnline  Source = "online"
	SourceOffline Source = "offline"
	SourcePolled  Source = "polled"
)

// Delivery is one event as it arrived: over HTTP, from the offline queue, or polled from the log of
// a bot or a user. It is not generic, so that middleware, queues and logs share one type; [On] and
// [Descriptor.Decode] return the typed payload.
//
// Do not change a Delivery after a handler got it. Printing it, logging it and encoding it to JSON
// redact every token in it, for a value as for a pointer; see [Delivery.Redact] and
// [Delivery.MarshalUnredacted]. encoding/gob returns an error for it.
type Delivery struct { //nolint:recvcheck // what prints takes the value, so that a value prints like a pointer
	Kind      Kind
	Name      string    // wire name in upper case, such as ONCRMDEALUPDATE; empty unless Kind is KindEvent
	HandlerID int64     // event_handler_id, the portal's ID of the binding; 0 if absent
	Time      time.Time // when the event fired on the portal (ts), UTC, to the second; zero if absent
	Auth      Auth
	Data      Data
	Source    Source
	Proof     Proof // how the origin of the delivery was established; zero until it is verified

	ID int64 // of the row in the portal's offline queue, or of a polled event; 0 for online deliveries

	// For records of the offline queue only.
	MessageID string // MESSAGE_ID, opaque
	ProcessID string // the reservation that holds the row

	misfits []Misfit // of the payload that the handler received
	body    parsedBody
}

// parsedBody is the body of a delivery in one text. Data and the texts of Auth are parts of it.
type parsedBody struct {
	packed    string // the whole body; empty if the delivery was not parsed
	memory    int32  // bytes, besides those of Delivery
	length    int32  // bytes of the body that was parsed
	extraOnly bool   // packed holds only what Extra returns
	isRecord  bool   // it is a record of the offline queue
	isPolled  bool   // it was polled
}

// keepBody keeps the decoded body, which had n bytes.
func (d *Delivery) keepBody(root phpform.Value, n int) {
	d.body = parsedBody{packed: root.Packed(), memory: int32(root.Size()), length: int32(n)} //nolint:gosec // bounded by phpform
}

func (b *parsedBody) root() phpform.Value { return phpform.Unpacked(b.packed) }

const deliveryBytes = int64(unsafe.Sizeof(Delivery{}))

// Size returns about how many bytes of memory d holds. For a parsed delivery, that is less than
// twice the length of its body plus 512, even for a hostile body. Limits on waiting and stored
// deliveries use this number. The texts of a [Proof] do not count: they belong to the receiver.
func (d *Delivery) Size() int64 {
	if d.body.length > 0 {
		return deliveryBytes + int64(d.body.memory)
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
	d.body = parsedBody{packed: extra.Packed(), extraOnly: true, length: int32(n)} //nolint:gosec // bounded by what was stored
	d.body.memory = int32(d.textBytes() + data.Size() + extra.Size())              //nolint:gosec // no more than that
}

// Key identifies the delivery for deduplication. A delivery that is sent twice has the same key;
// another change of the same object has a different one. Two equal changes within one second share
// a key: Bitrix24 has no IDs for deliveries, so this is the best possible key. It reveals nothing
// of the data. Mark a key as seen only after the handler has succeeded; otherwise an error loses
// the event.
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
