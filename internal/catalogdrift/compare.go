package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What a finding says about an event.
const (
	kindNew     = "new"     // it is documented, and not in the catalogue
	kindChanged = "changed" // its page says something else
	kindGone    = "gone"    // it is in the catalogue, and not documented any more
)

// finding is one difference.
type finding struct {
	Kind  string `json:"kind"`
	Event string `json:"event"`
	Page  string `json:"page"` // below the documentation's root, without .md
	What  string `json:"what"`
}

// entry is an event of the catalogue, as far as it is compared.
type entry struct {
	Name     string            `json:"name"`
	Scope    string            `json:"scope"`
	Doc      string            `json:"doc"`
	Sample   body              `json:"sample"`
	Variants []json.RawMessage `json:"sample_variants"`
	Fields   []struct {
		Path     string `json:"path"`
		Required bool   `json:"required"`
	} `json:"fields"`
}

type body struct {
	Data any `json:"data"`
}

// typeIDMark ends the name of a template.
const typeIDMark = "{TYPEID}"

// readCatalog reads the catalogue of documented events.
func readCatalog(doc []byte) ([]entry, error) {
	var catalog struct {
		Events []entry `json:"events"`
	}
	if err := json.Unmarshal(doc, &catalog); err != nil {
		return nil, fmt.Errorf("the catalogue: %w", err)
	}
	if len(catalog.Events) == 0 {
		return nil, errors.New("the catalogue holds no events")
	}
	return catalog.Events, nil
}

// known returns the paths of an entry's data that the catalogue has, and those that every delivery
// has.
func (e entry) known() (all, required map[string]bool) {
	all, required = make(map[string]bool), make(map[string]bool)
	for _, f := range e.Fields {
		path, ok := strings.CutPrefix(f.Path, "data.")
		if !ok {
			continue
		}
		segments := strings.Split(strings.ReplaceAll(path, "[]", ".[]"), ".")
		for i := range segments {
			segments[i] = segment(segments[i])
			all[strings.Join(segments[:i+1], ".")] = true
		}
		if f.Required {
			required[strings.Join(segments, ".")] = true
		}
	}
	addPaths(all, "", e.Sample.Data, 0)
	for _, v := range e.Variants {
		var variant struct {
			body

			Sample body `json:"sample"`
		}
		if json.Unmarshal(v, &variant) == nil {
			addPaths(all, "", variant.Data, 0)
			addPaths(all, "", variant.Sample.Data, 0)
		}
	}
	return all, required
}

// compare returns the differences between the catalogue and the pages, sorted.
func compare(catalog []entry, pages map[string]page) []finding {
	var all []finding
	onPage := make(map[string]int) // events of the catalogue, by page
	names := make(map[string]bool)
	for _, e := range catalog {
		onPage[e.Doc]++
		names[e.Name] = true
	}
	documented := places(pages)
	for _, e := range catalog {
		p, ok := pages[e.Doc]
		base := strings.ToLower(strings.TrimSuffix(e.Name, "_"+typeIDMark))
		switch at := documented[e.Name]; {
		case (!ok || !strings.Contains(p.lower, base)) && at != "" && at != e.Doc:
			all = append(all, finding{kindChanged, e.Name, e.Doc, "its page is now " + at})
			p = pages[at]
		case !ok:
			all = append(all, finding{kindGone, e.Name, e.Doc, "the page does not exist"})
			continue
		case !strings.Contains(p.lower, base):
			all = append(all, finding{kindGone, e.Name, e.Doc, "the page does not name it"})
			continue
		}
		for _, what := range e.compareWith(p, onPage[e.Doc] == 1) {
			all = append(all, finding{kindChanged, e.Name, e.Doc, what})
		}
	}
	for name, at := range documented {
		if !names[name] && !names[template(name)] {
			all = append(all, finding{kindNew, name, at, describe(name, pages[at])})
		}
	}
	order := []string{kindNew, kindChanged, kindGone}
	slices.SortFunc(all, func(a, b finding) int {
		if a.Kind != b.Kind {
			return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
		}
		return strings.Compare(a.Event+"\x00"+a.What, b.Event+"\x00"+b.What)
	})
	return all
}

