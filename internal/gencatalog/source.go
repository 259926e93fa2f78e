package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// entry is what the generator reads of one entry of the catalogue.
type entry struct {
	Name      string `json:"name"`
	Title     string `json:"title"`
	Scope     string `json:"scope"`
	Doc       string `json:"doc"`
	Notes     string `json:"notes"`
	Method    string `json:"get_method"`
	Params    pairs  `json:"get_params"`
	Shape     string `json:"shape"`
	Spelling  string `json:"docs_spelling"`
	OfflineOK *bool  `json:"offline_ok"`
	// Platform says for which applications the platform binds the event by itself: always, or
	// api_only for those without pages. It is empty for events that only the application binds.
	Platform string `json:"bound_by_platform"`
}

// Values of entry.Platform.
const (
	platformAlways  = "always"
	platformAPIOnly = "api_only"
)

// template reports whether the entry stands for many names.
func (e entry) template() bool { return strings.HasSuffix(e.Name, "_{TYPEID}") }

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
	if start == nil {
		*p = nil
		return nil
	}
	if start != json.Delim('{') {
		return errors.New("get_params is not an object")
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

func load(doc []byte) ([]entry, error) {
	var entries []entry
	if err := json.Unmarshal(doc, &entries); err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	if len(entries) == 0 {
		return nil, errors.New("catalogue: no entries")
	}
	seen := make(map[string]bool)
	for _, e := range entries {
		if e.Name == "" || e.Scope == "" || e.Doc == "" || e.Shape == "" {
			return nil, fmt.Errorf("catalogue: incomplete entry %q", e.Name)
		}
		if e.Platform != "" && e.Platform != platformAlways && e.Platform != platformAPIOnly {
			return nil, fmt.Errorf("catalogue: %s: bound_by_platform %q is neither always nor api_only", e.Name, e.Platform)
		}
		if seen[e.Name] {
			return nil, fmt.Errorf("catalogue: %s twice", e.Name)
		}
		seen[e.Name] = true
	}
	return entries, nil
}
