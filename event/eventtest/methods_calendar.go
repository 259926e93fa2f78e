package eventtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// calendarFailure returns an error of the calendar methods, which has no code.
func calendarFailure(description string) *apiError { return fail(400, "", description) }

// calendarRequired checks that parameters are not empty. ownerId may be 0, for the company's
// calendar.
func (c *call) calendarRequired(names ...string) *apiError {
	for _, name := range names {
		v, ok := c.param(strings.ToUpper(name))
		if !ok || !truthy(v) && name != "ownerId" {
			return calendarFailure(fmt.Sprintf("The required parameter %q for the method %q is not set", name, c.name))
		}
	}
	return nil
}

// calendarTexts checks that parameters are texts.
func (c *call) calendarTexts(names ...string) *apiError {
	for _, name := range names {
		if v, ok := c.param(strings.ToUpper(name)); ok && v.Kind() != phpform.String {
			return calendarFailure(fmt.Sprintf("Invalid value for the parameter %q", name))
		}
	}
	return nil
}

// calendarFields renames the parameters of calendar.event.add to the fields that calendar.event.get
// returns. Names of such fields stay.
func calendarFields(fields phpform.Value) phpform.Value {
	var entries []phpform.Entry
	for _, e := range fields.Entries() {
		v := e.Value
		switch name := snake(e.Key); name {
		case "TYPE":
			entries = append(entries, kv("CAL_TYPE", v))
		case "FROM", "TO":
			entries = append(entries, kv("DATE_"+name, v))
		case "FROM_TS", "TO_TS": // replace the date
			side := strings.TrimSuffix(name, "_TS")
			if _, dated := fields.GetFold(side); !dated {
				entries = append(entries, text("DATE_"+side, isoTime(time.Unix(intOf(v), 0))))
			}
		case "SKIP_TIME":
			entries = append(entries, kv("DT_SKIP_TIME", v))
		case "TIMEZONE_FROM":
			entries = append(entries, kv("TZ_FROM", v))
		case "TIMEZONE_TO":
			entries = append(entries, kv("TZ_TO", v))
		case "SECTION":
			entries = append(entries, kv("SECTION_ID", v), kv("SECT_ID", v))
		case "HOST":
			entries = append(entries, kv("MEETING_HOST", v))
		case "CRM_FIELDS":
			entries = append(entries, kv("UF_CRM_CAL_EVENT", v))
		case "ATTENDEES":
			codes := make([]phpform.Value, 0, v.Len())
			for _, attendee := range v.Entries() {
				codes = append(codes, phpform.Text("U"+attendee.Value.Scalar()))
			}
			entries = append(entries, kv("ATTENDEES_CODES", phpform.List(codes...)))
		case "IS_MEETING", "PRIVATE_EVENT":
			entries = append(entries, kv(name, phpform.Boolean(v.Scalar() == "Y" || v.Scalar() == "1")))
		case "NAME", "DESCRIPTION":
			entries = append(entries, text(name, strings.TrimSpace(v.Scalar())))
		case "AUTO_DETECT_SECTION", "RECURRENCE_MODE", "CURRENT_DATE_FROM", "TEXT_COLOR":
		default:
			entries = append(entries, kv(name, v))
		}
	}
	return phpform.Map(entries...)
}

// calendarValue returns an entry as calendar.event.get shows it.
func calendarValue(o *object) phpform.Value {
	entries := slices.Clone(o.fields)
	for i, e := range entries {
		switch e.Key {
		case "IS_MEETING":
			entries[i].Value = phpform.Boolean(truthy(e.Value))
		case "PRIVATE_EVENT":
			entries[i].Value = phpform.Text(strings.TrimPrefix(e.Value.Scalar(), "0"))
		}
	}
	return phpform.Map(entries...)
}

