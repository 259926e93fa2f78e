package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/params"
)

// ListOption configures [All].
type ListOption func(*listConfig) error

type listConfig struct {
	rows string
	id   string
}

// ByID reads a list in the order of a numeric field, mostly ID or id, and asks for each page by the last value seen instead of by
// a position. The portal then need not count and skip rows, which is what large lists take time for, and rows that are added or
// deleted meanwhile shift nothing. The method must filter by ">" and the field, order by it and take start=-1; the field must be
// among those that are selected. The parameters may filter, and not order. One request more than there are pages is made.
//
// Source: https://apidocs.bitrix24.com/settings/performance/huge-data.html
func ByID(field string) ListOption {
	return func(cfg *listConfig) error {
		if !consists(field, letters+digits+"_") {
			return errors.New("ByID: the name of a field is letters, digits and underscores")
		}
		cfg.id = field
		return nil
	}
}

// RowsAt names the member of the result that holds the rows, such as items or tasks, where there are several lists. It is not
// needed where the result is a list, or an object with one list in it.
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
// [Response.Decode]. c is a [Client] or a [Coalescer]; parameters are as in [Client.Call] and
// encoded at once, so that they may change afterwards.
//
//	for deal, err := range rest.All[Deal](ctx, client, "crm.deal.list", map[string]any{"filter": map[string]any{"STAGE_ID": "NEW"}}) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// An error ends the rows: it is yielded once, with a zero row. It is an error of a call, the context's, [ErrBadResult] for rows that
// are not found or do not fit T, and [ErrBadAnswer] for a portal that sends the same page again. Breaking off the loop makes no
// further request. Ranging again starts again.
//
// Rows come in pages of 50, by position: start=0, 50 and so on. Rows that are added or deleted in between make others appear twice or
// not at all; [ByID] does not have that.
func All[T any](ctx context.Context, c Doer, method string, params any, opts ...ListOption) iter.Seq2[T, error] {
	l, err := newLister(method, params, opts)
	if err == nil {
		err = checkResult(method, reflect.TypeFor[T]())
	}
	return func(yield func(T, error) bool) {
		var none T
		if err != nil {
			yield(none, err)
			return
		}
		pages := *l
		for !pages.finished {
			rows, err := pages.next(ctx, c)
			if err != nil {
				yield(none, err)
				return
			}
			for _, raw := range rows {
				var row T
				err := (&Response{Result: raw}).decode(method, &row)
				if err == nil && ctx.Err() != nil {
					err = contextError(ctx, method)
				}
				if err != nil {
					yield(none, err)
					return
				}
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// lister asks for pages. It is copied for each range.
type lister struct {
	cfg    listConfig
	method string
	form   params.Form
	filter string // the parameter as the caller spells it

	finished bool
	start    int    // of the page to come
	last     uint64 // the largest identifier so far
	begun    bool
}

func newLister(method string, p any, opts []ListOption) (*lister, error) {
	bad := func(err error) error { return &Error{Method: method, Code: ErrBadCall, Description: err.Error()} }
	l := &lister{method: method, filter: "filter"}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&l.cfg); err != nil {
			return nil, bad(err)
		}
	}
	form, err := encodeParams(p, nil)
	if err != nil {
		return nil, bad(err)
	}
	l.form = form
	for pair := range strings.SplitSeq(form.Text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return nil, bad(errors.New("parameters: a name that is not URL-encoded"))
		}
		switch top := phpName(name); strings.ToLower(top) {
		case "filter":
			l.filter = top
		case "order":
			if l.cfg.id != "" {
				return nil, bad(errors.New("ByID orders the rows itself; leave order out"))
			}
		case "start":
			start, err := strconv.Atoi(value)
			if l.cfg.id != "" || name != "start" || err != nil || start < 0 {
				return nil, bad(errors.New("start is the position of the first row, 0 or more, without ByID; for start=-1 there is ByID"))
			}
			l.start = start
		}
	}
	return l, nil
}

// next returns one page.
func (l *lister) next(ctx context.Context, c Doer) ([]json.RawMessage, error) {
	answer, err := c.Do(ctx, l.method, encoded(params.Form{Text: l.page(), Suspect: l.form.Suspect}))
	if err != nil {
		return nil, err
	}
	rows, err := l.rows(answer.Result)
	if err != nil {
		return nil, err
	}
	if l.cfg.id != "" {
		return rows, l.advanceByID(rows)
	}
	switch {
	case answer.Next == nil:
		l.finished = true
	case *answer.Next <= l.start:
		return nil, l.fail(ErrBadAnswer, "the portal sends the same page again and again")
	default:
		l.start = *answer.Next
	}
	return rows, nil
}

// page returns the parameters of the page to come. What is said twice counts as said last.
func (l *lister) page() string {
	var more []string
	if l.cfg.id == "" {
		more = append(more, "start="+strconv.Itoa(l.start))
	} else {
		more = append(more, url.QueryEscape("order["+l.cfg.id+"]")+"=ASC", "start=-1")
		if l.begun {
			more = append(more, url.QueryEscape(l.filter+"[>"+l.cfg.id+"]")+"="+strconv.FormatUint(l.last, 10))
		}
	}
	if l.form.Text != "" {
		more = append([]string{l.form.Text}, more...)
	}
	return strings.Join(more, "&")
}

// advanceByID keeps the largest identifier of a page. Pages may be short where the portal leaves out what the user may not see, so
// only an empty one is the end.
func (l *lister) advanceByID(rows []json.RawMessage) error {
	l.finished = len(rows) == 0
	before := l.last
	for _, row := range rows {
		id, ok := fieldOf(row, l.cfg.id)
		if !ok {
			return l.fail(ErrBadResult, "the rows have no number in the field "+l.cfg.id+"; select it")
		}
		if l.begun && id <= before {
			return l.fail(ErrBadAnswer, "the portal sends the same rows again: the method does not filter by > and "+l.cfg.id)
		}
		l.last = max(l.last, id)
	}
	l.begun = true
	return nil
}

func (l *lister) fail(code ErrorCode, hint string) error {
	return &Error{Method: l.method, Status: http.StatusOK, Code: code, Hint: hint}
}

// rows finds the list in a result.
func (l *lister) rows(result json.RawMessage) ([]json.RawMessage, error) {
	if list, ok := listOf(result, false); ok {
		return list, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(result, &object) != nil || object == nil {
		return nil, l.fail(ErrBadResult, "the result is neither a list nor an object with one")
	}
	if l.cfg.rows != "" {
		part, ok := object[l.cfg.rows]
		if !ok {
			return nil, l.fail(ErrBadResult, "the result has no member "+strconv.Quote(l.cfg.rows))
		}
		if list, ok := listOf(part, true); ok {
			return list, nil
		}
		return nil, l.fail(ErrBadResult, fmt.Sprintf("the member %q of the result is no list", l.cfg.rows))
	}
	var found [][]json.RawMessage
	for _, part := range object {
		if list, ok := listOf(part, false); ok {
			found = append(found, list)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if list, ok := listOf(result, true); ok {
			return list, nil
		}
		return nil, l.fail(ErrBadResult, "the result holds no list")
	default:
		return nil, l.fail(ErrBadResult, "the result holds several lists; name the one with the rows by RowsAt")
	}
}

// listOf reads a list. PHP writes a list with gaps as an object whose keys are numbers, which counts as one where gaps is set.
func listOf(raw json.RawMessage, gaps bool) ([]json.RawMessage, bool) {
	raw = bytes.TrimSpace(raw)
	var list []json.RawMessage
	if len(raw) == 0 || (raw[0] != '[' && raw[0] != '{') {
		return nil, false
	}
	if raw[0] == '[' {
		return list, json.Unmarshal(raw, &list) == nil
	}
	if !gaps {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, false
	}
	for dec.More() {
		key, err := dec.Token()
		if name, ok := key.(string); err != nil || !ok || !consists(name, digits) {
			return nil, false
		}
		var part json.RawMessage
		if dec.Decode(&part) != nil {
			return nil, false
		}
		list = append(list, part)
	}
	return list, true
}

// fieldOf reads a number from a row. Some methods take a field's name in capitals and answer with it in small letters.
func fieldOf(row json.RawMessage, field string) (uint64, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(row, &object) != nil {
		return 0, false
	}
	raw, ok := object[field]
	for name, value := range object {
		if !ok && strings.EqualFold(name, field) {
			raw, ok = value, true
		}
	}
	id, err := strconv.ParseUint(text(raw), 10, 64)
	return id, ok && err == nil
}
