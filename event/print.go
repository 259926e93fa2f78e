package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/b24events/b24events/internal/redact"
)

// deliveryJSON is a delivery as JSON.
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
	Lane         *Entity    `json:"lane,omitempty"` // unless it is the entity
	MessageID    string     `json:"message_id,omitempty"`
	Data         any        `json:"data"`
	Extra        any        `json:"extra,omitempty"`
	Payload      any        `json:"payload,omitempty"`
	PayloadError string     `json:"payload_error,omitempty"`
}

// MarshalJSON encodes the delivery as one object: its envelope, its data as it arrived and, for an
// event of the catalogue, the typed payload, with payload_error if the data does not fit. It
// redacts every token, and escapes the control characters that a terminal obeys. The examples
// decode and receiver print this object.
func (d Delivery) MarshalJSON() ([]byte, error) { return d.marshal(false) }

// UnmarshalJSON always returns an error that matches [ErrStored], unless doc is null, which changes
// nothing: the output of MarshalJSON lacks the tokens, so it is not the delivery. Store a delivery
// with [Delivery.AppendStored], and parse a posted body with [Parse].
func (d *Delivery) UnmarshalJSON(doc []byte) error {
	if string(bytes.TrimSpace(doc)) == "null" {
		return nil
	}
	return fmt.Errorf("%w: a delivery cannot be read back from JSON, which is redacted; use AppendStored and ParseStored", ErrStored)
}

// MarshalUnredacted is MarshalJSON with every token in data, extra and payload in clear. Neither
// has the tokens of the auth section: they are in [Delivery.Auth]. It is for debugging. Keep its
// output where you would keep the tokens, and store deliveries with [Delivery.AppendStored].
func (d Delivery) MarshalUnredacted() ([]byte, error) { return d.marshal(true) }

func (d *Delivery) marshal(reveal bool) ([]byte, error) {
	out := deliveryJSON{
		Kind: d.Kind, Event: d.Name, Source: d.Source, HandlerID: d.HandlerID, MemberID: d.Auth.MemberID, Domain: d.Auth.Domain,
		UserID: d.Auth.UserID, Auth: d.Auth.kind(), Scope: d.Auth.Scope.List(), MessageID: d.MessageID,
	}
	if out.Scope == nil {
		out.Scope = []string{}
	}
	if !d.Time.IsZero() {
		t := d.Time.UTC()
		out.Time = &t
	}
	entity, lane := d.Entity(), d.Lane()
	if entity.Kind != "" {
		out.Entity = &entity
	}
	if lane.Kind != "" && lane != entity {
		out.Lane = &lane
	}
	if d.Kind == KindEvent {
		info, known := Lookup(d.Name)
		out.Known = &known
		if known {
			out.Type = info.payload.String()
			payload, err := info.Payload(d)
			if err != nil {
				out.PayloadError = err.Error() // the payload holds what fits
			}
			out.Payload = payload
		}
	}
	if reveal {
		out.Data = json.RawMessage(d.Data.v.AppendJSON(nil))
		if extra := d.Extra(); !extra.IsZero() {
			out.Extra = json.RawMessage(extra.JSON())
		}
		out.Payload = revealed(reflect.ValueOf(out.Payload))
	} else if err := out.redact(d); err != nil {
		return nil, err
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("event: encoding a delivery: %w", err)
	}
	return redact.EscapeJSON(text), nil
}

// redact removes the secrets of d.
func (out *deliveryJSON) redact(d *Delivery) error {
	secrets := d.secrets()
	out.Data = json.RawMessage(secrets.Tree(d.Data.v).AppendJSON(nil))
	if extra := d.Extra(); !extra.IsZero() {
		out.Extra = json.RawMessage(secrets.Tree(extra.v).AppendJSON(nil))
	}
	if out.Payload != nil {
		payload, err := json.Marshal(out.Payload)
		if err != nil {
			return fmt.Errorf("event: encoding a payload: %w", err)
		}
		out.Payload = json.RawMessage(secrets.JSON(payload))
	}
	for _, text := range []*string{&out.Event, &out.MemberID, &out.Domain, &out.MessageID, &out.PayloadError} {
		*text = secrets.Redact(*text)
	}
	for i := range out.Scope {
		out.Scope[i] = secrets.Redact(out.Scope[i])
	}
	for _, e := range []*Entity{out.Entity, out.Lane} {
		if e != nil {
			e.ID = secrets.Redact(e.ID)
		}
	}
	return nil
}

