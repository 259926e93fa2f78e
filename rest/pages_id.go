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
	// firstChain is how many pages the first batch has, and growth by how much the next may be larger.
	// The pages behind the end of a list refer to nothing, and the portal reads the first rows for
	// each of them. So they are few for a list that is short.
	firstChain = 4
	growth     = 4
	// maxChainTime bounds how long a batch takes the portal, as far as that is known. A portal ends a
	// request after 60 seconds.
	maxChainTime = 20 * time.Second
	// calmAfter is how many requests must succeed before the limit that a failed batch set is doubled.
	calmAfter = 10
)

// idPages asks for pages by the last ID seen.
type idPages struct {
	*list

	c      Doer
	client *Client // makes the batches; nil if there are none, or no more
	last   uint64  // the largest ID so far
	bound  bool    // last holds for the page to come
	at     place   // of the last row of the page before
	full   bool    // the page before was

	queue []*item // of the batch: the pages that were not looked at so far
	used  int     // how many of its pages were used
	doubt bool    // one of its pages was empty, and had a reference

	size    int           // of the next batch
	limit   int           // what failed batches leave of it
	ceiling int           // what answers that were too large leave of it
	calm    int           // requests that succeeded since limit was set
	slowest time.Duration // of a page in the last request, as the portal says
}

// place is where the ID of a row stands in a result.
type place struct {
	member string // of the result, that holds the list
	field  string // of the row
}

func newIDPages(l *list, c Doer) *idPages {
	p := &idPages{
		list: l, c: c, last: l.after, bound: l.after > 0,
		size: firstChain, limit: batch.Max, ceiling: batch.Max,
	}
	if !l.cfg.single && batch.Takes(l.method) && !l.form.Suspect && !hasConnector(l.form.Text) && len(l.form.Text) <= maxGathered {
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

// askPage asks for one page by itself.
func (p *idPages) askPage(ctx context.Context) ([]json.RawMessage, bool, error) {
	bound := ""
	if p.bound {
		bound = strconv.FormatUint(p.last, 10)
	}
	answer, err := p.c.Do(ctx, p.method, encoded(params.Form{Text: p.page(bound), Suspect: p.form.Suspect}))
	if err != nil {
		return nil, false, err
	}
	rows, err := p.accept(answer)
	if err != nil {
		return nil, false, err
	}
	if p.doubt && len(rows) > 0 {
		p.client = nil // the reference led nowhere
	}
	p.doubt, p.slowest = false, answer.Time.took()
	p.succeeded()
	return rows, len(rows) > 0, nil
}

// page returns the parameters of the page behind a bound, which is an ID, a reference, or empty.
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

// accept reads the rows of a page, and moves on behind them if their IDs ascend from the last one.
func (p *idPages) accept(answer *Response) ([]json.RawMessage, error) {
	found, err := p.find(answer.Result)
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
			return nil, p.fail(ErrBadResult, "the rows have no number from 0 up in the field "+p.cfg.id+"; select it")
		case bound && id <= last && i == 0:
			return nil, p.fail(ErrBadResponse, "the portal sends rows again that came before: it does not filter by "+
				p.names.filter+"[>"+p.cfg.id+"]; see the method's page for what filter and order are called")
		case bound && id <= last:
			return nil, p.fail(ErrBadResponse, "the rows do not ascend: the portal does not order by "+p.cfg.id+
				"; see the method's page for what filter and order are called")
		}
		last, bound = id, true
	}
	p.last, p.bound = last, bound
	p.at = place{member: found.member, field: name}
	p.full = len(found.rows) == pageRows && !found.gaps && isName(name) && (found.member == "" || isName(found.member))
	if len(found.rows) > pageRows {
		p.client = nil // a reference to its last row cannot be known before
	}
	return found.rows, nil
}

// chain returns how many pages the next batch has. Fewer than 2 are none.
func (p *idPages) chain() int {
	if p.client == nil || !p.full {
		return 1
	}
	n, most := min(p.size, p.limit), maxChainTime
	if timeout := p.client.opts.timeout; timeout > 0 {
		most = min(most, timeout/2)
	}
	if p.slowest > 0 && p.slowest > most/time.Duration(n) {
		n = int(most / p.slowest)
	}
	return max(n, 1)
}

