package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// MaxBodyBytes is the most that [ParseRequest] reads of a body, whatever limit its caller has set.
const MaxBodyBytes = 8 << 20

// Parse reads one posted body. contentType is the request's header; where it is empty, a body that
// starts with a brace is taken for JSON and any other for a form. The JSON form also takes a record
// of event.offline.get, whose Source is then [SourceOffline].
//
// Parse tells events, application pages, automation handlers and everything else apart in
// [Delivery.Kind]; it does not judge who sent them. For other kinds than [KindEvent], Data holds
// the whole body. The delivery does not refer to body, and holds memory of less than twice the
// length of body, plus 512 bytes, hostile bodies included; see [Delivery.Size].
//
// Only the name of the event must be right. Anything else in the envelope of an event that is not
// what it should be, such as a user_id that is no number, leaves its field zero and stays readable
// in [Delivery.Extra].
//
// In a form, brackets nest as in PHP. In JSON, objects nest: a key such as "data[FIELDS][ID]"
// stands for itself, so it is an unknown key of the envelope, which [Delivery.Extra] returns.
//
// Parse returns [ErrContentType], [ErrTooLarge] (too many keys, or too deep; bounding the bytes is
// up to the caller) or [ErrMalformed], the last of these often as a [DecodeError].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func Parse(contentType string, body []byte) (*Delivery, error) {
	f, err := bodyFormat(contentType, body)
	if err != nil {
		return nil, err
	}
	root, err := f.decode(body)
	if err != nil {
		return nil, err
	}
	return deliveryOf(root, len(body))
}

// ParseForm reads a body that was parsed before, usually the PostForm of a request whose body a
// middleware read. The values are those that [Parse] finds in the body. The order of the keys is
// lost: they come in alphabetical order. Pairs with broken escapes are lost too, because
// http.Request.ParseForm drops them. ParseForm returns the errors of Parse.
func ParseForm(form url.Values) (*Delivery, error) {
	body := []byte(form.Encode())
	root, err := formFormat.decode(body)
	if err != nil {
		return nil, err
	}
	return deliveryOf(root, len(body))
}

// ParseRequest reads the body of r and parses it as [Parse] does. If the body is empty because a
// middleware called r.ParseForm or r.FormValue before, ParseRequest reads r.PostForm as [ParseForm]
// does; r.MultipartForm belongs to a content type that no Bitrix24 body has. It reads at most
// [MaxBodyBytes]; give r.Body a lower limit with http.MaxBytesReader, whose *http.MaxBytesError
// comes back as it is. It does not close the body.
//
// The body alone decides what a request is. The query never makes it an event, and never adds
// anything to an event or to Auth. If the body is no event, the query joins Data, and the body
// wins: application pages carry half of their fields there, of which only DOMAIN (also in Auth),
// PROTOCOL, LANG and APP_SID join; the address of an automation rule carries whatever its author
// wrote there, of which everything joins but auth.
func ParseRequest(r *http.Request) (*Delivery, error) {
	contentType := r.Header.Get("Content-Type")
	f, err := bodyFormat(contentType, nil)
	if err != nil {
		return nil, err // before the body is read
	}
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	switch {
	case len(body) == 0 && len(r.PostForm) > 0:
		f, body = formFormat, []byte(r.PostForm.Encode())
	case strings.TrimSpace(contentType) == "":
		f, _ = bodyFormat("", body) // the body tells
	}
	root, err := f.decode(body)
	switch {
	case err != nil && len(body) == 0 && r.ContentLength > 0:
		return nil, fmt.Errorf("%w: the body is empty, because something read it before", ErrMalformed)
	case err != nil:
		return nil, err
	}
	d, err := deliveryOf(root, len(body))
	if err == nil && d.Kind != KindEvent && r.URL != nil && r.URL.RawQuery != "" {
		err = d.join(r.URL.RawQuery)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// readBody reads the body of r, in one buffer if the client tells its length.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	const most = 64 << 10 // more is allocated for what arrived, not for what was announced
	body := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), most)+bytes.MinRead))
	if _, err := body.ReadFrom(io.LimitReader(r.Body, MaxBodyBytes+1)); err != nil {
		return nil, fmt.Errorf("event: reading the body: %w", err)
	}
	if body.Len() > MaxBodyBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBodyBytes)
	}
	return body.Bytes(), nil
}

