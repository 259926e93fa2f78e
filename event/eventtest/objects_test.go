package eventtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

func TestObjectsRaiseEvents(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind   eventtest.Kind
		events [3]string // ADD, UPDATE, DELETE
		data   [3]string // of each event, the latest one
	}{
		{
			eventtest.Deal,
			[3]string{"ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE"},
			[3]string{`{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`},
		},
		{
			eventtest.Lead,
			[3]string{"ONCRMLEADADD", "ONCRMLEADUPDATE", "ONCRMLEADDELETE"},
			[3]string{`{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`},
		},
		{
			eventtest.Contact,
			[3]string{"ONCRMCONTACTADD", "ONCRMCONTACTUPDATE", "ONCRMCONTACTDELETE"},
			[3]string{`{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`},
		},
		{
			eventtest.Company,
			[3]string{"ONCRMCOMPANYADD", "ONCRMCOMPANYUPDATE", "ONCRMCOMPANYDELETE"},
			[3]string{`{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`, `{"FIELDS":{"ID":1}}`},
		},
		{
			eventtest.Task,
			[3]string{"ONTASKADD", "ONTASKUPDATE", "ONTASKDELETE"},
			[3]string{
				`{"FIELDS_BEFORE":"undefined","FIELDS_AFTER":{"ID":1},"IS_ACCESSIBLE_BEFORE":"N","IS_ACCESSIBLE_AFTER":"undefined"}`,
				`{"FIELDS_BEFORE":{"ID":1},"FIELDS_AFTER":{"ID":1},"IS_ACCESSIBLE_BEFORE":"undefined","IS_ACCESSIBLE_AFTER":"undefined"}`,
				`{"FIELDS_BEFORE":{"ID":1},"FIELDS_AFTER":"undefined","IS_ACCESSIBLE_BEFORE":"undefined","IS_ACCESSIBLE_AFTER":"N"}`,
			},
		},
		{
			eventtest.CalendarEvent,
			[3]string{"ONCALENDARENTRYADD", "ONCALENDARENTRYUPDATE", "ONCALENDARENTRYDELETE"},
			[3]string{`{"id":1}`, `{"id":1}`, `{"id":1}`},
		},
		{
			eventtest.SmartProcess(147),
			[3]string{"ONCRMDYNAMICITEMADD_147", "ONCRMDYNAMICITEMUPDATE_147", "ONCRMDYNAMICITEMDELETE_147"},
			[3]string{
				`{"FIELDS":{"ID":1,"ENTITY_TYPE_ID":147}}`, `{"FIELDS":{"ID":1,"ENTITY_TYPE_ID":147}}`,
				`{"FIELDS":{"ID":1,"ENTITY_TYPE_ID":147}}`,
			},
		},
	} {
		t.Run("4.5 "+string(tt.kind), func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			require.NoError(t, p.AddSmartProcess(147))
			for _, name := range tt.events {
				c.bind(obj{"event": name, "event_type": "offline"})
			}
			id, err := p.Add(tt.kind, map[string]any{"TITLE": "x"}, 1)
			require.NoError(t, err)
			require.NoError(t, p.Update(tt.kind, id, map[string]any{"TITLE": "y"}, 1))
			fields, ok := p.Object(tt.kind, id)
			require.True(t, ok)
			require.Equal(t, "y", fields["TITLE"])
			require.NoError(t, p.Delete(tt.kind, id, 1))
			_, ok = p.Object(tt.kind, id)
			require.False(t, ok)
			require.ErrorIs(t, p.Delete(tt.kind, id, 1), eventtest.ErrNotFound)

			rows := p.OfflineRows()
			require.Len(t, rows, 3)
			for i, row := range rows {
				require.Equal(t, tt.events[i], row.Event)
				doc, err := row.Data.MarshalJSON()
				require.NoError(t, err)
				require.JSONEq(t, tt.data[i], string(doc))
			}
		})
	}
	t.Run("4.5 smart processes raise the base event too, deals do not", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		require.NoError(t, p.AddSmartProcess(147))
		c.bind(obj{"event": "ONCRMDYNAMICITEMADD", "handler": in.URL})
		c.bind(obj{"event": "ONCRMDYNAMICITEMADD_147", "handler": in.URL})
		addDeal(t, p)
		_, err := p.Add(eventtest.SmartProcess(31), nil, 1)
		require.NoError(t, err)
		_, err = p.Add(eventtest.SmartProcess(147), nil, 1)
		require.NoError(t, err)
		wait(t, p)
		require.Equal(t, []string{"ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD_147"}, in.events(t))
	})
	t.Run("what is refused", func(t *testing.T) {
		t.Parallel()
		p := eventtest.NewPortal(t)
		for _, kind := range []eventtest.Kind{"crm.quote", "crm.item.x", eventtest.SmartProcess(147), ""} {
			_, err := p.Add(kind, nil, 1)
			require.ErrorIs(t, err, eventtest.ErrNotFound, string(kind))
		}
		_, err := p.Add(eventtest.Deal, nil, 42)
		require.ErrorIs(t, err, eventtest.ErrNotFound)
		_, err = p.Add(eventtest.Deal, map[string]any{"TITLE": make(chan int)}, 1)
		require.Error(t, err)
		require.ErrorIs(t, p.Update(eventtest.Deal, 1, nil, 1), eventtest.ErrNotFound)
		require.Error(t, p.Raise("X", func() {}, 1))
	})
}

