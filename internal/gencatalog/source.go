package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// source is testdata/catalog.json: the documented events, and the methods that read their objects.
type source struct {
	Methods map[string]method `json:"methods"`
	Events  []entry           `json:"events"`
}

// method is what the page of a REST method says.
type method struct {
	Doc        string    `json:"doc"`
	Scopes     []string  `json:"scopes"`      // a token needs all of them
	Who        string    `json:"who"`         // who may call it; empty for any user
	Admin      bool      `json:"admin"`       // administrators only
	AppContext bool      `json:"app_context"` // refused to incoming webhooks
	BotTypes   []string  `json:"bot_types"`   // types of bot that it works for; empty for all
	Positional bool      `json:"positional"`  // the portal takes the parameters by position
	Result     string    `json:"result"`      // member of the result that holds the object; [0] for the first of a list
	Filtered   bool      `json:"filtered"`    // an empty result may also mean that the token may not see the object
	Halted     bool      `json:"halted"`      // Bitrix24 no longer develops it
	Successor  string    `json:"successor"`   // the method that the page recommends
	Remark     string    `json:"remark"`
	Gone       []refusal `json:"gone"`   // errors that mean that there is no such object
	Hidden     []refusal `json:"hidden"` // errors that mean that there is none, or that the token may not see it
}

// refusal is an error of a method, as its page prints it. If there is no text, only the code
// counts.
type refusal struct {
	Code string `json:"code"`
	Text string `json:"text"` // * stands for anything
}

// entry is one event of the catalogue. The generator does not read all fields; the others are for
// the tests.
type entry struct {
	Name      string  `json:"name"`
	Title     string  `json:"title"`
	Scope     string  `json:"scope"`
	Doc       string  `json:"doc"`
	Notes     string  `json:"notes"`
	Fetch     []fetch `json:"fetch"` // the methods that read the object, in order of preference
	Shape     string  `json:"shape"`
	Spelling  string  `json:"docs_spelling"`
	OfflineOK *bool   `json:"offline_ok"`
	// Platform says for which applications the platform binds the event by itself: always, or
	// api_only for those without pages. It is empty for events that only the application binds.
	Platform string `json:"bound_by_platform"`
	// Entity is what the event is about: the first candidate whose ID is in the data.
	Entity []object `json:"entity"`
	Lane   *object  `json:"lane"` // what orders the events, if it is another object
	// Distinct marks an event such as a message, of which a newer one does not replace an older one.
	Distinct    bool     `json:"distinct"`
	ChatMessage string   `json:"chat_message"` // path to the chat message that replaces an object with the ID 0
	Remarks     []string `json:"remarks"`

	Documented json.RawMessage `json:"documented_sample"`
	Sample     json.RawMessage `json:"sample"`
	Variants   json.RawMessage `json:"sample_variants"`
	Fields     json.RawMessage `json:"fields"`
	Origin     json.RawMessage `json:"sample_origin"`
}

// fetch is a call that reads the object of an event.
type fetch struct {
	Method string `json:"method"`
	Params pairs  `json:"params"` // name to path below data, or to literal:value
}

// object is a kind of objects, and the paths below data that make up an ID.
type object struct {
	Kind string   `json:"kind"`
	ID   []string `json:"id"`
}

// Values of entry.Platform.
const (
	platformAlways  = "always"
	platformAPIOnly = "api_only"
)

const (
	typeID  = "_{TYPEID}"
	literal = "literal:"
)

// template reports whether the entry stands for many names.
func (e entry) template() bool { return strings.HasSuffix(e.Name, typeID) }

// family is the short name of the entry's shape, such as A1.
func (e entry) family() string {
	family, _, _ := strings.Cut(e.Shape, " ")
	return family
}

// pairs is a JSON object of strings in the order in which it is written.
type pairs []pair

type pair struct{ name, value string }

// UnmarshalJSON keeps the order of keys.
func (p *pairs) UnmarshalJSON(doc []byte) error {
	dec := json.NewDecoder(bytes.NewReader(doc))
	start, err := dec.Token()
	if err != nil {
		return err
	}
	if start != json.Delim('{') {
		return errors.New("params is not an object")
	}
	for dec.More() {
		var one pair
		key, err := dec.Token()
		if err != nil {
			return err
		}
		one.name, _ = key.(string)
		if err := dec.Decode(&one.value); err != nil {
			return err
		}
		*p = append(*p, one)
	}
	return nil
}

