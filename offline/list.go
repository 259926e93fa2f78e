package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"
)

const (
	// maxPages is how many pages of a list one request asks for if the first page was full.
	maxPages = 10
	// minListWait and maxListWait are between failures of event.offline.list alone.
	minListWait = 2 * time.Second
	maxListWait = 5 * time.Minute
)

// listing is the state of event.offline.list. The portal limits methods one by one, so it may fail
// while others work. Then only what needs it waits.
type listing struct {
	failure *listFailure // nil after a success
}

type listFailure struct {
	next    time.Time // when to call the method again
	backoff backoff
	err     error // of the last call
	stall   stallWatch
}

func (l *listing) reset() { l.failure = nil }

// ready reports whether the method may be called.
func (l *listing) ready(now time.Time) bool { return l.failure == nil || !now.Before(l.failure.next) }

// err returns the error of the last call.
func (l *listing) err() error {
	if l.failure == nil {
		return nil
	}
	return l.failure.err
}

// next returns when the method may be called again; zero for now.
func (l *listing) next() time.Time {
	if l.failure == nil {
		return time.Time{}
	}
	return l.failure.next
}

// listDone takes in the error of a list. It returns one that is not the method's alone.
func (e *engine) listDone(ctx context.Context, err error) error {
	f := e.listing.failure
	if err == nil {
		if f != nil {
			e.log(ctx, slog.LevelInfo, "offline queue: the portal lists the queue again")
			e.noteActivity(ctx, &f.stall, StallNoList)
			e.listing.reset()
		}
		return nil
	}
	if codeOf(err) == "" && !errors.Is(err, ErrBadAnswer) {
		return err
	}
	if f == nil {
		f = &listFailure{backoff: backoff{shortest: minListWait, longest: maxListWait}}
		e.listing.failure = f
		e.log(ctx, slog.LevelWarn, "offline queue: the portal does not list the queue; orphaned and parked records wait, others do not",
			errorAttr(nil, err))
	}
	f.err, f.next = err, time.Now().Add(f.backoff.next())
	e.noteStall(ctx, &f.stall, StallNoList, e.cfg.noResponse)
	return nil
}

// pages are the answers to pages of a list.
type pages struct {
	asked int
	rows  []Record
	total int // of the rows that match
	err   error
}

func (p *pages) full() bool { return len(p.rows) == p.asked*pageSize }

// listCalls asks for n pages of the queue, from the row with the number start.
func (e *engine) listCalls(ctx context.Context, p *pages, n, start int, filter, order map[string]any) []call {
	p.asked = n
	calls := make([]call, n)
	for i := range calls {
		params := map[string]any{"filter": filter, "order": order}
		if at := start + i*pageSize; at > 0 {
			params["start"] = at
		}
		calls[i] = call{method: methodList, params: params, done: func(doc json.RawMessage, total int, err error) error {
			var page []Record
			if err == nil {
				page, err = readPage(doc)
			}
			p.total = max(total, p.total)
			p.rows = append(p.rows, e.withMemberID(page)...)
			p.err = cmp.Or(p.err, err)
			return e.listDone(ctx, err)
		}}
	}
	return calls
}
