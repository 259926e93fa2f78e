package event_test

import (
	"reflect"
	"slices"
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

// TestFetchCallIsTheDocumentedOne holds the calls of all events to catalog.json, the order of their
// parameters included.
func TestFetchCallIsTheDocumentedOne(t *testing.T) {
	t.Parallel()
	fetched := 0
	events, methods := readCatalogFile(t)
	for _, e := range events {
		if e.method() != "" {
			fetched++
		}
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			d := delivered(t, e)
			method, params, err := d.FetchCall()
			info, _ := event.Lookup(e.Name)
			switch {
			case info.Deletion:
				require.ErrorIs(t, err, event.ErrGone)
				return
			case e.method() == "":
				require.ErrorIs(t, err, event.ErrUnknown)
				return
			}
			require.NoError(t, err)
			require.Equal(t, e.method(), method)
			require.Len(t, info.Fetch, len(e.Fetch))
			want := map[string]any{}
			for name, path := range e.Fetch[0].Params {
				put(want, name, fetchValue(sampleOf(t, e), path))
			}
			require.Equal(t, want, asMap(params))
			for i, m := range info.Fetch {
				page := methods[m.Name]
				require.Equal(t, e.Fetch[i].Method, m.Name)
				require.Equal(t, "https://apidocs.bitrix24.com/"+page.Doc+".html", m.Doc)
				require.Equal(t, page.Scopes, m.Scope)
				require.Equal(t, page.Result, m.Result)
				require.Equal(t, page.Successor, m.Successor)
				require.Equal(t, []bool{page.Admin, page.Filtered, page.Halted, page.Positional},
					[]bool{m.Admin, m.Filtered, m.Halted, m.Positional})
				require.Len(t, m.Params, len(e.Fetch[i].Params))
			}
		})
	}
	require.Equal(t, 123+5, fetched, "the documented ones, and the jobs of HCM Link")
}

// asMap drops the order of parameters.
func asMap(p event.Params) map[string]any {
	m := map[string]any{}
	for name, value := range p.All() {
		if inner, ok := value.(event.Params); ok {
			value = asMap(inner)
		}
		m[name] = value
	}
	return m
}

// fetchValue reads what a documented parameter stands for out of a sample.
func fetchValue(sample phpform.Value, path string) string {
	if literal, ok := strings.CutPrefix(path, "literal:"); ok {
		return literal
	}
	for alternative := range strings.SplitSeq(path, "|") {
		keys := strings.Split("data."+strings.ReplaceAll(alternative, "[]", "0"), ".")
		if text := at(sample, keys...).Scalar(); text != "" {
			return text
		}
	}
	return ""
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

// TestFetchNeeds: what else the pages of the methods say, for the events for which it matters.
func TestFetchNeeds(t *testing.T) {
	t.Parallel()
	events, _ := readCatalogFile(t)
	var otherScope, admins, halted []string
	for _, e := range events {
		info, _ := event.Lookup(e.Name)
		if len(info.Fetch) == 0 {
			continue
		}
		first := info.Fetch[0]
		if !reflect.DeepEqual(first.Scope, []string{info.Scope}) {
			otherScope = append(otherScope, e.Name)
		}
		if first.Admin && info.Scope != "humanresources.hcmlink" {
			admins = append(admins, e.Name)
		}
		if slices.ContainsFunc(info.Fetch, func(m event.FetchMethod) bool { return m.Halted && strings.HasPrefix(m.Name, "crm.") }) {
			halted = append(halted, e.Name)
		}
	}
	require.ElementsMatch(t, []string{
		"ONIMCONNECTORDIALOGSTART", "ONIMCONNECTORDIALOGFINISH",
		"ONCRMTYPEUSERFIELDADD", "ONCRMTYPEUSERFIELDSETENUMVALUES", "ONCRMTYPEUSERFIELDUPDATE",
		"ONSIGNB2EDOCUMENTSTATUSCHANGED", "ONSIGNB2EMEMBERSTATUSCHANGED",
	}, otherScope)
	require.Len(t, admins, 14)
	require.Len(t, halted, 29)

	for _, tc := range []struct {
		event   string
		methods []string
	}{
		{"ONCRMDEALUPDATE", []string{"crm.deal.get", "crm.item.get"}},
		{"ONCRMPRODUCTUPDATE", []string{"crm.product.get", "catalog.product.get"}},
		{"ONCRMINVOICEUPDATE", []string{"crm.invoice.get"}},
		{"ONTASKCOMMENTADD", []string{"task.commentitem.get"}},
	} {
		info, ok := event.Lookup(tc.event)
		require.True(t, ok)
		var names []string
		for _, m := range info.Fetch {
			names = append(names, m.Name)
		}
		require.Equal(t, tc.methods, names, tc.event)
	}
	require.Equal(t, []string{"supervisor", "personal"}, event.OnImBotV2MessageAdd.Info().Fetch[0].BotTypes)
	require.True(t, event.OnSignB2eDocumentStatusChanged.Info().Fetch[0].AppContext)
	require.True(t, event.OnTaskCommentUpdate.Info().Fetch[0].Positional)
	require.Contains(t, strings.Join(event.OnTaskCommentUpdate.Info().Remarks, " "), "new task card")
}

func TestEveryEventNamesItsObject(t *testing.T) {
	t.Parallel()
	none := map[string]bool{"ONAPPTEST": true, "ONEXTERNALCALLBACKSTART": true}
	for _, e := range readCatalog(t) {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			d := delivered(t, e)
			got, lane := d.Entity(), d.Lane()
			key, mergeable := d.CoalesceKey()
			info, _ := event.Lookup(e.Name)
			require.Equal(t, info.Coalescable, mergeable)
			switch {
			case none[e.Name]:
				require.Zero(t, got)
				require.Zero(t, lane)
				require.False(t, mergeable)
			case strings.HasPrefix(e.Name, "ONAPP"):
				require.Equal(t, event.Entity{Kind: "app"}, lane, "one line for each portal")
				require.False(t, mergeable)
			case e.Name == "ONOFFLINEEVENT":
				require.Equal(t, event.Entity{Kind: "event.offline"}, lane)
			default:
				require.NotEmpty(t, got.Kind)
				require.NotEmpty(t, got.ID)
				require.NotEmpty(t, lane.Kind)
				require.NotEmpty(t, lane.ID)
				require.Equal(t, []event.Entity{got}, d.Entities())
			}
			if mergeable {
				require.Equal(t, got, key)
				require.Equal(t, lane, key, "what is merged stands in one lane")
			}
		})
	}
}

