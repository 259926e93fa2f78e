package natsstore

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/b24events/b24events/webhook"
)

// Headers of stored records. Their text is percent-encoded, because header values lose spaces at
// their ends.
const (
	headerName        = "B24-Event"
	headerMember      = "B24-Member"
	headerReceived    = "B24-Received" // microseconds since 1970
	headerAttempts    = "B24-Attempts"
	headerInterrupted = "B24-Interrupted"
	headerDue         = "B24-Due" // microseconds since 1970
	headerError       = "B24-Error"

	headerMsgID   = "Nats-Msg-Id"
	headerLastSeq = "Nats-Expected-Last-Subject-Sequence"
)

// headerRoom is how many bytes the headers of a record may take, including those that it gets when
// it is archived. An error of 512 bytes can be three times as long when it is encoded.
const headerRoom = 4 << 10

// recordID holds the parts of an ID: the partition, the sequence in the stream, and a random text.
// The text distinguishes records that had the same sequence. That happens when a stream was made
// again, or when the server lost its last messages in a power failure.
type recordID struct {
	part int
	seq  uint64
	uid  string
}

// maxUID bounds the random text.
const maxUID = 24

func (id recordID) String() string {
	return strconv.Itoa(id.part) + "-" + strconv.FormatUint(id.seq, 10) + "-" + id.uid
}

// parseID parses an ID. It accepts only what [recordID.String] returns.
func parseID(s string) (recordID, bool) {
	if len(s) > 64 {
		return recordID{}, false
	}
	part, rest, ok := strings.Cut(s, "-")
	if !ok {
		return recordID{}, false
	}
	number, uid, ok := strings.Cut(rest, "-")
	if !ok || !validUID(uid) {
		return recordID{}, false
	}
	p, err := strconv.ParseUint(part, 10, 16)
	if err != nil {
		return recordID{}, false
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil || seq == 0 {
		return recordID{}, false
	}
	id := recordID{part: int(p), seq: seq, uid: uid}
	return id, id.String() == s
}

// validUID reports whether a text can be the random part of an ID. A message that another program
// wrote into the stream has an empty one.
func validUID(s string) bool {
	return len(s) <= maxUID && !strings.ContainsFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') })
}

// newUID returns the random text of a new record.
func newUID() string { return rand.Text()[:16] }

// replayUID returns the text of a replayed record. It depends only on the archived record, so the
// server recognizes a repeated replay.
func replayUID(archived string, seq uint64) string {
	sum := sha256.Sum256([]byte(archived + " " + strconv.FormatUint(seq, 10)))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// recordHeader makes the headers of a pending record.
func recordHeader(r *webhook.Record, uid string) nats.Header {
	h := nats.Header{headerMsgID: {uid}, headerReceived: {strconv.FormatInt(r.Received.UnixMicro(), 10)}}
	setText(h, headerName, r.Name)
	setText(h, headerMember, r.MemberID)
	return h
}

func setText(h nats.Header, key, text string) {
	if text != "" {
		h[key] = []string{url.PathEscape(text)}
	}
}

func text(h nats.Header, key string) string {
	s := first(h, key)
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s // another program wrote it
}

func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func number(h nats.Header, key string) int64 {
	n, err := strconv.ParseInt(first(h, key), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// message is a stored message.
type message struct {
	subject string
	header  nats.Header
	data    []byte
	seq     uint64
	time    time.Time // when the server stored it

	pending uint64 // how many messages follow; set by a cursor only
}

// idOf returns the ID of the pending record in a message.
func (m *message) idOf(part int) recordID {
	uid := first(m.header, headerMsgID)
	if !validUID(uid) {
		uid = ""
	}
	return recordID{part, m.seq, uid}
}

// record returns the record in a message. The counters of a pending record are stored separately.
func (m *message) record(id string, part int) *webhook.Record {
	r := &webhook.Record{
		ID: id, Part: part, Name: text(m.header, headerName), MemberID: text(m.header, headerMember), Data: m.data,
		Received: fromMicros(number(m.header, headerReceived)),
	}
	if r.Received.IsZero() {
		r.Received = m.time.UTC().Truncate(time.Microsecond)
	}
	return r
}

// archived returns the record in a message of an archive.
func (m *message) archived(id recordID) *webhook.Record {
	r := m.record(id.String(), id.part)
	r.Attempts, r.Interrupted = int(number(m.header, headerAttempts)), int(number(m.header, headerInterrupted))
	r.Due = fromMicros(number(m.header, headerDue))
	r.Err = text(m.header, headerError)
	r.Settled = m.time.UTC().Truncate(time.Microsecond)
	return r
}

// fromMicros converts stored microseconds to a time; 0 is the zero time.
func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

// micros is the inverse of fromMicros.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// archiveHeader makes the headers of an archived copy of a pending record. They make the server
// store one copy only.
func archiveHeader(pending nats.Header, m webhook.Mark) nats.Header {
	h := nats.Header{headerLastSeq: {"0"}}
	for _, key := range []string{headerName, headerMember, headerReceived} {
		if v := first(pending, key); v != "" {
			h[key] = []string{v}
		}
	}
	if m.State != webhook.StateParked {
		return h
	}
	if m.Attempts != 0 {
		h[headerAttempts] = []string{strconv.Itoa(m.Attempts)}
	}
	if m.Interrupted != 0 {
		h[headerInterrupted] = []string{strconv.Itoa(m.Interrupted)}
	}
	if !m.Due.IsZero() {
		h[headerDue] = []string{strconv.FormatInt(micros(m.Due), 10)}
	}
	setText(h, headerError, m.Err)
	return h
}

// replayHeader makes the headers of an archived record that is pending again.
func replayHeader(archived nats.Header, uid string) nats.Header {
	h := nats.Header{headerMsgID: {uid}}
	for _, key := range []string{headerName, headerMember, headerReceived} {
		if v := first(archived, key); v != "" {
			h[key] = []string{v}
		}
	}
	return h
}

// counters is the content of a mark for a record that stays pending.
type counters struct {
	Attempts    int    `json:"attempts,omitempty"`
	Interrupted int    `json:"interrupted,omitempty"`
	Due         int64  `json:"due,omitempty"` // microseconds since 1970
	Err         string `json:"error,omitempty"`
}

func encodeCounters(m webhook.Mark) ([]byte, error) {
	data, err := json.Marshal(counters{m.Attempts, m.Interrupted, micros(m.Due), m.Err})
	if err != nil {
		return nil, fmt.Errorf("counters of a record: %w", err)
	}
	return data, nil
}

// apply copies the counters to a record.
func (c counters) apply(r *webhook.Record) {
	r.Attempts, r.Interrupted, r.Due, r.Err = c.Attempts, c.Interrupted, fromMicros(c.Due), c.Err
}

func decodeCounters(data []byte) counters {
	var c counters
	if json.Unmarshal(data, &c) != nil {
		return counters{}
	}
	return c
}
