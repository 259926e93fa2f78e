package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/params"
)

// pageRows is how many rows a portal puts on a full page.
const pageRows = 50

// list is what [All] was asked to read. It does not change.
type list struct {
	cfg     listConfig
	method  string
	form    params.Form
	names   spelling
	ordered bool   // the parameters order by the field themselves
	start   int    // by position
	after   uint64 // by ID; 0 is no bound
}

// pager requests the pages of a list, one after the other. Each range over a list has its own.
type pager interface {
	// next returns the rows of a page, and whether there may be another page. Rows may come with an
	// error, which is about what follows them.
	next(ctx context.Context) (rows []json.RawMessage, more bool, err error)
}

func (l *list) pages(c Doer) pager {
	if l.cfg.id == "" {
		return &positions{list: l, c: c, start: l.start}
	}
	return newIDPages(l, c)
}

func newList(method string, p any, opts []ListOption) (*list, error) {
	bad := func(err error) error { return &Error{Method: method, Code: ErrBadCall, Description: err.Error()} }
	l := &list{method: method}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&l.cfg); err != nil {
			return nil, bad(err)
		}
	}
	if l.cfg.hasAfter && l.cfg.id == "" {
		return nil, bad(errors.New("After goes with ByID, which names the field"))
	}
	form, err := encodeParams(p, nil)
	if err != nil {
		return nil, bad(err)
	}
	if len(form.Gaps) > 0 {
		return nil, bad(errors.New("parameters: a list takes no File"))
	}
	l.form = form
	if l.cfg.id == "" {
		err = l.readStart()
	} else {
		err = l.readNames()
	}
	if err != nil {
		return nil, bad(err)
	}
	return l, nil
}

var errStart = errors.New("start must be the position of the first row, 0 or more; use ByID for start=-1")

// readStart finds the position of the first row in the parameters.
func (l *list) readStart() error {
	return l.each(func(name, top, value string) error {
		if !strings.EqualFold(top, "start") {
			return nil
		}
		start, err := strconv.Atoi(value)
		if name != "start" || err != nil || start < 0 {
			return errStart
		}
		l.start = start
		return nil
	})
}

// each calls f for each pair of the parameters: its name, the part of the name that stands before
// the brackets, and its value.
func (l *list) each(f func(name, top, value string) error) error {
	for pair := range strings.SplitSeq(l.form.Text, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return errors.New("parameters: a name that is not URL-encoded")
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return errors.New("parameters: a value that is not URL-encoded")
		}
		if err := f(name, phpName(name), value); err != nil {
			return err
		}
	}
	return nil
}

// with returns the parameters with more pairs at their end, which are URL-encoded. If two values
// have the same name, PHP takes the last.
func (l *list) with(more ...string) string {
	if l.form.Text != "" {
		more = append([]string{l.form.Text}, more...)
	}
	return strings.Join(more, "&")
}

func (l *list) fail(code ErrorCode, hint string) error {
	return &Error{Method: l.method, Status: http.StatusOK, Code: code, Hint: hint}
}

// How many pages without a row, or without anything new in them, may follow each other.
const (
	maxEmptyPages = 50
	maxAlikePages = 50
)

// positions requests pages by the position of their first row.
type positions struct {
	*list

	c          Doer
	start      int             // of the page to come
	received   int             // rows so far
	emptyCount int             // pages without a row, one after the other
	sameCount  int             // pages that look like the one before, one after the other
	before     json.RawMessage // the result before
	ends       pageEnds        // of the page before
}

// pageEnds is what a page looks like: how many rows it has, and the IDs of the first and the last.
type pageEnds struct {
	rows        int
	first, last uint64
}

func (p *positions) next(ctx context.Context) ([]json.RawMessage, bool, error) {
	response, err := p.c.Do(ctx, p.method, encoded{Text: p.with("start=" + strconv.Itoa(p.start)), Suspect: p.form.Suspect})
	if err != nil {
		return nil, false, err
	}
	found, err := p.find(response.Result)
	if err != nil {
		return nil, false, err
	}
	rows := found.rows
	switch {
	case response.Next == nil:
		p.received += len(rows)
		return rows, false, p.checkTotal(response)
	case *response.Next <= p.start || p.repeats(response, rows):
		return nil, false, p.fail(ErrBadResponse, "the portal sends the same page again and again")
	case len(rows) > 0:
		p.emptyCount = 0
	default:
		p.emptyCount++
		if end, err := p.isEnd(response); end || err != nil {
			return nil, false, err
		}
	}
	p.start, p.received = *response.Next, p.received+len(rows)
	return rows, true, nil
}