// TestFactsAreNotMerged: for some events, a newer delivery does not replace an older one.
func TestFactsAreNotMerged(t *testing.T) {
	t.Parallel()
	distinct := map[string]bool{}
	for info := range event.Catalog() {
		distinct[info.Name] = !info.Coalescable
	}
	for name := range strings.FieldsSeq(`ONIMBOTV2COMMANDADD ONIMBOTV2CONTEXTGET ONIMBOTV2JOINCHAT ONIMBOTV2MESSAGEADD
		ONIMBOTV2MESSAGEDELETE ONIMBOTV2MESSAGEUPDATE ONIMBOTV2REACTIONCHANGE ONIMBOTJOINCHAT ONIMBOTCONTEXTGET ONIMCOMMANDADD
		ONIMBOTMESSAGEADD ONIMBOTMESSAGEDELETE ONIMBOTMESSAGEUPDATE ONIMCONNECTORDIALOGFINISH ONIMCONNECTORDIALOGSTART
		ONIMCONNECTORMESSAGEADD ONIMCONNECTORMESSAGEDELETE ONIMCONNECTORMESSAGEUPDATE ONOPENLINEMESSAGEADD
		ONOPENLINEMESSAGEDELETE ONOPENLINEMESSAGEUPDATE ONSESSIONFINISH ONSESSIONSTART ONSIGNB2EMEMBERSTATUSCHANGED
		ONIMV2MESSAGEADD ONIMV2MESSAGEUPDATE ONIMV2MESSAGEDELETE ONIMV2REACTIONCHANGE ONIMV2JOINCHAT
		ONAPPINSTALL ONAPPUPDATE ONAPPUNINSTALL ONAPPPAYMENT ONAPPMETHODCONFIRM ONAPPTEST ONAPPUSERREADY
		ONCRMTIMELINEITEMACTION ONEXTERNALCALLBACKSTART`) {
		require.True(t, distinct[name], name)
		delete(distinct, name)
	}
	for name, is := range distinct {
		require.False(t, is, name)
	}
	d := &event.Delivery{Name: "ONSOMETHING"}
	_, ok := d.CoalesceKey()
	require.False(t, ok)
}

