package b24events_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/doctor"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/polling"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// echo answers what users write to a bot of imbot.v2, until ctx ends.
func echo(ctx context.Context, portal *rest.Client, botID int64, offsets polling.Store) error {
	mux := event.NewMux()
	event.On(mux, event.OnImBotV2MessageAdd, func(ctx context.Context, _ *event.Delivery, e event.BotV2Message) error {
		return portal.Call(ctx, "imbot.v2.Chat.Message.send", map[string]any{
			"botId": e.Bot.ID, "dialogId": e.Chat.DialogID, "fields": map[string]any{"message": "You said: " + e.Message.Text},
		}, nil)
	})
	bot, err := polling.NewBot(portal, botID, mux, offsets) // for example of polling.NewFileStore
	if err != nil {
		return err
	}
	return bot.Run(ctx)
}

// workAll works the offline queues of many portals in one process until ctx ends. Hooks of
// oauth.Portals.Lifecycle may add and remove portals.
func workAll(ctx context.Context, log *slog.Logger, api *rest.Clients, mux *event.Mux, members []string) error {
	fleet, err := offline.NewFleet(func(memberID string) event.Caller { return api.Portal(memberID) }, mux, offline.WithLogger(log))
	if err != nil {
		return err
	}
	for _, memberID := range members { // those of the store; more may come and go while the fleet works
		if err := fleet.Add(memberID); err != nil {
			return err
		}
	}
	return fleet.Run(ctx)
}

// Paid is what our billing module sends: data[ORDER][ID]=7&data[SUM]=12.50&data[FULL]=Y.
type Paid struct {
	OrderID int64   `b24:"ORDER.ID"`
	Sum     float64 `b24:"SUM"`
	Full    bool    `b24:"FULL"`
}

func onPaid(mux *event.Mux) {
	event.On(mux, event.Define[Paid]("ONBILLINGPAID"), func(_ context.Context, _ *event.Delivery, p Paid) error {
		fmt.Println("order", p.OrderID, "paid:", p.Sum, p.Full)
		return nil
	})
}

// explain prints why no events arrive from a portal, and what to do about it.
func explain(ctx context.Context, portals *oauth.Portals, portal *rest.Client, memberID string, want []event.Binding) error {
	report, err := doctor.Examine(ctx, portal, want, doctor.WithPortals(portals, memberID), doctor.WithProbe(nil))
	for _, c := range report.Findings() { // none if nothing is wrong
		fmt.Println(c.Name, c.Status, c.Cause, c.Cure)
	}
	return err
}

// dealWatcher takes the events of one portal's outgoing webhook.
func dealWatcher(token string) (*webhook.Handler, error) {
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, e event.CRMEntity) error {
		fmt.Println("deal", e.ID, "changed on", d.MemberID())
		return nil
	})
	return webhook.NewHandler(webhook.Tokens(token), mux)
}

func TestDealWatcher(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef0123456789abcdef"
	handler, err := dealWatcher(token)
	if err != nil {
		t.Fatal(err)
	}
	request, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: 42}, eventtest.WithToken(token))
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Fatal("answered", answer.Code)
	}
	if err := handler.Shutdown(t.Context()); err != nil { // waits for the handler of the event
		t.Fatal(err)
	}
}
