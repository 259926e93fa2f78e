package dispatch

import "iter"

// list is a doubly linked list of elements that hold their own links. So an element joins and
// leaves without an allocation or a search. The zero list is empty.
type list[T any] struct {
	head, tail *link[T]
	n          int
}

// link is the place of an element in a list. An element has one link for each list that it may be
// in at the same time.
type link[T any] struct {
	prev, next *link[T]
	of         *T // the element; nil while it is in no list
}

// push adds an element at the end. at is a link of the element that is in no list.
func (l *list[T]) push(at *link[T], x *T) {
	l.put(link[T]{prev: l.tail, of: x}, at)
	l.n++
}

// pushFront adds an element at the beginning.
func (l *list[T]) pushFront(at *link[T], x *T) {
	l.put(link[T]{next: l.head, of: x}, at)
	l.n++
}

// replace puts an element in the place of another.
func (l *list[T]) replace(old, at *link[T], x *T) {
	l.put(link[T]{prev: old.prev, next: old.next, of: x}, at)
	*old = link[T]{}
}

// put sets a link, and those beside it.
func (l *list[T]) put(to link[T], at *link[T]) {
	*at = to
	if to.prev == nil {
		l.head = at
	} else {
		to.prev.next = at
	}
	if to.next == nil {
		l.tail = at
	} else {
		to.next.prev = at
	}
}

// remove takes an element out of the list, if it is in it. Its link must not be in another list.
func (l *list[T]) remove(at *link[T]) {
	if at.of == nil {
		return
	}
	if at.prev == nil {
		l.head = at.next
	} else {
		at.prev.next = at.next
	}
	if at.next == nil {
		l.tail = at.prev
	} else {
		at.next.prev = at.prev
	}
	*at = link[T]{}
	l.n--
}

// first returns the first element, nil if there is none.
func (l *list[T]) first() *T { return l.head.element() }

// last returns the last element, nil if there is none.
func (l *list[T]) last() *T { return l.tail.element() }

// pop takes the first element out of the list, and returns nil if there is none.
func (l *list[T]) pop() *T {
	x := l.first()
	if x != nil {
		l.remove(l.head)
	}
	return x
}

// all yields the elements in order. The loop body may remove the element that it gets.
func (l *list[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for at := l.head; at != nil; {
			next := at.next
			if !yield(at.of) {
				return
			}
			at = next
		}
	}
}

// element returns the element that a link is of, nil for no link.
func (at *link[T]) element() *T {
	if at == nil {
		return nil
	}
	return at.of
}
