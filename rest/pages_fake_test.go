package rest_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/b24events/b24events/rest"
)

// table responds to a list method as a portal does, by itself and in a batch. It is for the scripts
// of newScript, if there are too many rows for a portal of eventtest or the portal is to misbehave.
type table struct {
	tableNames

	member, field string // where the rows stand, and what they call their ID
	rows          int    // on a page
	total         func(int) int
	hidden        func(id uint64) bool // rows that the user may not see, which leaves pages short

	// before is called for each command, single ones too, and may change the table. If it returns a
	// text, that is the command's error. page changes the rows of a page.
	before func(n int, cmd command) (refusal string)
	page   func(n int, cmd command, ids []uint64) []uint64
	// resolve returns the value of a reference; id is the row's ID, if ok.
	resolve func(id uint64, ok bool) string
	took    float64 // seconds, of each page
	working float64 // what the portal says of them beside, if not 0

	mu       sync.Mutex
	ids      []uint64 // ascending
	commands int
	batches  []int // commands of each request
}

// tableNames is what the method calls its parameters: filter, order and none by default.
type tableNames struct{ filter, order, sort string }

// command is a list call.
type command struct {
	inBatch int // its position, and -1 if it is by itself
	form    url.Values
}

// get returns the last value of a name, which is the one that PHP takes.
func (c command) get(name string) string {
	values := c.form[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func (tb *table) names() (filter, order, member, field string) {
	def := func(s, def string) string {
		if s == "" {
			return def
		}
		return s
	}
	return def(tb.filter, "filter"), def(tb.order, "order"), tb.member, def(tb.field, "ID")
}

// count makes a table of rows with the IDs 1 to n.
func count(n int) *table {
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = uint64(i) + 1
	}
	return &table{ids: ids}
}

func (tb *table) respond(s sent) (int, string, error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if s.method != "batch" {
		tb.batches = append(tb.batches, 1)
		result, extra, refusal := tb.run(command{inBatch: -1, form: s.form}, nil)
		switch {
		case strings.Contains(refusal, "OPERATION_TIME"):
			return 429, refusal, nil
		case strings.Contains(refusal, "QUERY_LIMIT"):
			return 503, refusal, nil
		case refusal != "":
			return 400, refusal, nil
		}
		return 200, `{"result":` + result + extra + `,"time":` + tb.time() + `}`, nil
	}
	tb.batches = append(tb.batches, s.commands())
	var results, refusals, times []string
	ids := map[string][]uint64{}
	for i := range s.commands() {
		name := "p" + strconv.Itoa(i)
		_, query, _ := strings.Cut(s.form.Get("cmd["+name+"]"), "?")
		form, err := url.ParseQuery(query)
		if err != nil {
			return 0, "", err
		}
		result, _, refusal := tb.run(command{inBatch: i, form: form}, ids)
		if refusal != "" {
			refusals = append(refusals, strconv.Quote(name)+":"+refusal)
			if s.form.Get("halt") == "1" {
				break
			}
			continue
		}
		results = append(results, strconv.Quote(name)+":"+result)
		times = append(times, strconv.Quote(name)+":"+tb.time())
	}
	object := func(entries []string) string {
		if len(entries) == 0 {
			return "[]"
		}
		return "{" + strings.Join(entries, ",") + "}"
	}
	return 200, `{"result":{"result":` + object(results) + `,"result_error":` + object(refusals) +
		`,"result_time":` + object(times) + `}}`, nil
}

func (tb *table) time() string {
	if tb.working > 0 {
		return fmt.Sprintf(`{"duration":%g,"processing":%g}`, tb.took, tb.working)
	}
	return fmt.Sprintf(`{"duration":%g}`, tb.took)
}

var toLastRow = regexp.MustCompile(`^\$result\[(p\d+)\](?:\[([^\]]*)\])?\[(\d+)\]\[([^\]]*)\]$`)

// run responds to one command. ids are the rows of earlier commands in the batch, and get the rows
// of this one too.
func (tb *table) run(cmd command, ids map[string][]uint64) (result, extra, refusal string) {
	n := tb.commands
	tb.commands++
	if tb.before != nil {
		if refusal := tb.before(n, cmd); refusal != "" {
			return "", "", refusal
		}
	}
	filter, order, member, field := tb.names()
	bound := cmd.get(filter + "[>" + field + "]")
	if strings.HasPrefix(bound, "$") {
		bound = tb.look(bound, member, field, ids)
	}
	after, err := strconv.ParseUint(bound, 10, 64)
	if err != nil {
		after = 0 // the portal filters by nothing
	}
	from, _ := slices.BinarySearch(tb.ids, after+1)
	if bound == "" || err != nil {
		from = 0
	}
	start, err := strconv.Atoi(cmd.get("start"))
	if err != nil {
		start = 0
	}
	size := tb.rows
	if size == 0 {
		size = 50
	}
	rest := tb.ids[from:]
	if bound == "none" {
		rest = nil
	}
	page := slices.Clone(rest[min(max(start, 0), len(rest)):min(max(start, 0)+size, len(rest))])
	ascending := strings.EqualFold(cmd.get(order+"["+field+"]"), "ASC")
	if tb.sort != "" {
		ascending = cmd.get(tb.sort) == field && strings.EqualFold(cmd.get(order), "ASC")
	}
	if !ascending && start < 0 {
		page = slices.Clone(rest[max(0, len(rest)-size):])
		slices.Reverse(page)
	}
	if tb.hidden != nil {
		page = slices.DeleteFunc(page, tb.hidden)
	}
	if tb.page != nil {
		page = tb.page(n, cmd, page)
	}
	if ids != nil {
		ids["p"+strconv.Itoa(cmd.inBatch)] = page
	}
	rows := make([]string, len(page))
	for i, id := range page {
		rows[i] = fmt.Sprintf(`{%q:"%d"}`, field, id)
	}
	result = "[" + strings.Join(rows, ",") + "]"
	if member != "" {
		result = fmt.Sprintf(`{%q:%s}`, member, result)
	}
	if start >= 0 {
		total := len(rest)
		if tb.total != nil {
			total = tb.total(total)
		}
		extra = fmt.Sprintf(`,"total":%d`, total)
		if start+size < len(rest) {
			extra += fmt.Sprintf(`,"next":%d`, start+size)
		}
	}
	return result, extra, ""
}

// look follows a reference.
func (tb *table) look(reference, member, field string, ids map[string][]uint64) string {
	id, ok := uint64(0), false
	if m := toLastRow.FindStringSubmatch(reference); m != nil && m[2] == member && m[4] == field {
		if i, err := strconv.Atoi(m[3]); err == nil && i < len(ids[m[1]]) {
			id, ok = ids[m[1]][i], true
		}
	}
	switch {
	case tb.resolve != nil:
		return tb.resolve(id, ok)
	case ok:
		return strconv.FormatUint(id, 10)
	default:
		return ""
	}
}

// requests returns how many commands each request had, and forgets them.
func (tb *table) requests() []int {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	batches := tb.batches
	tb.batches, tb.commands = nil, 0
	return batches
}

// portals returns clients that call the table.
func (tb *table) portals(t *testing.T) *rest.Clients {
	t.Helper()
	tr := newScript(t, tb.respond)
	return newHosts(t, on(tr), rest.WithoutRateLimit())
}

// span returns the IDs from a to b without those that leave out.
func span(a, b uint64, leaveOut func(uint64) bool) []uint64 {
	var ids []uint64
	for id := a; id <= b; id++ {
		if leaveOut == nil || !leaveOut(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// idRow is a row whose ID comes as text, a number, in capitals or not.
type idRow struct{ ID json.Number }

// read collects the IDs of a list, and returns the error that ended it.
func read(rows func(func(idRow, error) bool), more ...func(uint64) bool) ([]uint64, error) {
	var ids []uint64
	for row, err := range rows {
		if err != nil {
			return ids, err
		}
		id, err := strconv.ParseUint(row.ID.String(), 10, 64)
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
		for _, f := range more {
			if !f(id) {
				return ids, nil
			}
		}
	}
	return ids, nil
}
