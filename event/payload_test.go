package event_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// decode reads a payload from the data section of a form, which may lack the ID of the object.
func decode[T any](t *testing.T, e event.Descriptor[T], data string) T {
	t.Helper()
	d, err := event.Parse("application/x-www-form-urlencoded", []byte("event="+e.Name()+"&"+data))
	require.NoError(t, err)
	var payload T
	require.NoError(t, d.Data.Decode(&payload))
	return payload
}

// decodeJSON reads a payload from EVENT_DATA of an offline record.
func decodeJSON[T any](t *testing.T, e event.Descriptor[T], data string) T {
	t.Helper()
	d, err := event.ParseRecord([]byte(`{"ID":1,"EVENT_NAME":"` + e.Name() + `","EVENT_DATA":` + data + `}`))
	require.NoError(t, err)
	var payload T
	require.NoError(t, d.Data.Decode(&payload))
	return payload
}

func TestIDsComeInManyForms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, event string
		form, json  string // the data section, in one of the two
		want        int64
	}{
		{name: "form", event: "ONCRMDEALADD", form: "data[FIELDS][ID]=7", want: 7},
		{name: "form, escaped", event: "ONCRMDEALADD", form: "data%5BFIELDS%5D%5BID%5D=7", want: 7},
		{name: "form, keys in lower case", event: "ONCRMDEALADD", form: "data[fields][id]=7", want: 7},
		{name: "form, flat", event: "ONCRMDEALADD", form: "data[ID]=7", want: 7},
		{name: "JSON number", event: "ONCRMDEALADD", json: `{"FIELDS":{"ID":7}}`, want: 7},
		{name: "JSON text", event: "ONCRMDEALADD", json: `{"FIELDS":{"ID":"7"}}`, want: 7},
		{name: "comment, flat", event: "ONCRMTIMELINECOMMENTADD", form: "data[ID]=7", want: 7},
		{name: "comment, in FIELDS", event: "ONCRMTIMELINECOMMENTADD", form: "data[FIELDS][ID]=7", want: 7},
		{name: "workgroup topic, in FIELDS", event: "ONSONETGROUPSUBJECTADD", form: "data[FIELDS][ID]=7", want: 7},
		{name: "booking", event: "ONBOOKINGADD", form: "data[ID]=7", want: 7},
		{name: "booking, id", event: "ONBOOKINGADD", form: "data[id]=7", want: 7},
		{name: "calendar, id", event: "ONCALENDARENTRYADD", form: "data[id]=7", want: 7},
		{name: "calendar, ID", event: "ONCALENDARENTRYADD", form: "data[ID]=7", want: 7},
		{name: "post", event: "ONLIVEFEEDPOSTADD", form: "data[FIELDS][POST_ID]=7", want: 7},
		{name: "line as data", event: "ONIMCONNECTORLINEDELETE", form: "data=7", want: 7},
		{name: "line as data, JSON", event: "ONIMCONNECTORLINEDELETE", json: `7`, want: 7},
		{name: "line with a key", event: "ONIMCONNECTORLINEDELETE", form: "data[LINE_ID]=7", want: 7},
		{name: "beyond 53 bits", event: "ONCRMDEALADD", json: `{"FIELDS":{"ID":9007199254740993}}`, want: 9007199254740993},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("application/x-www-form-urlencoded", []byte("event="+tc.event+"&"+tc.form))
			if tc.json != "" {
				d, err = event.ParseRecord([]byte(`{"ID":1,"EVENT_NAME":"` + tc.event + `","EVENT_DATA":` + tc.json + `}`))
			}
			require.NoError(t, err)
			info, ok := event.Lookup(d.Name)
			require.True(t, ok)
			payload, err := info.Payload(d)
			require.NoError(t, err)
			require.Equal(t, tc.want, reflect.ValueOf(payload).FieldByName("ID").Int())
		})
	}
	require.Equal(t, "EUR", decode(t, event.OnCrmCurrencyAdd, "data[FIELDS][ID]=EUR").ID)
}

