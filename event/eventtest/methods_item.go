package eventtest

import (
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// itemKind reads entityTypeId.
func (p *Portal) itemKind(c *call) (Kind, int64, *apiError) {
	v, _ := c.param("ENTITYTYPEID")
	k, ok := p.kindOfTypeLocked(intOf(v))
	if !ok {
		return "", 0, fail(400, "NOT_FOUND", "SPA not found")
	}
	return k, intOf(v), nil
}

// item returns the object that entityTypeId and id name.
func (p *Portal) item(c *call) (Kind, int64, *object, *apiError) {
	k, entityType, apiErr := p.itemKind(c)
	if apiErr != nil {
		return "", 0, nil, apiErr
	}
	v, _ := c.param("ID")
	o := p.objects[k][intOf(v)]
	if o == nil {
		return "", 0, nil, fail(400, "NOT_FOUND", "Element not found")
	}
	return k, entityType, o, nil
}

// itemValue returns an object as crm.item.* shows it: names in camel case, IDs and amounts as
// numbers.
func itemValue(o *object, entityType int64) phpform.Value {
	entries := make([]phpform.Entry, 0, len(o.fields)+1)
	for _, e := range o.fields {
		name, v := camel(e.Key), e.Value
		switch e.Key {
		case "CREATED_BY_ID":
			name = "createdBy"
		case "MODIFY_BY_ID":
			name = "updatedBy"
		case "DATE_CREATE":
			name = "createdTime"
		case "DATE_MODIFY":
			name = "updatedTime"
		}
		if numeric(e.Key) && v.Kind() == phpform.String {
			if f, err := strconv.ParseFloat(v.Scalar(), 64); err == nil &&
				!strings.ContainsAny(v.Scalar(), "nNxX_") { // no Inf, NaN, 0x1p2 or 1_0
				v = float("", f).Value
			}
		}
		entries = append(entries, kv(name, v))
	}
	return phpform.Map(append(entries, number("entityTypeId", entityType))...)
}

// numeric reports whether crm.item.* shows a field as a number.
func numeric(name string) bool {
	switch name {
	case "ID", "OPPORTUNITY", "CATEGORY_ID", "COMPANY_ID", "CONTACT_ID", "ASSIGNED_BY_ID", "CREATED_BY_ID", "MODIFY_BY_ID":
		return true
	}
	return strings.HasPrefix(name, "PARENT_ID_")
}

func (p *Portal) itemAdd(c *call) (reply, *apiError) {
	k, entityType, apiErr := p.itemKind(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, apiErr := c.fields()
	if apiErr != nil {
		return reply{}, apiErr
	}
	o := p.addObject(c.events, k, fields, c.caller.user.id)
	return done(phpform.Map(kv("item", itemValue(o, entityType))))
}

func (p *Portal) itemGet(c *call) (reply, *apiError) {
	_, entityType, o, apiErr := p.item(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	return done(phpform.Map(kv("item", itemValue(o, entityType))))
}

func (p *Portal) itemUpdate(c *call) (reply, *apiError) {
	k, entityType, o, apiErr := p.item(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields, apiErr := c.fields()
	if apiErr != nil {
		return reply{}, apiErr
	}
	p.updateObject(c.events, k, o, fields, c.caller.user.id)
	return done(phpform.Map(kv("item", itemValue(o, entityType))))
}

func (p *Portal) itemDelete(c *call) (reply, *apiError) {
	k, _, o, apiErr := p.item(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	p.deleteObject(c.events, k, o, c.caller.user.id)
	return done(phpform.Map())
}

func (p *Portal) itemList(c *call) (reply, *apiError) {
	k, entityType, apiErr := p.itemKind(c)
	if apiErr != nil {
		return reply{}, apiErr
	}
	filter, _ := c.param("FILTER")
	order, _ := c.param("ORDER")
	wanted, chosen := selection(c)
	var rows []phpform.Value
	for _, o := range p.selectObjectsLocked(k, filter, order) {
		row := itemValue(o, entityType)
		if chosen {
			row = phpform.Map(slices.DeleteFunc(slices.Clone(row.Entries()), func(e phpform.Entry) bool {
				return !wanted[snake(e.Key)] && e.Key != "id"
			})...)
		}
		rows = append(rows, row)
	}
	rep, apiErr := p.pageOf(c, rows)
	rep.result = phpform.Map(kv("items", rep.result))
	return rep, apiErr
}
