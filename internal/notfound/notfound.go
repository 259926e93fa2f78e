// Package notfound knows how the methods of Bitrix24 say that the object that a call names does not
// exist. Each method has codes or words of its own, and another method may use the same ones for
// something else.
//
// The methods that read the objects of events are generated from the catalogue of package event
// (event/testdata/catalog.json), which holds the error table of each method's page. The others are
// listed by hand.
package notfound

import (
	"slices"
	"strings"
)

// Verdict is what an error of a method means for the object that the call names.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // nothing: it is another failure
	Gone                   // the object does not exist
	Hidden                 // the object does not exist, or the token may not see it
)

// Of returns what a method's error means for the object that the call names.
//
// The method's name may be in any case, as portals take it. Codes count as the method's page prints
// them: a proxy that returns not_found in the portal's place must not pass for a deletion. If a
// method has no code of its own, its words decide. Words in a language that is not known here are
// an ordinary error. So is everything that methods such as lists return without an error.
func Of(method, code, description string) Verdict {
	method = strings.ToLower(method)
	answers, ok := catalogued(method)
	if !ok {
		answers.gone = others(method)
	}
	text := plain(description)
	said := func(r refusal) bool { return r.matches(code, text) }
	switch {
	case slices.ContainsFunc(answers.gone, said):
		return Gone
	case slices.ContainsFunc(answers.hidden, said):
		return Hidden
	default:
		return Unknown
	}
}

// refusals are the errors of one method that are about its object.
type refusals struct {
	gone   []refusal // there is no such object
	hidden []refusal // there is none, or the token may not see it
}

// refusal is one error. If the text is empty, the code alone decides. An asterisk in the text
// stands for anything.
type refusal struct{ code, text string }

// matches reports whether an error is this one. The text went through plain.
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

// plain returns a text in lower case, without outer space, a final line break and the full stop:
// pages and portals differ in them.
func plain(text string) string {
	return strings.TrimRight(strings.ToLower(strings.TrimSuffix(strings.TrimSpace(text), "<br>")), ". ")
}
