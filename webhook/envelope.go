package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/seal"
)

// The Data of a Record begins with the text recordMark, a byte with the version and a byte with the
// form. Then comes the content, or the ID of a key and the content encrypted with it. The content
// is the stored form of the delivery. In version 2 the texts of WithSavedContext are before it.
const (
	recordMark     = "b24r"
	recordVersion  = 1
	recordWithText = 2 // the version of records that have such texts
	formClear      = 0
	formSealed     = 1
	recordHeader   = len(recordMark) + 2
)

// errUnreadable is the error of a record that cannot be turned into a delivery.
var errUnreadable = errors.New("webhook: unreadable record")

// envelope turns deliveries into the Data of records and back.
type envelope struct{ keys seal.Keyring }

// newKey returns a key of WithEncryptionKey.
func newKey(key []byte) (seal.Key, error) {
	k, err := seal.NewKey(key, "b24events/webhook: key id")
	if err != nil {
		return k, misconfigured("an encryption key must be %d bytes, not %d", seal.KeySize, len(key))
	}
	return k, nil
}

// prepare removes from a delivery what must not be stored: without a key, the tokens. Handlers see
// the delivery without them even if it is never read back, so that a restart changes nothing for
// them. Events about the application keep their tokens, because their handlers need them to install
// it.
func (e envelope) prepare(d *event.Delivery) {
	if len(e.keys) == 0 && !isLifecycle(d) {
		d.DropTokens()
	}
}

// isLifecycle reports whether a delivery is about the application itself.
func isLifecycle(d *event.Delivery) bool { return strings.HasPrefix(d.Name, "ONAPP") }

// seal returns the Data of a record. The other fields of the record must be set.
func (e envelope) seal(rec *Record, d *event.Delivery) []byte {
	data := append(make([]byte, 0, recordHeader+storedBytes(d)), recordMark...)
	version := byte(recordVersion)
	if len(rec.saved) > 0 {
		version = recordWithText
	}
	if len(e.keys) == 0 {
		return appendContent(append(data, version, formClear), rec, d)
	}
	id := e.keys[0].ID
	data = append(append(data, version, formSealed), id...)
	return e.keys.Seal(data, appendContent(make([]byte, 0, storedBytes(d)), rec, d), boundTo(version, id, rec))
}

// appendContent appends what a record holds.
func appendContent(dst []byte, rec *Record, d *event.Delivery) []byte {
	if len(rec.saved) > 0 {
		dst = rec.saved.append(dst)
	}
	return d.AppendStored(dst)
}

// storedBytes is about how long the stored form of a delivery is.
func storedBytes(d *event.Delivery) int { return int(d.Size()) }

// open returns the delivery of a record, and what was saved of its request.
func (e envelope) open(rec *Record) (*event.Delivery, savedTexts, error) {
	version, doc, err := e.content(rec)
	if err != nil {
		return nil, nil, err
	}
	var saved savedTexts
	if version == recordWithText {
		var ok bool
		if saved, doc, ok = parseSaved(doc); !ok {
			return nil, nil, fmt.Errorf("%w: the texts before the delivery are damaged", errUnreadable)
		}
	}
	d, err := event.ParseStored(doc)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return d, saved, nil
}

// content returns the content of a record in clear, and its version.
func (e envelope) content(rec *Record) (version byte, doc []byte, err error) {
	data := rec.Data
	switch {
	case len(data) < recordHeader || string(data[:len(recordMark)]) != recordMark:
		return 0, nil, fmt.Errorf("%w: it does not begin like a record", errUnreadable)
	case data[len(recordMark)] != recordVersion && data[len(recordMark)] != recordWithText:
		return 0, nil, fmt.Errorf("%w: it has version %d, which another version of this package wrote", errUnreadable, data[len(recordMark)])
	}
	version, doc = data[len(recordMark)], data[recordHeader:]
	switch form := data[recordHeader-1]; form {
	case formClear:
	case formSealed:
		if len(doc) < seal.IDSize {
			return 0, nil, fmt.Errorf("%w: it is cut short", errUnreadable)
		}
		id := string(doc[:seal.IDSize])
		plain, known, ok := e.keys.Open(id, doc[seal.IDSize:], boundTo(version, id, rec))
		switch {
		case !known:
			return 0, nil, fmt.Errorf("%w: it is encrypted with a key that was not given; see WithEncryptionKey", errUnreadable)
		case !ok:
			return 0, nil, fmt.Errorf("%w: it is damaged, or belongs to another record", errUnreadable)
		}
		doc = plain
	default:
		return 0, nil, fmt.Errorf("%w: it has form %d, which another version of this package wrote", errUnreadable, form)
	}
	return version, doc, nil
}

// boundTo returns what is authenticated together with an encrypted record, so that nobody can give
// a record the data of another. The texts have no line breaks.
func boundTo(version byte, keyID string, rec *Record) []byte {
	title := "record"
	if version == recordWithText {
		title = "record with texts"
	}
	return fmt.Appendf(nil, "b24events/webhook: %s\n%s\n%d\n%d\n%s\n%s",
		title, keyID, rec.Part, rec.Received.UnixMicro(), rec.Name, rec.MemberID)
}

// maxLabel bounds the Name and the MemberID of a record, in bytes.
const maxLabel = 128

// label makes a text fit for the Name and the MemberID of a [Record]: printable ASCII, so that no
// database refuses it.
func label(text string) string {
	plain := true
	for i := range len(text) {
		plain = plain && text[i] > ' ' && text[i] < 0x7f
	}
	if plain && len(text) <= maxLabel {
		return text
	}
	var b strings.Builder
	for _, c := range []byte(text[:min(len(text), maxLabel)]) {
		if c <= ' ' || c >= 0x7f {
			c = '?'
		}
		b.WriteByte(c)
	}
	return b.String()
}
