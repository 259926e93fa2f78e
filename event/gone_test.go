package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// TestDeletions: the catalogue marks the events of deletions. None of them names a method to fetch
// the object.
func TestDeletions(t *testing.T) {
	t.Parallel()
	marked := 0
	for _, e := range readCatalog(t) {
		info, ok := event.Lookup(e.Name)
		require.True(t, ok)
		name := strings.TrimSuffix(e.Name, "_{TYPEID}")
		tells := strings.HasSuffix(name, "DELETE") || strings.HasSuffix(name, "DELETED") ||
			name == "ONCRMADDRESSUNREGISTER" || name == "ONAPPUNINSTALL"
		if name == "ONSALEBEFOREORDERDELETE" { // the order may stay
			tells = false
		}
		require.Equal(t, tells, info.Deletion, e.Name)
		if !info.Deletion {
			continue
		}
		marked++
		require.Empty(t, info.Fetch, e.Name)
		_, _, err := delivered(t, e).FetchCall()
		require.ErrorIs(t, err, event.ErrGone, e.Name)
		require.NotErrorIs(t, err, event.ErrUnknown, e.Name)
	}
	require.Equal(t, 60, marked)
	info, ok := event.Lookup("ONCRMDYNAMICITEMDELETE_147")
	require.True(t, ok)
	require.True(t, info.Deletion, "through its template")
	require.True(t, event.Define[event.CRMEntity]("ONCRMDEALDELETE").Info().Deletion)
}

// fetching returns deliveries by the methods that fetch their object, not only the first one.
func fetching(t *testing.T) map[string]*event.Delivery {
	t.Helper()
	by := map[string]*event.Delivery{}
	for _, e := range readCatalog(t) {
		for _, f := range e.Fetch {
			if d := delivered(t, e); by[f.Method] == nil {
				d.Auth.Scope = "" // samples show the scope of any application
				by[f.Method] = d
			}
		}
	}
	return by
}

// TestFetchOfWhatIsGone: how the methods say that there is no such object, by the tables of their
// pages, which catalog.json holds, and in the words that portals use.
func TestFetchOfWhatIsGone(t *testing.T) {
	t.Parallel()
	of := fetching(t)
	p, c := portal(t, eventtest.AdminID)
	coalescer, err := rest.NewCoalescer(c, rest.WithWindow(time.Millisecond))
	require.NoError(t, err)
	type answer struct {
		method, code, description string
		want                      error
	}
	all := []answer{
		{"crm.deal.get", "", "Not found", event.ErrGone},
		{"crm.deal.get", "", " not found. ", event.ErrGone},
		{"crm.timeline.comment.get", "", "Not found.", event.ErrGone},
		{"crm.requisite.get", "", "The Requisite with ID '27' is not found", event.ErrGone},
		{"crm.deal.userfield.get", "ERROR_NOT_FOUND", "The entity with ID '7' is not found", event.ErrGone},
		{"crm.item.get", "NOT_FOUND", "Элемент не найден", event.ErrGone},
		{"crm.item.get", "NOT_FOUND", "Смарт-процесс не найден", event.ErrGone},
		{"crm.type.get", "0", "Смарт-процесс не найден", event.ErrGone},
		{"catalog.product.get", "", "product does not exist.", event.ErrGone},
		{"catalog.price.get", "-", "Price is not exists", event.ErrGone},
		{"sign.b2e.document.get", "-", "Document not found", event.ErrGone},
		{"sign.b2e.hcmlink.document.get", "SIGN_HCMLINK_DOCUMENT_NOT_FOUND", "Document not found", event.ErrGone},
		{"humanresources.hcmlink.job.status.get", "0", "Operation failed", event.ErrGone},
		{"catalog.product.get", "200040300000", "Information block does not exist", event.ErrNotVisible},
		{"crm.documentgenerator.document.get", "0", "Документ не найден", event.ErrNotVisible},
		{"imopenlines.dialog.get", "ACCESS_ERROR", "You do not have access to the specified dialog", event.ErrNotVisible},
		{"userfieldconfig.get", "", "You do not have permission to view user field settings", event.ErrNotVisible},
		{
			"task.commentitem.get", "ERROR_CORE",
			"TASKS_ERROR_EXCEPTION_#512; Check listitem not found or not accessible; 512/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE.<br>", event.ErrNotVisible,
		},
		{"task.commentitem.get", "ERROR_CODE", "512/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE.<br>", event.ErrNotVisible},
	}
	_, methods := readCatalogFile(t)
	for name, m := range methods {
		for _, e := range m.Gone {
			all = append(all, answer{name, e.Code, strings.ReplaceAll(e.Text, "*", "27"), event.ErrGone})
		}
		for _, e := range m.Hidden {
			all = append(all, answer{name, e.Code, strings.ReplaceAll(e.Text, "*", "27"), event.ErrNotVisible})
		}
	}
	for _, tc := range all {
		for name, caller := range map[string]event.Caller{"client": c, "coalescer": coalescer} {
			p.Once(tc.method, eventtest.Fail(400, tc.code, tc.description))
			got, err := event.Fetch[map[string]any](t.Context(), caller, of[tc.method], event.WithMethod(tc.method))
			require.ErrorIs(t, err, tc.want, "%s by a %s: %s %s", tc.method, name, tc.code, tc.description)
			require.Equal(t, errors.Is(tc.want, event.ErrGone), errors.Is(err, event.ErrGone))
			require.Nil(t, got)
			var refusal *rest.Error
			require.ErrorAs(t, err, &refusal, "what the portal said is still there")
			require.Equal(t, tc.method, refusal.Method)
			outcome, _ := event.OutcomeOf(err)
			require.Equal(t, event.OutcomeDropped, outcome)
		}
	}
}

