package eventtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// queued returns a portal whose application has n deal updates in its offline queue.
func queued(t *testing.T, n int, opts ...eventtest.Option) (*eventtest.Portal, *caller) {
	t.Helper()
	p, c := newPortal(t, opts...)
	c.bind(obj{"event": "ONCRMDEALUPDATE", "event_type": "offline"})
	for range n {
		change(t, p, addDeal(t, p))
	}
	require.Len(t, p.OfflineRows(), n)
	return p, c
}

func ids(rows []obj) []string {
	list := []string{}
	for _, r := range rows {
		list = append(list, r["ID"].(string)) //nolint:forcetypeassert // a number here must fail the test
	}
	return list
}

func messages(rows []obj) []any {
	var list []any
	for _, r := range rows {
		list = append(list, r["MESSAGE_ID"])
	}
	return list
}

func TestMessageIDVectors(t *testing.T) {
	t.Parallel()
	task := `{"FIELDS_BEFORE":"undefined","FIELDS_AFTER":{"ID":123},"IS_ACCESSIBLE_BEFORE":"N","IS_ACCESSIBLE_AFTER":"undefined"}`
	taskUpdate := `{"FIELDS_BEFORE":{"ID":123},"FIELDS_AFTER":{"ID":123},"IS_ACCESSIBLE_BEFORE":"undefined","IS_ACCESSIBLE_AFTER":"undefined"}`
	for _, tt := range []struct{ name, event, data, want string }{
		{"3.1 deal update", "ONCRMDEALUPDATE", `{"FIELDS":{"ID":7405}}`, "182c725fd7969ecbfb0695b95a7f1acd"},
		{"3.1 deal add", "ONCRMDEALADD", `{"FIELDS":{"ID":7405}}`, "1517fab7e719c19d61fe8861d2c3233b"},
		{"3.1 task add", "ONTASKADD", task, "e8b0a2e726ad4a7bece774ab2234fadc"},
		{"3.1 task update", "ONTASKUPDATE", taskUpdate, "35e286e1da2e9d4a972defbd79b2ef0a"},
		// md5 of ONX|{"a":"\u003C\u0026\u0027\u0022\u003E\/ё"}
		{"3.1 escapes", "ONX", `{"a":"<&'\">/ё"}`, "552a1f71665a60f73ddb54ff34657fbd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			p.AddEvent("ONX", "")
			c.bind(obj{"event": tt.event, "event_type": "offline"})
			data, err := event.ParseData([]byte(tt.data))
			require.NoError(t, err)
			require.NoError(t, p.Raise(tt.event, data, eventtest.AdminID))
			rows := p.OfflineRows()
			require.Len(t, rows, 1)
			require.Equal(t, tt.want, rows[0].MessageID)
		})
	}
	t.Run("3.1 objects of the portal give the same", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONTASKADD", "event_type": "offline"})
		for range 123 {
			_, err := p.Add(eventtest.Task, nil, eventtest.AdminID)
			require.NoError(t, err)
		}
		require.Equal(t, "e8b0a2e726ad4a7bece774ab2234fadc", p.OfflineRows()[122].MessageID)
	})
}

