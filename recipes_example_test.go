package b24events_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"expvar"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// The code of docs/recipes.md. Its tests are in recipes_test.go.

// check says why a portal sends nothing.
func check(ctx context.Context, portal *rest.Client, mux *event.Mux, url string) error {
	info, err := rest.Call[struct{ Installed bool }](ctx, portal, "app.info", nil)
	if err != nil {
		return err // the token, the address, the application
	}
	if !info.Installed {
		return errors.New("the installation is not finished: the application's page must call BX24.installFinish")
	}
	plan, err := event.NewAPI(portal).Plan(ctx, mux.Bindings(url))
	if err != nil {
		return err
	}
	if plan.Changes() > 0 {
		return fmt.Errorf("bindings are missing or old; call Reconcile:\n%v", plan)
	}
	return event.NewAPI(portal).Test(ctx, nil) // now the handler of event.OnAppTest must run
}

// ledger remembers deliveries, for example in a table with a unique key and a time.
type ledger interface {
	Seen(ctx context.Context, key string) (bool, error)
	Mark(ctx context.Context, key string) error
}

// once skips what was handled before. It marks a delivery after the handler has succeeded: the
// other way round, an error would lose it.
func once(seen ledger) event.Middleware {
	return func(next event.Handler) event.Handler {
		return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			if ok, err := seen.Seen(ctx, d.Key()); ok || err != nil {
				return err
			}
			if err := next.HandleEvent(ctx, d); err != nil {
				return err
			}
			return seen.Mark(ctx, d.Key())
		})
	}
}

// tooSlow reports slow responses, after which the platform calls less often, and a backlog.
func tooSlow(h *webhook.Handler) error {
	s := h.Stats()
	if ack := s.Ack.Quantile(0.99); ack > time.Second {
		return fmt.Errorf("one response in a hundred takes %v or more", ack)
	}
	if lag := s.Lag.Quantile(0.99); lag > time.Minute {
		return fmt.Errorf("one event in a hundred waits %v or more for its handler", lag)
	}
	return nil
}

// newCoalesced returns a handler that runs once or twice for a thousand changes of one deal.
func newCoalesced(v webhook.Verifier, mux *event.Mux) (*webhook.Handler, error) {
	return webhook.NewHandler(v, mux, webhook.WithCoalescing(event.OnCrmDealUpdate, event.OnCrmContactUpdate))
}

// compare finds what no event told. changed has, for each deal of the copy, its DATE_MODIFY as it
// was read before the call. again reads a deal and stores it, as the handler of its events does.
func compare(
	ctx context.Context, client *rest.Client, changed map[int64]time.Time, again, remove func(ctx context.Context, id int64) error,
) error {
	type row struct {
		ID      int64     `b24:"ID"`
		Changed time.Time `b24:"DATE_MODIFY"`
	}
	unseen := maps.Clone(changed)
	for deal, err := range rest.All[row](ctx, client, "crm.deal.list", map[string]any{"select": []string{"ID", "DATE_MODIFY"}}, rest.ByID("ID")) {
		if err != nil {
			return err
		}
		if at, ok := changed[deal.ID]; !ok || !at.Equal(deal.Changed) {
			if err := again(ctx, deal.ID); err != nil {
				return err
			}
		}
		delete(unseen, deal.ID)
	}
	for id := range unseen { // deleted, or hidden from this token
		_, err := event.FetchByID[row](ctx, client, event.OnCrmDealUpdate, id)
		if errors.Is(err, event.ErrGone) {
			err = remove(ctx, id)
		}
		if err != nil && !errors.Is(err, event.ErrNotVisible) {
			return err
		}
	}
	return nil
}

// Deal has the fields that we need. Portals send numbers as text and flags as Y and N.
type Deal struct {
	ID          int64
	Title       string
	Opportunity float64
	Closed      bool
	CloseDate   time.Time
	StageID     string `b24:"STAGE_ID"`
}

// onDeal reads the deal that an event is about, and passes it on.
func onDeal(mux *event.Mux, api *rest.Clients, save func(ctx context.Context, portal string, d Deal) error) {
	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deal, err := event.Fetch[Deal](ctx, api.Coalescer(d.MemberID()), d)
		if errors.Is(err, event.ErrGone) {
			return nil // deleted meanwhile; that is an event of its own
		}
		if err != nil {
			return err // tried again, or given up if no retry can help
		}
		return save(ctx, d.MemberID(), deal)
	})
}