// repeats reports whether a page is the one before. Rows without an ID may be equal and still be
// different rows, and so may rows with the same IDs, but not for page after page.
func (p *positions) repeats(response *Response, rows []json.RawMessage) bool {
	if len(rows) == 0 {
		return false
	}
	first, _, named := fieldOf(rows[0], "ID")
	last, _, _ := fieldOf(rows[len(rows)-1], "ID")
	ends := pageEnds{len(rows), first, last}
	same := bytes.Equal(p.before, response.Result)
	if same || named && ends == p.ends {
		p.sameCount++
	} else {
		p.sameCount = 0
	}
	p.before, p.ends = response.Result, ends
	return same && named || p.sameCount >= maxAlikePages
}

// isEnd reports whether a page without rows is the last one although the portal names a next one.
// If the portal does not count rows, the second empty page is the end.
func (p *positions) isEnd(response *Response) (bool, error) {
	switch {
	case response.Total == nil:
		return p.emptyCount > 1, nil
	case *response.Next >= *response.Total:
		return true, p.checkTotal(response)
	case p.emptyCount >= maxEmptyPages:
		return false, p.fail(ErrBadResponse, "the portal sends one empty page after another")
	default:
		return false, nil
	}
}

// checkTotal returns an error if the portal counts more rows than it sent, after its last page.
func (p *positions) checkTotal(response *Response) error {
	from := p.list.start
	if response.Total == nil || *response.Total-from <= p.received {
		return nil
	}
	return p.fail(ErrBadResponse, fmt.Sprintf("the portal counts %d rows, sent %d of those from %d on and names no next page: "+
		"the method pages by other parameters than start, or counts rows that the user may not see; ByID does not count",
		*response.Total, p.received, from))
}

// found is the rows of a result and their place in it.
type found struct {
	rows   []json.RawMessage
	member string // of the result; empty if the result is the list itself
	gaps   bool   // the list is an object, with keys that are not positions
}

// find finds the rows in a result.
func (l *list) find(result json.RawMessage) (found, error) {
	if rows, ok := listOf(result, false); ok {
		return found{rows: rows}, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(result, &object) != nil || object == nil {
		return found{}, l.fail(ErrBadResult, "the result is neither a list nor an object with a list")
	}
	if l.cfg.rows != "" {
		return l.named(object)
	}
	var lists []found
	for name, part := range object {
		if rows, ok := listOf(part, false); ok {
			lists = append(lists, found{rows: rows, member: name})
		}
	}
	switch len(lists) {
	case 1:
		return lists[0], nil
	case 0:
		if rows, ok := listOf(result, true); ok {
			return found{rows: rows, gaps: true}, nil
		}
		return found{}, l.fail(ErrBadResult, "the result holds no list")
	default:
		return found{}, l.fail(ErrBadResult, "the result holds several lists; name the one with the rows by RowsAt")
	}
}

// named finds the rows at the member that RowsAt names.
func (l *list) named(object map[string]json.RawMessage) (found, error) {
	name := l.cfg.rows
	part, ok := object[name]
	if !ok {
		return found{}, l.fail(ErrBadResult, "the result has no member "+strconv.Quote(name))
	}
	if rows, ok := listOf(part, false); ok {
		return found{rows: rows, member: name}, nil
	}
	if rows, ok := listOf(part, true); ok {
		return found{rows: rows, member: name, gaps: true}, nil
	}
	return found{}, l.fail(ErrBadResult, fmt.Sprintf("the member %q of the result is not a list", name))
}

// listOf reads a list. PHP writes a list with gaps as an object whose keys are numbers. Such an
// object counts as a list if gaps is true.
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

// fieldOf reads a number from a row, and returns the field's name in the row. Some methods take a
// field's name in capitals and return it in small letters.
func fieldOf(row json.RawMessage, field string) (id uint64, name string, ok bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(row, &object) != nil {
		return 0, "", false
	}
	if _, exact := object[field]; exact {
		name = field
	} else {
		for other := range object {
			if strings.EqualFold(other, field) && (name == "" || other < name) {
				name = other
			}
		}
	}
	id, err := strconv.ParseUint(text(object[name]), 10, 64)
	return id, name, name != "" && err == nil
}