func TestClassicCRM(t *testing.T) {
	t.Parallel()
	for _, kind := range []eventtest.Kind{eventtest.Lead, eventtest.Deal, eventtest.Contact, eventtest.Company} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			add := c.ok(string(kind)+".add", obj{"fields": obj{"ORIGIN_ID": 7, "COMMENTS": "a", "UF_CRM_1": true}})
			require.JSONEq(t, "1", string(add.Result), "a number")
			got := c.ok(string(kind)+".get", obj{"ID": "1"}).object(t)
			require.Equal(t, "1", got["ID"], "texts throughout")
			require.Equal(t, "7", got["ORIGIN_ID"])
			require.Equal(t, "1", got["UF_CRM_1"])
			require.Equal(t, "1", got["CREATED_BY_ID"])
			other := as(t, p, c.app, p.AddUser(eventtest.User{}))
			require.JSONEq(t, "true", string(other.ok(string(kind)+".update", obj{"id": 1, "fields": obj{"COMMENTS": "b", "ID": 9}}).Result))
			got = c.ok(string(kind)+".get", obj{"id": 1}).object(t)
			require.Equal(t, "b", got["COMMENTS"])
			require.Equal(t, "1", got["ID"])
			require.Equal(t, "2", got["MODIFY_BY_ID"])
			require.JSONEq(t, "true", string(c.ok(string(kind)+".delete", obj{"id": 1}).Result))
			for _, tt := range []struct {
				method      string
				params      obj
				description string
			}{
				{"get", obj{"id": 1}, "Not found"},
				{"update", obj{"id": 1, "fields": obj{}}, "Not found"},
				{"delete", obj{"id": 1}, "Not found"},
				{"get", nil, "ID is not defined or invalid."},
				{"add", obj{"fields": "x"}, "Parameter 'fields' must be array."},
			} {
				a := c.call(string(kind)+"."+tt.method, tt.params)
				require.Equal(t, http.StatusBadRequest, a.Status)
				require.Contains(t, a.Raw, `"error":""`, "the classic methods have no codes")
				require.Equal(t, tt.description, a.Description)
			}
		})
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	for i := range 120 {
		_, err := p.Add(eventtest.Deal, map[string]any{"TITLE": fmt.Sprintf("Deal %d", i+1), "OPPORTUNITY": i % 3}, 1)
		require.NoError(t, err)
	}
	titles := func(params obj) []string {
		got := []string{}
		for _, row := range c.ok("crm.deal.list", params).list(t) {
			got = append(got, row.(obj)["TITLE"].(string)) //nolint:forcetypeassert // the test's point
		}
		return got
	}
	a := c.ok("crm.deal.list", nil)
	require.Len(t, a.list(t), 50)
	require.Equal(t, 120, *a.Total)
	require.Equal(t, 50, *a.Next)
	a = c.ok("crm.deal.list", obj{"start": 100})
	require.Len(t, a.list(t), 20)
	require.Nil(t, a.Next)
	a = c.ok("crm.deal.list", obj{"start": -1, "filter": obj{">ID": 60}})
	require.Len(t, a.list(t), 50)
	require.Nil(t, a.Total, "1.3 nothing is counted")
	require.Nil(t, a.Next)
	for _, tt := range []struct {
		name   string
		params obj
		want   []string
	}{
		{"order", obj{"order": obj{"ID": "DESC"}, "filter": obj{"<=ID": 2}}, []string{"Deal 2", "Deal 1"}},
		{
			"two orders",
			obj{"order": json.RawMessage(`{"OPPORTUNITY":"DESC","ID":"ASC"}`), "filter": obj{"<ID": 6}},
			[]string{"Deal 3", "Deal 2", "Deal 5", "Deal 1", "Deal 4"},
		},
		{"range", obj{"filter": obj{">=ID": 5, "<ID": 7}}, []string{"Deal 5", "Deal 6"}},
		{"IN", obj{"filter": obj{"@ID": []int{3, 7, 999}}}, []string{"Deal 3", "Deal 7"}},
		{"equality by list", obj{"filter": obj{"ID": []string{"3"}}}, []string{"Deal 3"}},
		{"not", obj{"filter": obj{"!OPPORTUNITY": 0, "<ID": 4}}, []string{"Deal 2", "Deal 3"}},
		{"not IN", obj{"filter": obj{"!@ID": []int{1, 2}, "<ID": 4}}, []string{"Deal 3"}},
		{"substring", obj{"filter": obj{"%TITLE": "deal 11", ">ID": 117}}, []string{"Deal 118", "Deal 119"}},
		{"unknown operator", obj{"filter": obj{"?!ID": 1}}, []string{}},
	} {
		require.Equal(t, tt.want, titles(tt.params), tt.name)
	}
	row := c.ok("crm.deal.list", obj{"select": []string{"TITLE"}, "filter": obj{"ID": 1}}).list(t)[0]
	require.Equal(t, obj{"ID": "1", "TITLE": "Deal 1"}, row)
	row = c.ok("crm.deal.list", obj{"select": []string{"*", "TITLE"}, "filter": obj{"ID": 1}}).list(t)[0]
	require.Contains(t, row, "STAGE_ID")
}