// changedFields compares two states of an object, as event.Fetch[map[string]any] returns them.
func changedFields(before, now map[string]any) []string {
	all := maps.Clone(before)
	maps.Copy(all, now)
	names := slices.Sorted(maps.Keys(all))
	return slices.DeleteFunc(names, func(name string) bool { return reflect.DeepEqual(before[name], now[name]) })
}

// prioritize writes a deal only if that changes it, so its own event ends the loop.
func prioritize(ctx context.Context, client *rest.Client, d *event.Delivery) error {
	deal, err := event.Fetch[struct {
		ID          int64
		Opportunity float64
		Comments    string
	}](ctx, client, d)
	if err != nil {
		return err
	}
	if deal.Opportunity < 1_000_000 || deal.Comments == "priority" {
		return nil
	}
	return client.With(rest.Idempotent()).Call(ctx, "crm.deal.update",
		map[string]any{"id": deal.ID, "fields": map[string]any{"COMMENTS": "priority"}}, nil)
}

// renameAs renames a task as the user who caused the event, or as the application if nobody did.
func renameAs(ctx context.Context, api *rest.Clients, portals *oauth.Portals, d *event.Delivery, taskID int64, title string) error {
	client := api.Portal(d.MemberID()).As(portals.ActingOrApp(d))
	return client.With(rest.Idempotent()).Call(ctx, "tasks.task.update",
		map[string]any{"taskId": taskID, "fields": map[string]any{"TITLE": title}}, nil)
}

