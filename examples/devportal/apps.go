package main

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
)

// Limits of what can be added.
const (
	maxApps     = 50
	maxWebhooks = 50
)

// appView is an application with its handlers.
type appView struct {
	ID             string        `json:"id"` // client_id
	Handler        string        `json:"handler"`
	Scope          []string      `json:"scope"`
	UI             bool          `json:"ui"`
	State          string        `json:"state"` // installed, installing (its page has not finished) or removed
	Active         bool          `json:"active"`
	PaymentExpired bool          `json:"payment_expired"`
	Bindings       []bindingView `json:"bindings"` // the first ones
	Bound          int           `json:"bound"`    // how many there are
	Bots           []botView     `json:"bots"`
}

type botView struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

type bindingView struct {
	ID        int64  `json:"id"`
	Event     string `json:"event"`
	Handler   string `json:"handler,omitempty"`
	User      int64  `json:"user,omitempty"`
	Connector string `json:"connector,omitempty"`
	Offline   bool   `json:"offline,omitempty"`
}

type webhookView struct {
	URL    string   `json:"url"`
	Events []string `json:"events"`
}

func (pg *page) apps() []appView {
	bound := map[string][]bindingView{}
	for _, b := range pg.portal.Bindings() {
		bound[b.ClientID] = append(bound[b.ClientID], bindingView{
			ID: b.ID, Event: shorten(b.Event), Handler: shorten(b.Handler), User: b.UserID, Connector: shorten(b.Connector), Offline: b.Offline,
		})
	}
	views := []appView{}
	for _, a := range pg.portal.Applications() {
		state := "removed"
		switch {
		case a.Installed():
			state = "installed"
		case a.Registered():
			state = "installing"
		}
		bindings := bound[a.ClientID()]
		if bindings == nil {
			bindings = []bindingView{}
		}
		views = append(views, appView{
			ID: a.ClientID(), Handler: a.HandlerURL(), Scope: append([]string{}, a.Scope()...), UI: a.UI(), State: state, Active: a.Active(),
			PaymentExpired: a.PaymentExpired(), Bindings: bindings[:min(len(bindings), maxBound)], Bound: len(bindings), Bots: botsOf(a),
		})
	}
	return views
}

func botsOf(a *eventtest.Application) []botView {
	bots, views := a.Bots(), []botView{}
	for _, id := range slices.Sorted(maps.Keys(bots)) {
		views = append(views, botView{ID: id, Name: shorten(bots[id].Name)})
	}
	return views
}

func (pg *page) app(clientID string) (*eventtest.Application, error) {
	for _, a := range pg.portal.Applications() {
		if a.ClientID() == clientID {
			return a, nil
		}
	}
	return nil, problem{http.StatusNotFound, "there is no application with this client ID; install it first"}
}

// appForm is an application to be installed. Empty credentials become random.
type appForm struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Handler      string `json:"handler"`
	Scope        string `json:"scope"`
	UI           bool   `json:"ui"`
}

// addApp adds an application and installs it.
func (pg *page) addApp(ctx context.Context, _ string, in appForm) (any, error) {
	if len(pg.portal.Applications()) >= maxApps {
		return nil, badRequest("there are too many applications; restart the program for an empty portal")
	}
	if len(in.ClientID) > 200 || len(in.ClientSecret) > 200 || len(in.Handler) > 2000 || len(in.Scope) > 2000 {
		return nil, badRequest("the client ID, the secret, the URL or the list of permissions is too long")
	}
	if in.ClientID == "." || in.ClientID == ".." { // browsers remove these from a path
		return nil, badRequest("the client ID must be a name like local.5c8bb1b0891cf2.87252039")
	}
	a, err := pg.portal.AddApp(eventtest.App{
		ClientID: in.ClientID, ClientSecret: event.Secret(in.ClientSecret), Scope: program.Split(in.Scope), HandlerURL: in.Handler, UI: in.UI,
	})
	if err != nil {
		return nil, err
	}
	return pg.installApp(ctx, a)
}

func (pg *page) install(ctx context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	return pg.installApp(ctx, a)
}