func TestFlagsComeInManyForms(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		give string
		want bool
	}{
		{"data[CLEAN]=Y", true},
		{"data[CLEAN]=1", true},
		{"data[CLEAN]=true", true},
		{"data[CLEAN]=N", false},
		{"data[CLEAN]=0", false},
		{"data[CLEAN]=false", false},
		{"data[CLEAN]=", false},
		{"data[CLEAN]=undefined", false},
		{"data[LANGUAGE_ID]=de", false},
	} {
		t.Run(tc.give, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, decode(t, event.OnAppUninstall, tc.give).Clean)
		})
	}
	for give, want := range map[string]bool{"true": true, "1": true, `"Y"`: true, "false": false, "0": false, "null": false, "[]": false} {
		require.Equal(t, want, decodeJSON(t, event.OnAppUninstall, `{"CLEAN":`+give+`}`).Clean, give)
	}
}

func TestTask(t *testing.T) {
	t.Parallel()
	added := decode(t, event.OnTaskAdd, "data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=123&data[IS_ACCESSIBLE_BEFORE]=N&data[IS_ACCESSIBLE_AFTER]=undefined")
	require.Equal(t, event.Task{ID: 123, After: &event.TaskFields{ID: 123}, AccessibleBefore: "N", AccessibleAfter: "undefined"}, added)

	deleted := decode(t, event.OnTaskDelete, "data[FIELDS_BEFORE][ID]=123&data[FIELDS_AFTER]=undefined")
	require.Equal(t, event.Task{ID: 123, Before: &event.TaskFields{ID: 123}}, deleted)

	changed := decodeJSON(t, event.OnTaskUpdate, `{"FIELDS_BEFORE":{"ID":5},"FIELDS_AFTER":false}`)
	require.Equal(t, event.Task{ID: 5, Before: &event.TaskFields{ID: 5}}, changed)
}

func TestTaskComment(t *testing.T) {
	t.Parallel()
	inNewCard := decode(t, event.OnTaskCommentAdd, "data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][TASK_ID]=555&data[FIELDS_AFTER][MESSAGE_ID]=1458")
	require.Equal(t, event.TaskComment{
		TaskID: 555, MessageID: 1458, After: &event.TaskCommentFields{TaskID: 555, MessageID: 1458},
	}, inNewCard)

	deleted := decode(t, event.OnTaskCommentDelete, "data[FIELDS_BEFORE][ID]=7&data[FIELDS_BEFORE][TASK_ID]=5&data[FIELDS_AFTER]=undefined")
	require.EqualValues(t, 7, deleted.ID)
	require.EqualValues(t, 5, deleted.TaskID)
	require.Nil(t, deleted.After)

	require.Equal(t, "DEL", decode(t, event.OnTaskCommentDelete, "data[FIELDS_AFTER][ID]=7&data[FIELDS_AFTER][ACTION]=DEL").Action)
}

func TestConnectorMessages(t *testing.T) {
	t.Parallel()
	const head = "data[CONNECTOR]=mine&data[LINE]=107&"
	for _, tc := range []struct {
		name, data string
		want       []string
	}{
		{"a list of ids", head + "data[MESSAGES][0][message][id][0]=a&data[MESSAGES][0][message][id][1]=b", []string{"a", "b"}},
		{"a list with a gap", head + "data[MESSAGES][0][message][id][0]=a&data[MESSAGES][0][message][id][2]=b", []string{"a", "b"}},
		{"a single id", head + "data[MESSAGES][0][message][id]=a", []string{"a"}},
		{"no id", head + "data[MESSAGES][0][message][text]=hi", nil},
		{"an empty id", head + "data[MESSAGES][0][message][id]=", nil},
		{"under the older name of the list", head + "data[DATA][0][message][id]=a", []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := decode(t, event.OnImConnectorMessageUpdate, tc.data)
			require.Equal(t, "mine", got.Connector)
			require.EqualValues(t, 107, got.Line)
			require.Len(t, got.Messages, 1)
			require.Equal(t, tc.want, got.Messages[0].Message.ID)
		})
	}
	status := decode(t, event.OnImConnectorStatusDelete, "data[CONNECTOR]=mine&data[LINE]=107")
	require.Equal(t, event.ConnectorStatus{Connector: "mine", Line: 107}, status, "as older portals spell it")
}