// places returns the page of each documented event: the one with a sample of it if there is one,
// and else one that is about it or lists it.
func places(pages map[string]page) map[string]string {
	at := make(map[string]string)
	paths := slices.Sorted(maps.Keys(pages))
	titles := func(p page) []string { return p.titles }
	overview := func(p page) []string { return p.overview }
	for _, names := range []func(page) []string{sampled, titles, overview} {
		for _, path := range paths {
			for _, name := range names(pages[path]) {
				if at[name] == "" {
					at[name] = path
				}
			}
		}
	}
	return at
}

func sampled(p page) []string {
	names := make([]string, len(p.samples))
	for i, s := range p.samples {
		names[i] = s.event
	}
	return names
}

// template returns the name of the template that a name with the ID of a smart process belongs to.
func template(name string) string {
	i := strings.LastIndexByte(name, '_') + 1
	if i == 0 || strings.Trim(name[i:], "0123456789") != "" {
		return ""
	}
	return name[:i] + typeIDMark
}

// describe says what a page tells about a new event.
func describe(name string, p page) string {
	text := "scope " + list(p.scopes)
	for _, s := range p.samples {
		if s.event == name {
			return text + "; data " + list(s.keys)
		}
	}
	return text + "; no sample"
}

// compareWith returns what a page says differently. alone means that the page describes no other
// event, so that everything on it is about this one.
func (e entry) compareWith(p page, alone bool) []string {
	var all []string
	if len(p.scopes) > 0 && !slices.Contains(p.scopes, e.Scope) {
		all = append(all, "scope "+list(p.scopes)+" instead of "+e.Scope)
	}
	known, required := e.known()
	documented := make(map[string]bool)
	shown := false
	for _, s := range p.samples {
		if s.event == e.Name {
			shown = true
			for _, key := range s.keys {
				documented[key] = true
			}
		}
	}
	added := make(map[string]bool)
	for key := range documented {
		if !known[key] {
			added[key] = true
		}
	}
	last := make(map[string]bool) // the last segments of known paths
	for key := range known {
		last[lastSegment(key)] = true
	}
	described := make(map[string]bool) // last segments
	for _, r := range p.rows {
		name, ok := e.dataKey(r, alone)
		if !ok {
			continue
		}
		described[lastSegment(name)] = true
		if segment(lastSegment(name)) != anyKey && !last[lastSegment(name)] && !documented[name] {
			added[name] = true
		}
	}
	if len(added) > 0 {
		all = append(all, "new keys "+list(slices.Sorted(maps.Keys(added))))
	}
	var lost []string
	for _, key := range slices.Sorted(maps.Keys(required)) {
		if !documented[key] && !described[lastSegment(key)] {
			lost = append(lost, key)
		}
	}
	if shown && alone && len(lost) > 0 {
		all = append(all, "keys that are gone "+list(lost))
	}
	return all
}

// dataKey returns the key of the data that a row of a table describes. It reports false for a row
// about something else.
func (e entry) dataKey(r row, alone bool) (string, bool) {
	if path, ok := strings.CutPrefix(r.name, "data."); ok && alone {
		return path, true
	}
	switch r.section {
	case "", "AUTH":
		return "", false
	case e.Name:
		return r.name, true
	case "DATA":
		return r.name, alone
	default:
		return strings.TrimPrefix(r.section, "DATA.") + "." + r.name, alone && !strings.HasPrefix(r.section, "ON")
	}
}

func lastSegment(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

// list joins names, up to a dozen.
func list(names []string) string {
	const most = 12
	if len(names) == 0 {
		return "(none)"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
