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

// MaxBodyBytes is how much of a body [ParseRequest] reads at most, even if its caller sets a higher
// limit.
const MaxBodyBytes = 8 << 20

// Parse reads one posted body. contentType is the request's header. If it is empty, a body that
// starts with a brace counts as JSON and any other as a form. Parse also reads a record of
// event.offline.get as JSON; its Source is then [SourceOffline].
//
// Parse sets [Delivery.Kind] for events, application pages, automation handlers and everything
// else. It does not check who sent them. For kinds other than [KindEvent], Data holds the whole
// body. The delivery does not refer to body. It takes less memory than twice the length of body
// plus 512 bytes, even for a hostile body; see [Delivery.Size].
//
// Only the name of the event must be valid. Any other value in the envelope of an event that has
// the wrong shape, such as a user_id that is not a number, leaves its field zero and can be read in
// [Delivery.Extra].
//
// In a form, brackets nest as in PHP. In JSON, only objects nest: a key such as "data[FIELDS][ID]"
// is an unknown key of the envelope, which [Delivery.Extra] returns.
//
// Parse returns [ErrContentType], [ErrTooLarge] (too many keys, or nested too deep; the caller
// bounds the bytes) or [ErrMalformed], which is often a [DecodeError].
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
// middleware has read. It finds the same values as [Parse], but in alphabetical order of the keys.
// Pairs with broken escapes are lost, because http.Request.ParseForm drops them. ParseForm returns
// the errors of Parse.
func ParseForm(form url.Values) (*Delivery, error) {
	body := []byte(form.Encode())
	root, err := formatForm.decode(body)
	if err != nil {
		return nil, err
	}
	return deliveryOf(root, len(body))
}

// ParseRequest reads the body of r and parses it as [Parse] does. If the body is empty because a
// middleware called r.ParseForm or r.FormValue before, ParseRequest reads r.PostForm as [ParseForm]
// does. It ignores r.MultipartForm, because no Bitrix24 body has that content type. It reads at
// most [MaxBodyBytes]. For a lower limit, wrap r.Body with http.MaxBytesReader; ParseRequest
// returns its *http.MaxBytesError unchanged. It does not close the body.
//
// Only the body decides what a request is. The query never makes it an event, and never adds
// anything to an event. To Auth, it adds only the Domain of an application page. If the body is not
// an event, fields of the query are added to Data, unless the body has them too. Application pages
// have half of their fields in the query; of these, DOMAIN, PROTOCOL, LANG and APP_SID are added.
// The address of an automation rule has what its author wrote there; all of it is added except
// auth.
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
		f, body = formatForm, []byte(r.PostForm.Encode())
	case strings.TrimSpace(contentType) == "":
		f, _ = bodyFormat("", body) // by the body
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
		err = d.addQuery(r.URL.RawQuery)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// readBody reads the body of r, into one buffer if the client sends its length.
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

// addQuery adds to the data of d the fields of the query that the body does not have.
func (d *Delivery) addQuery(query string) error {
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

// isPageField reports whether the portal sends a field of an application page in the query.
func isPageField(name string) bool {
	return name == "DOMAIN" || name == "PROTOCOL" || name == "LANG" || name == "APP_SID"
}

type format int

const (
	formatForm format = iota
	formatJSON
)

const formType = "application/x-www-form-urlencoded"

func bodyFormat(contentType string, body []byte) (format, error) {
	if contentType == formType {
		return formatForm, nil // as Bitrix24 spells it
	}
	if strings.TrimSpace(contentType) == "" {
		if bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
			return formatJSON, nil
		}
		return formatForm, nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		return 0, ErrContentType // without the header, which is the sender's text
	}
	switch {
	case media == formType:
		return formatForm, nil
	case media == "application/json", strings.HasSuffix(media, "+json"):
		return formatJSON, nil
	default:
		return 0, ErrContentType
	}
}

// decode reads a body, which must have fields.
func (f format) decode(body []byte) (phpform.Value, error) {
	limits := phpform.Limits{Bytes: len(body) + 1}
	var root phpform.Value
	var err error
	if f == formatJSON {
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

// bodyError turns an error of package phpform into one of this package.
func bodyError(err error) error {
	var limit *phpform.LimitError
	if errors.As(err, &limit) {
		return fmt.Errorf("%w: more than %d %s", ErrTooLarge, limit.Limit, limit.What)
	}
	return withCause(ErrMalformed, err)
}

// deliveryOf returns the delivery of a decoded body, which had n bytes.
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

// kindOf returns the kind of a body without an event name, by the keys that only this kind has.
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
// EVENT_NAME, EVENT_DATA and so on. Its Auth has only the acting user's ID, because records carry
// no more; the caller adds the portal's MemberID. Only the name must be valid. Any other field
// whose value has the wrong shape is zero, and can be read in [Delivery.Extra], like all unknown
// fields.
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