// TestDeletionsAreAboutTheSameObject: all events of an object share a kind, a lane and an ID.
func TestDeletionsAreAboutTheSameObject(t *testing.T) {
	t.Parallel()
	kinds := make(map[string]string)
	for _, e := range readCatalog(t) {
		d := delivered(t, e)
		kinds[e.Name] = d.Entity().Kind + " in " + d.Lane().Kind
	}
	pairs := 0
	for name, kind := range kinds {
		for _, pair := range [][2]string{
			{"DELETE", "UPDATE"}, {"DELETE", "ADD"}, {"DELETED", "ENTITYSAVED"}, {"SETENUMVALUES", "ADD"}, {"UNREGISTER", "REGISTER"},
		} {
			stem, ok := strings.CutSuffix(name, pair[0])
			sibling, known := kinds[stem+pair[1]]
			if !ok || !known {
				continue
			}
			pairs++
			require.Equal(t, sibling, kind, name)
		}
	}
	require.Greater(t, pairs, 100)
	require.Equal(t, "crm.deal in crm.deal", kinds["ONCRMDEALDELETE"])
	require.Equal(t, "crm.deal in crm.deal", kinds["ONCRMDEALMOVETOCATEGORY"])
	require.Equal(t, "crm.item in crm.item", kinds["ONCRMDYNAMICITEMDELETE_{TYPEID}"])
	require.Equal(t, kinds["ONORDERENTITYSAVED"], kinds["ONSALEORDERSAVED"])
	require.Equal(t, kinds["ONORDERENTITYSAVED"], kinds["ONSALEBEFOREORDERDELETE"])
	require.Equal(t, kinds["ONCRMACTIVITYUPDATE"], kinds["ONCRMTIMELINEITEMACTION"])
	for name := range strings.FieldsSeq("ONIMBOTMESSAGEDELETE ONIMBOTV2MESSAGEDELETE ONIMV2MESSAGEDELETE") {
		require.Equal(t, "im.message in im.chat", kinds[name], "a deletion is about the message, not about its chat")
	}
	for name := range strings.FieldsSeq("ONIMCONNECTORMESSAGEDELETE ONOPENLINEMESSAGEDELETE") {
		require.Equal(t, "im.message in imopenlines.chat", kinds[name])
	}
}

// TestLanesStay: the lanes of stored deliveries must not move with a better fetch method.
func TestLanesStay(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	for _, e := range readCatalog(t) {
		kinds[delivered(t, e).Lane().Kind]++
	}
	for kind := range strings.FieldsSeq(`app booking.v1.booking calendar.event catalog.product crm.activity crm.address crm.company crm.contact
		crm.deal crm.deal.recurring crm.deal.userfield crm.documentgenerator.document crm.invoice crm.item crm.lead crm.product
		crm.quote crm.timeline.comment crm.type event.offline humanresources.hcmlink.job im.chat imbot.bot imbot.v2.Bot
		imconnector.status imopenlines.chat imopenlines.config log.blogpost sale.order sign.b2e.document
		sign.b2e.hcmlink.document sonet_group tasks.task task.commentitem user userfieldconfig voximplant.call`) {
		require.NotZero(t, kinds[kind], kind)
	}
}