func (p *Portal) calendarAdd(c *call) (reply, *apiError) {
	required := []string{"from", "to", "name", "ownerId", "type"}
	for i, name := range required[:2] {
		if _, ok := c.param(strings.ToUpper(name)); !ok {
			if _, ok := c.param(strings.ToUpper(name) + "_TS"); ok {
				required[i] = name + "_ts"
			}
		}
	}
	if v, ok := c.param("AUTO_DETECT_SECTION"); ok && v.Scalar() != "Y" {
		required = append(required, "section")
	}
	if apiErr := c.calendarRequired(required...); apiErr != nil {
		return reply{}, apiErr
	}
	if apiErr := c.calendarTexts("name", "description"); apiErr != nil {
		return reply{}, apiErr
	}
	return done(phpform.Int(p.addObject(c.events, CalendarEvent, c.params, c.caller.user.id).id))
}

// calendarGetByID returns null if there is no such entry.
func (p *Portal) calendarGetByID(c *call) (reply, *apiError) {
	if apiErr := c.calendarRequired("id"); apiErr != nil {
		return reply{}, apiErr
	}
	v, _ := c.param("ID")
	o := p.objects[CalendarEvent][intOf(v)]
	if o == nil {
		return done(null())
	}
	return done(calendarValue(o))
}

func (p *Portal) calendarUpdate(c *call) (reply, *apiError) {
	if apiErr := c.calendarRequired("id", "ownerId", "type"); apiErr != nil {
		return reply{}, apiErr
	}
	if v, _ := c.param("NAME"); v.Kind() != phpform.String {
		return reply{}, calendarFailure(`Invalid value for the parameter "name"`)
	}
	if apiErr := c.calendarTexts("description"); apiErr != nil {
		return reply{}, apiErr
	}
	v, _ := c.param("ID")
	o := p.objects[CalendarEvent][intOf(v)]
	if o == nil {
		return reply{}, calendarFailure("An error occurred while modifying the event")
	}
	p.updateObject(c.events, CalendarEvent, o, c.params, c.caller.user.id)
	return done(phpform.Int(o.id))
}

func (p *Portal) calendarDelete(c *call) (reply, *apiError) {
	v, _ := c.param("ID")
	if intOf(v) <= 0 {
		return reply{}, calendarFailure("Event id not specified")
	}
	o := p.objects[CalendarEvent][intOf(v)]
	if o == nil {
		return reply{}, calendarFailure("An error occurred while deleting the event")
	}
	p.deleteObject(c.events, CalendarEvent, o, c.caller.user.id)
	return done(phpform.Boolean(true))
}

// calendarGet lists the entries of one calendar without paging. The default period is from a month
// ago to three months ahead. Entries without a valid date are always included.
func (p *Portal) calendarGet(c *call) (reply, *apiError) {
	if apiErr := c.calendarRequired("type"); apiErr != nil {
		return reply{}, apiErr
	}
	owner, sections := c.str("OWNERID"), map[string]bool{}
	if section, ok := c.param("SECTION"); ok {
		for _, e := range section.Entries() {
			sections[e.Value.Scalar()] = true
		}
		if section.Kind() != phpform.Array {
			sections[section.Scalar()] = true
		}
	}
	now := p.nowLocked()
	from, to := now.AddDate(0, -1, 0), now.AddDate(0, 3, 0)
	if t, ok := calendarTime(c.str("FROM")); ok {
		from = t
	}
	if t, ok := calendarTime(c.str("TO")); ok {
		to = t
	}
	rows := []phpform.Value{}
	for _, id := range slices.Sorted(maps.Keys(p.objects[CalendarEvent])) {
		o := p.objects[CalendarEvent][id]
		starts, dated := calendarTime(o.get("DATE_FROM").Scalar())
		ends, ended := calendarTime(o.get("DATE_TO").Scalar())
		if !ended {
			ends = starts
		}
		switch {
		case o.get("CAL_TYPE").Scalar() != c.str("TYPE"):
		case owner != "" && o.get("OWNER_ID").Scalar() != owner:
		case len(sections) > 0 && !sections[o.get("SECTION_ID").Scalar()]:
		case dated && (ends.Before(from) || starts.After(to)):
		default:
			rows = append(rows, calendarValue(o))
		}
	}
	return done(phpform.List(rows...))
}

// calendarTime parses the dates that callers send.
func calendarTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
