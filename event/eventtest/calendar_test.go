package eventtest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestCalendarEntries(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	in := newInbox(t)
	for _, name := range []string{"ONCALENDARENTRYADD", "ONCALENDARENTRYUPDATE", "ONCALENDARENTRYDELETE"} {
		c.bind(obj{"event": name, "handler": in.URL})
	}
	from := p.Now().Add(time.Hour).Format(time.RFC3339)
	entry := obj{
		"type": "user", "ownerId": 2, "name": " Lunch ", "from": from, "to": from, "section": 5, "is_meeting": "Y",
		"attendees": []int{1, 2}, "private_event": "N", "skip_time": "Y", "location": "Riga", "crm_fields": []string{"C_5"},
	}
	require.JSONEq(t, "1", string(c.ok("calendar.event.add", entry).Result))
	got := c.ok("calendar.event.getbyid", obj{"id": 1}).object(t)
	for field, want := range map[string]any{
		"ID": "1", "PARENT_ID": "1", "DELETED": "N", "CAL_TYPE": "user", "OWNER_ID": "2", "NAME": "Lunch", "DATE_FROM": from,
		"SECTION_ID": "5", "SECT_ID": "5", "IS_MEETING": true, "ATTENDEES_CODES": []any{"U1", "U2"}, "PRIVATE_EVENT": "",
		"DT_SKIP_TIME": "Y", "LOCATION": "Riga", "CREATED_BY": "1", "UF_CRM_CAL_EVENT": []any{"C_5"}, "EVENT_TYPE": nil,
	} {
		require.Equal(t, want, got[field], field)
	}
	update := obj{"id": 1, "type": "user", "ownerId": 2, "name": "Dinner", "private_event": "Y"}
	require.JSONEq(t, "1", string(c.ok("calendar.event.update", update).Result))
	got = c.ok("calendar.event.getbyid", obj{"id": 1}).object(t)
	require.Equal(t, "Dinner", got["NAME"])
	require.Equal(t, "1", got["PRIVATE_EVENT"])
	require.Equal(t, "2", got["OWNER_ID"], "what is not sent stays")
	require.JSONEq(t, "true", string(c.ok("calendar.event.delete", obj{"id": 1}).Result))
	require.Equal(t, "null", string(c.ok("calendar.event.getbyid", obj{"id": 1}).Result), "a missing entry is null")
	wait(t, p)
	require.Equal(t, []string{"ONCALENDARENTRYADD", "ONCALENDARENTRYUPDATE", "ONCALENDARENTRYDELETE"}, in.events(t))
	require.Equal(t, "1", in.forms(t)[0].Get("data[id]"))
	require.NotEmpty(t, in.forms(t)[0].Get("auth[refresh_token]"), "PROTOCOL 4.4: ONCALENDAR* carry one")
}

func TestCalendarErrors(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	required := func(name, method string) string {
		return `The required parameter "` + name + `" for the method "calendar.event.` + method + `" is not set`
	}
	whole := obj{"from": "2026-01-01", "to": "2026-01-01", "name": "x", "ownerId": 0, "type": "user"}
	c.ok("calendar.event.add", whole)
	c.ok("calendar.event.add", with(with(without(whole, "from"), "from_ts", 1), "to_ts", 2))
	stamped := c.ok("calendar.event.getbyid", obj{"id": 2}).object(t)
	require.Equal(t, "1970-01-01T03:00:01+03:00", stamped["DATE_FROM"])
	require.Equal(t, "2026-01-01", stamped["DATE_TO"], "the date comes before the timestamp")
	for _, tt := range []struct {
		name, method string
		params       obj
		want         string
	}{
		{"nothing", "add", nil, required("from", "add")},
		{"no end", "add", without(whole, "to"), required("to", "add")},
		{"empty name", "add", with(whole, "name", ""), required("name", "add")},
		{"no owner", "add", without(whole, "ownerId"), required("ownerId", "add")},
		{"no type", "add", without(whole, "type"), required("type", "add")},
		{"section wanted", "add", with(whole, "auto_detect_section", "N"), required("section", "add")},
		{"name of another kind", "add", with(whole, "name", []int{1}), `Invalid value for the parameter "name"`},
		{"description of another kind", "add", with(whole, "description", 7), `Invalid value for the parameter "description"`},
		{"no id", "getbyid", nil, required("id", "getbyid")},
		{"id 0", "getbyid", obj{"id": 0}, required("id", "getbyid")},
		{"no id to change", "update", nil, required("id", "update")},
		{"no owner to change", "update", obj{"id": 1}, required("ownerId", "update")},
		{"no type to change", "update", obj{"id": 1, "ownerId": 0}, required("type", "update")},
		{"no name to change", "update", obj{"id": 1, "ownerId": 0, "type": "user"}, `Invalid value for the parameter "name"`},
		{"no such entry to change", "update", with(whole, "id", 99), "An error occurred while modifying the event"},
		{"no id to delete", "delete", nil, "Event id not specified"},
		{"no such entry to delete", "delete", obj{"id": 99}, "An error occurred while deleting the event"},
		{"no type to list", "get", nil, required("type", "get")},
	} {
		a := c.call("calendar.event."+tt.method, tt.params)
		require.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		require.Contains(t, a.Raw, `"error":""`, "%s: the calendar's errors have no codes", tt.name)
		require.Equal(t, tt.want, a.Description, tt.name)
	}
}

func TestCalendarList(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	for i, days := range []int{0, 10, -45, 200} {
		day := p.Now().AddDate(0, 0, days).Format(time.DateOnly)
		_, err := p.Add(eventtest.CalendarEvent, map[string]any{"name": "x", "from": day, "to": day, "section": i + 1}, 1)
		require.NoError(t, err)
	}
	_, err := p.Add(eventtest.CalendarEvent, map[string]any{"NAME": "undated", "CAL_TYPE": "group", "OWNER_ID": 9}, 1)
	require.NoError(t, err)
	for _, tt := range []struct {
		name   string
		params obj
		want   []string
	}{
		{"a month back, three ahead", obj{"type": "user", "ownerId": 1}, []string{"1", "2"}},
		{"from", obj{"type": "user", "ownerId": 1, "from": p.Now().AddDate(0, -3, 0).Format(time.DateOnly)}, []string{"1", "2", "3"}},
		{"to", obj{"type": "user", "ownerId": 1, "to": p.Now().AddDate(1, 0, 0).Format(time.DateOnly)}, []string{"1", "2", "4"}},
		{"sections", obj{"type": "user", "ownerId": 1, "section": []int{2, 4}}, []string{"2"}},
		{"another owner", obj{"type": "user", "ownerId": 2}, []string{}},
		{"another calendar", obj{"type": "group", "ownerId": 9}, []string{"5"}},
	} {
		a := c.ok("calendar.event.get", tt.params)
		require.Nil(t, a.Total, "not paged")
		ids := []string{}
		for _, row := range a.list(t) {
			ids = append(ids, row.(obj)["ID"].(string)) //nolint:forcetypeassert // the test's point
		}
		require.Equal(t, tt.want, ids, tt.name)
	}
}
