package eventtest

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// crmFailure is an error of the classic CRM methods, which have no codes.
func crmFailure(description string) *apiError { return fail(400, "", description) }

// fields reads the parameter fields.
func (c *call) fields() (phpform.Value, *apiError) {
	v, _ := c.param("FIELDS")
	if v.Kind() != phpform.Array {
		return null(), crmFailure("Parameter 'fields' must be array.")
	}
	return v, nil
}

// crmObject finds the object that the parameter id names.
func (p *Portal) crmObject(c *call, k Kind) (*object, *apiError) {
	v, _ := c.param("ID")
	id := intOf(v)
	if id <= 0 {
		return nil, crmFailure("ID is not defined or invalid.")
	}
	o := p.objects[k][id]
	if o == nil {
		return nil, crmFailure("Not found")
	}
	return o, nil
}

type methodFunc = func(*call) (reply, *apiError)

func (p *Portal) crmAdd(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		fields, apiErr := c.fields()
		if apiErr != nil {
			return reply{}, apiErr
		}
		return done(phpform.Int(p.addObject(c.h, k, fields, c.id.user.id).id))
	}
}

func (p *Portal) crmGet(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		o, apiErr := p.crmObject(c, k)
		if apiErr != nil {
			return reply{}, apiErr
		}
		return done(phpform.Map(slices.Clone(o.fields)...))
	}
}

func (p *Portal) crmUpdate(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		o, apiErr := p.crmObject(c, k)
		if apiErr != nil {
			return reply{}, apiErr
		}
		fields, apiErr := c.fields()
		if apiErr != nil {
			return reply{}, apiErr
		}
		p.updateObject(c.h, k, o, fields, c.id.user.id)
		return done(phpform.Boolean(true))
	}
}

func (p *Portal) crmDelete(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		o, apiErr := p.crmObject(c, k)
		if apiErr != nil {
			return reply{}, apiErr
		}
		p.deleteObject(c.h, k, o, c.id.user.id)
		return done(phpform.Boolean(true))
	}
}

func (p *Portal) crmList(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		filter, _ := c.param("FILTER")
		order, _ := c.param("ORDER")
		objects := p.selectObjects(k, filter, order)
		wanted, chosen := selection(c)
		rows := make([]phpform.Value, len(objects))
		for i, o := range objects {
			fields := slices.Clone(o.fields)
			if chosen {
				fields = slices.DeleteFunc(fields, func(e phpform.Entry) bool { return !wanted[e.Key] && e.Key != "ID" })
			}
			rows[i] = phpform.Map(fields...)
		}
		return p.list(c, rows)
	}
}

// list pages rows. With start=-1 nothing is counted.
func (p *Portal) list(c *call, rows []phpform.Value) (reply, *apiError) {
	v, _ := c.param("START")
	start := intOf(v)
	rep, apiErr := page(rows, start)
	if start < 0 {
		rep.total, rep.next = nil, nil
	}
	return rep, apiErr
}

// selection reads the parameter select. * stands for everything.
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

// selectObjects filters and orders the objects of a kind.
func (p *Portal) selectObjects(k Kind, filter, order phpform.Value) []*object {
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

// meets checks one condition: an operator and a field as the key, a value or a list of them.
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

// compareTexts compares numbers as numbers and other texts without regard to case.
func compareTexts(a, b string) int {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return strings.Compare(strings.ToLower(a), strings.ToLower(b))
}
