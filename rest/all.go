package rest

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"reflect"
)

// ListOption configures [All].
type ListOption func(*listConfig) error

type listConfig struct {
	rows     string
	id       string
	after    uint64
	hasAfter bool // after was given
	single   bool
}

// ByID reads a list in the order of a numeric field, mostly ID or id, and asks for each page by the
// last value seen instead of by a position. The portal then does not need to count and skip rows,
// which is slow for large lists, and rows that are added or deleted meanwhile shift nothing.
//
// The method must filter by ">" and the field, order by it, and take start=-1. The field must be
// among the selected ones, with values from 0 up. The parameters may hold a filter. They may also
// order by the field alone, ascending; All does that itself otherwise.
//
// Pages come in batches: one page first, then 4 pages with one request, then 16, then 50, as long
// as the pages are full, which means 50 rows. Each page of a batch begins after the page before it,
// by a reference to that page's last row. So 100,000 rows take 44 requests instead of 2,001. A page
// that is not full is not the end, because portals leave out rows that the user may not see. Only
// an empty page is. After a page that is not full, All requests the next page by itself.
//
// A batch has fewer pages if the portal would need more than 20 seconds for it, judged by the
// timing of earlier pages, or more than half of a [Timeout]. Portals end a request after 60
// seconds. If a batch fails with status 413, or 500 or more, takes too long, or has a response that
// is too large, All sends it again with half as many pages, down to one. If the portal refuses a
// page within a batch, All requests that page by itself, and that outcome counts. It does the same
// if a front end rejects the batch with a page and another status of 400 or more, except for 429.
// If a reference led nowhere, or the first page of a batch was refused, All sends no more batches.
// It holds the pages of one batch in memory. See [SinglePages] for lists that are better read
// without batches, and [After] for how to resume.
//
// All sends no batches if c is neither a [Client] nor a [Coalescer], if the parameters hold
// auth_connector or a text that reads like a reference, if they are larger than 64 KiB, or if the
// name of the member that holds the rows has other characters than letters, digits and underscores.
//
// Most methods name the parameters filter and order. All knows the methods whose pages name them in
// another way, for example FILTER and ORDER for sonet_group.get, and FILTER, sort and order for
// user.get. The spelling in the parameters takes precedence: FILTER makes it ORDER too, and
// "ORDER": {"ID": "ASC"} makes it FILTER, for a method that All does not know.
//
// Sources: https://apidocs.bitrix24.com/settings/performance/huge-data.html and
// https://apidocs.bitrix24.com/settings/how-to-call-rest-api/batch.html
func ByID(field string) ListOption {
	return func(cfg *listConfig) error {
		if !isName(field) {
			return errors.New("ByID: the name of a field is letters, digits and underscores")
		}
		cfg.id = field
		return nil
	}
}

// After begins with the first row whose ID is larger than id, for [ByID]. A program uses it to
// resume a list that it has read in part: it saves the ID of the last row that it handled.
//
//	last := load() // 0 at first
//	for deal, err := range rest.All[Deal](ctx, client, "crm.deal.list", params, rest.ByID("ID"), rest.After(last)) {
//		if err != nil {
//			return err // run again later, with the last ID that was saved
//		}
//		if err := handle(deal); err != nil {
//			return err
//		}
//		save(deal.ID)
//	}
//
// Rows come in the order of their IDs, so no row is left out, and at most one is repeated: the row
// that was handled and not saved. Rows that are added later have larger IDs and come too. After(0)
// is the start. A filter ">" by the same field in the parameters stays, and the larger bound
// counts.
func After(id uint64) ListOption {
	return func(cfg *listConfig) error {
		cfg.after, cfg.hasAfter = id, true
		return nil
	}
}

// SinglePages makes [ByID] request each page by itself. Use it if rows are large, or slow for the
// portal to find. With 50 pages in one request, the response holds 2,500 rows, and the method uses
// up the operating time of the application faster than single requests can. The portal then blocks
// it for every caller. SinglePages also saves work if a program mostly stops after a few pages.
// Without ByID there are no batches anyway.
//
// Source: https://apidocs.bitrix24.com/limits.html
func SinglePages() ListOption {
	return func(cfg *listConfig) error {
		cfg.single = true
		return nil
	}
}

// RowsAt names the member of the result that holds the rows, such as items or tasks. It is needed
// only if the result holds several lists.
func RowsAt(member string) ListOption {
	return func(cfg *listConfig) error {
		if member == "" {
			return errors.New("RowsAt: the name is empty")
		}
		cfg.rows = member
		return nil
	}
}

// All returns the rows of a list method, page after page, each as a T, by the rules of
// [Response.Decode]. c is a [Client] or a [Coalescer]. Parameters are as in [Client.Call] and are
// encoded at once, so you may change them afterwards.
//
//	for deal, err := range rest.All[Deal](ctx, client, "crm.deal.list", map[string]any{"filter": map[string]any{"STAGE_ID": "NEW"}}) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// An error ends the rows: it is yielded once, with a zero row. It is one of these:
//
//   - an error of a call, or the context's
//   - [ErrBadResult] if the rows are not found or do not fit T, or an ID is not a number
//     from 0 up
//   - [ErrBadResponse] if the portal sends the same page again, or empty pages without end; by
//     position, if the portal's total is larger than what came when it names no next page; by ID,
//     if the IDs of a page do not ascend, or are not above those before
//
// Leaving the loop sends no further request. Ranging again starts from the beginning.
//
// Rows come in pages of 50, by position: start=0, 50 and so on. If rows are added or deleted in
// between, others appear twice or not at all; [ByID] does not have this problem. The total of the
// last page counts, and an error about it comes after all rows that the portal sent: the method may
// page by other parameters than start, or count rows that the user may not see. ByID ignores the
// total.
func All[T any](ctx context.Context, c Doer, method string, params any, opts ...ListOption) iter.Seq2[T, error] {
	l, err := newList(method, params, opts)
	if err == nil {
		err = checkResult(method, reflect.TypeFor[T]())
	}
	return func(yield func(T, error) bool) {
		var none T
		if err != nil {
			yield(none, err)
			return
		}
		pages := l.pages(c)
		for more := true; more; {
			var rows []json.RawMessage
			var err error
			rows, more, err = pages.next(ctx)
			for _, raw := range rows {
				row, err := rowOf[T](ctx, method, raw)
				if err != nil {
					yield(none, err)
					return
				}
				if !yield(row, nil) {
					return
				}
			}
			if err != nil {
				yield(none, err)
				return
			}
		}
	}
}

// rowOf decodes a row, unless the context has ended.
func rowOf[T any](ctx context.Context, method string, raw json.RawMessage) (T, error) {
	var row T
	if err := (&Response{Result: raw}).decode(method, &row); err != nil {
		return row, err
	}
	if ctx.Err() != nil {
		return row, contextError(ctx, method)
	}
	return row, nil
}