// answers returns the same error for every call.
type answers struct{ err rest.Error }

func (a *answers) Call(_ context.Context, method string, _, _ any) error {
	err := a.err
	err.Method = method
	return &err
}

// TestFetchAndRestAgree: an error of a fetch method means the same to Fetch and to
// rest.ErrNotFound, for every method that documents it.
func TestFetchAndRestAgree(t *testing.T) {
	t.Parallel()
	_, methods := readCatalogFile(t)
	var all []documentedError
	for _, m := range methods {
		all = append(append(all, m.Gone...), m.Hidden...)
	}
	all = append(all, documentedError{Text: "Not found"}, documentedError{Code: "0", Text: "Not found"}, documentedError{Code: "NOT_FOUND"})
	of := fetching(t)
	for method, d := range of {
		for _, e := range all {
			caller := &answers{rest.Error{Status: 400, Code: rest.ErrorCode(e.Code), Description: strings.ReplaceAll(e.Text, "*", "27")}}
			_, err := event.Fetch[any](t.Context(), caller, d, event.WithMethod(method))
			require.Error(t, err)
			require.Equal(t, errors.Is(err, event.ErrGone), errors.Is(err, rest.ErrNotFound), "%s: %+v", method, e)
		}
	}
	require.Len(t, of, len(methods))
}

// TestFetchInABatch reads two deals at the same time, one of which is gone.
func TestFetchInABatch(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	coalescer, err := rest.NewCoalescer(c, rest.WithWindow(rest.MaxWindow), rest.WithSize(2))
	require.NoError(t, err)
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for i := range errs {
		id, err := p.Add(eventtest.Deal, map[string]any{"TITLE": "x"}, eventtest.AdminID)
		require.NoError(t, err)
		data, err := event.NewData(event.CRMEntity{ID: id})
		require.NoError(t, err)
		if i == 1 {
			require.NoError(t, p.Delete(eventtest.Deal, id, eventtest.AdminID))
		}
		wg.Go(func() {
			_, errs[i] = event.Fetch[any](t.Context(), coalescer, &event.Delivery{Name: event.OnCrmDealUpdate.Name(), Data: data})
		})
	}
	wg.Wait()
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], event.ErrGone)
	require.Equal(t, 1, p.CallCount("batch"))
}