func TestEntityAndLane(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, entity, lane string }{
		{"deal", "event=ONCRMDEALADD&data[FIELDS][ID]=21", "crm.deal 21", ""},
		{"comment that is flat", "event=ONCRMTIMELINECOMMENTADD&data[ID]=9", "crm.timeline.comment 9", ""},
		{"comment inside FIELDS", "event=ONCRMTIMELINECOMMENTADD&data[FIELDS][ID]=9", "crm.timeline.comment 9", ""},
		{"item", "event=ONCRMDYNAMICITEMADD&data[FIELDS][ID]=22&data[FIELDS][ENTITY_TYPE_ID]=147", "crm.item 147:22", ""},
		{"item, own name", "event=ONCRMDYNAMICITEMADD_147&data[FIELDS][ID]=22&data[FIELDS][ENTITY_TYPE_ID]=147", "crm.item 147:22", ""},
		{"item, type in the name alone", "event=ONCRMDYNAMICITEMUPDATE_147&data[FIELDS][ID]=9", "crm.item 147:9", ""},
		{"item without its type", "event=ONCRMDYNAMICITEMADD&data[FIELDS][ID]=22", "", ""},
		{"item without its ID", "event=ONCRMDYNAMICITEMADD_147&data[FIELDS][ID]=0", "", ""},
		{"deal out of a template", "event=ONCRMDEALRECURRINGEXPOSE&data[FIELDS][ID]=9&data[FIELDS][DEAL_ID]=6799", "crm.deal 6799", ""},
		{"address", "event=ONCRMADDRESSUNREGISTER&data[FIELDS][TYPE_ID]=1&data[FIELDS][ENTITY_TYPE_ID]=8&data[FIELDS][ENTITY_ID]=5", "crm.address 1:8:5", ""},
		{"address of type 0", "event=ONCRMADDRESSREGISTER&data[FIELDS][TYPE_ID]=0&data[FIELDS][ENTITY_TYPE_ID]=8&data[FIELDS][ENTITY_ID]=5", "crm.address 0:8:5", ""},
		{"currency", "event=ONCRMCURRENCYUPDATE&data[FIELDS][ID]=EUR", "crm.currency EUR", ""},
		{"field of an old invoice", "event=ONCRMINVOICEUSERFIELDADD&data[FIELDS][ID]=5", "crm.invoice.userfield 5", ""},
		{"field of an old invoice, flat", "event=ONCRMINVOICEUSERFIELDADD&data[id]=5&data[entityId]=CRM_INVOICE", "crm.invoice.userfield 5", ""},
		{"button of an activity", "event=ONCRMTIMELINEITEMACTION&data[id]=x&data[activityId]=5", "crm.activity 5", ""},
		{"button of an activity, nested", "event=ONCRMTIMELINEITEMACTION&data[id]=x&data[FIELDS][activityId]=5", "crm.activity 5", ""},
		{"activity", "event=ONCRMACTIVITYUPDATE&data[FIELDS][ID]=5", "crm.activity 5", ""},
		{"new task", "event=ONTASKADD&data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=123", "tasks.task 123", ""},
		{"deleted task", "event=ONTASKDELETE&data[FIELDS_BEFORE][ID]=123&data[FIELDS_AFTER]=undefined", "tasks.task 123", ""},
		{"comment in the old card", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=1458&data[FIELDS_AFTER][TASK_ID]=5", "task.commentitem 1458", ""},
		{"comment in the new card", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=1458", "im.message 1458", ""},
		{"comment with neither", "event=ONTASKCOMMENTADD&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=0", "", ""},
		{"calendar entry", "event=ONCALENDARENTRYDELETE&data[id]=1414", "calendar.event 1414", ""},
		{"feed post", "event=ONLIVEFEEDPOSTDELETE&data[FIELDS][POST_ID]=209", "log.blogpost 209", ""},
		{"message to a bot", "event=ONIMBOTMESSAGEADD&data[PARAMS][DIALOG_ID]=chat1157&data[PARAMS][CHAT_ID]=1157&data[PARAMS][MESSAGE_ID]=7", "im.message 7", "im.chat chat1157"},
		{"deleted message to a bot", "event=ONIMBOTMESSAGEDELETE&data[PARAMS][DIALOG_ID]=chat1157&data[PARAMS][ID]=7", "im.message 7", "im.chat chat1157"},
		{"command", "event=ONIMCOMMANDADD&data[PARAMS][DIALOG_ID]=27&data[PARAMS][MESSAGE_ID]=8", "im.message 8", "im.chat 27"},
		{"bot in a chat", "event=ONIMBOTJOINCHAT&data[PARAMS][DIALOG_ID]=chat5", "im.chat chat5", ""},
		{"message to a bot, v2", "event=ONIMBOTV2MESSAGEADD&data[chat][id]=5&data[chat][dialogId]=chat5&data[message][id]=9", "im.message 9", "im.chat 5"},
		{"private chats of two bots with one user", "event=ONIMBOTV2MESSAGEADD&data[chat][id]=6&data[chat][dialogId]=1&data[message][id]=10", "im.message 10", "im.chat 6"},
		{"deleted message, v2", "event=ONIMBOTV2MESSAGEDELETE&data[chat][id]=5&data[messageId]=9", "im.message 9", "im.chat 5"},
		{"reaction, v2", "event=ONIMBOTV2REACTIONCHANGE&data[chat][id]=5&data[message][id]=9", "im.message 9", "im.chat 5"},
		{"bot opened, v2", "event=ONIMBOTV2CONTEXTGET&data[dialogId]=1", "im.chat 1", ""},
		{"bot deleted", "event=ONIMBOTDELETE&data[BOT_ID]=567", "imbot.bot 567", ""},
		{"bot deleted, v2", "event=ONIMBOTV2DELETE&data[bot][id]=456", "imbot.v2.Bot 456", ""},
		{"own message", "event=ONIMV2MESSAGEDELETE&data[chat][id]=5&data[messageId]=9", "im.message 9", "im.chat 5"},
		{"connector message", "event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][0][im][chat_id]=1807&data[MESSAGES][0][im][message_id]=3", "im.message 3", "imopenlines.chat 1807"},
		{"connector message, older portal", "event=ONIMCONNECTORMESSAGEUPDATE&data[DATA][0][im][chat_id]=1807&data[DATA][0][im][message_id]=3", "im.message 3", "imopenlines.chat 1807"},
		{"connector message, list with a gap", "event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][1][im][chat_id]=7&data[MESSAGES][1][im][message_id]=3", "im.message 3", "imopenlines.chat 7"},
		{"connector message, first without a chat", "event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][0][im][message_id]=3&data[MESSAGES][1][im][chat_id]=7", "im.message 3", "imopenlines.chat 7"},
		{"dialog", "event=ONIMCONNECTORDIALOGSTART&data[DATA][0][connector][chat_id]=8&data[DATA][0][chat][id]=8&data[DATA][0][session][id]=4", "imopenlines.session 4", "imopenlines.chat 8"},
		{"live chat message", "event=ONOPENLINEMESSAGEADD&data[DATA][0][connector][chat_id]=10587&data[DATA][0][chat][id]=10585&data[DATA][0][message][id]=6", "im.message 6", "imopenlines.chat 10585"},
		{"live chat session", "event=ONSESSIONFINISH&data[DATA][0][connector][chat_id]=10585", "", "imopenlines.chat 10585"},
		{"line deleted", "event=ONIMCONNECTORLINEDELETE&data=107", "imopenlines.config 107", ""},
		{"line deleted, older portal", "event=ONIMCONNECTORLINEDELETE&data[LINE_ID]=107", "imopenlines.config 107", ""},
		{"connector switched off", "event=ONIMCONNECTORSTATUSDELETE&data[connector]=mine&data[line]=107", "imconnector.status mine:107", ""},
		{"call", "event=ONVOXIMPLANTCALLEND&data[CALL_ID]=a.b.1", "voximplant.call a.b.1", ""},
		{"user", "event=ONUSERADD&data[ID]=123", "user 123", ""},
		{"document", "event=ONSIGNB2EDOCUMENTSTATUSCHANGED&data[documentUid]=R-1", "sign.b2e.document R-1", ""},
		{"signer of a document", "event=ONSIGNB2EMEMBERSTATUSCHANGED&data[documentUid]=R-1&data[memberUid]=M2", "sign.b2e.member M2", "sign.b2e.document R-1"},
		{"job", "event=ONHUMANRESOURCESHCMLINKPINREQUESTED&data[jobId]=15", "humanresources.hcmlink.job 15", ""},
		{"deal without an id", "event=ONCRMDEALADD&data[FIELDS][ID]=", "", ""},
		{"deal with the ID 0", "event=ONCRMDEALADD&data[FIELDS][ID]=0", "", ""},
		{"unknown event", "event=ONSOMETHING&data[FIELDS][ID]=1", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", []byte(tc.body))
			require.NoError(t, err)
			text := func(e event.Entity) string { return strings.TrimSpace(e.Kind + " " + e.ID) }
			require.Equal(t, tc.entity, text(d.Entity()))
			if tc.lane == "" {
				tc.lane = tc.entity
			}
			require.Equal(t, tc.lane, text(d.Lane()))
		})
	}
}