// askBatch asks for a batch of pages if the page before lets expect that many, and halves it while
// it fails.
func (p *idPages) askBatch(ctx context.Context) error {
	for try := 0; ; try++ {
		n := p.chain()
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
		wait, ok := p.halve(ctx, err, n, try)
		if !ok || wait > 0 && pause(ctx, wait) != nil {
			return about(err, p.method)
		}
	}
}

// items returns the commands for n pages. Each but the first refers to the last row of the one
// before it, as it is if that is full.
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

// send makes the request for a batch. One that may have run is not repeated as it is: see halve.
func (p *idPages) send(ctx context.Context, items []*item) error {
	ctx, cancel := p.client.opts.within(ctx)
	defer cancel()
	if err := p.client.portals.pauses.wait(ctx, p.client.memberID, p.method); err != nil {
		return err
	}
	const halt = true // later pages refer to the one that fails
	request := batchCall(items, halt, false, p.client.retries())
	request.idempotent = false
	_, err := p.client.run(ctx, request)
	return err
}

// halve reports whether a batch of n pages that failed is to be made with fewer, and after what
// time.
func (p *idPages) halve(ctx context.Context, err error, n, try int) (wait time.Duration, ok bool) {
	var failure *Error
	switch {
	case ctx.Err() != nil:
		return 0, false
	case errors.Is(err, ErrTooLarge), errors.As(err, &failure) && failure.Status == http.StatusRequestEntityTooLarge:
		p.ceiling, ok = n/2, true
	case surelyNotRun(err), p.client.retries() == 0:
		return 0, false
	case failure != nil && failure.Code == ErrBadResponse && failure.Status >= http.StatusBadRequest && failure.Status < http.StatusInternalServerError:
		p.client = nil // something in front of the portal takes no batches
		return 0, true
	case errors.Is(err, context.DeadlineExceeded): // of the HTTP client or of [Timeout]
		ok = true
	default:
		wait, ok = (&call{idempotent: true}).again(err, try)
	}
	p.limit, p.calm = n/2, 0
	return wait, ok
}

// succeeded lets batches grow again after a while.
func (p *idPages) succeeded() {
	if p.calm++; p.calm >= calmAfter && p.limit < p.ceiling {
		p.limit, p.calm = min(2*p.limit, p.ceiling), 0
	}
}

// take returns the next page of the batch. used is false if that page needs a request of its own.
func (p *idPages) take() (rows []json.RawMessage, used bool, err error) {
	page := p.queue[0]
	p.queue[0] = nil // for the garbage collector
	p.queue = p.queue[1:]
	rows, passes, err := p.look(page)
	if err != nil {
		return nil, false, p.doubted(page, err, passes)
	}
	if len(rows) == 0 && p.used > 0 {
		p.cut()
		p.doubt = true
		return nil, false, nil
	}
	p.used++
	switch {
	case !p.full:
		p.cut()
	case len(p.queue) == 0:
		p.size = min(max(p.size, p.used*growth), batch.Max)
	}
	return rows, true, nil
}

// doubted returns the error of a page, unless the page needs a request of its own because its
// reference may be the reason, or because that is how it is made again.
func (p *idPages) doubted(page *item, err error, passes bool) error {
	p.cut()
	switch {
	case p.used == 0 && page.err == nil: // it had no reference
		return err
	case page.err != nil && p.client.retries() == 0:
		return err
	case !passes:
		p.client = nil // references lead nowhere, or the method is for no batch, as it seems
	}
	return nil
}

// look reads a page of a batch. passes reports whether the portal refused it for a reason that may
// be gone by now.
func (p *idPages) look(page *item) (rows []json.RawMessage, passes bool, err error) {
	if page.err != nil {
		return nil, passesAlone(page.err, true), page.err
	}
	if rows, err = p.accept(page.answer); err != nil {
		return nil, false, err
	}
	p.slowest = max(p.slowest, page.answer.Time.took())
	return rows, false, nil
}

// cut drops the rest of a batch: what the page in front of it leads to is not known. The next batch
// is not much larger than what was of use in this one.
func (p *idPages) cut() {
	p.queue, p.size = nil, max(p.used, 2)
}

// took returns how long the portal worked on an answer, and 0 if it does not say.
// Portals are known to round the start of a page down to a second, and so the duration up.
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