func TestOfflineGet(t *testing.T) {
	t.Parallel()
	t.Run("2.6 clear=1 without process_id: null, rows deleted", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 3)
		process, rows := c.offlineGet(nil)
		require.Nil(t, process)
		require.Equal(t, []string{"1", "2", "3"}, ids(rows))
		require.Empty(t, p.OfflineRows())
	})
	t.Run("2.6 any clear that casts to non-zero deletes", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		c.offlineGet(obj{"clear": "2x"})
		require.Empty(t, p.OfflineRows())
	})
	t.Run("2.6 clear null is the default", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		c.offlineGet(obj{"clear": nil, "process_id": nil})
		require.Empty(t, p.OfflineRows())
	})
	t.Run("2.6 clear=0 reserves under 32 characters", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		process, rows := c.offlineGet(obj{"clear": 0})
		require.Regexp(t, "^[0-9a-z]{32}$", process)
		require.Len(t, rows, 2)
		for _, r := range p.OfflineRows() {
			require.Equal(t, process, r.ProcessID)
		}
		_, rows = c.offlineGet(obj{"clear": 0})
		require.Empty(t, rows, "reserved rows are hidden")
	})
	t.Run("2.6 a process_id even when there is nothing", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 0)
		process, rows := c.offlineGet(obj{"clear": 0})
		require.Regexp(t, "^[0-9a-z]{32}$", process)
		require.Empty(t, rows)
		require.Contains(t, c.ok("event.offline.get", obj{"clear": 0}).Raw, `"events":[]`)
	})
	t.Run("2.6 process_id with clear=0 is a re-read", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		first, rows := c.offlineGet(obj{"clear": 0})
		again, same := c.offlineGet(obj{"clear": 0, "process_id": " " + first.(string) + " "}) //nolint:forcetypeassert // a string here
		require.Equal(t, first, again)
		require.Equal(t, rows, same)
		require.Len(t, p.OfflineRows(), 2)
	})
	t.Run("2.6 process_id with the default clear deletes the whole batch", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 3)
		process, _ := c.offlineGet(obj{"clear": 0})
		got, rows := c.offlineGet(obj{"process_id": process, "limit": 1})
		require.Equal(t, process, got)
		require.Len(t, rows, 1)
		require.Empty(t, p.OfflineRows())
	})
	t.Run("2.6 but nothing where no row was returned", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		process, _ := c.offlineGet(obj{"clear": 0})
		_, rows := c.offlineGet(obj{"process_id": process, "filter": obj{"=ID": 99}})
		require.Empty(t, rows)
		require.Len(t, p.OfflineRows(), 2)
	})
	t.Run("2.6 the empty process_id wipes all unreserved rows, errored ones too", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		process, rows := c.offlineGet(obj{"clear": 0, "limit": 1})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		change(t, p, addDeal(t, p))
		process, _ = c.offlineGet(obj{"clear": 0, "limit": 1})
		got, _ := c.offlineGet(obj{"process_id": "", "clear": 1})
		require.Empty(t, got)
		require.NotNil(t, got)
		left := p.OfflineRows()
		require.Len(t, left, 1)
		require.Equal(t, process, left[0].ProcessID)
	})
	t.Run("2.6 error=1 selects the errored rows", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 2)
		process, rows := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows[:1])})
		_, normal := c.offlineGet(obj{"clear": 0, "error": 2})
		require.Empty(t, normal, "only exactly 1 means errored")
		_, errored := c.offlineGet(obj{"clear": 0, "error": 1})
		require.Equal(t, []string{"1"}, ids(errored))
	})
	t.Run("2.6 limit, no maximum", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 60)
		_, rows := c.offlineGet(obj{"clear": 0})
		require.Len(t, rows, 50)
		_, rows = c.offlineGet(obj{"clear": 0, "limit": 5000})
		require.Len(t, rows, 10)
	})
	t.Run("2.6 order", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 3)
		_, rows := c.offlineGet(obj{"clear": 0, "order": obj{"id": "desc"}, "limit": 2})
		require.Equal(t, []string{"3", "2"}, ids(rows))
		_, rows = c.offlineGet(obj{"clear": 0, "order": []string{"ID"}})
		require.Equal(t, []string{"1"}, ids(rows))
	})
	t.Run("2.6 rows", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		_, rows := c.offlineGet(obj{"clear": 0})
		row := rows[0]
		require.Equal(t, "ONCRMDEALUPDATE", row["EVENT_NAME"])
		require.Equal(t, obj{"FIELDS": obj{"ID": 1.0}}, row["EVENT_DATA"], "a number here, a text online")
		require.Equal(t, obj{"user_id": 1.0}, row["EVENT_ADDITIONAL"])
		require.Regexp(t, "^[0-9a-f]{32}$", row["MESSAGE_ID"])
		stamp, err := time.Parse(time.RFC3339, row["TIMESTAMP_X"].(string)) //nolint:forcetypeassert // a string here
		require.NoError(t, err)
		require.Zero(t, stamp.Nanosecond())
		require.WithinDuration(t, p.Now(), stamp, 5*time.Second)
		require.NotContains(t, row, "PROCESS_ID")
		require.NotContains(t, row, "ERROR")
	})
}

func TestOfflineGetRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		params      obj
		code        string
		description string
		argument    string // "-" for none
	}{
		{"2.6 limit 0", obj{"limit": 0}, "ERROR_ARGUMENT", "Value must be positive integer", "LIMIT"},
		{"2.6 filter no array", obj{"filter": "x"}, "ERROR_ARGUMENT", "The filter is not an array.", "-"},
		{"2.6 filter operation", obj{"filter": obj{"!ID": 1}}, "ERROR_ARGUMENT", "Filter operation not allowed: !", "-"},
		{"2.6 filter operation of two", obj{"filter": obj{"><ID": 1}}, "ERROR_ARGUMENT", "Filter operation not allowed: ><", "-"},
		{"2.6 filter field", obj{"filter": obj{"=user": 1}}, "ERROR_ARGUMENT", "Filter field not allowed: USER", "-"},
		{"2.6 filter field of list only", obj{"filter": obj{"=PROCESS_ID": "x"}}, "ERROR_ARGUMENT", "Filter field not allowed: PROCESS_ID", "-"},
		{"2.6 substring on a fresh reservation", obj{"filter": obj{"%EVENT_NAME": "DEAL"}}, "ERROR_ARGUMENT", "Unknown operator `%`", "-"},
		{"2.6 IN on a fresh reservation", obj{"filter": obj{"@ID": []int{1}}}, "ERROR_ARGUMENT", "Unknown operator `@`", "-"},
		{
			"2.6 array on a fresh reservation",
			obj{"filter": obj{"=ID": []int{1}}},
			"ERROR_ARGUMENT",
			"The value of an argument '=ID' has an invalid type", "-",
		},
		{"2.6 order no array", obj{"order": "ID"}, "ERROR_ARGUMENT", "The order is not an array.", "-"},
		{"2.6 order field", obj{"order": obj{"X": "ASC"}}, "ERROR_ARGUMENT", "Order field not allowed: X", "-"},
		{"2.6 order list is exact", obj{"order": []string{"id"}}, "ERROR_ARGUMENT", "Order field not allowed: id", "-"},
		{"2.6 order direction", obj{"order": obj{"ID": "UP"}}, "ERROR_ARGUMENT", "Order direction should be one of {ASC|DESC}", "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := queued(t, 1)
			a := c.call("event.offline.get", tt.params)
			require.Equal(t, http.StatusBadRequest, a.Status)
			require.Equal(t, tt.code, a.Error)
			require.Equal(t, tt.description, a.Description)
			if tt.argument == "-" {
				require.Nil(t, a.Argument)
			} else {
				require.Equal(t, tt.argument, *a.Argument)
			}
			require.Len(t, p.OfflineRows(), 1, "nothing is deleted")
		})
	}
	t.Run("2.6 clear=0 on a plan without the extended mode, before anything else", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 1, eventtest.WithoutExtendedOffline())
		a := c.call("event.offline.get", obj{"clear": 0, "limit": 0, "process_id": "x"})
		require.Equal(t, http.StatusForbidden, a.Status)
		require.Equal(t, "WRONG_LICENSE", a.Error)
		require.Equal(t, "This feature is not enabled for the current license: extended offline events handling", a.Description)
		_, rows := c.offlineGet(nil)
		require.Len(t, rows, 1, "clear=1 is free")
	})
	t.Run("2.7 list, clear and error need no extended mode", func(t *testing.T) {
		t.Parallel()
		_, c := queued(t, 1, eventtest.WithoutExtendedOffline())
		require.Len(t, c.ok("event.offline.list", nil).list(t), 1)
		c.ok("event.offline.error", obj{"process_id": "", "message_id": []string{}})
		c.ok("event.offline.clear", obj{"process_id": ""})
	})
	t.Run("2.6-2.9 only administrators", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		plain := as(t, p, c.app, p.AddUser(eventtest.User{Name: "Plain"}))
		for _, method := range []string{"get", "list", "clear", "error"} {
			a := plain.call("event.offline."+method, nil)
			require.Equal(t, http.StatusForbidden, a.Status, method)
			require.Equal(t, "ACCESS_DENIED", a.Error)
			require.Equal(t, "Access denied!", a.Description)
		}
	})
}

