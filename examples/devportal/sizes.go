package main

import (
	"encoding/json"

	"github.com/b24events/b24events/event/eventtest"
)

// Limits of the objects that the page writes, in bytes.
const (
	maxWritten    = 256 << 20
	minObjectSize = 1 << 10 // what an object without fields counts
)

// objectKey names an object.
type objectKey struct {
	kind eventtest.Kind
	id   int64
}

// objectSizes estimates the memory of the objects that the page wrote. Updates add up, so an
// estimate may be too large until the sizes are measured.
type objectSizes struct {
	limit int
	of    map[objectKey]int
	total int
}

// grow adds to the size of an object.
func (s *objectSizes) grow(key objectKey, bytes int) {
	if s.of[key] == 0 {
		bytes += minObjectSize
	}
	s.of[key] += bytes
	s.total += bytes
}

// remove forgets a deleted object.
func (s *objectSizes) remove(key objectKey) {
	s.total -= s.of[key]
	delete(s.of, key)
}

// checkWritten refuses to write more while the objects fill the memory. bytes is the size of the
// fields to be written. pg.mu must be held.
func (pg *page) checkWritten(bytes int) error {
	bytes += minObjectSize
	if pg.written.total+bytes <= pg.written.limit {
		return nil
	}
	pg.measureWritten()
	if pg.written.total+bytes <= pg.written.limit {
		return nil
	}
	return badRequest("the objects that were added here have more than 256 MiB; delete some, or restart the program for an empty portal")
}

// measureWritten replaces the estimates by what the portal has. An application may have deleted
// objects. pg.mu must be held.
func (pg *page) measureWritten() {
	pg.written.total = 0
	for key := range pg.written.of {
		fields, found := pg.portal.Object(key.kind, key.id)
		if !found {
			delete(pg.written.of, key)
			continue
		}
		if doc, err := json.Marshal(fields); err == nil { // otherwise the estimate stays
			pg.written.of[key] = minObjectSize + len(doc)
		}
		pg.written.total += pg.written.of[key]
	}
}
