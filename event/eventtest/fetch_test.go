package eventtest_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// TestFetch reads the object of each event with the method in the catalogue. For a deleted object
// it gets an error: after the event of the deletion, and in the method's own way.
func TestFetch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind eventtest.Kind
		stem string // of the events' names
		id   string // the name of the identifier in the object
	}{
		{eventtest.Lead, "ONCRMLEAD", "ID"},
		{eventtest.Deal, "ONCRMDEAL", "ID"},
		{eventtest.Contact, "ONCRMCONTACT", "ID"},
		{eventtest.Company, "ONCRMCOMPANY", "ID"},
		{eventtest.SmartProcess(147), "ONCRMDYNAMICITEM", "id"},
		{eventtest.Task, "ONTASK", "id"},
		{eventtest.CalendarEvent, "ONCALENDARENTRY", "ID"},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			require.NoError(t, p.AddSmartProcess(147))
			in := newInbox(t)
			for _, action := range []string{"ADD", "UPDATE", "DELETE"} {
				c.bind(obj{"event": tt.stem + action, "handler": in.URL})
			}
			hook, err := p.AddIncomingWebhook(eventtest.AdminID, "crm", "task", "calendar")
			require.NoError(t, err)
			portal, err := rest.NewWebhook(string(hook), rest.WithInsecureHTTP())
			require.NoError(t, err)
			id, err := p.Add(tt.kind, map[string]any{"TITLE": "x"}, 1)
			require.NoError(t, err)
			require.NoError(t, p.Update(tt.kind, id, map[string]any{"TITLE": "y"}, 1))
			wait(t, p)
			for _, body := range in.bodies {
				object, err := event.Fetch[obj](t.Context(), portal, parse(t, event.Secret(body)))
				require.NoError(t, err)
				require.Equal(t, strconv.FormatInt(id, 10), fmt.Sprint(object[tt.id]))
			}
			require.NoError(t, p.Delete(tt.kind, id, 1))
			wait(t, p)
			require.Len(t, in.bodies, 3)
			for i, body := range in.bodies {
				_, err := event.Fetch[obj](t.Context(), portal, parse(t, event.Secret(body)))
				want := event.ErrGone
				if i < 2 && (tt.kind == eventtest.Task || tt.kind == eventtest.CalendarEvent) {
					want = event.ErrNotVisible // their methods return nothing for any reason
				}
				require.ErrorIs(t, err, want)
			}
		})
	}
}

func TestFetchUser(t *testing.T) {
	t.Parallel()
	p := eventtest.NewPortal(t)
	in := newInbox(t)
	install(t, p, eventtest.App{Scope: []string{"user"}}).bind(obj{"event": "ONUSERADD", "handler": in.URL})
	hook, err := p.AddIncomingWebhook(eventtest.AdminID, "user")
	require.NoError(t, err)
	portal, err := rest.NewWebhook(string(hook), rest.WithInsecureHTTP())
	require.NoError(t, err)
	eve := p.AddUser(eventtest.User{Name: "Eve"})
	require.NoError(t, p.Raise("ONUSERADD", map[string]any{"ID": eve}, eve))
	require.NoError(t, p.Raise("ONUSERADD", map[string]any{"ID": 99}, eve))
	wait(t, p)
	user, err := event.Fetch[obj](t.Context(), portal, parse(t, event.Secret(in.bodies[0])))
	require.NoError(t, err)
	require.Equal(t, "Eve", user["NAME"])
	_, err = event.Fetch[obj](t.Context(), portal, parse(t, event.Secret(in.bodies[1])))
	require.ErrorIs(t, err, event.ErrNotVisible)
	require.NotErrorIs(t, err, event.ErrGone, "user.get leaves out users of many kinds")
}