func TestOfflineFilter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		filter obj
		list   bool // by event.offline.list, else by a new reservation
		want   []string
	}{
		{"2.6 equality", obj{"=ID": 2}, false, []string{"2"}},
		{"2.6 keys fold case", obj{"=id": "2"}, false, []string{"2"}},
		{"2.6 greater", obj{">ID": 2}, false, []string{"3", "4"}},
		{"2.6 range", obj{">=ID": 2, "<ID": 4}, false, []string{"2", "3"}},
		{"2.6 at most", obj{"<=ID": 1}, false, []string{"1"}},
		{"2.6 event name", obj{"=EVENT_NAME": "oncrmdealupdate"}, false, []string{"1", "2", "3", "4"}},
		{"2.6 bare key is equality when reserving", obj{"EVENT_NAME": "ONCRM%"}, false, []string{}},
		{"2.6 bare key is a pattern when reading", obj{"EVENT_NAME": "ONCRM%DATE"}, true, []string{"1", "2", "3", "4"}},
		{"2.6 IN when reading", obj{"@ID": []int{1, 3}}, true, []string{"1", "3"}},
		{"2.6 arrays when reading", obj{"=ID": []int{1, 3}}, true, []string{"1", "3"}},
		{"2.6 substring when reading", obj{"%EVENT_NAME": "dealup"}, true, []string{"1", "2", "3", "4"}},
		{"2.7 list filters by PROCESS_ID and ERROR", obj{"=PROCESS_ID": "", "=ERROR": 0}, true, []string{"1", "2", "3", "4"}},
		{"2.6 time", obj{">TIMESTAMP_X": "2000-01-01T00:00:00+03:00"}, false, []string{"1", "2", "3", "4"}},
		{"2.6 time before", obj{"<TIMESTAMP_X": "2000-01-01T00:00:00+03:00"}, true, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, c := queued(t, 4)
			if !tt.list {
				_, rows := c.offlineGet(obj{"clear": 0, "filter": tt.filter})
				require.Equal(t, tt.want, ids(rows))
				return
			}
			got := []string{}
			for _, row := range c.ok("event.offline.list", obj{"filter": tt.filter}).list(t) {
				got = append(got, row.(obj)["ID"].(string)) //nolint:forcetypeassert // the test's point
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestOfflineList(t *testing.T) {
	t.Parallel()
	p, c := queued(t, 120)
	process, _ := c.offlineGet(obj{"clear": 0, "limit": 10})
	a := c.ok("event.offline.list", nil)
	require.Len(t, a.list(t), 50)
	require.Equal(t, 120, *a.Total)
	require.Equal(t, 50, *a.Next)
	row := a.list(t)[0].(obj) //nolint:forcetypeassert // the test's point
	require.Equal(t, process, row["PROCESS_ID"], "2.7 reserved rows are listed, with their process")
	require.Equal(t, "0", row["ERROR"])
	a = c.ok("event.offline.list", obj{"start": 100})
	require.Len(t, a.list(t), 20)
	require.Nil(t, a.Next, "2.7 no next on the last page")
	require.Equal(t, 120, *a.Total, "but the total")
	a = c.ok("event.offline.list", obj{"start": -1})
	require.Len(t, a.list(t), 50, "1.3 start=-1 is not special here")
	require.Equal(t, 120, *a.Total)
	require.Empty(t, c.ok("event.offline.list", obj{"auth_connector": "A"}).list(t), "2.7 one connector's queue only")
	require.Len(t, p.OfflineRows(), 120)
}

func TestOfflineClear(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		params func(process any, rows []obj) obj
		left   int
	}{
		{"2.8 by message_id", func(p any, rows []obj) obj { return obj{"process_id": p, "message_id": messages(rows[:1])} }, 2},
		{"2.8 by id", func(p any, _ []obj) obj { return obj{"process_id": p, "id": []int{1, 2}} }, 1},
		{"2.8 message_id wins over id", func(p any, rows []obj) obj {
			return obj{"process_id": p, "message_id": messages(rows[:1]), "id": []any{2, 3, "no integer"}}
		}, 2},
		{"2.8 no list clears the batch", func(p any, _ []obj) obj { return obj{"process_id": p} }, 0},
		{"2.8 empty message_id clears the batch", func(p any, _ []obj) obj { return obj{"process_id": p, "message_id": []any{}} }, 0},
		{"2.8 empty id clears the batch", func(p any, _ []obj) obj { return obj{"process_id": p, "id": []any{}} }, 0},
		{"2.8 another process", func(any, []obj) obj { return obj{"process_id": "other"} }, 3},
		{"2.8 another connector", func(p any, _ []obj) obj { return obj{"process_id": p, "auth_connector": "A"} }, 3},
		{"2.8 the empty process", func(any, []obj) obj { return obj{"process_id": ""} }, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := queued(t, 3)
			process, rows := c.offlineGet(obj{"clear": 0})
			require.JSONEq(t, "true", string(c.ok("event.offline.clear", tt.params(process, rows)).Result))
			require.Len(t, p.OfflineRows(), tt.left)
		})
	}
	for _, tt := range []struct {
		name, method string
		params       obj
		description  string
		argument     string
	}{
		{"2.8 no process_id", "clear", obj{"id": []int{1}}, "Argument 'PROCESS_ID' is null or empty", "PROCESS_ID"},
		{"2.8 message_id no array", "clear", obj{"process_id": "x", "message_id": "y"}, "Value must be array of MESSAGE_ID values", "message_id"},
		{
			"2.8 message_id too short", "clear",
			obj{"process_id": "x", "message_id": []string{"y"}},
			"Value must be array of MESSAGE_ID values", "messsage_id",
		},
		{"2.8 id no array", "clear", obj{"process_id": "x", "id": 5}, "Value must be array of integers", "id"},
		{"2.8 id not positive", "clear", obj{"process_id": "x", "id": []int{0}}, "Value must be array of integers", "id"},
		{"2.8 process_id in an array", "clear", obj{"process_id": []string{"x"}}, "Argument 'PROCESS_ID' is null or empty", "PROCESS_ID"},
		{"2.8 process_id in an empty array", "clear", obj{"process_id": []string{}}, "Argument 'PROCESS_ID' is null or empty", "PROCESS_ID"},
		{
			"2.9 process_id in an array", "error",
			obj{"process_id": []string{"x"}, "message_id": []string{}},
			"Argument 'PROCESS_ID' is null or empty", "PROCESS_ID",
		},
		{"2.6 process_id in an array", "get", obj{"process_id": []string{"x"}}, "Argument 'PROCESS_ID' is null or empty", "PROCESS_ID"},
		{"2.9 no process_id", "error", obj{"message_id": []string{}}, "Argument 'PROCESS_ID' is null or empty", "PROCESS_ID"},
		{"2.9 no message_id", "error", obj{"process_id": "x"}, "Value must be array of MESSAGE_ID values", "message_id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, c := queued(t, 1)
			before := p.OfflineRows()
			a := c.call("event.offline."+tt.method, tt.params)
			require.Equal(t, before, p.OfflineRows(), "nothing changes")
			require.Equal(t, http.StatusBadRequest, a.Status)
			require.Equal(t, "ERROR_ARGUMENT", a.Error)
			require.Equal(t, tt.description, a.Description)
			require.Equal(t, tt.argument, *a.Argument)
		})
	}
	t.Run("2.8 rows of another batch with the same message are safe", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		first, rows := c.offlineGet(obj{"clear": 0})
		change(t, p, 1)
		second, _ := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.clear", obj{"process_id": first, "message_id": messages(rows)})
		left := p.OfflineRows()
		require.Len(t, left, 1)
		require.Equal(t, second, left[0].ProcessID)
	})
}

