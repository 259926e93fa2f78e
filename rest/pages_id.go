package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/b24events/b24events/internal/batch"
	"github.com/b24events/b24events/internal/params"
)

const (
	// firstBatchPages is how many pages the first batch has, and growth is how many times larger
	// the next may be. If a batch reaches past the end of a list, its last pages refer to nothing,
	// and the portal reads the first rows for each of them. So short lists get few pages.
	firstBatchPages = 4
	growth          = 4
	// maxBatchTime bounds how long a batch takes the portal, if that is known. A portal ends a
	// request after 60 seconds.
	maxBatchTime = 20 * time.Second
	// growAfter is how many requests must succeed before the limit that a failed batch set is
	// doubled.
	growAfter = 10
)

// idPages requests pages by the last ID seen.
type idPages struct {
	*list

	c      Doer
	client *Client // makes the batches; nil if there are none or no more
	last   uint64  // the largest ID so far
	bound  bool    // last holds for the page to come
	at     place   // of the last row of the page before
	full   bool    // the page before was

	queue      []*item // the pages of the batch that were not read yet
	used       int     // how many of its pages were used
	suspectEnd bool    // a page of the batch was empty, and had a reference

	size      int           // of the next batch
	limit     int           // its limit after failed batches
	ceiling   int           // its limit after responses that were too large
	successes int           // requests that succeeded since limit was set
	slowest   time.Duration // the slowest page of the last request, as the portal says
}

// place is the position of a row's ID in a result.
type place struct {
	member string // of the result, that holds the list
	field  string // of the row
}

func newIDPages(l *list, c Doer) *idPages {
	p := &idPages{
		list: l, c: c, last: l.after, bound: l.after > 0,
		size: firstBatchPages, limit: batch.Max, ceiling: batch.Max,
	}
	if !l.cfg.single && batch.Takes(l.method) && !l.form.Suspect && !hasConnector(l.form.Text) && len(l.form.Text) <= maxBatchable {
		p.client = clientOf(c)
	}
	return p
}

// clientOf returns the client behind c.
func clientOf(c Doer) *Client {
	switch c := c.(type) {
	case *Client:
		return c
	case *Coalescer:
		return c.client
	default:
		return nil
	}
}

func (p *idPages) next(ctx context.Context) ([]json.RawMessage, bool, error) {
	if len(p.queue) == 0 {
		if err := p.askBatch(ctx); err != nil {
			return nil, false, err
		}
	}
	if len(p.queue) > 0 {
		rows, used, err := p.take()
		if used || err != nil {
			return rows, len(rows) > 0, err
		}
	}
	return p.askPage(ctx)
}

// askPage requests one page by itself.
func (p *idPages) askPage(ctx context.Context) ([]json.RawMessage, bool, error) {
	bound := ""
	if p.bound {
		bound = strconv.FormatUint(p.last, 10)
	}
	response, err := p.c.Do(ctx, p.method, encoded(params.Form{Text: p.page(bound), Suspect: p.form.Suspect}))
	if err != nil {
		return nil, false, err
	}
	rows, err := p.accept(response)
	if err != nil {
		return nil, false, err
	}
	if p.suspectEnd && len(rows) > 0 {
		p.client = nil // the reference led nowhere
	}
	p.suspectEnd, p.slowest = false, response.Time.took()
	p.succeeded()
	return rows, len(rows) > 0, nil
}

// page returns the parameters of the page after a bound, which is an ID, a reference, or empty.
func (p *idPages) page(bound string) string {
	var more []string
	switch {
	case p.ordered:
	case p.names.sort != "":
		more = append(more, p.names.sort+"="+p.cfg.id, p.names.order+"=ASC")
	default:
		more = append(more, url.QueryEscape(p.names.order+"["+p.cfg.id+"]")+"=ASC")
	}
	more = append(more, "start=-1")
	if bound != "" {
		more = append(more, url.QueryEscape(p.names.filter+"[>"+p.cfg.id+"]")+"="+url.QueryEscape(bound))
	}
	return p.with(more...)
}

// accept reads the rows of a page, and moves on to the next page if their IDs ascend from the last
// one.
func (p *idPages) accept(response *Response) ([]json.RawMessage, error) {
	found, err := p.find(response.Result)
	if err != nil {
		return nil, err
	}
	last, bound, name := p.last, p.bound, ""
	for i, row := range found.rows {
		var id uint64
		var ok bool
		id, name, ok = fieldOf(row, p.cfg.id)
		switch {
		case !ok:
			return nil, p.fail(ErrBadResult, "the rows have no number from 0 up in the field "+p.cfg.id+"; add it to select")
		case bound && id <= last && i == 0:
			return nil, p.fail(ErrBadResponse, "the portal sends rows again: it does not filter by "+
				p.names.filter+"[>"+p.cfg.id+"]; see the method's page for the names of filter and order")
		case bound && id <= last:
			return nil, p.fail(ErrBadResponse, "the rows do not ascend: the portal does not order by "+p.cfg.id+
				"; see the method's page for the names of filter and order")
		}
		last, bound = id, true
	}
	p.last, p.bound = last, bound
	p.at = place{member: found.member, field: name}
	p.full = len(found.rows) == pageRows && !found.gaps && isName(name) && (found.member == "" || isName(found.member))
	if len(found.rows) > pageRows {
		p.client = nil // a reference to its last row cannot be built in advance
	}
	return found.rows, nil
}

// batchSize returns how many pages the next batch has. If fewer than 2, there is no batch.
func (p *idPages) batchSize() int {
	if p.client == nil || !p.full {
		return 1
	}
	n, most := min(p.size, p.limit), maxBatchTime
	if timeout := p.client.opts.timeout; timeout > 0 {
		most = min(most, timeout/2)
	}
	if p.slowest > 0 && p.slowest > most/time.Duration(n) {
		n = int(most / p.slowest)
	}
	return max(n, 1)
}

