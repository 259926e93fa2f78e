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
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// MaxBodyBytes is the most that [ParseRequest] reads of a body, whatever limit its caller has set.
const MaxBodyBytes = 8 << 20

// maxName is the width of the portal's own column for event names.
const maxName = 255

// Parse reads one posted body. contentType is the request's header; where it is empty, a body that starts with a brace is
// taken for JSON and any other for a form. The JSON form also takes a record of event.offline.get, whose Source is then
// [SourceOffline].
//
// Parse tells events, application pages, automation handlers and everything else apart in [Delivery.Kind]; it does not judge who
// sent them. For other kinds than [KindEvent], Data holds the whole body. The delivery does not refer to body. Parse returns
// [ErrContentType], [ErrTooLarge] (too many keys, or too deep; bounding the bytes is up to the caller) or [ErrMalformed], the last of
// these often as a [DecodeError].
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
func Parse(contentType string, body []byte) (*Delivery, error) {
	root, err := parseBody(contentType, body)
	if err != nil {
		return nil, err
	}
	return deliveryOf(root)
}

// ParseRequest reads the body of r and parses it as [Parse] does. Application pages carry half of their fields in the query
// (DOMAIN, PROTOCOL, LANG, APP_SID): these join Data, and the body wins. It reads at most [MaxBodyBytes]; give r.Body a lower limit with
// http.MaxBytesReader, whose *http.MaxBytesError comes back as it is. It does not close the body.
func ParseRequest(r *http.Request) (*Delivery, error) {
	if _, err := bodyFormat(r.Header.Get("Content-Type"), nil); err != nil {
		return nil, err // before the body is read
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBodyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("event: reading the body: %w", err)
	}
	if len(body) > MaxBodyBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBodyBytes)
	}
	root, err := parseBody(r.Header.Get("Content-Type"), body)
	if err != nil {
		return nil, err
	}
	if _, isEvent := root.GetFold("event"); !isEvent && r.URL.RawQuery != "" {
		if root, err = withQuery(root, r.URL); err != nil {
			return nil, err
		}
	}
	return deliveryOf(root)
}

// withQuery adds what the query says and the body does not.
func withQuery(root phpform.Value, u *url.URL) (phpform.Value, error) {
	query, err := phpform.Decode(u.RawQuery, phpform.Limits{})
	if err != nil {
		return phpform.Value{}, bodyError(err)
	}
	entries := append([]phpform.Entry(nil), root.Entries()...)
	for _, e := range query.Entries() {
		if _, ok := root.Get(e.Key); !ok {
			entries = append(entries, e)
		}
	}
	return phpform.Map(entries...), nil
}

type format int

const (
	formFormat format = iota
	jsonFormat
)

func bodyFormat(contentType string, body []byte) (format, error) {
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
	case media == "application/x-www-form-urlencoded":
		return formFormat, nil
	case media == "application/json", strings.HasSuffix(media, "+json"):
		return jsonFormat, nil
	default:
		return 0, ErrContentType
	}
}

