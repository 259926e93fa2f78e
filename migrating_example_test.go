package b24events_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// The code of docs/migrating.md, before and after. Its tests are in migrating_test.go, and show
// what the code from before gets wrong.

// oldEvents reads one key after the other, compares by !=, and works before it responds.
func oldEvents(token string, sync func(ctx context.Context, deal int) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("auth[application_token]") != token {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		switch r.FormValue("event") {
		case "ONCRMDEALADD", "ONCRMDEALUPDATE":
			id, _ := strconv.Atoi(r.FormValue("data[FIELDS][ID]"))
			if err := sync(r.Context(), id); err != nil {
				w.WriteHeader(http.StatusInternalServerError) // and the event is gone
			}
		}
	}
}

// newEvents does the same. It responds at once, repeats what failed, and never passes a deal 0 on.
func newEvents(token string, sync func(ctx context.Context, deal int64) error) (*webhook.Handler, error) {
	mux := event.NewMux()
	deal := func(ctx context.Context, _ *event.Delivery, e event.CRMEntity) error { return sync(ctx, e.ID) }
	event.On(mux, event.OnCrmDealAdd, deal)
	event.On(mux, event.OnCrmDealUpdate, deal)
	return webhook.NewHandler(webhook.Tokens(token), mux)
}

// oldEvent expects JSON. Portals post forms, so it stays empty.
type oldEvent struct {
	Event string `json:"event"`
	Data  struct {
		Messages []struct {
			Chat struct {
				ID int `json:"id"`
			} `json:"chat"`
			Message struct {
				Text string `json:"text"`
			} `json:"message"`
		} `json:"MESSAGES"`
	} `json:"data"`
}

func oldDecode(body []byte) (e oldEvent, err error) {
	err = json.Unmarshal(body, &e)
	return e, err
}

// lineMessage keeps the struct of the old code, without the two outer levels. Names in json tags
// count; a b24 tag can reach deeper.
type lineMessage struct {
	Messages []struct {
		ChatID int    `b24:"chat.id"`
		Text   string `b24:"message.text"`
	} `json:"MESSAGES"`
}

func onLine(mux *event.Mux, save func(m lineMessage) error) {
	onMessage := event.Define[lineMessage]("ONIMCONNECTORMESSAGEADD") // or event.OnImConnectorMessageAdd, with all fields
	event.On(mux, onMessage, func(_ context.Context, _ *event.Delivery, m lineMessage) error { return save(m) })
}

// oldBind removes everything and binds it again. Events between the two are lost.
func oldBind(ctx context.Context, client *rest.Client, handler string, events ...string) error {
	for _, name := range events {
		params := map[string]any{"event": name, "handler": handler}
		_ = client.Call(ctx, "event.unbind", params, nil)
		if err := client.Call(ctx, "event.bind", params, nil); err != nil {
			return err
		}
	}
	return nil
}

// newBind changes only what differs, in one or two requests. oldHandler is the address that the old
// code had bound: its bindings go when the new ones are there.
func newBind(ctx context.Context, client *rest.Client, mux *event.Mux, handler, oldHandler string) error {
	return event.NewAPI(client).Reconcile(ctx, mux.Bindings(handler), event.WithOwnedPrefix(oldHandler))
}

// row is what the old code kept of a portal.
type row struct {
	MemberID, Domain, AccessToken, RefreshToken, ApplicationToken string
}

// adopt moves portals from the old table. It may run at each start: what is stored already stays.
func adopt(ctx context.Context, portals *oauth.Portals, rows []row) error {
	var failed []error
	for _, r := range rows {
		_, err := portals.Seed(ctx, oauth.Installation{
			MemberID: r.MemberID, ClientEndpoint: "https://" + r.Domain + "/rest/",
			AccessToken: event.Secret(r.AccessToken), RefreshToken: event.Secret(r.RefreshToken),
			ApplicationToken: event.Secret(r.ApplicationToken),
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("portal %s: %w", r.MemberID, err))
		}
	}
	return errors.Join(failed...)
}

// oldTitle builds its request, and knows no limits, no renewal and no retry.
func oldTitle(ctx context.Context, endpoint, token string, deal int) (string, error) {
	address := endpoint + "crm.deal.get?id=" + strconv.Itoa(deal) + "&auth=" + token // logged by every proxy
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // as old code does
	var answer struct {
		Result struct {
			Title string `json:"TITLE"`
		} `json:"result"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer) // an error of the portal decodes to an empty title
	return answer.Result.Title, err
}

// newTitle waits for its turn, renews the token, and tells refusals apart.
func newTitle(ctx context.Context, api *rest.Clients, memberID string, deal int64) (string, error) {
	d, err := rest.Call[struct{ Title string }](ctx, api.Portal(memberID), "crm.deal.get", map[string]any{"id": deal})
	if errors.Is(err, rest.ErrNotFound) {
		return "", nil
	}
	return d.Title, err
}

// oldPoll deletes records as it reads them. What is not handled when the process dies is lost.
func oldPoll(ctx context.Context, client *rest.Client, handle func(name string, data json.RawMessage) error) error {
	var batch struct {
		Events []struct {
			Name string          `json:"EVENT_NAME"`
			Data json.RawMessage `json:"EVENT_DATA"`
		}
	}
	if err := client.Call(ctx, "event.offline.get", nil, &batch); err != nil {
		return err
	}
	for _, e := range batch.Events {
		if err := handle(e.Name, e.Data); err != nil {
			return err // and the rest is lost too
		}
	}
	return nil
}

// newPoll works the queue until ctx ends, with the mux that serves online events too.
func newPoll(ctx context.Context, client *rest.Client, mux *event.Mux) error {
	if err := event.NewAPI(client).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		return err
	}
	consumer, err := offline.NewConsumer(client, mux)
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}
