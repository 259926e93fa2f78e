package eventtest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// pageSize is the number of rows of one page of a list.
const pageSize = 50

// page returns one page of rows with the total and the offset of the next page.
func page(rows []phpform.Value, start int64) (reply, *apiError) {
	total := int64(len(rows))
	from := min(max(start, 0), total)
	to := min(from+pageSize, total)
	rep := reply{result: phpform.List(rows[from:to]...), total: &total}
	if to < total {
		rep.next = &to
	}
	return rep, nil
}

// pageOf returns the page that a call asks for. With start=-1 it counts nothing.
func (p *Portal) pageOf(c *call, rows []phpform.Value) (reply, *apiError) {
	v, _ := c.param("START")
	start := intOf(v)
	rep, apiErr := page(rows, start)
	if start < 0 {
		rep.total, rep.next = nil, nil
	}
	return rep, apiErr
}

// selection reads the parameter select. chosen is false if all fields are wanted, as with *.
func selection(c *call) (wanted map[string]bool, chosen bool) {
	v, _ := c.param("SELECT")
	wanted = map[string]bool{}
	for _, e := range v.Entries() {
		if e.Value.Scalar() == "*" {
			return nil, false
		}
		wanted[snake(e.Value.Scalar())] = true
	}
	return wanted, len(wanted) > 0
}

// selectObjectsLocked returns the objects of a kind that match the filter, in order.
func (p *Portal) selectObjectsLocked(k Kind, filter, order phpform.Value) []*object {
	var found []*object
	for _, id := range slices.Sorted(maps.Keys(p.objects[k])) {
		o := p.objects[k][id]
		if !slices.ContainsFunc(filter.Entries(), func(e phpform.Entry) bool { return !o.meets(e) }) {
			found = append(found, o)
		}
	}
	slices.SortStableFunc(found, func(a, b *object) int {
		for _, e := range order.Entries() {
			name := snake(e.Key)
			by := compareTexts(a.get(name).Scalar(), b.get(name).Scalar())
			if strings.EqualFold(e.Value.Scalar(), "DESC") {
				by = -by
			}
			if by != 0 {
				return by
			}
		}
		return 0
	})
	return found
}

// meets reports whether the object meets one condition. Its key is an operator and a field, its
// value one value or a list.
func (o *object) meets(cond phpform.Entry) bool {
	at := strings.IndexFunc(cond.Key, func(r rune) bool { return r == '_' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' })
	if at < 0 {
		return false
	}
	op, have := cond.Key[:at], o.get(snake(cond.Key[at:])).Scalar()
	anyOf := func(fits func(want string) bool) bool {
		if cond.Value.Kind() != phpform.Array {
			return fits(cond.Value.Scalar())
		}
		return slices.ContainsFunc(cond.Value.Entries(), func(e phpform.Entry) bool { return fits(e.Value.Scalar()) })
	}
	switch op {
	case "", "=", "@":
		return anyOf(func(want string) bool { return compareTexts(have, want) == 0 })
	case "!", "!=", "!@":
		return !anyOf(func(want string) bool { return compareTexts(have, want) == 0 })
	case ">":
		return anyOf(func(want string) bool { return compareTexts(have, want) > 0 })
	case "<":
		return anyOf(func(want string) bool { return compareTexts(have, want) < 0 })
	case ">=":
		return anyOf(func(want string) bool { return compareTexts(have, want) >= 0 })
	case "<=":
		return anyOf(func(want string) bool { return compareTexts(have, want) <= 0 })
	case "%":
		return anyOf(func(want string) bool { return strings.Contains(strings.ToLower(have), strings.ToLower(want)) })
	default:
		return false
	}
}

// compareTexts compares numbers as numbers, and other texts without regard to case.
func compareTexts(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return strings.Compare(strings.ToLower(a), strings.ToLower(b))
}