func parseBody(contentType string, body []byte) (phpform.Value, error) {
	f, err := bodyFormat(contentType, body)
	if err != nil {
		return phpform.Value{}, err
	}
	limits := phpform.Limits{Bytes: len(body) + 1}
	var root phpform.Value
	if f == jsonFormat {
		root, err = phpform.DecodeJSON(body, limits)
	} else {
		root, err = phpform.Decode(string(body), limits)
	}
	if err != nil {
		return phpform.Value{}, bodyError(err)
	}
	if root.Kind() != phpform.Array || root.Len() == 0 {
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
	return because(ErrMalformed, err)
}

func deliveryOf(root phpform.Value) (*Delivery, error) {
	if name, ok := root.GetFold("event"); ok {
		return eventDelivery(root, name)
	}
	if name, ok := root.Get("EVENT_NAME"); ok {
		return offlineDelivery(root, name)
	}
	d := &Delivery{Kind: kindOf(root)}
	d.Data = d.data(root)
	var err error
	switch d.Kind {
	case KindFrame:
		d.Auth, err = frameAuth(root)
	case KindHandler, KindUnknown, KindEvent:
		if d.Time, err = fieldTime(root, "ts"); err != nil {
			return nil, err
		}
		d.Auth, err = eventAuth(root, d.Time)
	}
	if err != nil {
		return nil, err
	}
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

func eventDelivery(root, name phpform.Value) (*Delivery, error) {
	d := &Delivery{Kind: KindEvent}
	var err error
	if d.Name, err = wireName(name, "event"); err != nil {
		return nil, err
	}
	if d.HandlerID, err = handlerID(root); err != nil {
		return nil, d.in(err)
	}
	if d.Time, err = fieldTime(root, "ts"); err != nil {
		return nil, d.in(err)
	}
	if d.Auth, err = eventAuth(root, d.Time); err != nil {
		return nil, d.in(err)
	}
	data, _ := root.GetFold("data")
	d.Data = d.data(data)
	return d, nil
}

// in puts the event's name into a DecodeError.
func (d *Delivery) in(err error) error {
	var de *DecodeError
	if errors.As(err, &de) && de.Event == "" {
		de.Event = d.printableName()
	}
	return err
}

// printableName is the name where the catalogue has it: any other is the sender's text.
func (d *Delivery) printableName() string {
	if _, ok := Lookup(d.Name); ok {
		return d.Name
	}
	return "unknown event"
}

func wireName(v phpform.Value, path string) (string, error) {
	name := strings.ToUpper(strings.TrimSpace(v.Scalar()))
	if v.Kind() != phpform.String || name == "" || len(name) > maxName {
		return "", mismatch(path, "an event name")
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return "", mismatch(path, "an event name")
		}
	}
	return name, nil
}

// handlerID reads event_handler_id; a few samples of the documentation call it eventId.
func handlerID(root phpform.Value) (int64, error) {
	for _, key := range []string{"event_handler_id", "eventId"} {
		if v, ok := root.GetFold(key); ok && !isEmpty(v) {
			n, whole := parseInt(strings.TrimSpace(v.Scalar()))
			if !whole {
				return 0, mismatch(key, "an integer")
			}
			return n, nil
		}
	}
	return 0, nil
}

func fieldTime(root phpform.Value, key string) (time.Time, error) {
	v, _ := root.GetFold(key)
	if isEmpty(v) {
		return time.Time{}, nil
	}
	sec, whole := parseInt(strings.TrimSpace(v.Scalar()))
	t, ok := unixTime(sec)
	if !whole || !ok {
		return time.Time{}, mismatch(key, "a time in unix seconds")
	}
	return t, nil
}

func eventAuth(root phpform.Value, fired time.Time) (Auth, error) {
	block, _ := root.GetFold("auth")
	if isEmpty(block) {
		return Auth{}, nil
	}
	if block.Kind() != phpform.Array {
		return Auth{}, mismatch("auth", "an object")
	}
	return authOf(block, "auth.", authKeys, fired)
}

// frameAuth reads the credentials of an application page, which stand under names of their own.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/simple-way.html
func frameAuth(root phpform.Value) (Auth, error) { return authOf(root, "", frameKeys, time.Time{}) }

// authKeys and frameKeys say which key (in lower case) fills which field.
var (
	authKeys = map[string]authField{
		"access_token": accessField, "refresh_token": refreshField, "application_token": applicationField,
		"expires": expiresField, "expires_in": expiresInField, "scope": scopeField, "domain": domainField,
		"member_id": memberField, "server_endpoint": serverField, "client_endpoint": clientField,
		"status": statusField, "user_id": userField,
	}
	frameKeys = map[string]authField{
		"auth_id": accessField, "refresh_id": refreshField, "application_token": applicationField,
		"application_scope": scopeField, "domain": domainField, "member_id": memberField,
		"server_endpoint": serverField, "status": statusField,
	}
)

type authField int

const (
	accessField authField = iota + 1
	refreshField
	applicationField
	expiresField
	expiresInField
	scopeField
	domainField
	memberField
	serverField
	clientField
	statusField
	userField
)

func authOf(block phpform.Value, path string, keys map[string]authField, fired time.Time) (Auth, error) {
	var a Auth
	var lifetime time.Duration
	for _, e := range block.Entries() {
		field := keys[e.Key]
		if field == 0 {
			field = keys[strings.ToLower(e.Key)]
		}
		if field == 0 || isEmpty(e.Value) {
			continue
		}
		if field == scopeField {
			a.Scope = scopes(e.Value)
			continue
		}
		if e.Value.Kind() == phpform.Array {
			return Auth{}, mismatch(path+strings.ToLower(e.Key), "a single value")
		}
		text := strings.TrimSpace(e.Value.Scalar())
		switch field {
		case accessField:
			a.AccessToken = Secret(text)
		case refreshField:
			a.RefreshToken = Secret(text)
		case applicationField:
			a.ApplicationToken = Secret(text)
		case domainField:
			a.Domain = text
		case memberField:
			a.MemberID = text
		case serverField:
			a.ServerEndpoint = text
		case clientField:
			a.ClientEndpoint = text
		case statusField:
			a.Status = text
		default:
			n, whole := parseInt(text)
			if !whole {
				return Auth{}, mismatch(path+strings.ToLower(e.Key), "an integer")
			}
			switch field { //nolint:exhaustive // the outer switch took the others
			case expiresField:
				a.Expires, _ = unixTime(n)
			case expiresInField:
				lifetime = time.Duration(min(max(n, 0), maxLifetime)) * time.Second
			case userField:
				a.UserID = n
			}
		}
	}
	if a.Expires.IsZero() && lifetime > 0 && !fired.IsZero() {
		a.Expires = fired.Add(lifetime)
	}
	return a, nil
}

// maxLifetime, in seconds, keeps an absurd expires_in from overflowing; real tokens live for 3,600.
const maxLifetime = 366 * 24 * 3600

// scopes reads a scope list, which comes separated by commas or spaces, or as a list.
func scopes(v phpform.Value) []string {
	split := func(c rune) bool { return c == ',' || c == ' ' }
	if v.Kind() != phpform.Array {
		return strings.FieldsFunc(v.Scalar(), split)
	}
	var all []string
	for _, e := range v.Entries() {
		all = append(all, strings.FieldsFunc(e.Value.Scalar(), split)...)
	}
	return all
}

// ParseRecord reads one record of event.offline.get or event.offline.list, a JSON object with EVENT_NAME, EVENT_DATA and
// so on. The delivery has no Auth but the acting user's number, since records carry none; the caller adds the portal's MemberID.
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
	return offlineDelivery(root, name)
}

func offlineDelivery(root, name phpform.Value) (*Delivery, error) {
	d := &Delivery{Kind: KindEvent, Source: SourceOffline}
	var err error
	if d.Name, err = wireName(name, "EVENT_NAME"); err != nil {
		return nil, err
	}
	var row struct {
		ID         int64     `b24:"ID"`
		Time       time.Time `b24:"TIMESTAMP_X"`
		MessageID  string    `b24:"MESSAGE_ID"`
		ProcessID  string    `b24:"PROCESS_ID"`
		Additional Data      `b24:"EVENT_ADDITIONAL"`
		Data       Data      `b24:"EVENT_DATA"`
	}
	if err := decodeInto(d, root, &row); err != nil {
		return nil, d.in(err)
	}
	d.ID, d.MessageID, d.ProcessID, d.Data = row.ID, row.MessageID, row.ProcessID, row.Data
	if !row.Time.IsZero() {
		d.Time = row.Time.UTC()
	}
	if user := row.Additional.Get("user_id").Text(); user != "" {
		id, err := strconv.ParseInt(user, 10, 64)
		if err != nil {
			return nil, d.in(mismatch("EVENT_ADDITIONAL.user_id", "an integer"))
		}
		d.Auth.UserID = id
	}
	return d, nil
}
