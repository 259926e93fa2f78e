package event_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// TestDeletions: the catalogue marks the events that tell of a deletion. None of them names a method that would fetch what is gone.
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
		require.Empty(t, info.FetchMethod, e.Name)
		_, _, err := delivered(t, e).FetchCall()
		require.ErrorIs(t, err, event.ErrGone, e.Name)
		require.NotErrorIs(t, err, event.ErrUnknown, e.Name)
	}
	require.Equal(t, 59, marked)
	info, ok := event.Lookup("ONCRMDYNAMICITEMDELETE_147")
	require.True(t, ok)
	require.True(t, info.Deletion, "through its template")
	require.True(t, event.Define[event.CRMEntity]("ONCRMDEALDELETE").Info().Deletion)
}

// fetching returns deliveries by the method that fetches their object.
func fetching(t *testing.T) map[string]*event.Delivery {
	t.Helper()
	by := map[string]*event.Delivery{}
	for _, e := range readCatalog(t) {
		if e.FetchMethod != "" && by[e.FetchMethod] == nil {
			by[e.FetchMethod] = delivered(t, e)
		}
	}
	return by
}

// TestFetchOfWhatIsGone: how the methods say that there is no such object, by the tables of their pages, which gone.go names.
func TestFetchOfWhatIsGone(t *testing.T) {
	t.Parallel()
	of := fetching(t)
	p, c := portal(t, eventtest.AdminID)
	coalescer, err := rest.NewCoalescer(c, rest.WithWindow(time.Millisecond))
	require.NoError(t, err)
	for _, tc := range []struct{ method, code, description string }{
		{"crm.deal.get", "", "Not found"},
		{"crm.lead.get", "", "Not found"},
		{"crm.currency.get", "", "Not found"},
		{"crm.timeline.comment.get", "", "Not found."},
		{"crm.activity.get", "", "Activity is not found"},
		{"crm.requisite.get", "", "The Requisite with ID '27' is not found"},
		{"crm.requisite.bankdetail.get", "", "The RequisiteBankDetail with ID '357' is not found"},
		{"crm.deal.recurring.get", "", "Recurring deal is not found."},
		{"crm.deal.userfield.get", "ERROR_NOT_FOUND", "The entity with ID '7' is not found"},
		{"crm.requisite.userfield.get", "ERROR_NOT_FOUND", "The entity with ID '7' is not found"},
		{"crm.item.get", "NOT_FOUND", "Элемент не найден"},
		{"crm.item.get", "NOT_FOUND", "Смарт-процесс не найден"},
		{"crm.activity.configurable.get", "NOT_FOUND", "Not found."},
		{"crm.type.get", "0", "Смарт-процесс не найден"},
		{"crm.documentgenerator.document.get", "0", "Документ не найден"},
		{"crm.documentgenerator.document.get", "", "Document not found"},
		{"booking.v1.booking.get", "1021", "Booking not found"},
		{"booking.v1.resource.get", "1009", "Resource not found"},
		{"booking.v1.resourceType.get", "1013", "Resource type not found"},
		{"booking.v1.waitlist.get", "1040", "Wait list not found"},
		{"catalog.product.get", "", "product does not exist."},
		{"catalog.price.get", "", "Price is not exists"},
		{"catalog.measure.get", "200600000020", "measure does not exist."},
		{"catalog.priceType.get", "201000000000", ""},
		{"catalog.roundingRule.get", "200900000000", ""},
		{"sign.b2e.document.get", "", "Document not found"},
		{"sale.order.get", "200540400001", "order is not exists"},
		{"sale.order.get", "201240400001", "order is not exists"},
		{"sale.payment.get", "200640400001", "payment is not exists"},
		{"sale.propertyvalue.get", "201040400001", "property value is not exists"},
		{"sale.shipment.get", "201140400001", "shipment is not exists"},
		{
			"task.commentitem.get", "ERROR_CORE",
			"TASKS_ERROR_EXCEPTION_#512; Check listitem not found or not accessible; 512/TE/ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE.<br>",
		},
	} {
		for name, caller := range map[string]event.Caller{"client": c, "coalescer": coalescer} {
			p.Once(tc.method, eventtest.Fail(400, tc.code, tc.description))
			got, err := event.Fetch[map[string]any](t.Context(), caller, of[tc.method])
			require.ErrorIs(t, err, event.ErrGone, "%s by a %s", tc.method, name)
			require.Nil(t, got)
			var refusal *rest.Error
			require.ErrorAs(t, err, &refusal, "what the portal said is still there")
			require.Equal(t, tc.method, refusal.Method)
		}
	}
}

// TestFetchInABatch: of two deals that are read at the same time one is gone.
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

