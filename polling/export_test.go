package polling

import "github.com/b24events/b24events/event"

// ReadPageForTest reads a response, and returns how many events it holds and how many are damaged.
func ReadPageForTest(doc []byte, limit int) (events []Event, next int64, more bool, err error) {
	p, err := readPage(doc, limit, event.Proof{By: event.ProofCall, MemberID: "m"})
	return p.events, p.next, p.more, err
}

// FileName returns the name of a key's file.
func (k Key) FileName() string { return k.fileName() }