func TestItems(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	require.NoError(t, p.AddSmartProcess(147))
	item := func(a answer) obj {
		return a.object(t)["item"].(obj) //nolint:forcetypeassert // the test's point
	}
	got := item(c.ok("crm.item.add", obj{"entityTypeId": 147, "fields": obj{
		"title": "x", "opportunity": 9.5, "ufCrm2_1639669411830": "u", "parentId2": 4,
	}}))
	require.InDelta(t, 1, got["id"], 0, "numbers here")
	require.InDelta(t, 9.5, got["opportunity"], 0)
	require.InDelta(t, 147, got["entityTypeId"], 0)
	require.InDelta(t, 1, got["createdBy"], 0)
	require.InDelta(t, 4, got["parentId2"], 0)
	require.Equal(t, "u", got["ufCrm2_1639669411830"])
	require.NotEmpty(t, got["createdTime"])
	stored, _ := p.Object(eventtest.SmartProcess(147), 1)
	require.Equal(t, "u", stored["UF_CRM_2_1639669411830"])

	require.Equal(t, "y", item(c.ok("crm.item.update",
		obj{"entityTypeId": 147, "id": 1, "fields": obj{"title": "y", "assignedById": 2}}))["title"])
	require.InDelta(t, 2, item(c.ok("crm.item.get", obj{"entityTypeId": 147, "id": 1}))["assignedById"], 0)
	list := c.ok("crm.item.list", obj{"entityTypeId": 147, "filter": obj{"=title": "y"}})
	require.Len(t, list.object(t)["items"], 1)
	require.Equal(t, 1, *list.Total)
	require.Equal(t, "[]", string(c.ok("crm.item.delete", obj{"entityTypeId": 147, "id": 1}).Result))

	addDeal(t, p)
	require.Equal(t, "deal", item(c.ok("crm.item.get", obj{"entityTypeId": 2, "id": 1}))["title"], "deals by their type")
	for _, tt := range []struct {
		name, method string
		params       obj
		code         string
	}{
		{"no element", "get", obj{"entityTypeId": 147, "id": 1}, "NOT_FOUND"},
		{"no element to change", "update", obj{"entityTypeId": 147, "id": 1, "fields": obj{}}, "NOT_FOUND"},
		{"no element to delete", "delete", obj{"entityTypeId": 147, "id": 1}, "NOT_FOUND"},
		{"no type", "add", obj{"entityTypeId": 148, "fields": obj{}}, "NOT_FOUND"},
		{"no type to list", "list", nil, "NOT_FOUND"},
	} {
		a := c.call("crm.item."+tt.method, tt.params)
		require.Equal(t, http.StatusBadRequest, a.Status, tt.name)
		require.Equal(t, tt.code, a.Error, tt.name)
	}
}

// TestNumbersThatAreNone stores texts that only Go parses as numbers.
func TestNumbersThatAreNone(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	for _, text := range []string{"NaN", "Inf", "-infinity", "0x1p-2", "1_0", ""} {
		a := c.ok("crm.item.add", obj{"entityTypeId": 2, "fields": obj{"opportunity": text}})
		item, ok := a.object(t)["item"].(obj)
		require.True(t, ok)
		require.Equal(t, text, item["opportunity"])
	}
}
