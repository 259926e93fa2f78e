package event

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// path is a list of alternative places in data. The first one that holds something counts.
type path []place

// place is a place in data: a list of keys, in which "[]" stands for each element of a list.
// Without keys it is data itself.
type place struct {
	keys   []string
	typeID bool // it is the type ID in the name of the event, and not a place in data
}

// parsePath reads alternatives separated by |. Each is dotted keys, . for data itself, or @type for
// the type ID in the event's name.
func parsePath(text string) path {
	var p path
	for alternative := range strings.SplitSeq(text, "|") {
		switch alternative {
		case ".":
			p = append(p, place{})
		case "@type":
			p = append(p, place{typeID: true})
		default:
			p = append(p, place{keys: strings.Split(alternative, ".")})
		}
	}
	return p
}

// named reports whether the type ID in the name of an event is one of the alternatives.
func (p path) named() bool { return slices.ContainsFunc(p, func(at place) bool { return at.typeID }) }

// find returns the first scalar that is neither empty nor 0. If there is none, it returns 0 if a
// place holds 0, and "" otherwise.
func (p path) find(data phpform.Value, typeID string) string {
	zero := ""
	for _, at := range p {
		text := typeID
		if !at.typeID {
			text = firstScalar(data, at.keys)
		}
		if text == "0" {
			zero = text
		} else if text != "" {
			return text
		}
	}
	return zero
}

// findAll returns every scalar at the first place that holds one that is neither empty nor 0.
func (p path) findAll(data phpform.Value, typeID string) []string {
	for _, at := range p {
		var all []string
		if at.typeID {
			all = appendID(all, typeID)
		} else {
			all = appendScalars(all, data, at.keys)
		}
		if len(all) > 0 {
			return all
		}
	}
	return nil
}

func firstScalar(v phpform.Value, keys []string) string {
	for i, key := range keys {
		if key == "[]" {
			zero := ""
			for _, item := range v.All() {
				switch text := firstScalar(item, keys[i+1:]); text {
				case "":
				case "0":
					zero = text
				default:
					return text
				}
			}
			return zero
		}
		v, _ = v.GetFold(key)
	}
	return values.Text(v)
}

func appendScalars(all []string, v phpform.Value, keys []string) []string {
	for i, key := range keys {
		if key == "[]" {
			for _, item := range v.All() {
				all = appendScalars(all, item, keys[i+1:])
			}
			return all
		}
		v, _ = v.GetFold(key)
	}
	return appendID(all, values.Text(v))
}

func appendID(all []string, id string) []string {
	if id == "" || id == "0" {
		return all
	}
	return append(all, id)
}

// is reports whether path names the place, as the path of a misfit does.
func (at place) is(path string) bool {
	keys := strings.Split(path, ".")
	return len(keys) == 1+len(at.keys) && slices.EqualFunc(keys[1:], at.keys, func(key, want string) bool {
		return want == "[]" || strings.EqualFold(key, want)
	})
}