func load(doc []byte) (source, error) {
	var s source
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return source{}, fmt.Errorf("catalogue: %w", err)
	}
	if len(s.Events) == 0 {
		return source{}, errors.New("catalogue: no events")
	}
	used := make(map[string]bool)
	seen := make(map[string]bool)
	for _, e := range s.Events {
		if err := e.check(s.Methods); err != nil {
			return source{}, fmt.Errorf("catalogue: event %q: %w", e.Name, err)
		}
		if seen[e.Name] {
			return source{}, fmt.Errorf("catalogue: %s twice", e.Name)
		}
		seen[e.Name] = true
		for _, f := range e.Fetch {
			used[f.Method] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Methods)) {
		if err := s.Methods[name].check(s.Methods); err != nil {
			return source{}, fmt.Errorf("catalogue: method %q: %w", name, err)
		}
		if !used[name] {
			return source{}, fmt.Errorf("catalogue: no event uses the method %q", name)
		}
	}
	return s, nil
}

var (
	member = regexp.MustCompile(`^(\[0\]|[A-Za-z]+)?$`)
	// path is a list of alternatives: keys below data, [] for each element of a list, . for data
	// itself, @type for the number in the name of the event.
	path = regexp.MustCompile(`^(?:\.|@type|[A-Za-z_]+(?:\.(?:\[\]|[A-Za-z_]+))*)(?:\|(?:\.|@type|[A-Za-z_]+(?:\.(?:\[\]|[A-Za-z_]+))*))*$`)
)

func (m method) check(all map[string]method) error {
	switch _, known := all[m.Successor]; {
	case !strings.HasPrefix(m.Doc, pages):
		return fmt.Errorf("page %q outside %s", m.Doc, pages)
	case len(m.Scopes) == 0:
		return errors.New("no scopes")
	case !member.MatchString(m.Result):
		return fmt.Errorf("result %q is neither a member nor [0]", m.Result)
	case m.Successor != "" && (!m.Halted || !known):
		return fmt.Errorf("successor %q", m.Successor)
	case m.Halted && m.Successor == "" && m.Remark == "":
		return errors.New("halted, without a successor and without a remark that says why")
	}
	for _, r := range slices.Concat(m.Gone, m.Hidden) {
		// Other errors have no code either, so only their text distinguishes them.
		if (r.Code == "" || r.Code == "0" || r.Code == "-") && r.Text == "" {
			return fmt.Errorf("the code %q needs a text", r.Code)
		}
	}
	return nil
}

func (e entry) check(methods map[string]method) error {
	switch {
	case e.Name == "" || e.Scope == "" || e.Doc == "" || e.Shape == "":
		return errors.New("incomplete")
	case e.Platform != "" && e.Platform != platformAlways && e.Platform != platformAPIOnly:
		return fmt.Errorf("bound_by_platform %q is neither always nor api_only", e.Platform)
	case deletion(e.Name) && len(e.Fetch) > 0:
		return fmt.Errorf("%s cannot return what is deleted", e.Fetch[0].Method)
	case e.Lane != nil && !e.Distinct:
		return errors.New("a lane of its own, but not distinct: coalescing stays inside a lane")
	case len(e.Entity) == 0 && !e.Distinct && e.Lane != nil:
		return errors.New("a lane without an entity")
	}
	for _, o := range e.objects() {
		if o.Kind == "" {
			return errors.New("an object without a kind")
		}
		for _, p := range o.ID {
			if !path.MatchString(p) || strings.Contains(p, "[]") && len(o.ID) > 1 {
				return fmt.Errorf("path %q", p)
			}
		}
	}
	for _, f := range e.Fetch {
		m, ok := methods[f.Method]
		if !ok {
			return fmt.Errorf("unknown method %q", f.Method)
		}
		if m.Positional && len(f.Params) == 0 {
			return fmt.Errorf("%s takes its parameters by position and gets none", f.Method)
		}
		for _, p := range f.Params {
			if !strings.HasPrefix(p.value, literal) && !path.MatchString(p.value) {
				return fmt.Errorf("%s: parameter %s: path %q", f.Method, p.name, p.value)
			}
		}
	}
	if e.ChatMessage != "" && (!path.MatchString(e.ChatMessage) || len(e.Fetch) == 0) {
		return fmt.Errorf("chat_message %q", e.ChatMessage)
	}
	return nil
}

// objects returns every object that the entry names.
func (e entry) objects() []object {
	all := slices.Clone(e.Entity)
	if e.Lane != nil {
		all = append(all, *e.Lane)
	}
	return all
}
