package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// delivered returns the entry's sample as it is delivered online.
func delivered(t *testing.T, e documented) *event.Delivery {
	t.Helper()
	d, err := event.Parse("application/x-www-form-urlencoded", []byte(phpform.Encode(sampleOf(t, e))))
	require.NoError(t, err)
	return d
}

func TestFetchCallIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	fetched := 0
	for _, e := range readCatalog(t) {
		if e.FetchMethod != "" {
			fetched++
		}
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			method, params, err := delivered(t, e).FetchCall()
			switch info, _ := event.Lookup(e.Name); {
			case info.Deletion:
				require.ErrorIs(t, err, event.ErrGone)
				return
			case e.FetchMethod == "":
				require.ErrorIs(t, err, event.ErrUnknown)
				return
			}
			require.NoError(t, err)
			require.Equal(t, e.FetchMethod, method)
			want := map[string]any{}
			for name, path := range e.FetchParams {
				put(want, name, fetchValue(sampleOf(t, e), path))
			}
			require.Equal(t, want, params)
		})
	}
	require.Equal(t, 123, fetched)
}

// fetchValue reads what a documented parameter stands for out of a sample.
func fetchValue(sample phpform.Value, path string) string {
	if literal, ok := strings.CutPrefix(path, "literal:"); ok {
		return literal
	}
	return at(sample, strings.Split(strings.ReplaceAll(path, "[]", ".0"), ".")...).Scalar()
}

// put stores a parameter whose name may be FILTER[ID].
func put(params map[string]any, name, value string) {
	group, key, nested := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	if !nested {
		params[name] = value
		return
	}
	inner, ok := params[group].(map[string]any)
	if !ok {
		inner = map[string]any{}
		params[group] = inner
	}
	inner[key] = value
}

func TestEveryEventNamesItsObject(t *testing.T) {
	t.Parallel()
	none := map[string]bool{"ONAPPTEST": true, "ONEXTERNALCALLBACKSTART": true}
	for _, e := range readCatalog(t) {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			got := delivered(t, e).Entity()
			switch {
			case none[e.Name]:
				require.Zero(t, got)
			case strings.HasPrefix(e.Name, "ONAPP"):
				require.Equal(t, event.Entity{Kind: "app"}, got, "one line for each portal")
			case e.Name == "ONOFFLINEEVENT":
				require.Equal(t, event.Entity{Kind: "event.offline"}, got)
			default:
				require.NotEmpty(t, got.Kind)
				require.NotEmpty(t, got.ID)
			}
		})
	}
}

// TestFetchedObjectIsTheNamedOne: an object's kind is the family of the method that fetches it, its id that method's id.
func TestFetchedObjectIsTheNamedOne(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, e := range readCatalog(t) {
		family, ok := strings.CutSuffix(e.FetchMethod, ".get")
		if !ok || len(e.FetchParams) != 1 || strings.HasPrefix(family, "imopenlines.") || strings.HasPrefix(family, "voximplant.") {
			continue // chats and calls are ordered by themselves, not by the session or the statistics that one fetches
		}
		checked++
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			entity := delivered(t, e).Entity()
			require.Equal(t, family, entity.Kind)
			for _, path := range e.FetchParams {
				require.Equal(t, fetchValue(sampleOf(t, e), path), entity.ID)
			}
		})
	}
	require.Greater(t, checked, 80)
}

// TestDeletionsAreAboutTheSameObject: whatever happens to an object, its events share a kind.
func TestDeletionsAreAboutTheSameObject(t *testing.T) {
	t.Parallel()
	all := readCatalog(t)
	kinds := make(map[string]string)
	for _, e := range all {
		kinds[e.Name] = delivered(t, e).Entity().Kind
	}
	deletions := 0
	for name, kind := range kinds {
		for _, pair := range [][2]string{
			{"DELETE", "UPDATE"}, {"DELETE", "ADD"}, {"DELETED", "ENTITYSAVED"}, {"SETENUMVALUES", "ADD"}, {"UNREGISTER", "REGISTER"},
		} {
			stem, ok := strings.CutSuffix(name, pair[0])
			sibling, known := kinds[stem+pair[1]]
			if !ok || !known {
				continue
			}
			deletions++
			require.Equal(t, sibling, kind, name)
		}
	}
	require.Greater(t, deletions, 100)
	require.Equal(t, "crm.deal", kinds["ONCRMDEALDELETE"])
	require.Equal(t, "crm.deal", kinds["ONCRMDEALMOVETOCATEGORY"])
	require.Equal(t, "crm.item", kinds["ONCRMDYNAMICITEMDELETE_{TYPEID}"])
	require.Equal(t, kinds["ONORDERENTITYSAVED"], kinds["ONSALEORDERSAVED"])
	require.Equal(t, kinds["ONORDERENTITYSAVED"], kinds["ONSALEBEFOREORDERDELETE"])
}

