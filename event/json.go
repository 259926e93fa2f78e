package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// deliveryJSON is how a delivery prints.
type deliveryJSON struct {
	Kind         Kind       `json:"kind"`
	Event        string     `json:"event,omitempty"`
	Known        *bool      `json:"known,omitempty"`
	Type         string     `json:"type,omitempty"`
	Source       Source     `json:"source,omitempty"`
	HandlerID    int64      `json:"handler_id"`
	Time         *time.Time `json:"time"`
	MemberID     string     `json:"member_id"`
	Domain       string     `json:"domain"`
	UserID       int64      `json:"user_id"`
	Auth         string     `json:"auth"`
	Scope        []string   `json:"scope"`
	Entity       *Entity    `json:"entity"`
	MessageID    string     `json:"message_id,omitempty"`
	Data         any        `json:"data"`
	Payload      any        `json:"payload,omitempty"`
	PayloadError string     `json:"payload_error,omitempty"`
}

// MarshalJSON encodes the delivery as one object: its envelope, its data as they arrived and, for an event of the catalogue, the typed
// payload (or payload_error, where it does not fit its type). Every token is redacted. The examples decode and receiver print this object.
func (d *Delivery) MarshalJSON() ([]byte, error) { return d.marshal(false) }

// MarshalUnredacted is MarshalJSON with every token in clear. Keep its output where you would keep the tokens.
func (d *Delivery) MarshalUnredacted() ([]byte, error) { return d.marshal(true) }

func (d *Delivery) marshal(reveal bool) ([]byte, error) {
	out := deliveryJSON{
		Kind: d.Kind, Event: d.Name, Source: d.Source, HandlerID: d.HandlerID, MemberID: d.Auth.MemberID, Domain: d.Auth.Domain,
		UserID: d.Auth.UserID, Auth: d.Auth.kind(), Scope: d.Auth.Scope, MessageID: d.MessageID,
	}
	if out.Scope == nil {
		out.Scope = []string{}
	}
	if !d.Time.IsZero() {
		t := d.Time.UTC()
		out.Time = &t
	}
	if e := d.Entity(); e.Kind != "" {
		out.Entity = &e
	}
	if d.Kind == KindEvent {
		info, known := Lookup(d.Name)
		out.Known = &known
		if known {
			out.Type = info.payload.String()
			payload, err := info.Payload(d)
			if err != nil {
				out.PayloadError = err.Error()
			} else {
				out.Payload = payload
			}
		}
	}
	if reveal {
		out.Data = json.RawMessage(d.Data.v.AppendJSON(nil))
		out.Payload = revealed(reflect.ValueOf(out.Payload))
	} else {
		r := d.redactor()
		out.Data = json.RawMessage(r.tree(d.Data.v).AppendJSON(nil))
		if out.Payload != nil {
			payload, err := json.Marshal(out.Payload)
			if err != nil {
				return nil, fmt.Errorf("event: encoding a payload: %w", err)
			}
			out.Payload = json.RawMessage(r.payload(payload))
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("event: encoding a delivery: %w", err)
	}
	return text, nil
}

// kind says which tokens came along.
func (a Auth) kind() string {
	switch {
	case a.AccessToken == "":
		return "none"
	case a.RefreshToken == "":
		return "user"
	default:
		return "user+refresh"
	}
}

// Format prints the delivery's identity under every verb, without data.
func (d *Delivery) Format(f fmt.State, _ rune) {
	if d == nil {
		_, _ = f.Write([]byte("<nil>"))
		return
	}
	name := d.Name
	if name == "" {
		name = string(d.Kind)
	}
	e := d.Entity()
	_, _ = fmt.Fprintf(f, "%s member=%s entity=%s:%s time=%s", name, d.Auth.MemberID, e.Kind, e.ID, d.Time.Format(time.RFC3339))
}

// LogValue gives slog the delivery's identity, without data.
func (d *Delivery) LogValue() slog.Value {
	if d == nil {
		return slog.StringValue("<nil>")
	}
	e := d.Entity()
	return slog.GroupValue(
		slog.String("event", d.Name), slog.String("member_id", d.Auth.MemberID),
		slog.String("entity_kind", e.Kind), slog.String("entity_id", e.ID), slog.Time("fired", d.Time),
	)
}

// redactor replaces secrets in a tree: the values under token keys, and every other value in which a known secret stands.
type redactor struct {
	known []string
}

// minSecret is the shortest text that is looked for inside other values: shorter ones would hit by chance.
const minSecret = 8

func (d *Delivery) redactor() *redactor {
	r := &redactor{}
	for _, s := range []Secret{d.Auth.AccessToken, d.Auth.RefreshToken, d.Auth.ApplicationToken} {
		r.learn(string(s))
	}
	return r
}

func (r *redactor) learn(secret string) {
	if len(secret) >= minSecret {
		r.known = append(r.known, secret)
	}
}

func (r *redactor) tree(v phpform.Value) phpform.Value {
	r.collect(v, false)
	return r.replace(v, false)
}

// maxKnown bounds the work on a body that is made of nothing but token keys.
const maxKnown = 64

func (r *redactor) collect(v phpform.Value, secret bool) {
	if v.Kind() != phpform.Array {
		if secret && len(r.known) < maxKnown {
			r.learn(v.Scalar())
		}
		return
	}
	for _, e := range v.Entries() {
		r.collect(e.Value, secret || isSecretKey(e.Key))
	}
}

// payload replaces known secrets that stand inside other values of a payload's JSON, such as in a chat message.
func (r *redactor) payload(doc []byte) []byte {
	if !slices.ContainsFunc(r.known, func(secret string) bool {
		quoted, err := json.Marshal(secret)
		return err != nil || bytes.Contains(doc, quoted[1:len(quoted)-1])
	}) {
		return doc
	}
	// Not in the text itself, where a secret may seem to begin in the middle of an escape sequence.
	v, err := phpform.DecodeJSON(doc, phpform.Limits{Bytes: len(doc) + 1, Keys: len(doc), Depth: 2 * phpform.DefaultMaxDepth})
	if err != nil {
		return []byte(`"` + redacted + `"`)
	}
	return r.replace(v, false).AppendJSON(nil)
}

func (r *redactor) replace(v phpform.Value, secret bool) phpform.Value {
	if v.Kind() != phpform.Array {
		if text := v.Scalar(); text != "" && (secret || r.holds(text)) {
			return phpform.Text(redacted)
		}
		return v
	}
	entries := make([]phpform.Entry, v.Len())
	for i, e := range v.Entries() {
		key := e.Key
		if r.holds(key) {
			key = redacted
		}
		entries[i] = phpform.Entry{Key: key, Value: r.replace(e.Value, secret || isSecretKey(e.Key))}
	}
	return phpform.Map(entries...)
}

func (r *redactor) holds(text string) bool {
	for _, s := range r.known {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// isSecretKey recognises the keys under which Bitrix24 sends credentials, and those under which others would.
func isSecretKey(key string) bool {
	key = strings.ToLower(key)
	switch key {
	case "auth_id", "refresh_id", "sessid", "authorization":
		return true
	}
	return strings.Contains(key, "token") || strings.Contains(key, "secret") || strings.Contains(key, "password")
}

// redactedTree is the tree without secrets, ready for encoding/json.
func redactedTree(v phpform.Value) json.RawMessage { return (&redactor{}).tree(v).AppendJSON(nil) }