func TestBotTokensAreFoundWhereverTheyStand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, data string }{
		{"beside the bot's id", "data[BOT][571][access_token]=secret-1&data[BOT][571][user_id]=571&data[BOT][571][BOT_ID]=571"},
		{"under AUTH alone", "data[BOT][571][AUTH][access_token]=secret-1&data[BOT][571][AUTH][user_id]=571&data[BOT][571][BOT_ID]=571"},
		{"at both places", "data[BOT][571][AUTH][access_token]=secret-1&data[BOT][571][access_token]=secret-1&data[BOT][571][user_id]=571&data[BOT][571][BOT_ID]=571"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := decode(t, event.OnImBotMessageAdd, tc.data)
			require.Equal(t, event.Secret("secret-1"), got.Bots["571"].AccessToken)
			require.EqualValues(t, 571, got.Bots["571"].UserID)
			require.EqualValues(t, 571, got.Bots["571"].ID)
			require.Zero(t, got.User, "unknown users are left out")
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", got, got, got), "secret-1")
		})
	}
}

func TestBotsThatCountFromZero(t *testing.T) {
	t.Parallel()
	got := decodeJSON(t, event.OnImBotMessageAdd, `{"BOT":[{"BOT_ID":5}],"PARAMS":{"MENTIONED_LIST":[],"ID":84525},"USER":[]}`)
	require.EqualValues(t, 5, got.Bots["0"].ID, "PHP writes a map whose keys run from 0 as a list")
	require.EqualValues(t, 84525, got.Params.MessageID)
	require.Empty(t, got.Params.MentionedList)
	require.Zero(t, got.User)
}

func TestCommand(t *testing.T) {
	t.Parallel()
	got := decode(t, event.OnImCommandAdd, "data[COMMAND][99][BOT_ID]=1291&data[COMMAND][99][COMMAND]=echo&data[COMMAND][99][COMMAND_PARAMS]=test&data[COMMAND][99][MESSAGE_ID]=3&data[PARAMS][BOT_IN_CHAT][1291]=1291")
	require.EqualValues(t, 1291, got.Commands["99"].ID)
	require.Equal(t, "echo", got.Commands["99"].Command)
	require.Equal(t, "test", got.Commands["99"].Params)
	require.Equal(t, map[string]int64{"1291": 1291}, got.Params.BotInChat)
}

func TestBotV2(t *testing.T) {
	t.Parallel()
	form := decode(t, event.OnImBotV2MessageAdd, "data[message][isSystem]=0&data[message][viewedByOthers]=1&data[message][forward]=&data[message][date]=&data[user][phones]=0&data[user][idle]=0&data[chat][diskFolderId]=&data[chat][textFieldEnabled]=Y")
	require.True(t, form.Message.ViewedByOthers)
	require.False(t, form.Message.System)
	require.Nil(t, form.Message.Forward)
	require.Zero(t, form.Message.Date)
	require.True(t, form.Chat.TextFieldEnabled)
	require.Equal(t, "0", form.User.Phones.Text())

	rec := decodeJSON(t, event.OnImBotV2MessageAdd, `{"message":{"forward":{"id":"chat5/1","userId":2,"chatId":5,"date":"2025-01-15T10:30:00+02:00"},
		"params":{"FILE_ID":[7]},"date":"2025-01-15T10:30:00+02:00"},"user":{"phones":{"workPhone":"+49"},"idle":false,"departments":[1,2]},"chat":{"parentChatId":null}}`)
	require.Equal(t, &event.ChatForward{ID: "chat5/1", UserID: 2, ChatID: 5, Date: "2025-01-15T10:30:00+02:00"}, rec.Message.Forward)
	require.True(t, rec.Message.Date.Equal(time.Date(2025, 1, 15, 8, 30, 0, 0, time.UTC)))
	require.Equal(t, "7", rec.Message.Params.Get("FILE_ID", "0").Text())
	require.Equal(t, "+49", rec.User.Phones.Get("workPhone").Text())
	require.Equal(t, []int64{1, 2}, rec.User.Departments)
	require.Zero(t, rec.Chat.ParentChatID)

	opened := decode(t, event.OnImBotV2ContextGet, "data[context][entityId]=164&data[context][entityType]=task")
	var about struct {
		EntityID int64  `json:"entityId"`
		Type     string `json:"entityType"`
	}
	require.NoError(t, opened.Context.Decode(&about))
	require.EqualValues(t, 164, about.EntityID)
	require.Equal(t, "task", about.Type)
}

