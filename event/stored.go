package event

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// A stored delivery is the text storedMark, a byte with the version, the fields in a fixed order
// and a CRC-32C of all that. Numbers are varints, and a text begins with its length. A value is a
// byte with its kind, followed by its text, or by the number of its elements and the key and value
// of each.
const (
	storedMark    = "b24d"
	storedVersion = 1
	storedSum     = 4 // bytes of the checksum
)

// The first byte of a stored value is its kind.
const (
	storedNull   = 'z'
	storedString = 's'
	storedNumber = 'n'
	storedTrue   = 't'
	storedFalse  = 'f'
	storedArray  = 'a'
)

// storedDepth bounds the nesting of stored values. What [Parse] accepts is less deep.
const storedDepth = 2 * phpform.DefaultMaxDepth

// AppendStored appends d to dst in a form that [ParseStored] reads back without loss: the envelope
// with its tokens, the proof, the data and what [Delivery.Extra] returns. It is for queues and
// journals. The form is binary, starts with its version, and holds the tokens in clear: encrypt it,
// or keep it where you would keep the tokens. JSON is for people and cannot be read back.
func (d *Delivery) AppendStored(dst []byte) []byte {
	start := len(dst)
	w := storedWriter{append(append(dst, storedMark...), storedVersion)}
	w.text(string(d.Kind))
	w.text(d.Name)
	w.int(d.HandlerID)
	w.time(d.Time)
	w.text(string(d.Source))
	w.auth(&d.Auth)
	w.proof(&d.Proof)
	w.int(d.ID)
	w.text(d.MessageID)
	w.text(d.ProcessID)
	w.value(d.Data.v)
	w.value(d.Extra().v)
	return binary.LittleEndian.AppendUint32(w.b, storedChecksum(w.b[start:]))
}

// ParseStored reads what [Delivery.AppendStored] wrote. The delivery does not refer to doc. Its
// [Proof] is that of the stored delivery, so read only documents that you stored yourself.
//
// It returns an error that matches [ErrStored] if doc is not a stored delivery, has the format of
// another version of this package, or is damaged.
func ParseStored(doc []byte) (*Delivery, error) {
	switch {
	case len(doc) <= len(storedMark) || string(doc[:len(storedMark)]) != storedMark:
		return nil, fmt.Errorf("%w: it does not begin as one", ErrStored)
	case doc[len(storedMark)] != storedVersion:
		return nil, fmt.Errorf("%w of version %d: it has version %d, which another version of this package wrote",
			ErrStored, storedVersion, doc[len(storedMark)])
	case len(doc) < len(storedMark)+1+storedSum:
		return nil, fmt.Errorf("%w: it is cut short", ErrStored)
	}
	body, sum := doc[:len(doc)-storedSum], binary.LittleEndian.Uint32(doc[len(doc)-storedSum:])
	if storedChecksum(body) != sum {
		return nil, fmt.Errorf("%w: its checksum is wrong, so it is damaged or cut short", ErrStored)
	}
	r := storedReader{b: body[len(storedMark)+1:]}
	d := &Delivery{}
	d.Kind = Kind(r.text())
	d.Name = r.text()
	d.HandlerID = r.int()
	d.Time = r.time()
	d.Source = Source(r.text())
	r.auth(&d.Auth)
	r.proof(&d.Proof)
	d.ID = r.int()
	d.MessageID = r.text()
	d.ProcessID = r.text()
	data := r.value(storedDepth)
	extra := r.value(storedDepth)
	if r.broken || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: its fields do not fit its format", ErrStored)
	}
	d.restore(data.Pack(), extra.Pack(), len(doc))
	return d, nil
}

func storedChecksum(doc []byte) uint32 {
	return crc32.Checksum(doc, crc32.MakeTable(crc32.Castagnoli))
}

type storedWriter struct{ b []byte }

func (w *storedWriter) int(n int64) { w.b = binary.AppendVarint(w.b, n) }

func (w *storedWriter) text(s string) {
	w.b = binary.AppendUvarint(w.b, uint64(len(s)))
	w.b = append(w.b, s...)
}

