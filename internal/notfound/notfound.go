// Package notfound recognizes the errors by which the methods of Bitrix24 say that the object of a
// call does not exist. Each method has its own codes or texts, and another method may use the same
// ones for something else.
//
// The errors of methods that read the objects of events are generated from the catalogue of package
// event (event/testdata/catalog.json), which has the error table of each method's page. The others
// are written by hand.
package notfound

import (
	"slices"
	"strings"
)

// Verdict is what an error of a method says about the object of the call.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // nothing: it is another failure
	Gone                   // the object does not exist
	Hidden                 // the object does not exist, or the token may not see it
)

// Of returns what a method's error says about the object of the call.
//
// The method's name may be in any case, as portals accept it. Codes must match exactly: if a proxy
// returns not_found instead of the portal, that is not a deletion. If a method has no code of its
// own, its text decides. A text in an unknown language is an ordinary error. Of says nothing about
// results, for example of lists, that are empty without an error.
func Of(method, code, description string) Verdict {
	method = strings.ToLower(method)
	known, ok := catalogued(method)
	if !ok {
		known.gone = others(method)
	}
	text := plain(description)
	matches := func(r refusal) bool { return r.matches(code, text) }
	switch {
	case slices.ContainsFunc(known.gone, matches):
		return Gone
	case slices.ContainsFunc(known.hidden, matches):
		return Hidden
	default:
		return Unknown
	}
}

// refusals are the errors by which one method says that there is no object.
type refusals struct {
	gone   []refusal // there is no such object
	hidden []refusal // there is none, or the token may not see it
}

// refusal is one error. If the text is empty, only the code counts. An asterisk in the text stands
// for anything.
type refusal struct{ code, text string }

// matches reports whether an error is this one. The text is the result of plain.
func (r refusal) matches(code, text string) bool {
	if r.code != code {
		return false
	}
	if r.text == "" {
		return true
	}
	parts := strings.Split(plain(r.text), "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return text == first
	}
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}

// plain returns a text in lower case, without the space around it, a final line break and full
// stops, in which pages and portals differ.
func plain(text string) string {
	return strings.TrimRight(strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), "<br>")), ". ")
}
