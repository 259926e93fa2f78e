package eventtest

import (
	"slices"

	"github.com/b24events/b24events/internal/phpform"
)

// crmFailure returns an error of the classic CRM methods, which has no code.
func crmFailure(description string) *apiError { return fail(400, "", description) }

// fields reads the parameter fields.
func (c *call) fields() (phpform.Value, *apiError) {
	v, _ := c.param("FIELDS")
	if v.Kind() != phpform.Array {
		return null(), crmFailure("Parameter 'fields' must be array.")
	}
	return v, nil
}

// crmObject returns the object with the ID in the parameter id.
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
		return done(phpform.Int(p.addObject(c.events, k, fields, c.caller.user.id).id))
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
		p.updateObject(c.events, k, o, fields, c.caller.user.id)
		return done(phpform.Boolean(true))
	}
}

func (p *Portal) crmDelete(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		o, apiErr := p.crmObject(c, k)
		if apiErr != nil {
			return reply{}, apiErr
		}
		p.deleteObject(c.events, k, o, c.caller.user.id)
		return done(phpform.Boolean(true))
	}
}

func (p *Portal) crmList(k Kind) methodFunc {
	return func(c *call) (reply, *apiError) {
		filter, _ := c.param("FILTER")
		order, _ := c.param("ORDER")
		objects := p.selectObjectsLocked(k, filter, order)
		wanted, chosen := selection(c)
		rows := make([]phpform.Value, len(objects))
		for i, o := range objects {
			fields := slices.Clone(o.fields)
			if chosen {
				fields = slices.DeleteFunc(fields, func(e phpform.Entry) bool { return !wanted[e.Key] && e.Key != "ID" })
			}
			rows[i] = phpform.Map(fields...)
		}
		return p.pageOf(c, rows)
	}
}