//nolint:paralleltest // it counts allocations, which tests that run beside it would add to
func TestLaneDoesNotAllocate(t *testing.T) {
	for _, body := range []string{
		"event=ONCRMDEALUPDATE&data[FIELDS][ID]=7",
		"event=ONIMBOTV2MESSAGEADD&data[chat][id]=5&data[message][id]=9",
		"event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][0][im][chat_id]=1807",
	} {
		d, err := event.Parse("", []byte(body))
		require.NoError(t, err)
		require.NotZero(t, d.Lane())
		require.Zero(t, testing.AllocsPerRun(100, func() { d.Lane() }), body)
	}
}

func TestEntitiesOfSeveralMessages(t *testing.T) {
	t.Parallel()
	d, err := event.Parse("", []byte("event=ONIMCONNECTORMESSAGEDELETE&data[MESSAGES][2][im][message_id]=3&data[MESSAGES][2][im][chat_id]=8"+
		"&data[MESSAGES][5][im][message_id]=0&data[MESSAGES][7][im][message_id]=4&data[MESSAGES][7][im][chat_id]=9"))
	require.NoError(t, err)
	require.Equal(t, []event.Entity{{Kind: "im.message", ID: "3"}, {Kind: "im.message", ID: "4"}}, d.Entities())
	require.Equal(t, d.Entities()[0], d.Entity())
	require.Equal(t, event.Entity{Kind: "imopenlines.chat", ID: "8"}, d.Lane())
	require.Nil(t, (&event.Delivery{Name: "ONSOMETHING"}).Entities())
	require.Nil(t, (&event.Delivery{Name: "ONCRMDEALUPDATE"}).Entities())
}
