package webhook

import (
	"io"
	"sync"

	"github.com/b24events/b24events/event"
)

// body reads the body of one request. Its ticket is charged for the memory of the request.
type body struct {
	ticket  ticket
	pool    *bodyPool
	bytes   []byte                // what was read
	first   [freeBytes]byte       // the memory of the first bytes
	small   *[smallBytes + 1]byte // the memory of a longer body, or nil; one byte more than allowed, to see the end
	reading bool                  // the reader may still write to the memory
}

// bodyPool keeps the memory of small bodies from one request to the next. A body never shows what
// an earlier one left there, because it is only as long as what was read of it. The first bytes,
// which are not charged, are kept apart from the rest.
type bodyPool struct {
	inFlight      *inFlight
	bodies, small sync.Pool
}

// get returns a body for one request. The caller calls end.
func (p *bodyPool) get() *body {
	b, _ := p.bodies.Get().(*body)
	if b == nil {
		b = &body{pool: p}
	}
	b.ticket = ticket{of: p.inFlight}
	return b
}

// end releases the ticket and gives back the memory.
func (b *body) end() {
	b.ticket.release()
	b.recycle()
	if !b.reading {
		b.pool.bodies.Put(b)
	}
}

// recycle gives back the memory of a longer body.
func (b *body) recycle() {
	b.bytes = nil
	if b.small != nil && !b.reading {
		b.pool.small.Put(b.small)
	}
	b.small = nil
}

// read reads to the end. If from is nil, the body is empty. declared is the length that the client
// declares, or -1; most is the limit.
func (b *body) read(from io.Reader, declared, most int64) error {
	b.bytes = b.first[:0]
	for from != nil {
		if len(b.bytes) == cap(b.bytes) {
			if int64(cap(b.bytes)) > declared {
				declared = -1 // unknown, or wrong
			}
			size, err := b.ticket.grow(cap(b.bytes), declared, most)
			if err != nil {
				return err
			}
			b.enlarge(max(size, cap(b.bytes)+1))
		}
		b.reading = true // stays true if the reader panics
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

// enlarge moves the bytes to memory of at least size bytes.
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

// Error quotes nothing of the connection.
func (e *readError) Error() string { return "webhook: the body broke off" }

// Unwrap returns the error of the connection.
func (e *readError) Unwrap() error { return e.err }