// dealPage is what the portal shows in its frame. The script sends the session with each request:
// many browsers block cookies in frames.
var dealPage = template.Must(template.New("deal").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Deal</title>
<button>Close the deal</button> <output></output>
<script>
const session = {{.Session}}, deal = JSON.parse({{.Options}}).ID;
document.querySelector("button").onclick = async () => {
  const response = await fetch("/deals/" + deal + "/close", {
    method: "POST",
    headers: {"Authorization": "Bearer " + session},
  });
  document.querySelector("output").textContent = response.ok ? "Closed." :
    response.status === 401 ? "Please open the page again." : await response.text();
};
</script>
</html>
`))

// pages adds a page, and what the page asks for later. Each call runs with the rights of the user
// who opened the page.
func pages(routes *http.ServeMux, portals *oauth.Portals, api *rest.Clients) error {
	sessions, err := portals.Sessions()
	if err != nil {
		return err
	}
	page, err := oauth.PageHandler(portals.KeepUser, // confirms whose page it is, and stores that user's tokens
		func(w http.ResponseWriter, _ *http.Request, page *event.Delivery, user oauth.Installation) {
			session, err := sessions.Start(w, user) // before the body; it sets a cookie, too
			if err != nil {
				http.Error(w, "Please open the page again.", http.StatusForbidden)
				return
			}
			_ = dealPage.Execute(w, map[string]string{"Session": session, "Options": page.Data.Get("PLACEMENT_OPTIONS").Text()})
		})
	if err != nil {
		return err
	}
	closeDeal := func(w http.ResponseWriter, r *http.Request) {
		session, _ := oauth.SessionOf(r.Context()) // Require has checked it
		client := api.Portal(session.MemberID).As(portals.User(session.UserID))
		err := client.Call(r.Context(), "crm.deal.update", map[string]any{
			"id": r.PathValue("id"), "fields": map[string]any{"CLOSED": "Y"},
		}, nil)
		switch {
		case errors.Is(err, rest.ErrAccessDenied):
			http.Error(w, "You may not close this deal.", http.StatusForbidden)
		case mustReinstall(err): // the user's tokens are gone
			http.Error(w, "Please open the page again.", http.StatusUnauthorized)
		case err != nil:
			http.Error(w, "Please try again.", http.StatusBadGateway)
		}
	}
	routes.Handle("POST /deal", page) // the address of the page, or of its placement
	routes.Handle("POST /deals/{id}/close", sessions.Require(http.HandlerFunc(closeDeal)))
	return nil
}

// readDeals reads all deals, and begins after the ID that it saved last if it was interrupted.
func readDeals(ctx context.Context, client *rest.Client, last uint64, save func(Deal) error) error {
	params := map[string]any{"select": []string{"ID", "TITLE", "OPPORTUNITY"}}
	for deal, err := range rest.All[Deal](ctx, client, "crm.deal.list", params, rest.ByID("ID"), rest.After(last)) {
		if err != nil {
			return err
		}
		if err := save(deal); err != nil {
			return err
		}
	}
	return nil
}

// mustReinstall reports that only a new installation helps. Everything else is worth a retry.
func mustReinstall(err error) bool {
	return errors.Is(err, oauth.ErrReauthorize) || errors.Is(err, oauth.ErrNotFound) ||
		errors.Is(err, rest.ErrInvalidToken) || errors.Is(err, rest.ErrApplicationMissing)
}

// later repeats an event when the portal has time again.
func later(err error) error {
	if after, ok := rest.Retryable(err); ok {
		return event.Retry(err, after)
	}
	return err
}

// newReplica returns a handler of one of several processes. All share the store of events and the
// leaser, and the store behind portals: pgstore and sqlstore, for example.
func newReplica(portals *oauth.Portals, mux *event.Mux, events webhook.Store, leases webhook.Leaser) (*webhook.Handler, error) {
	return webhook.NewHandler(portals, mux, webhook.WithStore(events), webhook.WithLeaser("events", leases))
}

// openTokens opens a folder of encrypted installations. To change the key, pass the new one first
// and the old one second, call oauth.Reseal once, and leave the old one out after that.
func openTokens(dir string, keys ...[]byte) (*oauth.FileStore, error) {
	opts := []oauth.FileOption{oauth.WithEncryptionOnly()}
	for _, key := range keys { // of oauth.EncryptionKeySize random bytes
		opts = append(opts, oauth.WithEncryptionKey(key))
	}
	return oauth.NewFileStore(dir, opts...)
}

// behindProxy lets only the platform's servers through, by the address that the proxy reports.
func behindProxy(ctx context.Context, h *webhook.Handler) (http.Handler, error) {
	filter, err := webhook.NewSourceFilter(webhook.WithTrustedProxies("X-Forwarded-For", "127.0.0.1", "::1"))
	if err != nil {
		return nil, err
	}
	go func() { _ = filter.Run(ctx) }() // keeps the list of servers fresh
	return filter.Wrap(h), nil
}

// newMixed takes the events of an application, and those of an outgoing webhook of one portal.
func newMixed(portals *oauth.Portals, memberID, hookToken string, mux *event.Mux) (*webhook.Handler, error) {
	return webhook.NewHandler(webhook.Any(portals, webhook.TokensOf(memberID, hookToken)), mux)
}

// onHook reads the deals of an outgoing webhook's events through an incoming webhook.
func onHook(mux *event.Mux, incomingURL string, save func(Deal) error, opts ...rest.Option) error {
	client, err := rest.NewWebhook(incomingURL, opts...)
	if err != nil {
		return err
	}
	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
		deal, err := event.Fetch[Deal](ctx, client, d)
		if err != nil {
			return err
		}
		return save(deal)
	})
	return nil
}

// accounts is the application's own table of customers.
type accounts interface {
	Open(ctx context.Context, portal string) error
	Close(ctx context.Context, portal string) error // keeps the data
	Erase(ctx context.Context, portal string) error
}

// lifecycle sets a customer up, once, and closes or erases the account at the end.
func lifecycle(portals *oauth.Portals, api *rest.Clients, mux *event.Mux, url string, table accounts) {
	portals.Lifecycle(mux, oauth.Hooks{
		Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			if in.SetUpAt.IsZero() { // not a repeated installation
				if err := table.Open(ctx, in.MemberID); err != nil {
					return err // the hook runs again
				}
			}
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(url))
		},
		Updated: func(ctx context.Context, in oauth.Installation, _ event.AppUpdate) error {
			return event.NewAPI(api.Portal(in.MemberID)).Reconcile(ctx, mux.Bindings(url))
		},
		Uninstalled: func(ctx context.Context, in oauth.Installation, e event.AppUninstall) error {
			if e.Clean { // the sender's wish; see the recipe
				return table.Erase(ctx, in.MemberID)
			}
			return table.Close(ctx, in.MemberID)
		},
		Removed: func(ctx context.Context, in oauth.Installation) error { // nobody told us, a call found it
			return table.Close(ctx, in.MemberID)
		},
	})
}

// echoBot repeats what people write to the bot.
func echoBot(mux *event.Mux, api *rest.Clients) {
	event.On(mux, event.OnImBotMessageAdd, func(ctx context.Context, d *event.Delivery, m event.BotMessage) error {
		if m.Params.System || m.Params.FromUserID == 0 {
			return nil // not a person
		}
		for _, bot := range m.Bots { // usually one
			err := api.Portal(d.MemberID()).Call(ctx, "imbot.message.add", map[string]any{
				"BOT_ID": bot.ID, "DIALOG_ID": m.Params.DialogID, "MESSAGE": "You wrote: " + m.Params.Message,
			}, nil)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// onComment tells comments of the old task card from messages of the new one.
func onComment(mux *event.Mux, old, message func(ctx context.Context, portal string, task, id int64) error) {
	event.On(mux, event.OnTaskCommentAdd, func(ctx context.Context, d *event.Delivery, c event.TaskComment) error {
		if c.ID == 0 { // the new card: the comment is a message of the task's chat
			return message(ctx, d.MemberID(), c.TaskID, c.MessageID)
		}
		return old(ctx, d.MemberID(), c.TaskID, c.ID) // event.Fetch reads it
	})
}

// onItem handles the items of one smart process. Its number stands in its address on the portal.
func onItem(mux *event.Mux, api *rest.Clients, entityTypeID int, save func(title, stage string) error) {
	event.On(mux, event.OnCrmDynamicItemUpdateOf(entityTypeID), func(ctx context.Context, d *event.Delivery, _ event.CRMItem) error {
		item, err := event.Fetch[struct{ Title, StageID string }](ctx, api.Coalescer(d.MemberID()), d)
		if err != nil {
			return err
		}
		return save(item.Title, item.StageID)
	})
}

// attach puts a file into a field of a deal. The file is read while it is sent.
func attach(ctx context.Context, client *rest.Client, dealID int64, field, name string, content io.ReaderAt, size int64) error {
	return client.Call(ctx, "crm.deal.update", map[string]any{
		"id": dealID, "fields": map[string]any{field: map[string]any{"fileData": rest.NewFile(name, content, size)}},
	}, nil)
}

// jobs is a queue of the program: River, Kafka, a table. Insert returns when the job is safe.
type jobs interface {
	Insert(ctx context.Context, key string, payload []byte) error
}

// handOver is a webhook.Enqueuer: the portal gets its 200 when Insert has returned.
type handOver struct{ queue jobs }

// Enqueue stores a whole delivery. Its tokens are in clear: encrypt the payload if others can
// read it.
func (q handOver) Enqueue(ctx context.Context, d *event.Delivery) error {
	lane := d.Lane() // jobs with the same key must run one after the other, in their order
	return q.queue.Insert(ctx, fmt.Sprint(d.MemberID(), " ", lane), d.AppendStored(nil))
}

// runJob is the worker of the queue: it runs the mux that webhook.NewHandler got.
func runJob(ctx context.Context, mux *event.Mux, payload []byte) (retry bool, err error) {
	d, err := event.ParseStored(payload)
	if err != nil {
		return false, err
	}
	err = mux.HandleEvent(ctx, d)
	outcome, _ := event.OutcomeOf(err)
	return err != nil && outcome != event.OutcomeDropped, err
}

// publish serves figures at /debug/vars. They are cheap to read, and have no portal in them.
func publish(vars *expvar.Map, h *webhook.Handler, api *rest.Clients) {
	vars.Set("events", expvar.Func(func() any { return h.Stats() }))
	vars.Set("calls", expvar.Func(func() any { return api.Stats() }))
}

// timed reports how long each handler took, by the name of the event.
func timed(report func(name string, took time.Duration, err error)) event.Middleware {
	return func(next event.Handler) event.Handler {
		return event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
			name := "other" // names of strangers would fill the memory of a metrics server
			if info, ok := event.Lookup(d.Name); ok {
				name = info.Name
			}
			began := time.Now()
			err := next.HandleEvent(ctx, d)
			report(name, time.Since(began), err)
			return err
		})
	}
}

// silence says how long no event has been accepted. Call Look regularly, for example at each
// scrape.
type silence struct {
	mu       sync.Mutex
	accepted uint64
	since    time.Time
}

func (s *silence) Look(h *webhook.Handler, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if accepted := h.Stats().Accepted; s.since.IsZero() || accepted != s.accepted {
		s.accepted, s.since = accepted, now
	}
	return now.Sub(s.since)
}

// watched returns a consumer that reports a portal which says nothing for three days.
func watched(client *rest.Client, mux *event.Mux, alarm func(memberID, what string)) (*offline.Consumer, error) {
	return offline.NewConsumer(client, mux, offline.WithStallAlert(5*time.Minute, 72*time.Hour),
		offline.WithHooks(offline.Hooks{Stalled: func(_ context.Context, s offline.Stall) {
			if !s.Over {
				alarm(s.MemberID, string(s.Kind))
			}
		}}))
}

// newQueued returns the same handler with the queue in memory, or with a store: of
// sqlitestore.Open(ctx, file) on one machine, of pgstore.New(ctx, pool) on several.
func newQueued(v webhook.Verifier, mux *event.Mux, store webhook.Store) (*webhook.Handler, error) {
	var opts []webhook.Option
	if store != nil {
		opts = append(opts, webhook.WithStore(store))
	}
	return webhook.NewHandler(v, mux, opts...)
}

// replayParked has everything that was given up handled again, after a bug was fixed.
func replayParked(ctx context.Context, store webhook.Store) (replayed int, err error) {
	archive, err := webhook.NewArchive(store)
	if err != nil {
		return 0, err
	}
	for {
		parked, err := archive.Parked(ctx, "", 100)
		if err != nil || len(parked) == 0 {
			return replayed, err
		}
		ids := make([]string, len(parked))
		for i, p := range parked {
			ids[i] = p.ID
		}
		n, err := archive.Replay(ctx, ids...)
		replayed += n
		if err != nil || n == 0 {
			return replayed, err
		}
	}
}

// missing names the permissions that a call or a fetch lacked.
func missing(err error) (scopes string, ok bool) {
	var scope *event.ScopeError
	switch {
	case errors.As(err, &scope):
		return strings.Join(scope.Missing, ", "), true
	case errors.Is(err, rest.ErrInsufficientScope):
		return "see the page of the method", true
	default:
		return "", false
	}
}

// newBox returns clients for portals on premise with certificates of an authority of their own.
func newBox(cfg oauth.Config, store oauth.Store, authority []byte, hosts ...string) (*oauth.Portals, *rest.Clients, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, nil, err
	}
	if !roots.AppendCertsFromPEM(authority) {
		return nil, nil, errors.New("the authority's certificate is not in PEM form")
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots}}
	client := &http.Client{Transport: transport, Timeout: 75 * time.Second}
	portals, err := oauth.NewPortals(cfg, store, oauth.WithHTTPClient(client), oauth.WithHosts(hosts...)) // an OAuth server of their own, if any
	if err != nil {
		return nil, nil, err
	}
	api, err := rest.NewClients(portals, rest.WithoutRateLimit()) // the client is that of portals
	return portals, api, err
}

// reconcileAll brings the bindings of every stored portal up to date. Run it at each start, in a
// goroutine if there are many portals.
func reconcileAll(ctx context.Context, log *slog.Logger, portals *oauth.Portals, api *rest.Clients, want []event.Binding) error {
	report, err := oauth.ReconcileAll(ctx, portals, api.Portal, want) // several at a time; those that fail once more at the end
	log.InfoContext(ctx, "the portals' bindings are compared", slog.String("report", report.String()))
	return err // a wrong handler URL, a store that fails; failures of portals are in the report
}

// fanOut runs two handlers for each new deal. If one fails, both run again: let them tolerate that.
func fanOut(mux *event.Mux, index, notify event.Handler) {
	mux.Handle(event.OnCrmDealAdd.Name(), event.Join(index, notify))
}