// kind names the tokens that the section has.
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

// secrets returns what must not be printed of d: the tokens of its auth section, of its data, and
// of what Extra returns.
func (d *Delivery) secrets() *redact.Set {
	s := d.Auth.secrets()
	s.AddTree(d.Data.v)
	s.AddTree(d.Extra().v)
	return s
}

// Redact returns text without the secrets of d, those of its auth section and of its data, also if
// they are encoded for a URL, for JSON or for HTML. It also removes the values of parameters that
// usually hold credentials, such as auth and access_token. Before you log a text that may quote a
// delivery or a call, pass it to Redact. It reads all data of d, so call it only for texts that are
// printed.
func (d *Delivery) Redact(text string) string { return d.secrets().Redact(text) }

// RedactExcerpt is Redact for the first part of a longer text, which may end in the middle of a
// secret. It also removes the part of that secret at the end.
func (d *Delivery) RedactExcerpt(text string) string { return d.secrets().RedactExcerpt(text) }

// label identifies a delivery in print. Each text fits on one line and has no secrets.
type label struct{ name, member, entityKind, entityID string }

func (d *Delivery) label() label {
	e := d.Entity()
	secrets := d.secrets()
	shown := func(text string) string { return redact.Word(secrets.Redact(text)) }
	id := label{name: d.Name, member: shown(d.Auth.MemberID), entityKind: e.Kind, entityID: shown(e.ID)}
	if id.name == "" {
		id.name = string(d.Kind)
	}
	id.name = shown(id.name)
	return id
}

// Format prints the delivery's identity under every verb, without data. No text of the sender can
// begin a new line or look like another part of the line.
func (d Delivery) Format(f fmt.State, _ rune) {
	id := d.label()
	_, _ = fmt.Fprintf(f, "%s member=%s entity=%s:%s time=%s",
		id.name, id.member, id.entityKind, id.entityID, d.Time.Format(time.RFC3339))
}

// LogValue gives slog the delivery's identity, without data.
func (d Delivery) LogValue() slog.Value {
	id := d.label()
	return slog.GroupValue(
		slog.String("event", id.name), slog.String("member_id", id.member),
		slog.String("entity_kind", id.entityKind), slog.String("entity_id", id.entityID), slog.Time("fired", d.Time),
	)
}

// secrets returns the tokens of the section.
func (a Auth) secrets() *redact.Set {
	return redact.New(string(a.AccessToken), string(a.RefreshToken), string(a.ApplicationToken))
}

// Format prints, under every verb, whose section it is and which tokens it has.
func (a Auth) Format(f fmt.State, _ rune) {
	secrets := a.secrets()
	shown := func(text string) string { return redact.Word(secrets.Redact(text)) }
	_, _ = fmt.Fprintf(f, "member=%s domain=%s user=%d tokens=%s", shown(a.MemberID), shown(a.Domain), a.UserID, a.kind())
}

// LogValue gives slog what Format prints.
func (a Auth) LogValue() slog.Value {
	secrets := a.secrets()
	shown := func(text string) string { return redact.Word(secrets.Redact(text)) }
	return slog.GroupValue(
		slog.String("member_id", shown(a.MemberID)), slog.String("domain", shown(a.Domain)),
		slog.Int64("user_id", a.UserID), slog.String("tokens", a.kind()),
	)
}

// MarshalJSON encodes the section without its tokens, also if another field repeats one.
func (a Auth) MarshalJSON() ([]byte, error) {
	type plain Auth // without this method
	secrets := a.secrets()
	for _, text := range []*string{&a.Domain, &a.MemberID, &a.ServerEndpoint, &a.ClientEndpoint, &a.Status} {
		*text = secrets.Redact(*text)
	}
	a.Scope = Scope(secrets.Redact(string(a.Scope)))
	doc, err := json.Marshal(plain(a)) //nolint:musttag // the names of the fields, as without this method
	return redact.EscapeJSON(doc), err
}
