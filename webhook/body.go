package webhook

import (
	"io"
	"sync"

	"github.com/b24events/b24events/event"
)

// body reads the body of one request. The memory of the request is charged to its ticket.
type body struct {
	ticket  ticket
	pool    *bodyPool
	bytes   []byte                // what was read
	first   [freeBytes]byte       // the memory of the first bytes
	small   *[smallBytes + 1]byte // that of a longer body; nil for none. One more than allowed, to see the end.
	reading bool                  // a reader may write to the memory
}

// bodyPool keeps the memory of small bodies from one request to the next. A body never shows what
// an earlier one left there, because it is only as long as what was read of it. The memory that is
// charged is kept apart from the first bytes, which a connection has for nothing.
type bodyPool struct {
	inFlight      *inFlight
	bodies, small sync.Pool
}

// get returns a body to read. The caller calls end.
func (p *bodyPool) get() *body {
	b, _ := p.bodies.Get().(*body)
	if b == nil {
		b = &body{pool: p}
	}
	b.ticket = ticket{of: p.inFlight}
	return b
}

// end gives back what the request was charged for, and the memory.
func (b *body) end() {
	b.ticket.release()
	b.recycle()
	if !b.reading {
		b.pool.bodies.Put(b)
	}
}

// recycle gives back the memory of what was read.
func (b *body) recycle() {
	b.bytes = nil
	if b.small != nil && !b.reading {
		b.pool.small.Put(b.small)
	}
	b.small = nil
}

// read reads to the end. from may be nil, which is an empty body. declared is the length, or -1
// when the client does not say; most is the limit.
func (b *body) read(from io.Reader, declared, most int64) error {
	b.bytes = b.first[:0]
	for from != nil {
		if len(b.bytes) == cap(b.bytes) {
			if int64(cap(b.bytes)) > declared {
				declared = -1 // unknown, or it was a lie
			}
			size, err := b.ticket.grow(cap(b.bytes), declared, most)
			if err != nil {
				return err
			}
			b.enlarge(max(size, cap(b.bytes)+1))
		}
		b.reading = true // and stays so if the reader panics
		n, err := from.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.reading = false
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case int64(len(b.bytes)) > most:
			return event.ErrTooLarge
		case err == io.EOF: // readers return it bare
			return nil
		case err != nil:
			return &readError{err}
		}
	}
	return nil
}

// enlarge moves the bytes to where size bytes fit.
func (b *body) enlarge(size int) {
	if size > smallBytes+1 {
		b.bytes = append(make([]byte, 0, size), b.bytes...)
		return
	}
	if b.small == nil {
		b.small, _ = b.pool.small.Get().(*[smallBytes + 1]byte)
	}
	if b.small == nil {
		b.small = new([smallBytes + 1]byte)
	}
	b.bytes = append(b.small[:0:size], b.bytes...) // perhaps onto themselves
}

// readError is an error of the connection while a body is read.
type readError struct{ err error }

// Error says nothing of the connection.
func (e *readError) Error() string { return "webhook: the body broke off" }

// Unwrap returns what the connection ended with.
func (e *readError) Unwrap() error { return e.err }