func TestEntity(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, kind, id string }{
		{"deal", "event=ONCRMDEALADD&data[FIELDS][ID]=21", "crm.deal", "21"},
		{"comment that is flat", "event=ONCRMTIMELINECOMMENTADD&data[ID]=9", "crm.timeline.comment", "9"},
		{"comment inside FIELDS", "event=ONCRMTIMELINECOMMENTADD&data[FIELDS][ID]=9", "crm.timeline.comment", "9"},
		{"item", "event=ONCRMDYNAMICITEMADD&data[FIELDS][ID]=22&data[FIELDS][ENTITY_TYPE_ID]=147", "crm.item", "147:22"},
		{"item, own name", "event=ONCRMDYNAMICITEMADD_147&data[FIELDS][ID]=22&data[FIELDS][ENTITY_TYPE_ID]=147", "crm.item", "147:22"},
		{"item without its type", "event=ONCRMDYNAMICITEMADD&data[FIELDS][ID]=22", "", ""},
		{"deal out of a template", "event=ONCRMDEALRECURRINGEXPOSE&data[FIELDS][ID]=9&data[FIELDS][DEAL_ID]=6799", "crm.deal", "6799"},
		{"address", "event=ONCRMADDRESSUNREGISTER&data[FIELDS][TYPE_ID]=1&data[FIELDS][ENTITY_TYPE_ID]=8&data[FIELDS][ENTITY_ID]=5", "crm.address", "1:8:5"},
		{"currency", "event=ONCRMCURRENCYUPDATE&data[FIELDS][ID]=EUR", "crm.currency", "EUR"},
		{"new task", "event=ONTASKADD&data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=123", "tasks.task", "123"},
		{"deleted task", "event=ONTASKDELETE&data[FIELDS_BEFORE][ID]=123&data[FIELDS_AFTER]=undefined", "tasks.task", "123"},
		{"comment in the old card", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=7&data[FIELDS_AFTER][TASK_ID]=5", "task.commentitem", "7"},
		{"comment in the new card", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=1458", "task.commentitem", "1458"},
		{"calendar entry", "event=ONCALENDARENTRYDELETE&data[id]=1414", "calendar.event", "1414"},
		{"feed post", "event=ONLIVEFEEDPOSTDELETE&data[FIELDS][POST_ID]=209", "log.blogpost", "209"},
		{"message to a bot", "event=ONIMBOTMESSAGEADD&data[PARAMS][DIALOG_ID]=chat1157&data[PARAMS][CHAT_ID]=1157", "im.chat", "chat1157"},
		{"command", "event=ONIMCOMMANDADD&data[PARAMS][DIALOG_ID]=27", "im.chat", "27"},
		{"message to a bot, v2", "event=ONIMBOTV2MESSAGEADD&data[chat][id]=5&data[chat][dialogId]=chat5", "im.chat", "chat5"},
		{"bot opened, v2", "event=ONIMBOTV2CONTEXTGET&data[dialogId]=1", "im.chat", "1"},
		{"bot deleted", "event=ONIMBOTDELETE&data[BOT_ID]=567", "imbot.bot", "567"},
		{"bot deleted, v2", "event=ONIMBOTV2DELETE&data[bot][id]=456", "imbot.v2.Bot", "456"},
		{"connector message", "event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][0][im][chat_id]=1807", "imopenlines.chat", "1807"},
		{"connector message, older portal", "event=ONIMCONNECTORMESSAGEUPDATE&data[DATA][0][im][chat_id]=1807", "imopenlines.chat", "1807"},
		{"dialog", "event=ONIMCONNECTORDIALOGSTART&data[DATA][0][connector][chat_id]=8&data[DATA][0][chat][id]=8", "imopenlines.chat", "8"},
		{"live chat message", "event=ONOPENLINEMESSAGEADD&data[DATA][0][connector][chat_id]=10587&data[DATA][0][chat][id]=10585", "imopenlines.chat", "10585"},
		{"live chat session", "event=ONSESSIONFINISH&data[DATA][0][connector][chat_id]=10585", "imopenlines.chat", "10585"},
		{"line deleted", "event=ONIMCONNECTORLINEDELETE&data=107", "imopenlines.config", "107"},
		{"line deleted, older portal", "event=ONIMCONNECTORLINEDELETE&data[LINE_ID]=107", "imopenlines.config", "107"},
		{"connector switched off", "event=ONIMCONNECTORSTATUSDELETE&data[connector]=mine&data[line]=107", "imconnector.status", "mine:107"},
		{"call", "event=ONVOXIMPLANTCALLEND&data[CALL_ID]=a.b.1", "voximplant.call", "a.b.1"},
		{"user", "event=ONUSERADD&data[ID]=123", "user", "123"},
		{"document", "event=ONSIGNB2EDOCUMENTSTATUSCHANGED&data[documentUid]=R-1", "sign.b2e.document", "R-1"},
		{"job", "event=ONHUMANRESOURCESHCMLINKPINREQUESTED&data[jobId]=15", "humanresources.hcmlink.job", "15"},
		{"deal without an id", "event=ONCRMDEALADD&data[FIELDS][ID]=", "", ""},
		{"unknown event", "event=ONSOMETHING&data[FIELDS][ID]=1", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", []byte(tc.body))
			require.NoError(t, err)
			require.Equal(t, event.Entity{Kind: tc.kind, ID: tc.id}, d.Entity())
		})
	}
}