func TestOfflineError(t *testing.T) {
	t.Parallel()
	t.Run("2.9 marks the batch's rows and releases them", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		process, rows := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows[:1])})
		left := p.OfflineRows()
		require.True(t, left[0].Error)
		require.Empty(t, left[0].ProcessID)
		require.False(t, left[1].Error)
		require.Equal(t, process, left[1].ProcessID)
	})
	t.Run("2.9 destroys the newer version", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		process, rows := c.offlineGet(obj{"clear": 0})
		change(t, p, 1)
		require.Len(t, p.OfflineRows(), 2)
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		left := p.OfflineRows()
		require.Len(t, left, 1)
		require.Equal(t, int64(1), left[0].ID)
		require.True(t, left[0].Error)
	})
	t.Run("2.9 a wrong process_id loses the notification for good", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		message := p.OfflineRows()[0].MessageID
		c.ok("event.offline.error", obj{"process_id": "wrong", "message_id": []string{message}})
		require.Empty(t, p.OfflineRows())
	})
	t.Run("2.9 spaces around a message", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		c.ok("event.offline.error", obj{"process_id": "wrong", "message_id": []string{" " + p.OfflineRows()[0].MessageID + " "}})
		require.Len(t, p.OfflineRows(), 1, "it is not trimmed, so it names no row")
		c.ok("event.offline.clear", obj{"process_id": "", "message_id": []string{" " + p.OfflineRows()[0].MessageID + " "}})
		require.Empty(t, p.OfflineRows(), "clear trims")
	})
	t.Run("2.9 an empty list does nothing", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		c.ok("event.offline.error", obj{"process_id": "", "message_id": []string{}})
		require.False(t, p.OfflineRows()[0].Error)
	})
	t.Run("2.9 errored rows are not touched again", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		process, rows := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		process, _ = c.offlineGet(obj{"clear": 0, "error": 1})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		left := p.OfflineRows()
		require.Equal(t, process, left[0].ProcessID, "still reserved")
		c.ok("event.offline.clear", obj{"process_id": process})
		require.Empty(t, p.OfflineRows())
	})
}

