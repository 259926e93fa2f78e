package webhook

import (
	"context"
	"time"

	"github.com/b24events/b24events/event"
)

// item is a delivery on its way through the Handler.
type item struct {
	d       *event.Delivery
	values  context.Context //nolint:containedctx // the request's values travel with the delivery until its handler runs
	arrived time.Time
	units   int64     // places that it takes in the queue
	tries   int       // attempts that were begun
	begun   time.Time // when the last one was
	next    *item     // in its lane

	running              bool // in the list of running items
	laterRun, earlierRun *item
}

// runningItems is a list of the items that are being handled, the latest first. The lock of the
// queue guards it.
type runningItems struct {
	head *item
	n    int
}

func (l *runningItems) add(it *item) {
	it.running, it.laterRun, it.earlierRun = true, nil, l.head
	if l.head != nil {
		l.head.laterRun = it
	}
	l.head = it
	l.n++
}

// remove reports whether the item was in the list.
func (l *runningItems) remove(it *item) bool {
	if !it.running {
		return false
	}
	if it.laterRun == nil {
		l.head = it.earlierRun
	} else {
		it.laterRun.earlierRun = it.earlierRun
	}
	if it.earlierRun != nil {
		it.earlierRun.laterRun = it.laterRun
	}
	it.running, it.laterRun, it.earlierRun = false, nil, nil
	l.n--
	return true
}

// removeAll empties the list and returns what it held.
func (l *runningItems) removeAll() []*item {
	var all []*item
	for l.head != nil {
		all = append(all, l.head)
		l.remove(l.head)
	}
	return all
}

// laneKey names a changed object. Deliveries that are about no object have a number of their own instead.
type laneKey struct {
	client, member, kind, id string // as proven
	alone                    uint64
}

type laneState int

const (
	laneReady   laneState = iota // in the line for a worker
	laneRunning                  // a worker handles an item of it
	laneResting                  // waits for the next attempt of its first item
)

// lane is the queue of one changed object: first in, first out, one at a time. It exists while it has something to do. The lock of the
// queue guards it.
type lane struct {
	key        laneKey
	state      laneState
	head, tail *item
	merge      []*item // the waiting items that a newer delivery may replace, one for a name at most
	timer      *time.Timer
	next       *lane // in the line for a worker
}

func (l *lane) push(it *item, mergeable bool) {
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.next = it
	}
	l.tail = it
	if mergeable {
		l.merge = append(l.merge, it)
	}
}

// pushFront puts an item back that is to be tried again.
func (l *lane) pushFront(it *item, mergeable bool) {
	it.next = l.head
	l.head = it
	if l.tail == nil {
		l.tail = it
	}
	if mergeable {
		l.merge = append(l.merge, it)
	}
}

func (l *lane) pop() *item {
	it := l.head
	l.head = it.next
	if l.head == nil {
		l.tail = nil
	}
	it.next = nil
	l.unmerge(it)
	return it
}

// waiting returns the waiting item that a newer delivery of that name may replace.
func (l *lane) waiting(name string) *item {
	for _, it := range l.merge {
		if it.d.Name == name {
			return it
		}
	}
	return nil
}

// remove takes an item out of the middle.
func (l *lane) remove(it *item) {
	if l.head == it {
		l.pop()
		return
	}
	for prev := l.head; prev != nil; prev = prev.next {
		if prev.next == it {
			prev.next = it.next
			if l.tail == it {
				l.tail = prev
			}
			it.next = nil
			break
		}
	}
	l.unmerge(it)
}

func (l *lane) unmerge(it *item) {
	for i, m := range l.merge {
		if m == it {
			last := len(l.merge) - 1
			l.merge[i] = l.merge[last]
			l.merge[last] = nil
			l.merge = l.merge[:last]
			return
		}
	}
}

// line is the lanes that wait for a worker, in order. A lane goes to its end after each delivery, so that a busy object does not
// hold up the others.
type line struct {
	head, tail *lane
}

func (ln *line) push(l *lane) {
	if ln.tail == nil {
		ln.head = l
	} else {
		ln.tail.next = l
	}
	ln.tail = l
}

func (ln *line) pop() *lane {
	l := ln.head
	if l == nil {
		return nil
	}
	ln.head = l.next
	if ln.head == nil {
		ln.tail = nil
	}
	l.next = nil
	return l
}