// installApp installs an application. If its installation page fails, the application stays and the
// page can be opened again.
func (pg *page) installApp(ctx context.Context, a *eventtest.Application) (any, error) {
	result := map[string]any{"id": a.ClientID()}
	switch err := a.Install(ctx); {
	case err != nil && a.Registered() && !a.Installed() && !errors.Is(err, eventtest.ErrInstalled):
		result["warning"] = plain(err) + "; start it, then open the page again"
	case err != nil:
		return nil, err
	}
	return result, nil
}

// openPage opens an application's page as the administrator's browser would, and returns the status
// of the response.
func (pg *page) openPage(ctx context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	request, err := a.Frame(ctx, eventtest.AdminID, eventtest.Placement{})
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, problem{http.StatusBadGateway, "the page did not respond; is the program at the handler URL running?"}
	}
	defer answer.Body.Close() //nolint:errcheck // only the status matters
	if answer.StatusCode >= 400 {
		return nil, problem{http.StatusBadGateway, "the page returned status  " + strconv.Itoa(answer.StatusCode)}
	}
	return map[string]any{"status": answer.StatusCode}, nil
}

func (pg *page) finishInstall(_ context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	return nil, a.FinishInstall()
}

func (pg *page) uninstall(_ context.Context, id string, in struct {
	Clean bool `json:"clean"`
},
) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	return nil, a.Uninstall(in.Clean)
}

// setStatus turns an application off or on, and ends or renews its subscription.
func (pg *page) setStatus(_ context.Context, id string, in struct {
	Active         *bool `json:"active"`
	PaymentExpired *bool `json:"payment_expired"`
},
) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	if in.Active != nil {
		a.SetActive(*in.Active)
	}
	if in.PaymentExpired != nil {
		a.SetPaymentExpired(*in.PaymentExpired)
	}
	return nil, nil //nolint:nilnil // it has no result
}

// settings returns the settings that make a program this application, as lines for a shell. They
// hold its secret and, once it is installed, new tokens of the administrator.
func (pg *page) settings(_ context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	p := pg.portal
	lines := []string{
		"B24_CLIENT_ID", a.ClientID(),
		"B24_CLIENT_SECRET", string(a.ClientSecret()),
		"B24_OAUTH_HOSTS", p.OAuthHost(),
		"B24_INSECURE_HTTP", "1",
	}
	if a.HandlerURL() != "" {
		lines = append(lines, "PUBLIC_URL", a.HandlerURL())
	}
	if a.Registered() {
		g, err := a.Grant(eventtest.AdminID)
		if err != nil {
			return nil, err
		}
		lines = append(lines,
			"B24_MEMBER_ID", g.MemberID,
			"B24_CLIENT_ENDPOINT", g.ClientEndpoint,
			"B24_SERVER_ENDPOINT", g.ServerEndpoint,
			"B24_ACCESS_TOKEN", string(g.AccessToken),
			"B24_REFRESH_TOKEN", string(g.RefreshToken),
		)
	}
	var text strings.Builder
	for i := 0; i < len(lines); i += 2 {
		text.WriteString("export " + lines[i] + "=" + shellQuoted(lines[i+1]) + "\n")
	}
	return map[string]any{"settings": text.String(), "application_token": string(a.ApplicationToken())}, nil
}

// addWebhook adds an outgoing webhook. This is the only time that its token is shown.
func (pg *page) addWebhook(_ context.Context, _ string, in struct {
	URL    string `json:"url"`
	Events string `json:"events"`
},
) (any, error) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case len(pg.webhooks) >= maxWebhooks:
		return nil, badRequest("there are too many webhooks; restart the program for an empty portal")
	case len(in.URL) > 2000 || len(in.Events) > 10_000:
		return nil, badRequest("the URL or the list of events is too long")
	}
	events := program.Split(in.Events)
	token, err := pg.portal.AddOutgoingWebhook(in.URL, events...)
	if err != nil {
		return nil, err
	}
	pg.webhooks = append(pg.webhooks, webhookView{URL: in.URL, Events: upperNames(events)})
	return map[string]any{"token": string(token)}, nil
}

// shellQuoted returns text as one word of a POSIX shell.
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func upperNames(names []string) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strings.ToUpper(n)
	}
	return all
}