// TestFetchOfWhatIsNotGone: another failure must never count as a deletion, because mirrors then
// delete their row.
func TestFetchOfWhatIsNotGone(t *testing.T) {
	t.Parallel()
	of := fetching(t)
	p, c := portal(t, eventtest.AdminID)
	for _, tc := range []struct {
		method      string
		status      int
		code        string
		description string
	}{
		{"crm.deal.get", 400, "", "Access denied"},
		{"crm.deal.get", 400, "", "ID is not defined or invalid"},
		{"crm.deal.get", 400, "", "Responsible user does not exist."},
		{"crm.deal.get", 400, "0", "User not found or access denied"},
		{"crm.deal.get", 400, "0", "Not found"},
		{"crm.deal.get", 404, "ERROR_METHOD_NOT_FOUND", "Method not found!"},
		{"crm.deal.get", 401, "APPLICATION_NOT_FOUND", "Application not found"},
		{"crm.deal.get", 403, "PORTAL_DELETED", "Portal was deleted"},
		{"crm.deal.get", 404, "NOT_FOUND", "not a code of this method"},
		{"crm.deal.get", 400, "ERROR_CORE", "Not found"},
		{"crm.invoice.get", 400, "", "Not found"}, // its page has no table
		{"crm.requisite.get", 400, "", "The Requisite with ID is not found"},
		{"crm.item.get", 404, "not_found", "a proxy in the portal's place"},
		{"crm.item.get", 404, "Not Found", "another"},
		{"crm.item.get", 400, "ENTITY_TYPE_NOT_SUPPORTED", "an old invoice"},
		{"crm.item.get", 400, "ACCESS_DENIED", "Access denied"},
		{"crm.item.get", 400, "allowed_only_intranet_user", "Only intranet users"},
		{"crm.deal.userfield.get", 403, "", "Access denied"},
		{"catalog.product.get", 400, "200040300010", "Access Denied"},
		{"sale.order.get", 400, "0", "fatal error"},
		{"sale.order.get", 400, "200640400001", "a payment, not an order"},
		{"task.commentitem.get", 400, "ERROR_CORE", "TASKS_ERROR_EXCEPTION_#256; Param #1 (itemId) expected; 256/TE/WRONG_ARGUMENTS"},
		{"crm.documentgenerator.document.get", 400, "DOCGEN_ACCESS_ERROR", "Access denied"},
		{"imbot.v2.Chat.get", 400, "BOT_NOT_FOUND", "Bot not found"},
		{"imbot.v2.Chat.Message.get", 400, "MESSAGE_NOT_FOUND", "a code of its siblings"},
		{"imbot.v2.Chat.Message.get", 403, "BOT_TYPE_NOT_ALLOWED", "Bot type not allowed"},
	} {
		p.Once(tc.method, eventtest.Fail(tc.status, tc.code, tc.description))
		_, err := event.Fetch[any](t.Context(), c, of[tc.method], event.WithMethod(tc.method))
		var refusal *rest.Error
		require.ErrorAs(t, err, &refusal, tc.description)
		for _, other := range []error{event.ErrGone, event.ErrNotVisible, event.ErrUnknown} {
			require.NotErrorIs(t, err, other, "%s: %s", tc.method, tc.description)
		}
	}
	p.Once("crm.deal.get", eventtest.HTML(404))
	_, err := event.Fetch[any](t.Context(), c, of["crm.deal.get"])
	require.ErrorIs(t, err, rest.ErrBadResponse)
	require.NotErrorIs(t, err, event.ErrGone, "a page of HTML")
}

// TestFetchOfNothing: an empty result does not prove a deletion, especially in lists that are
// filtered by rights.
func TestFetchOfNothing(t *testing.T) {
	t.Parallel()
	of := fetching(t)
	p, c := portal(t, eventtest.AdminID)
	for _, tc := range []struct{ method, result string }{
		{"tasks.task.get", `[]`},
		{"tasks.task.get", `{"task":[]}`},
		{"tasks.task.get", `{ "task" : null }`},
		{"user.get", `[]`},
		{"voximplant.statistic.get", "[ ]"},
		{"crm.address.list", `[]`},
		{"sonet_group.get", `[]`},
		{"sonet_group.get", `[null]`},
		{"log.blogpost.get", `[]`},
		{"userfieldconfig.get", `null`},
		{"userfieldconfig.get", `{"field":null}`},
		{"calendar.event.getbyid", `false`},
		{"crm.deal.get", `""`},
		{"crm.deal.get", `{}`},
		{"imbot.v2.Chat.Message.get", `{"message":null,"user":[],"files":{}}`},
	} {
		answering(p, tc.method, tc.result)
		_, err := event.Fetch[map[string]any](t.Context(), c, of[tc.method], event.WithMethod(tc.method))
		require.ErrorIs(t, err, event.ErrNotVisible, "%s %s", tc.method, tc.result)
		require.NotErrorIs(t, err, event.ErrGone)
		outcome, _ := event.OutcomeOf(err)
		require.Equal(t, event.OutcomeDropped, outcome, "no retry makes it visible")
	}
	for _, result := range []string{`{"ID":0}`, `{"task":{"id":"7"}}`, `{"ID":null,"TITLE":"x"}`, `0`, `true`, `"x"`, `[[]]`, `[{"ID":"1"}]`, `{"alive":false}`} {
		answering(p, "crm.deal.get", result)
		got, err := event.Fetch[json.RawMessage](t.Context(), c, of["crm.deal.get"], event.WithMethod("crm.deal.get"))
		require.NoError(t, err, result)
		require.JSONEq(t, result, string(got))
	}
}