// askBatch requests a batch of pages if the page before suggests that many, and halves it while it
// fails.
func (p *idPages) askBatch(ctx context.Context) error {
	for try := 0; ; try++ {
		n := p.batchSize()
		if n < 2 {
			return nil
		}
		items := p.items(n)
		err := p.send(ctx, items)
		if err == nil {
			p.queue, p.used, p.slowest = items, 0, 0
			p.succeeded()
			return nil
		}
		wait, ok := p.shrinkBatch(ctx, err, n, try)
		if !ok || wait > 0 && pause(ctx, wait) != nil {
			return withMethod(err, p.method)
		}
	}
}

// items returns the commands for n pages. Each page except the first refers to the last row of the
// page before it, where that row is if the page is full.
func (p *idPages) items(n int) []*item {
	items := make([]*item, n)
	bound := strconv.FormatUint(p.last, 10)
	for i := range items {
		name := "p" + strconv.Itoa(i)
		items[i] = &item{name: name, method: p.method, form: p.page(bound)}
		bound = "$result[" + name + "]"
		if p.at.member != "" {
			bound += "[" + p.at.member + "]"
		}
		bound += "[" + strconv.Itoa(pageRows-1) + "][" + p.at.field + "]"
	}
	return items
}

// send makes the request for a batch. If the batch may have run, it is not retried as it is: see
// shrinkBatch.
func (p *idPages) send(ctx context.Context, items []*item) error {
	ctx, cancel := p.client.opts.within(ctx)
	defer cancel()
	if err := p.client.clients.pauses.wait(ctx, p.client.memberID, p.method); err != nil {
		return err
	}
	// Later pages refer to the one that fails.
	request := batchCall(items, batchOptions{halt: true, retries: p.client.retries()})
	request.idempotent = false
	_, err := p.client.run(ctx, request)
	return err
}

// shrinkBatch reports whether a batch of n pages that failed is to be made with fewer pages, and
// after how long.
func (p *idPages) shrinkBatch(ctx context.Context, err error, n, try int) (wait time.Duration, ok bool) {
	var failure *Error
	switch {
	case ctx.Err() != nil:
		return 0, false
	case errors.Is(err, ErrTooLarge), errors.As(err, &failure) && failure.Status == http.StatusRequestEntityTooLarge:
		p.ceiling, ok = n/2, true
	case surelyNotRun(err), p.client.retries() == 0:
		return 0, false
	case failure != nil && failure.Code == ErrBadResponse &&
		failure.Status >= http.StatusBadRequest && failure.Status < http.StatusInternalServerError:
		p.client = nil // something in front of the portal takes no batches
		return 0, true
	case errors.Is(err, context.DeadlineExceeded): // of the HTTP client or of [Timeout]
		ok = true
	default:
		wait, ok = (&call{idempotent: true}).shouldRetry(err, try)
	}
	p.limit, p.successes = n/2, 0
	return wait, ok
}

// succeeded lets batches grow again after a number of requests.
func (p *idPages) succeeded() {
	if p.successes++; p.successes >= growAfter && p.limit < p.ceiling {
		p.limit, p.successes = min(2*p.limit, p.ceiling), 0
	}
}

// take returns the next page of the batch. used is false if that page needs a request of its own.
func (p *idPages) take() (rows []json.RawMessage, used bool, err error) {
	page := p.queue[0]
	p.queue[0] = nil // for the garbage collector
	p.queue = p.queue[1:]
	rows, passes, err := p.readPage(page)
	if err != nil {
		return nil, false, p.pageError(page, err, passes)
	}
	if len(rows) == 0 && p.used > 0 {
		p.dropRest()
		p.suspectEnd = true
		return nil, false, nil
	}
	p.used++
	switch {
	case !p.full:
		p.dropRest()
	case len(p.queue) == 0:
		p.size = min(max(p.size, p.used*growth), batch.Max)
	}
	return rows, true, nil
}

// pageError returns the error of a page, or nil if the page is to be requested by itself: because
// its reference may be the reason, or because that is how it is retried.
func (p *idPages) pageError(page *item, err error, passes bool) error {
	p.dropRest()
	switch {
	case p.used == 0 && page.err == nil: // the page had no reference
		return err
	case page.err != nil && p.client.retries() == 0:
		return err
	case !passes:
		p.client = nil // references seem to lead nowhere, or the method seems not to work in a batch
	}
	return nil
}

// readPage reads a page of a batch. passes reports whether the portal refused it for a temporary
// reason.
func (p *idPages) readPage(page *item) (rows []json.RawMessage, passes bool, err error) {
	if page.err != nil {
		return nil, retriableAlone(page.err, true), page.err
	}
	if rows, err = p.accept(page.response); err != nil {
		return nil, false, err
	}
	p.slowest = max(p.slowest, page.response.Time.took())
	return rows, false, nil
}

// dropRest drops the rest of a batch, because references to the page before it may lead nowhere.
// The next batch is not much larger than the part of this one that was useful.
func (p *idPages) dropRest() {
	p.queue, p.size = nil, max(p.used, 2)
}

// took returns how long the portal worked on a response, or 0 if it does not say. Portals are known
// to round the start of a page down to a second, and so the duration up.
func (t Time) took() time.Duration {
	const hour = 3600
	took := t.Duration
	if t.Processing > 0 {
		took = t.Processing
	}
	if !(took > 0) || took > hour {
		return 0
	}
	return time.Duration(took * float64(time.Second))
}
