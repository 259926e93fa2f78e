package eventtest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// rowIDs returns the IDs of the rows that a list method returns.
func rowIDs(t *testing.T, a answer) string {
	t.Helper()
	var rows []struct {
		ID string `json:"ID"`
	}
	require.NoError(t, json.Unmarshal(a.Result, &rows))
	var got []string
	for _, row := range rows {
		got = append(got, row.ID)
	}
	return strings.Join(got, ",")
}

// social returns a portal with callers for the administrator, an employee and an extranet user.
func social(t *testing.T) (p *eventtest.Portal, admin, clerk, guest *caller) {
	t.Helper()
	p = eventtest.NewPortal(t)
	app, err := p.AddApp(eventtest.App{Scope: []string{"sonet", "log", "user"}})
	require.NoError(t, err)
	require.NoError(t, app.Install(t.Context()))
	clerkID := p.AddUser(eventtest.User{Name: "Clerk"})
	guestID := p.AddUser(eventtest.User{Name: "Guest", Type: eventtest.Extranet})
	require.Equal(t, []int64{2, 3}, []int64{clerkID, guestID})
	return p, as(t, p, app, eventtest.AdminID), as(t, p, app, clerkID), as(t, p, app, guestID)
}

func TestWorkgroupsAreFiltered(t *testing.T) {
	t.Parallel()
	p, admin, clerk, _ := social(t)
	for _, fields := range []map[string]any{
		{"NAME": "open"},
		{"NAME": "secret", "VISIBLE": "N", "OWNER_ID": 3},
		{"NAME": "of the clerk", "VISIBLE": "N", "OWNER_ID": 2},
		{"NAME": "with the clerk", "VISIBLE": "N", "OWNER_ID": 3, "MEMBERS": []int{3, 2}},
	} {
		_, err := p.Add(eventtest.Workgroup, fields, eventtest.AdminID)
		require.NoError(t, err)
	}
	for name, tt := range map[string]struct {
		c      *caller
		params obj
		want   string
	}{
		"10.6 empty is not gone":                   {admin, obj{"GROUP_ID": 2}, ""},
		"10.6 IS_ADMIN of an administrator":        {admin, obj{"GROUP_ID": 2, "IS_ADMIN": "Y"}, "2"},
		"10.6 IS_ADMIN of another":                 {clerk, obj{"GROUP_ID": 2, "IS_ADMIN": "Y"}, ""},
		"all that the administrator may see":       {admin, nil, "1"},
		"all":                                      {admin, obj{"IS_ADMIN": "Y"}, "4,3,2,1"},
		"all that an employee may see":             {clerk, nil, "4,3,1"},
		"filter":                                   {clerk, obj{"FILTER": obj{"%NAME": "clerk"}}, "4,3"},
		"10.6 ORDER":                               {clerk, obj{"ORDER": obj{"ID": "ASC"}}, "1,3,4"},
		"order in lower case is not known":         {clerk, obj{"order": obj{"ID": "ASC"}}, "4,3,1"},
		"a group that was never there looks alike": {admin, obj{"GROUP_ID": 9, "IS_ADMIN": "Y"}, ""},
	} {
		require.Equal(t, tt.want, rowIDs(t, tt.c.ok("sonet_group.get", tt.params)), name)
	}
	require.NoError(t, p.Update(eventtest.Workgroup, 2, map[string]any{"VISIBLE": "Y"}, eventtest.AdminID))
	require.Equal(t, "2", rowIDs(t, clerk.ok("sonet_group.get", obj{"GROUP_ID": 2})))
}

func TestPostsAreFiltered(t *testing.T) {
	t.Parallel()
	p, admin, clerk, _ := social(t)
	for _, fields := range []map[string]any{
		{"TITLE": "for all"},
		{"TITLE": "for the clerk", "DEST": []string{"U2"}},
		{"TITLE": "of the clerk", "AUTHOR_ID": 2, "DEST": []string{"U3"}},
	} {
		_, err := p.Add(eventtest.FeedPost, fields, eventtest.AdminID)
		require.NoError(t, err)
	}
	require.Empty(t, rowIDs(t, admin.ok("log.blogpost.get", obj{"POST_ID": 3})), "10.6 posts for others")
	require.Equal(t, "3", rowIDs(t, clerk.ok("log.blogpost.get", obj{"POST_ID": 3})))
	require.Equal(t, "3,2,1", rowIDs(t, clerk.ok("log.blogpost.get", nil)))
	require.Equal(t, "2,1", rowIDs(t, admin.ok("log.blogpost.get", nil)), "its own and those for all")
	require.Equal(t, "2", rowIDs(t, clerk.ok("log.blogpost.get", obj{"LOG_RIGHTS": []string{"U2", "U9"}})))
	require.Equal(t, "1", rowIDs(t, clerk.ok("log.blogpost.get", obj{"LOG_RIGHTS": "UA"})))
	require.Equal(t, "insufficient_scope", func() string { _, c := newPortal(t); return c.call("log.blogpost.get", nil).Error }())
}

func TestUsersAreFiltered(t *testing.T) {
	t.Parallel()
	p, admin, clerk, guest := social(t)
	for _, kind := range []eventtest.UserType{eventtest.EmailUser, eventtest.ConnectorUser, eventtest.ReplicaUser, eventtest.Integrator} {
		id := p.AddUser(eventtest.User{Name: "Other", Type: kind})
		require.Empty(t, rowIDs(t, admin.ok("user.get", obj{"FILTER": obj{"ID": id}, "ADMIN_MODE": true})), "10.6 users: %s", kind)
	}
	require.Equal(t, "1,2", rowIDs(t, admin.ok("user.get", nil)))
	require.Equal(t, "1,2,3", rowIDs(t, admin.ok("user.get", obj{"ADMIN_MODE": "True"})))
	require.Empty(t, rowIDs(t, clerk.ok("user.get", obj{"ID": 3, "ADMIN_MODE": true})), "it is for administrators")
	require.Equal(t, "3", rowIDs(t, guest.ok("user.get", nil)))
	got := guest.ok("user.current", nil).object(t)
	require.Equal(t, "extranet", got["USER_TYPE"])
}

func TestSocialEvents(t *testing.T) {
	t.Parallel()
	p, in := eventtest.NewPortal(t), newInbox(t)
	c := install(t, p, eventtest.App{Scope: []string{"sonet", "log"}})
	for kind, name := range map[eventtest.Kind]string{eventtest.Workgroup: "ONSONETGROUP", eventtest.FeedPost: "ONLIVEFEEDPOST"} {
		for _, action := range []string{"ADD", "UPDATE", "DELETE"} {
			c.bind(obj{"event": name + action, "handler": in.URL})
		}
		id, err := p.Add(kind, map[string]any{"NAME": "x"}, eventtest.AdminID)
		require.NoError(t, err)
		require.NoError(t, p.Update(kind, id, map[string]any{"NAME": "y"}, eventtest.AdminID))
		require.NoError(t, p.Delete(kind, id, eventtest.AdminID))
	}
	wait(t, p)
	forms := in.forms(t)
	require.Len(t, forms, 6)
	for _, form := range forms {
		key := map[bool]string{true: "data[FIELDS][ID]", false: "data[FIELDS][POST_ID]"}[strings.HasPrefix(form.Get("event"), "ONSONETGROUP")]
		require.Equal(t, "1", form.Get(key), form.Get("event"))
	}
}