// TestFetchOfWhatIsNotGone: a failure must never pass for a deletion, since handlers delete their copy on one.
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
		{"crm.deal.get", 404, "ERROR_METHOD_NOT_FOUND", "Method not found!"},
		{"crm.deal.get", 401, "APPLICATION_NOT_FOUND", "Application not found"},
		{"crm.deal.get", 401, "insufficient_scope", "The request requires higher privileges than provided by the access token"},
		{"crm.deal.get", 403, "PORTAL_DELETED", "Portal was deleted"},
		{"crm.deal.get", 404, "NOT_FOUND", "not a code of this method"},
		{"crm.deal.get", 400, "ERROR_CORE", "Not found"},
		{"crm.item.get", 404, "not_found", "a proxy in the portal's place"},
		{"crm.item.get", 404, "Not Found", "another"},
		{"crm.item.get", 400, "ACCESS_DENIED", "Access denied"},
		{"crm.item.get", 400, "allowed_only_intranet_user", "Only intranet users"},
		{"crm.deal.userfield.get", 403, "", "Access denied"},
		{"catalog.product.get", 400, "200040300010", "Access Denied"},
		{"catalog.product.get", 400, "200040300000", "Iblock Not Found"},
		{"sale.order.get", 400, "0", "fatal error"},
		{"sale.order.get", 400, "200640400001", "a payment, not an order"},
		{"task.commentitem.get", 400, "ERROR_CORE", "TASKS_ERROR_EXCEPTION_#256; Param #1 (itemId) expected; 256/TE/WRONG_ARGUMENTS"},
		{"imbot.v2.Chat.get", 400, "BOT_NOT_FOUND", "Bot not found"},
		{"userfieldconfig.get", 400, "", "Вы не можете просматривать настройки пользовательских полей"},
	} {
		p.Once(tc.method, eventtest.Fail(tc.status, tc.code, tc.description))
		_, err := event.Fetch[any](t.Context(), c, of[tc.method])
		var refusal *rest.Error
		require.ErrorAs(t, err, &refusal, tc.description)
		require.NotErrorIs(t, err, event.ErrGone, tc.description)
		require.NotErrorIs(t, err, event.ErrUnknown, tc.description)
	}
	p.Once("crm.deal.get", eventtest.HTML(404))
	_, err := event.Fetch[any](t.Context(), c, of["crm.deal.get"])
	require.ErrorIs(t, err, rest.ErrBadAnswer)
	require.NotErrorIs(t, err, event.ErrGone, "a page of HTML")
}

// TestFetchOfNothing: the methods that answer success and nothing in it.
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
		{"log.blogpost.get", `[]`},
		{"userfieldconfig.get", `null`},
		{"calendar.event.getbyid", `false`},
		{"crm.deal.get", `""`},
		{"crm.deal.get", `{}`},
		{"imbot.v2.Chat.Message.get", `{"message":null,"user":[],"files":{}}`},
	} {
		answering(p, tc.method, tc.result)
		_, err := event.Fetch[map[string]any](t.Context(), c, of[tc.method])
		require.ErrorIs(t, err, event.ErrGone, "%s %s", tc.method, tc.result)
	}
	for _, result := range []string{`{"ID":0}`, `{"task":{"id":"7"}}`, `{"ID":null,"TITLE":"x"}`, `0`, `true`, `"x"`, `[[]]`, `[{"ID":"1"}]`, `{"ACTIVE":true}`} {
		answering(p, "crm.deal.get", result)
		got, err := event.Fetch[json.RawMessage](t.Context(), c, of["crm.deal.get"])
		require.NoError(t, err, result)
		require.JSONEq(t, result, string(got))
	}
}

func TestFetchOfAnotherShape(t *testing.T) {
	t.Parallel()
	p, c := portal(t, eventtest.AdminID)
	d := fetching(t)["crm.deal.get"]
	for name, tc := range map[string]struct{ result, path, want string }{
		"whole":  {`"planted"`, "result", "event_test.deal"},
		"member": {`{"ID":"planted"}`, "result.ID", "int"},
		"deep":   {`{"OWNER":{"ID":"planted"}}`, "result.OWNER.ID", "int"},
	} {
		answering(p, "crm.deal.get", tc.result)
		got, err := event.Fetch[deal](t.Context(), c, d)
		var misfit *event.DecodeError
		require.ErrorAs(t, err, &misfit, name)
		require.Equal(t, event.DecodeError{Event: d.Name, Path: tc.path, Want: tc.want}, *misfit, name)
		require.NotContains(t, err.Error(), "planted", name)
		require.Zero(t, got, name)
	}
	_, err := event.Fetch[deal](t.Context(), deaf{}, d)
	require.ErrorContains(t, err, "left no result")
	require.NotErrorIs(t, err, event.ErrGone, "an adapter that drops results must not delete everything")
}

type deal struct {
	ID    int
	Owner struct{ ID int } `json:"OWNER"`
}

// deaf is an adapter that forgets to decode the result.
type deaf struct{}

func (deaf) Call(context.Context, string, any, any) error { return nil }
