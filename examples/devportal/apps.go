package main

import (
	"cmp"
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
	ID             string        `json:"id"`      // client_id
	Handler        string        `json:"handler"` // event URL
	Page           string        `json:"page"`    // empty for an application without pages
	Scope          []string      `json:"scope"`
	State          string        `json:"state"` // installed, installing (its page has not finished) or removed
	Active         bool          `json:"active"`
	PaymentExpired bool          `json:"payment_expired"`
	Bindings       []bindingView `json:"bindings"` // the first ones
	Bound          int           `json:"bound"`    // how many there are
	Bots           []botView     `json:"bots"`
}

type botView struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Code    string `json:"code"`
	Webhook string `json:"webhook,omitempty"` // of a bot of imbot.v2 in webhook mode
}

type bindingView struct {
	ID        int64  `json:"id"`
	Event     string `json:"event"`
	Handler   string `json:"handler,omitempty"`
	User      int64  `json:"user,omitempty"`
	Connector string `json:"connector,omitempty"`
	Offline   bool   `json:"offline,omitempty"`
}

// webhookView is an outgoing webhook, or an incoming one without its URL, which is a secret.
type webhookView struct {
	URL      string   `json:"url,omitempty"`
	Events   []string `json:"events,omitempty"`
	Incoming bool     `json:"incoming,omitempty"`
	User     int64    `json:"user,omitempty"`
	Scope    []string `json:"scope,omitempty"`
}

func (pg *page) apps() []appView {
	bound := map[string][]bindingView{}
	for _, b := range pg.portal.Bindings() {
		bound[b.ClientID] = append(bound[b.ClientID], bindingView{
			ID: b.ID, Event: shorten(b.Event), Handler: shorten(b.Handler), User: b.UserID, Connector: shorten(b.Connector), Offline: b.Offline,
		})
	}
	pg.mu.Lock()
	handlers := maps.Clone(pg.handlers)
	pg.mu.Unlock()
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
		var opened string
		if a.UI() {
			opened = a.HandlerURL()
		}
		views = append(views, appView{
			ID: a.ClientID(), Handler: handlers[a.ClientID()], Page: opened, Scope: append([]string{}, a.Scope()...), State: state,
			Active: a.Active(), PaymentExpired: a.PaymentExpired(), Bindings: bindings[:min(len(bindings), maxBound)], Bound: len(bindings),
			Bots: botsOf(a),
		})
	}
	return views
}

func botsOf(a *eventtest.Application) []botView {
	bots, views := a.Bots(), []botView{}
	for _, id := range slices.Sorted(maps.Keys(bots)) {
		views = append(views, botView{
			ID: id, Name: shorten(bots[id].Name), Code: shorten(bots[id].Code), Webhook: shorten(bots[id].Webhook),
		})
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
	Handler      string `json:"handler"` // event URL
	Page         string `json:"page"`    // of an application with pages
	Scope        string `json:"scope"`
	InBrowser    bool   `json:"in_browser"` // a browser opens the page; see framePath
}

// check checks what package eventtest does not.
func (f appForm) check() error {
	switch {
	case len(f.ClientID) > 200 || len(f.ClientSecret) > 200 || len(f.Handler) > 2000 || len(f.Page) > 2000 || len(f.Scope) > 2000:
		return badRequest("the client ID, the secret, a URL or the list of permissions is too long")
	case f.ClientID == "." || f.ClientID == "..": // browsers remove these from a path
		return badRequest("the client ID must be a name like local.5c8bb1b0891cf2.87252039")
	case f.InBrowser && f.Page == "":
		return badRequest("in_browser needs page, the address of the application's page")
	}
	for name, raw := range map[string]string{"handler": f.Handler, "page": f.Page} {
		if _, err := program.HTTPURL(raw); raw != "" && err != nil {
			return badRequest(name + " " + err.Error())
		}
	}
	return nil
}

// addApp adds an application and installs it.
func (pg *page) addApp(ctx context.Context, _ string, in appForm) (any, error) {
	if len(pg.portal.Applications()) >= maxApps {
		return nil, badRequest("there are too many applications; restart the program for an empty portal")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	pg.mu.Lock() // so that the list does not show it without its event URL
	a, err := pg.portal.AddApp(eventtest.App{
		ClientID: in.ClientID, ClientSecret: event.Secret(in.ClientSecret), Scope: program.Split(in.Scope),
		HandlerURL: cmp.Or(in.Page, in.Handler), UI: in.Page != "",
	})
	if err == nil {
		pg.handlers[a.ClientID()] = in.Handler
	}
	pg.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return pg.installApp(ctx, a, in.InBrowser)
}

// installForm says how an application is installed.
type installForm struct {
	InBrowser bool `json:"in_browser"` // a browser opens the page; see framePath
}

func (pg *page) install(ctx context.Context, id string, in installForm) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	return pg.installApp(ctx, a, in.InBrowser)
}

// installApp installs an application. If its installation page fails, the application stays and the
// page can be opened again.
func (pg *page) installApp(ctx context.Context, a *eventtest.Application, inBrowser bool) (any, error) {
	result := map[string]any{"id": a.ClientID()}
	if inBrowser {
		return result, a.BeginInstall(eventtest.AdminID)
	}
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
	if !a.UI() {
		return nil, badRequest("the application has no page; install one with the address of a page")
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
		return nil, problem{http.StatusBadGateway, "the page returned status " + strconv.Itoa(answer.StatusCode)}
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
	pg.mu.Lock()
	handler := pg.handlers[a.ClientID()]
	pg.mu.Unlock()
	if handler != "" {
		lines = append(lines, "PUBLIC_URL", handler)
	}
	if a.UI() {
		lines = append(lines, "PAGE_URL", a.HandlerURL(), "B24_JS_URL", p.URL()+scriptPath)
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

// addIncoming adds an incoming webhook. This is the only time that its URL is shown.
func (pg *page) addIncoming(_ context.Context, _ string, in struct {
	User  int64  `json:"user"` // the default is the administrator
	Scope string `json:"scope"`
},
) (any, error) {
	in.User = cmp.Or(in.User, eventtest.AdminID)
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case len(pg.webhooks) >= maxWebhooks:
		return nil, badRequest("there are too many webhooks; restart the program for an empty portal")
	case len(in.Scope) > 2000:
		return nil, badRequest("the list of permissions is too long")
	}
	scope := program.Split(in.Scope)
	address, err := pg.portal.AddIncomingWebhook(in.User, scope...)
	if err != nil {
		return nil, problem{http.StatusNotFound, "there is no user with this ID"}
	}
	pg.webhooks = append(pg.webhooks, webhookView{Incoming: true, User: in.User, Scope: scope})
	return map[string]any{"url": string(address)}, nil
}

// updateApp installs the next version of an application.
func (pg *page) updateApp(_ context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	return nil, a.Update()
}

// revokeTokens revokes all tokens of an application.
func (pg *page) revokeTokens(_ context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	a.RevokeTokens()
	return nil, nil //nolint:nilnil // it has no result
}

// rotateToken replaces an application's token, which signs its deliveries.
func (pg *page) rotateToken(_ context.Context, id string, _ noInput) (any, error) {
	a, err := pg.app(id)
	if err != nil {
		return nil, err
	}
	a.RotateApplicationToken()
	return nil, nil //nolint:nilnil // Settings shows the new token
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
