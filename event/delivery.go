package event

import (
	"time"
)

// Kind tells the bodies that Bitrix24 posts to an application apart.
type Kind string

// The kinds of a posted body.
const (
	// KindEvent is an event: it has the key event.
	KindEvent Kind = "event"
	// KindFrame is the opening of an application page or placement: DOMAIN, AUTH_ID, PLACEMENT.
	KindFrame Kind = "frame"
	// KindHandler is a call of an automation rule or workflow activity: code, workflow_id, document_id.
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

// Delivery is one event as it reached us, over HTTP or from the offline queue. It is not generic, so that middleware,
// queues and logs share one type; [On] and [Descriptor.Decode] give the typed payload.
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
}

// Auth is the auth block of a body. Before the delivery was verified, everything in it is the
// sender's claim. Afterwards MemberID, Domain, ClientEndpoint and ServerEndpoint are proven or
// empty; see [Delivery.SetProof]. The tokens, the scope, the status and UserID stay what the sender
// says: whoever knows a portal's application token can write them.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
type Auth struct {
	AccessToken      Secret    // of the acting user, for about an hour; empty where the change had no user
	RefreshToken     Secret    // only with a few events, ONAPPINSTALL among them
	ApplicationToken Secret    // the shared secret that authenticates a delivery
	Expires          time.Time // of AccessToken, UTC; zero where unknown
	Scope            []string
	Domain           string // host of the portal, for display; never a key
	MemberID         string // key of the portal
	ServerEndpoint   string // REST base URL of the OAuth server
	ClientEndpoint   string // REST base URL of the portal
	Status           string // licence letter of the application: F, D, T, P, L, S
	UserID           int64  // whose token it is; 0 where unknown
}

// Entity names an object of a portal: see [Delivery.Entity], [Delivery.Lane] and [Delivery.CoalesceKey].
type Entity struct {
	Kind string `json:"kind"` // REST-style name, such as crm.deal; empty where the event names no object
	ID   string `json:"id"`
}

// Size returns about how many bytes of memory the data of d hold. A small body can hold a hundred
// times its own length, when it is made for that; limits on what waits or is stored count this
// number.
func (d *Delivery) Size() int64 { return d.Data.v.Size() }