// join adds to the data of d what the query says and the body does not.
func (d *Delivery) join(query string) error {
	added, err := phpform.Decode(query, phpform.Limits{})
	if err != nil {
		return bodyError(err)
	}
	entries := d.Data.v.Entries()
	taken := map[string]bool{"AUTH": true}
	for _, e := range entries {
		taken[strings.ToUpper(e.Key)] = true
	}
	for key, v := range added.All() {
		name := strings.ToUpper(key)
		if !taken[name] && (d.Kind != KindFrame || isPageField(name)) {
			entries = append(entries, phpform.Entry{Key: key, Value: v})
			if d.Kind == KindFrame && name == "DOMAIN" && v.Kind() == phpform.String {
				d.Auth.Domain = strings.TrimSpace(v.Scalar())
			}
		}
	}
	root := phpform.Map(entries...).Pack()
	d.keepBody(root, int(d.body.length)+len(query))
	d.Data = d.data(root)
	return nil
}

// isPageField reports whether the portal writes a field of an application page into the query.
func isPageField(name string) bool {
	return name == "DOMAIN" || name == "PROTOCOL" || name == "LANG" || name == "APP_SID"
}

type format int

const (
	formFormat format = iota
	jsonFormat
)

const formType = "application/x-www-form-urlencoded"

func bodyFormat(contentType string, body []byte) (format, error) {
	if contentType == formType {
		return formFormat, nil // as Bitrix24 writes it
	}
	if strings.TrimSpace(contentType) == "" {
		if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
			return jsonFormat, nil
		}
		return formFormat, nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return 0, ErrContentType // the header is the sender's text; it stays out of the error
	}
	switch {
	case media == formType:
		return formFormat, nil
	case media == "application/json", strings.HasSuffix(media, "+json"):
		return jsonFormat, nil
	default:
		return 0, ErrContentType
	}
}

// decode reads a body, which must have fields.
func (f format) decode(body []byte) (phpform.Value, error) {
	limits := phpform.Limits{Bytes: len(body) + 1}
	var root phpform.Value
	var err error
	if f == jsonFormat {
		root, err = phpform.DecodeJSON(body, limits)
	} else {
		root, err = phpform.Decode(body, limits)
	}
	if err != nil {
		return phpform.Value{}, bodyError(err)
	}
	if root.Empty() {
		return phpform.Value{}, fmt.Errorf("%w: no fields", ErrMalformed)
	}
	return root, nil
}

// bodyError turns the codec's errors into those of this package.
func bodyError(err error) error {
	var limit *phpform.LimitError
	if errors.As(err, &limit) {
		return fmt.Errorf("%w: more than %d %s", ErrTooLarge, limit.Limit, limit.What)
	}
	return withCause(ErrMalformed, err)
}

// deliveryOf makes a delivery of a decoded body of n bytes.
func deliveryOf(root phpform.Value, n int) (*Delivery, error) {
	var top envelope
	top.read(root)
	d := &Delivery{}
	d.keepBody(root, n)
	if name, ok := top.get(topEvent); ok {
		return d.readEvent(name, &top)
	}
	if name, ok := root.Get("EVENT_NAME"); ok {
		return d.readRecord(root, name)
	}
	d.Kind = kindOf(root)
	d.Data = d.data(root)
	if d.Kind == KindFrame {
		d.Auth.read(root, &pageNames, time.Time{})
		return d, nil
	}
	d.Time, _ = top.time()
	d.Auth.read(top[topAuth].v, &authNames, d.Time)
	return d, nil
}

// kindOf tells bodies without an event name apart by the keys that only they have.
func kindOf(root phpform.Value) Kind {
	has := func(keys ...string) bool {
		for _, key := range keys {
			if _, ok := root.GetFold(key); !ok {
				return false
			}
		}
		return true
	}
	switch {
	case has("workflow_id"), has("event_token"), has("document_id", "code"):
		return KindHandler
	case has("AUTH_ID"), has("DOMAIN", "APP_SID"), has("PLACEMENT", "member_id"):
		return KindFrame
	default:
		return KindUnknown
	}
}

// ParseRecord reads one record of event.offline.get or event.offline.list, a JSON object with
// EVENT_NAME, EVENT_DATA and so on. The delivery has no Auth but the acting user's ID, since
// records carry none; the caller adds the portal's MemberID. Only the name must be right. Another
// field that is not what it should be stays zero, and is readable in [Delivery.Extra], as
// everything is that is not known.
//
// It returns [ErrMalformed] or [ErrTooLarge].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-get.html
func ParseRecord(record json.RawMessage) (*Delivery, error) {
	root, err := phpform.DecodeJSON(record, phpform.Limits{Bytes: len(record) + 1})
	if err != nil {
		return nil, bodyError(err)
	}
	name, ok := root.GetFold("EVENT_NAME")
	if !ok {
		return nil, mismatch("EVENT_NAME", "an event name")
	}
	d := &Delivery{}
	d.keepBody(root, len(record))
	return d.readRecord(root, name)
}