func TestOfflineStates(t *testing.T) {
	t.Parallel()
	t.Run("3.2 unreserved: updated in place, last user wins", func(t *testing.T) {
		t.Parallel()
		p, _ := queued(t, 1)
		before := p.OfflineRows()[0]
		p.Advance(time.Minute)
		other := p.AddUser(eventtest.User{Name: "Other"})
		require.NoError(t, p.Update(eventtest.Deal, 1, nil, other))
		after := p.OfflineRows()
		require.Len(t, after, 1)
		require.Equal(t, before.ID, after[0].ID)
		require.Equal(t, other, after[0].UserID)
		require.GreaterOrEqual(t, after[0].Time.Sub(before.Time), time.Minute)
	})
	t.Run("3.2 ID order is not recency", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		p.Advance(time.Minute)
		change(t, p, 1)
		_, rows := c.offlineGet(obj{"clear": 0})
		require.Equal(t, []string{"2", "1"}, ids(rows), "the default order is by time")
	})
	t.Run("3.2 reserved: a second row", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		process, _ := c.offlineGet(obj{"clear": 0})
		stamp := p.OfflineRows()[0].Time
		p.Advance(time.Minute)
		change(t, p, 1)
		rows := p.OfflineRows()
		require.Len(t, rows, 2)
		require.Equal(t, process, rows[0].ProcessID)
		require.Equal(t, stamp, rows[0].Time, "the reserved row is untouched")
		require.Equal(t, rows[0].MessageID, rows[1].MessageID)
		require.Greater(t, rows[1].ID, rows[0].ID)
	})
	t.Run("3.2 errored: updated in place, stays errored", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		process, rows := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		change(t, p, 1)
		require.Len(t, p.OfflineRows(), 1)
		require.True(t, p.OfflineRows()[0].Error)
		_, rows = c.offlineGet(obj{"clear": 0})
		require.Empty(t, rows, "a normal get never sees the change")
	})
	t.Run("3.2 errored and re-read: a new row without error", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		process, rows := c.offlineGet(obj{"clear": 0})
		c.ok("event.offline.error", obj{"process_id": process, "message_id": messages(rows)})
		c.offlineGet(obj{"clear": 0, "error": 1})
		change(t, p, 1)
		require.Len(t, p.OfflineRows(), 2)
		require.False(t, p.OfflineRows()[1].Error)
	})
	t.Run("3.2 add, update and delete of one object are three rows", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		for _, action := range []string{"ADD", "UPDATE", "DELETE"} {
			c.bind(obj{"event": "ONCRMDEAL" + action, "event_type": "offline"})
		}
		id := addDeal(t, p)
		for range 10 {
			change(t, p, id)
		}
		require.NoError(t, p.Delete(eventtest.Deal, id, eventtest.AdminID))
		require.Len(t, p.OfflineRows(), 3)
	})
	t.Run("3.3 the purge agent", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 2)
		c.offlineGet(obj{"clear": 0, "limit": 1})
		p.Advance(2_952_000*time.Second - time.Minute)
		require.Len(t, p.OfflineRows(), 2)
		p.Advance(2 * time.Minute)
		require.Empty(t, p.OfflineRows(), "reserved or not")
	})
	t.Run("3.3 uninstallation empties the queue", func(t *testing.T) {
		t.Parallel()
		p, c := queued(t, 1)
		require.NoError(t, c.app.Uninstall(false))
		require.Empty(t, p.OfflineRows())
	})
}

