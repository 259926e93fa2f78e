package event_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
)

// documented is one entry of testdata/catalog.json, the list of documented events that the
// catalogue is made from.
type documented struct {
	Name         string            `json:"name"`
	Title        string            `json:"title"`
	Scope        string            `json:"scope"`
	Doc          string            `json:"doc"`
	Sample       json.RawMessage   `json:"sample"`
	Variants     []variant         `json:"sample_variants"`
	Fields       []documentedField `json:"fields"`
	Fetch        []documentedFetch `json:"fetch"`
	Entity       []documentedThing `json:"entity"`
	Lane         *documentedThing  `json:"lane"`
	Distinct     bool              `json:"distinct"`
	Remarks      []string          `json:"remarks"`
	Shape        string            `json:"shape"`
	DocsSpelling string            `json:"docs_spelling"`
	OfflineOK    *bool             `json:"offline_ok"`
}

// documentedFetch is a method that reads the object of an event.
type documentedFetch struct {
	Method string            `json:"method"`
	Params map[string]string `json:"params"`
}

// documentedThing is an object that an event names.
type documentedThing struct {
	Kind string   `json:"kind"`
	ID   []string `json:"id"`
}

// documentedMethod is what the page of a method says.
type documentedMethod struct {
	Doc        string            `json:"doc"`
	Scopes     []string          `json:"scopes"`
	Admin      bool              `json:"admin"`
	Result     string            `json:"result"`
	Filtered   bool              `json:"filtered"`
	Halted     bool              `json:"halted"`
	Successor  string            `json:"successor"`
	Positional bool              `json:"positional"`
	Gone       []documentedError `json:"gone"`
	Hidden     []documentedError `json:"hidden"`
}

type documentedError struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// method returns the name of the method that reads the event's object, empty if there is none.
func (e documented) method() string {
	if len(e.Fetch) == 0 {
		return ""
	}
	return e.Fetch[0].Method
}

type variant struct {
	Sample json.RawMessage `json:"sample"` // a whole delivery
	Data   json.RawMessage `json:"data"`   // or its data alone
}

type documentedField struct {
	Path string `json:"path"` // such as data.BOT.{BOT_ID}.user_id or data.DATA[].chat.id
	Type string `json:"type"`
}

// container reports whether the field holds other fields rather than a value.
func (f documentedField) container() bool {
	return f.Type == "array" || strings.HasPrefix(f.Type, "object")
}

func readCatalog(t *testing.T) []documented {
	t.Helper()
	events, _ := readCatalogFile(t)
	return events
}

func readCatalogFile(t *testing.T) ([]documented, map[string]documentedMethod) {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", "catalog.json"))
	require.NoError(t, err)
	var all struct {
		Methods map[string]documentedMethod `json:"methods"`
		Events  []documented                `json:"events"`
	}
	require.NoError(t, json.Unmarshal(doc, &all))
	return all.Events, all.Methods
}

// sampleOf returns the entry's first sample as a tree, in the order of its keys.
func sampleOf(t *testing.T, e documented) phpform.Value {
	t.Helper()
	return tree(t, e.Sample)
}

func tree(t *testing.T, doc []byte) phpform.Value {
	t.Helper()
	v, err := phpform.DecodeJSON(doc, phpform.Limits{})
	require.NoError(t, err)
	return v
}

// at returns the element of a tree at a path.
func at(v phpform.Value, path ...string) phpform.Value {
	for _, key := range path {
		v, _ = v.Get(key)
	}
	return v
}

// segments splits a documented path below data: data.DATA[].chat.id becomes DATA, [], chat, id.
func segments(path string) []string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "data"), ".")
	if path == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
}

// dynamic reports whether a segment of a documented path stands for any key.
func dynamic(segment string) bool { return segment == "[]" || strings.HasPrefix(segment, "{") }
