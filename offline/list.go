package offline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/internal/logattr"
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

// listDone notes the result of a list. It returns errors that other methods would have, too.
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
	if codeOf(err) == "" && !errors.Is(err, ErrBadResponse) {
		return err
	}
	if f == nil {
		f = &listFailure{backoff: backoff{shortest: minListWait, longest: maxListWait}}
		e.listing.failure = f
		e.log(ctx, slog.LevelWarn, "offline queue: the portal does not list the queue; orphaned and parked records wait for it, others do not",
			logattr.Error(nil, err))
	}
	f.err, f.next = err, time.Now().Add(f.backoff.next())
	e.noteStall(ctx, &f.stall, StallNoList, e.cfg.noResponse)
	return nil
}

// pages are the responses to requests for pages of a list.
type pages struct {
	asked int
	rows  []Record
	total int // of the rows that match
	err   error
}

func (p *pages) full() bool { return len(p.rows) == p.asked*pageSize }

// listQuery says which rows of the queue to list.
type listQuery struct {
	pages         int // how many
	offset        int // of the first row
	filter, order map[string]any
}

// listCalls returns calls that list rows of the queue. Their responses go to p.
func (e *engine) listCalls(ctx context.Context, p *pages, q listQuery) []call {
	p.asked = q.pages
	calls := make([]call, q.pages)
	for i := range calls {
		params := map[string]any{"filter": q.filter, "order": q.order}
		if at := q.offset + i*pageSize; at > 0 {
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