func TestUser(t *testing.T) {
	t.Parallel()
	got := decode(t, event.OnUserAdd, "data[ID]=9&data[ACTIVE]=Y&data[UF_DEPARTMENT]=3&data[PERSONAL_CITY]=Bonn&data[UF_SKILLS][0]=Go")
	require.EqualValues(t, 9, got.ID)
	require.True(t, got.Active)
	require.Equal(t, []int64{3}, got.Departments, "a single value stands for a list")
	require.Equal(t, "Bonn", got.Other.Get("PERSONAL_CITY").Text())
	require.Equal(t, "Go", got.Other.Get("UF_SKILLS", "0").Text())
	require.True(t, got.Other.Get("ID").IsZero(), "fields of the struct are not repeated")

	require.Nil(t, decodeJSON(t, event.OnUserAdd, `{"ID":9,"UF_DEPARTMENT":false,"DATE_REGISTER":null}`).Departments)
}

func TestFreeParameters(t *testing.T) {
	t.Parallel()
	action := decode(t, event.OnCrmTimelineItemAction, "data[id]=reset&data[entityTypeId]=2&data[activityId]=999&data[myId]=123&data[access_token]=secret-1")
	require.Equal(t, "reset", action.ID)
	require.EqualValues(t, 999, action.ActivityID)
	require.Equal(t, "123", action.Params.Get("myId").Text())
	require.Equal(t, "secret-1", action.Params.Get("access_token").Text())
	require.NotContains(t, fmt.Sprintf("%+v", action), "secret-1")

	job := decode(t, event.OnHumanResourcesHcmLinkFieldValueRequested, "data[jobId]=15&data[company]=acme&data[employees][0]=7")
	require.EqualValues(t, 15, job.ID)
	require.Equal(t, "acme", job.Company)
	require.Equal(t, "7", job.Params.Get("employees", "0").Text())

	test := decode(t, event.OnAppTest, "data[QUERY][nonce]=42&data[LANGUAGE_ID]=en")
	require.Equal(t, "42", test.Query.Get("nonce").Text())
}

func TestCall(t *testing.T) {
	t.Parallel()
	got := decode(t, event.OnVoximplantCallEnd, "data[CALL_FAILED_CODE]=603-S&data[COST]=1.25&data[COST_CURRENCY]=&data[CALL_DURATION]=12&data[CALL_START_DATE]=2026-03-11T17:28:46%2B03:00")
	require.Equal(t, "603-S", got.FailedCode)
	require.InDelta(t, 1.25, got.Cost, 0)
	require.EqualValues(t, 12, got.Duration)
	require.True(t, got.Start.Equal(time.Date(2026, 3, 11, 14, 28, 46, 0, time.UTC)))
}

func TestPaymentTakesAnyVersion(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1", decodeJSON(t, event.OnAppPayment, `{"VERSION":1,"DAYS":28}`).Version)
	require.Equal(t, "1.0.3", decode(t, event.OnAppPayment, "data[VERSION]=1.0.3").Version)
}

func TestPayloadsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, path string }{
		{"words for an id", "event=ONCRMDEALADD&data[FIELDS][ID]=secret-word", "data.FIELDS.ID"},
		{"a list for an id", "event=ONCRMDEALADD&data[FIELDS][ID][0]=1", "data.FIELDS.ID"},
		{"text for data", "event=ONCRMDEALADD&data=secret-word", "data"},
		{"words for a flag", "event=ONAPPUNINSTALL&data[CLEAN]=secret-word", "data.CLEAN"},
		{"words for a time", "event=ONUSERADD&data[DATE_REGISTER]=secret-word", "data.DATE_REGISTER"},
		{"text for a bot", "event=ONIMBOTMESSAGEADD&data[BOT][1]=secret-word", "data.BOT.1"},
		{"text for a message", "event=ONSESSIONSTART&data[DATA][0]=secret-word", "data.DATA.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", []byte(tc.body))
			require.NoError(t, err)
			info, ok := event.Lookup(d.Name)
			require.True(t, ok)
			_, err = info.Payload(d)
			require.ErrorIs(t, err, event.ErrMalformed)
			var de *event.DecodeError
			require.ErrorAs(t, err, &de)
			require.Equal(t, tc.path, de.Path)
			require.NotContains(t, err.Error(), "secret-word")
		})
	}
}
