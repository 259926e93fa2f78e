package eventtest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// condition is one condition in the filter of an offline method.
type condition struct {
	op    string
	field string
	value phpform.Value
}

// rowFilter holds conditions that must all be met.
type rowFilter []condition

// readFilter reads the parameter filter, which may name the given fields.
func readFilter(c *call, fields []string) (rowFilter, *apiError) {
	v, ok := c.param("FILTER")
	if !ok {
		return nil, nil
	}
	if v.Kind() != phpform.Array {
		return nil, badArgument("The filter is not an array.", "")
	}
	var filter rowFilter
	for _, e := range v.Entries() {
		key := strings.ToUpper(e.Key)
		at := strings.IndexFunc(key, func(r rune) bool { return 'A' <= r && r <= 'Z' })
		if at < 0 {
			at = len(key)
		}
		cond := condition{op: key[:at], field: key[at:], value: e.Value}
		if !slices.Contains([]string{"", "=", ">", "<", ">=", "<=", "@", "%"}, cond.op) {
			return nil, badArgument("Filter operation not allowed: "+cond.op, "")
		}
		if !slices.Contains(fields, cond.field) {
			return nil, badArgument("Filter field not allowed: "+cond.field, "")
		}
		filter = append(filter, cond)
	}
	return filter, nil
}

// forReservation returns the filter of a new reservation. The platform uses another query builder
// for it, which has fewer operators. A key without an operator means equality there, and a pattern
// in all other cases.
func (f rowFilter) forReservation() (rowFilter, *apiError) {
	f = slices.Clone(f)
	for i, cond := range f {
		if cond.op == "" {
			f[i].op = "="
		}
		switch {
		case cond.op == "@" || cond.op == "%":
			return nil, badArgument("Unknown operator `"+cond.op+"`", "")
		case cond.value.Kind() == phpform.Array:
			return nil, badArgument("The value of an argument '"+f[i].op+cond.field+"' has an invalid type", "")
		}
	}
	return f, nil
}

// column returns a field as a text for comparisons.
func (r *offlineRow) column(field string) string {
	switch field {
	case "ID":
		return strconv.FormatInt(r.id, 10)
	case "TIMESTAMP_X":
		return strconv.FormatInt(r.time.Unix(), 10)
	case "EVENT_NAME":
		return r.event
	case "MESSAGE_ID":
		return r.messageID
	case "PROCESS_ID":
		return r.processID
	default:
		return r.errorMark()
	}
}

func (f rowFilter) matches(r *offlineRow) bool {
	for _, cond := range f {
		if !cond.matches(r) {
			return false
		}
	}
	return true
}

func (c condition) matches(r *offlineRow) bool {
	have := r.column(c.field)
	if c.value.Kind() == phpform.Array { // matches any of its values
		return slices.ContainsFunc(c.value.Entries(), func(e phpform.Entry) bool {
			return compareValues(c.field, have, e.Value.Scalar()) == 0
		})
	}
	want := c.value.Scalar()
	switch c.op {
	case "%":
		return strings.Contains(strings.ToLower(have), strings.ToLower(want))
	case "":
		if c.field != "TIMESTAMP_X" {
			return like(strings.ToLower(have), strings.ToLower(want))
		}
	}
	order := compareValues(c.field, have, want)
	switch c.op {
	case ">":
		return order > 0
	case "<":
		return order < 0
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	default:
		return order == 0
	}
}

// compareValues compares by the type of the field. Texts are compared without regard to case, as in
// the database.
func compareValues(field, have, want string) int {
	switch field {
	case "ID", "ERROR":
		return cmp.Compare(intOf(phpform.Text(have)), intOf(phpform.Text(want)))
	case "TIMESTAMP_X":
		t, err := time.Parse(time.RFC3339, want)
		if err != nil {
			return 1
		}
		return cmp.Compare(intOf(phpform.Text(have)), t.Unix())
	default:
		return strings.Compare(strings.ToLower(have), strings.ToLower(want))
	}
}

// like matches an SQL pattern: % for any text, _ for any one byte.
func like(s, pattern string) bool {
	star, mark, i, j := -1, 0, 0, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '%':
			star, mark = j, i
			j++
		case j < len(pattern) && (pattern[j] == '_' || pattern[j] == s[i]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[j:], "%") == ""
}

// rowOrder is a list of fields with directions.
type rowOrder []struct {
	field string
	desc  bool
}

// readOrder reads the parameter order, which may name the given fields. standard is the default.
func readOrder(c *call, fields []string, standard string) (rowOrder, *apiError) {
	v, ok := c.param("ORDER")
	if !ok {
		return rowOrder{{field: standard}}, nil
	}
	if v.Kind() != phpform.Array {
		return nil, badArgument("The order is not an array.", "")
	}
	var order rowOrder
	for i, e := range v.Entries() {
		field, direction := strings.ToUpper(e.Key), strings.ToUpper(e.Value.Scalar())
		if e.Key == strconv.Itoa(i) { // a list of names, in exact case
			field, direction = e.Value.Scalar(), "ASC"
		}
		if !slices.Contains(fields, field) {
			return nil, badArgument("Order field not allowed: "+field, "")
		}
		if direction != "ASC" && direction != "DESC" {
			return nil, badArgument("Order direction should be one of {ASC|DESC}", "")
		}
		order = append(order, struct {
			field string
			desc  bool
		}{field, direction == "DESC"})
	}
	return order, nil
}

func (o rowOrder) sort(rows []*offlineRow) {
	slices.SortStableFunc(rows, func(a, b *offlineRow) int {
		for _, by := range o {
			var order int
			switch by.field {
			case "ID", "TIMESTAMP_X", "ERROR":
				order = cmp.Compare(intOf(phpform.Text(a.column(by.field))), intOf(phpform.Text(b.column(by.field))))
			default:
				order = strings.Compare(a.column(by.field), b.column(by.field))
			}
			if by.desc {
				order = -order
			}
			if order != 0 {
				return order
			}
		}
		return 0
	})
}