// time writes seconds and nanoseconds, and -1 nanoseconds for the zero time.
func (w *storedWriter) time(t time.Time) {
	if t.IsZero() {
		w.int(0)
		w.int(-1)
		return
	}
	w.int(t.Unix())
	w.int(int64(t.Nanosecond()))
}

func (w *storedWriter) auth(a *Auth) {
	w.text(string(a.AccessToken))
	w.text(string(a.RefreshToken))
	w.text(string(a.ApplicationToken))
	w.time(a.Expires)
	w.text(string(a.Scope))
	w.text(a.Domain)
	w.text(a.MemberID)
	w.text(a.ServerEndpoint)
	w.text(a.ClientEndpoint)
	w.text(a.Status)
	w.int(a.UserID)
}

func (w *storedWriter) proof(p *Proof) {
	w.text(string(p.By))
	w.text(p.ClientID)
	w.text(p.MemberID)
	w.text(p.ClientEndpoint)
	w.text(p.ServerEndpoint)
}

func (w *storedWriter) value(v phpform.Value) {
	switch v.Kind() {
	case phpform.Null:
		w.b = append(w.b, storedNull)
	case phpform.String:
		w.b = append(w.b, storedString)
		w.text(v.Scalar())
	case phpform.Number:
		w.b = append(w.b, storedNumber)
		w.text(v.Scalar())
	case phpform.Bool:
		if v.Scalar() == "" {
			w.b = append(w.b, storedFalse)
		} else {
			w.b = append(w.b, storedTrue)
		}
	case phpform.Array:
		w.b = binary.AppendUvarint(append(w.b, storedArray), uint64(v.Len())) //nolint:gosec // not negative
		for key, item := range v.All() {
			w.text(key)
			w.value(item)
		}
	}
}

// storedReader reads fields. After the first one that does not fit, it reads nothing more.
type storedReader struct {
	b      []byte
	broken bool
}

func (r *storedReader) fail() { r.b, r.broken = nil, true }

func (r *storedReader) int() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads how many bytes, or elements of one byte or more, follow.
func (r *storedReader) count() int {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(max(len(r.b)-size, 0)) {
		r.fail()
		return 0
	}
	r.b = r.b[size:]
	return int(n) //nolint:gosec // at most the length of a slice
}

func (r *storedReader) text() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *storedReader) time() time.Time {
	sec, nano := r.int(), r.int()
	if nano < 0 {
		return time.Time{}
	}
	if nano > math.MaxInt32 {
		r.fail()
	}
	return time.Unix(sec, nano).UTC()
}

func (r *storedReader) auth(a *Auth) {
	a.AccessToken = Secret(r.text())
	a.RefreshToken = Secret(r.text())
	a.ApplicationToken = Secret(r.text())
	a.Expires = r.time()
	a.Scope = Scope(r.text())
	a.Domain = r.text()
	a.MemberID = r.text()
	a.ServerEndpoint = r.text()
	a.ClientEndpoint = r.text()
	a.Status = r.text()
	a.UserID = r.int()
}

func (r *storedReader) proof(p *Proof) {
	p.By = ProofKind(r.text())
	p.ClientID = r.text()
	p.MemberID = r.text()
	p.ClientEndpoint = r.text()
	p.ServerEndpoint = r.text()
}

func (r *storedReader) value(depth int) phpform.Value {
	if len(r.b) == 0 || depth == 0 {
		r.fail()
		return phpform.Value{}
	}
	kind := r.b[0]
	r.b = r.b[1:]
	switch kind {
	case storedNull:
		return phpform.Value{}
	case storedString:
		return phpform.Text(r.text())
	case storedNumber:
		return phpform.NumberText(r.text())
	case storedTrue, storedFalse:
		return phpform.Boolean(kind == storedTrue)
	case storedArray:
		return r.array(depth - 1)
	default:
		r.fail()
		return phpform.Value{}
	}
}

func (r *storedReader) array(depth int) phpform.Value {
	n := r.count()
	var entries []phpform.Entry // grows with what is there, whatever n says
	for range n {
		key := r.text()
		entries = append(entries, phpform.Entry{Key: key, Value: r.value(depth)})
		if r.broken {
			return phpform.Value{}
		}
	}
	return phpform.Map(entries...)
}