func TestOwnChanges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		write, bound string
		stored       bool
	}{
		{"", "", false},
		{"", "A", true},
		{"A", "A", false},
		{"A", "B", true},
		{"A", "", true},
	} {
		t.Run(fmt.Sprintf("3.4 write %q handler %q", tt.write, tt.bound), func(t *testing.T) {
			t.Parallel()
			p, c := newPortal(t)
			c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline", "auth_connector": tt.bound})
			c.ok("crm.deal.add", obj{"fields": obj{"TITLE": "own"}, "auth_connector": tt.write})
			require.Equal(t, tt.stored, len(p.OfflineRows()) == 1)
		})
	}
	t.Run("3.4 any other writer is stored", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		install(t, p, eventtest.App{Scope: []string{"crm"}}).ok("crm.deal.add", obj{"fields": obj{"TITLE": "other app"}})
		hook, err := p.AddIncomingWebhook(eventtest.AdminID, "crm")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, send(t, "POST", string(hook)+"crm.deal.add", "application/json", `{"fields":{"TITLE":"hook"}}`).Status)
		addDeal(t, p)
		require.Len(t, p.OfflineRows(), 3)
	})
	t.Run("3.4 online handlers get own changes", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		in := newInbox(t)
		c.bind(obj{"event": "ONCRMDEALADD", "handler": in.URL})
		c.ok("crm.deal.add", obj{"fields": obj{"TITLE": "own"}})
		wait(t, p)
		require.Equal(t, []string{"ONCRMDEALADD"}, in.events(t))
	})
	t.Run("3.4 the connector of a batch is that of its items", func(t *testing.T) {
		t.Parallel()
		p, c := newPortal(t)
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline", "auth_connector": "A"})
		c.ok("batch", obj{"auth_connector": "A", "cmd": obj{"a": "crm.deal.add?fields[TITLE]=x&auth_connector=B"}})
		require.Empty(t, p.OfflineRows())
	})
}

func TestOfflineNotice(t *testing.T) {
	t.Parallel()
	bound := func(t *testing.T, opts ...eventtest.Option) (*eventtest.Portal, *caller, *inbox) {
		t.Helper()
		p, c := newPortal(t, opts...)
		in := newInbox(t)
		c.bind(obj{"event": "ONOFFLINEEVENT", "handler": in.URL, "options": obj{"minTimeout": 600}})
		c.bind(obj{"event": "ONCRMDEALADD", "event_type": "offline"})
		return p, c, in
	}
	t.Run("3.5 after rows were saved, without data, with a refresh token", func(t *testing.T) {
		t.Parallel()
		p, _, in := bound(t)
		addDeal(t, p)
		wait(t, p)
		forms := in.forms(t)
		require.Len(t, forms, 1)
		require.Equal(t, "ONOFFLINEEVENT", forms[0].Get("event"))
		require.NotEmpty(t, forms[0].Get("auth[refresh_token]"))
		for key := range forms[0] {
			require.False(t, strings.HasPrefix(key, "data"), key)
		}
	})
	t.Run("3.5 throttled to one a second, minTimeout ignored", func(t *testing.T) {
		t.Parallel()
		p, _, in := bound(t)
		addDeal(t, p)
		addDeal(t, p)
		p.Advance(1100 * time.Millisecond)
		addDeal(t, p)
		wait(t, p)
		require.Len(t, in.forms(t), 2)
	})
	t.Run("3.5 minTimeout on old builds", func(t *testing.T) {
		t.Parallel()
		p, _, in := bound(t, eventtest.WithMinTimeout())
		addDeal(t, p)
		p.Advance(599 * time.Second)
		addDeal(t, p)
		p.Advance(2 * time.Second)
		addDeal(t, p)
		wait(t, p)
		require.Len(t, in.forms(t), 2)
	})
	t.Run("3.5 one notice for a whole hit", func(t *testing.T) {
		t.Parallel()
		p, c, in := bound(t)
		other := install(t, p, eventtest.App{Scope: []string{"crm"}})
		other.ok("batch", obj{"cmd": []string{"crm.deal.add?fields[TITLE]=1", "crm.deal.add?fields[TITLE]=2"}})
		wait(t, p)
		require.Len(t, in.forms(t), 1)
		_, rows := c.offlineGet(obj{"clear": 0})
		require.Len(t, rows, 2)
	})
	t.Run("3.5 none for own changes that were not stored", func(t *testing.T) {
		t.Parallel()
		p, c, in := bound(t)
		c.ok("crm.deal.add", obj{"fields": obj{"TITLE": "own"}})
		wait(t, p)
		require.Empty(t, in.forms(t))
	})
}
