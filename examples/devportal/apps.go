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
	maxAddress  = 2000 // bytes of a URL
)

// appView is an application with its handlers.
type appView struct {
	ID             string        `json:"id"`           // client_id
	Handler        string        `json:"handler"`      // event URL
	InstallPage    string        `json:"install_page"` // empty for an application without an installation page
	Page           string        `json:"page"`         // empty for an application without pages, or with one address for both
	Scope          []string      `json:"scope"`
	State          string        `json:"state"` // installed, installing (its page has not finished) or not_installed
	Active         bool          `json:"active"`
	PaymentExpired bool          `json:"payment_expired"`
	GetsEvents     bool          `json:"gets_events"`   // whether the portal sends it events
	Why            string        `json:"why,omitempty"` // why it does not
	Bindings       []bindingView `json:"bindings"`      // the first ones
	Bound          int           `json:"bound"`         // how many there are
	Bots           []botView     `json:"bots"`
}

type botView struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Code    string `json:"code"`
	Mode    string `json:"mode"`              // webhook or fetch, of imbot.v2; old for one of the old API
	Webhook string `json:"webhook,omitempty"` // of a bot in webhook mode
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
	addresses := maps.Clone(pg.addresses)
	pg.mu.Unlock()
	views := []appView{}
	for _, a := range pg.portal.Applications() {
		state := "not_installed"
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
		at, why := addresses[a.ClientID()], silence(a)
		views = append(views, appView{
			ID: a.ClientID(), Handler: at.handler, InstallPage: at.installPage, Page: at.page, Scope: append([]string{}, a.Scope()...),
			State: state, Active: a.Active(), PaymentExpired: a.PaymentExpired(), GetsEvents: why == "", Why: why,
			Bindings: bindings[:min(len(bindings), maxBound)], Bound: len(bindings), Bots: botsOf(a),
		})
	}
	return views
}

func botsOf(a *eventtest.Application) []botView {
	bots, views := a.Bots(), []botView{}
	for _, id := range slices.Sorted(maps.Keys(bots)) {
		b := bots[id]
		views = append(views, botView{ID: id, Name: shorten(b.Name), Code: shorten(b.Code), Mode: modeOf(b), Webhook: shorten(b.Webhook)})
	}
	return views
}

// modeOf returns how a bot gets its events.
func modeOf(b eventtest.Bot) string {
	switch {
	case b.Webhook != "":
		return "webhook"
	case b.Fetch:
		return "fetch"
	default:
		return "old"
	}
}

func (pg *page) app(clientID string) (*eventtest.Application, error) {
	for _, a := range pg.portal.Applications() {
		if a.ClientID() == clientID {
			return a, nil
		}
	}
	return nil, problem{http.StatusNotFound, "there is no application with this client ID; add it first, with POST /api/apps"}
}

// appAddresses are the addresses of an application. With pages, handler is only what the settings
// show, because the application binds its events itself.
type appAddresses struct{ handler, installPage, page string }

// appForm is an application to be added. Empty credentials become random.
type appForm struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	Handler      string `json:"handler"`      // event URL
	InstallPage  string `json:"install_page"` // the path for the initial installation, of an application with pages
	Page         string `json:"page"`         // opened once it is installed; the default is install_page
	Scope        string `json:"scope"`
	Install      *bool  `json:"install"`    // the default is true
	InBrowser    bool   `json:"in_browser"` // a browser opens the installation page; see framePath
}

func (f appForm) installs() bool { return f.Install == nil || *f.Install }

func (f appForm) hasPages() bool { return f.InstallPage != "" || f.Page != "" }

// check checks what package eventtest does not.
func (f appForm) check() error {
	switch {
	case len(f.ClientID) > 200 || len(f.ClientSecret) > 200 || len(f.Handler) > maxAddress ||
		len(f.InstallPage) > maxAddress || len(f.Page) > maxAddress || len(f.Scope) > 2000:
		return badRequest("the client ID, the secret, a URL or the list of permissions is too long")
	case f.ClientID == "." || f.ClientID == "..": // browsers remove these from a path
		return badRequest("the client ID must be a name like local.5c8bb1b0891cf2.87252039")
	case f.InBrowser && !f.hasPages():
		return badRequest("in_browser needs install_page or page, the addresses of the application's pages")
	case f.InBrowser && !f.installs():
		return badRequest("in_browser says how the application is installed; leave it out with install=false")
	}
	for _, address := range [][2]string{{"handler", f.Handler}, {"install_page", f.InstallPage}, {"page", f.Page}} {
		if _, err := program.HTTPURL(address[1]); address[1] != "" && err != nil {
			return badRequest(address[0] + " " + err.Error())
		}
	}
	return nil
}

// addApp adds an application, and installs it unless the form says not to.
func (pg *page) addApp(ctx context.Context, _ string, in appForm) (addedApp, error) {
	if len(pg.portal.Applications()) >= maxApps {
		return addedApp{}, badRequest("there are too many applications; restart the program for an empty portal")
	}
	if err := in.check(); err != nil {
		return addedApp{}, err
	}
	if known, err := pg.app(in.ClientID); in.ClientID != "" && err == nil {
		return addedApp{}, alreadyAdded(known)
	}
	spec := eventtest.App{
		ClientID: in.ClientID, ClientSecret: event.Secret(in.ClientSecret), Scope: program.Split(in.Scope),
		HandlerURL: in.Handler, UI: in.hasPages(),
	}
	if spec.UI {
		spec.HandlerURL, spec.PageURL = in.InstallPage, in.Page
	}
	pg.mu.Lock() // so that the list does not show it without its addresses
	a, err := pg.portal.AddApp(spec)
	if err == nil {
		pg.addresses[a.ClientID()] = appAddresses{in.Handler, in.InstallPage, in.Page}
	}
	pg.mu.Unlock()
	if err != nil {
		return addedApp{}, err
	}
	if !in.installs() {
		return addedApp{ID: a.ClientID()}, nil
	}
	return pg.installApp(ctx, a, in.InBrowser)
}

// alreadyAdded returns what to do about an application that is there already.
func alreadyAdded(a *eventtest.Application) error {
	if a.Registered() {
		return problem{http.StatusConflict, "the portal has an application with this client ID, which is installed or waits for " +
			"BX24.installFinish; " + reinstall}
	}
	return problem{http.StatusConflict, "the portal has an application with this client ID, which is not installed; " +
		"install it with POST /api/apps/{id}/install, or choose another client ID"}
}

// reinstall says how to install an application that is installed.
const reinstall = "to install it again, remove it with POST /api/apps/{id}/uninstall first, then POST /api/apps/{id}/install"

// addedApp is the result of adding or installing an application.
type addedApp struct {
	ID      string `json:"id"`
	Warning string `json:"warning,omitempty"` // the installation page failed
}

// installForm says how an application is installed.
type installForm struct {
	InBrowser bool `json:"in_browser"` // a browser opens the page; see framePath
}

func (pg *page) install(ctx context.Context, id string, in installForm) (addedApp, error) {
	a, err := pg.app(id)
	if err != nil {
		return addedApp{}, err
	}
	return pg.installApp(ctx, a, in.InBrowser)
}

// installApp installs an application. If its installation page fails, the application stays and the
// page can be opened again.
func (pg *page) installApp(ctx context.Context, a *eventtest.Application, inBrowser bool) (addedApp, error) {
	if inBrowser && !a.UI() {
		return addedApp{}, badRequest("the application has no page that a browser could open; leave out in_browser")
	}
	result := addedApp{ID: a.ClientID()}
	installing := func() error {
		if inBrowser {
			return a.BeginInstall(eventtest.AdminID)
		}
		return a.Install(ctx)
	}
	switch err := installing(); {
	case errors.Is(err, eventtest.ErrInstalled) && a.Installed():
		return addedApp{}, problem{http.StatusConflict, "the application is already installed; " + reinstall}
	case errors.Is(err, eventtest.ErrInstalled):
		return addedApp{}, problem{http.StatusConflict, "the installation has begun and waits for BX24.installFinish; open its page with " +
			"POST /api/apps/{id}/open, or end it with POST /api/apps/{id}/finish"}
	case err != nil && !a.Registered():
		return addedApp{}, err
	case err != nil:
		result.Warning = plain(err) + "; start it, then open the page again"
	}
	return result, nil
}

// openPage opens an application's page as the administrator's browser would, and returns the status
// of the response.
func (pg *page) openPage(ctx context.Context, id string, _ noInput) (openedPage, error) {
	a, err := pg.app(id)
	if err != nil {
		return openedPage{}, err
	}
	if !a.UI() {
		return openedPage{}, errNoPage
	}
	request, err := a.Frame(ctx, eventtest.AdminID, eventtest.Placement{})
	if err != nil {
		return openedPage{}, err
	}
	client := &http.Client{
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return openedPage{}, problem{http.StatusBadGateway, "the page did not respond; is the program at the handler URL running?"}
	}
	defer answer.Body.Close() //nolint:errcheck // only the status matters
	if answer.StatusCode >= 400 {
		return openedPage{}, problem{http.StatusBadGateway, "the page returned status " + strconv.Itoa(answer.StatusCode)}
	}
	return openedPage{answer.StatusCode}, nil
}

// errNoPage is the error of commands that open a page.
var errNoPage = badRequest("the application has no page; add one with the address of a page or an installation page")

// openedPage is the result of opening a page.
type openedPage struct {
	Status int `json:"status"` // of the page's response
}

func (pg *page) finishInstall(_ context.Context, id string, _ noInput) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	if err := a.FinishInstall(); errors.Is(err, eventtest.ErrInstalled) {
		return noResult{}, problem{http.StatusConflict, "the application is installed already; there is nothing to finish"}
	} else if err != nil {
		return noResult{}, err
	}
	return noResult{}, nil
}

func (pg *page) uninstall(_ context.Context, id string, in struct {
	Clean bool `json:"clean"`
},
) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	return noResult{}, a.Uninstall(in.Clean)
}

// setStatus turns an application off or on, and ends or renews its subscription.
func (pg *page) setStatus(_ context.Context, id string, in struct {
	Active         *bool `json:"active"`
	PaymentExpired *bool `json:"payment_expired"`
},
) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	if in.Active != nil {
		a.SetActive(*in.Active)
	}
	if in.PaymentExpired != nil {
		a.SetPaymentExpired(*in.PaymentExpired)
	}
	return noResult{}, nil
}

// addWebhook adds an outgoing webhook. This is the only time that its token is shown.
func (pg *page) addWebhook(_ context.Context, _ string, in struct {
	URL    string `json:"url"`
	Events string `json:"events"`
},
) (newToken, error) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case len(pg.webhooks) >= maxWebhooks:
		return newToken{}, badRequest("there are too many webhooks; restart the program for an empty portal")
	case len(in.URL) > maxAddress || len(in.Events) > 10_000:
		return newToken{}, badRequest("the URL or the list of events is too long")
	}
	events := program.Split(in.Events)
	token, err := pg.portal.AddOutgoingWebhook(in.URL, events...)
	if err != nil {
		return newToken{}, err
	}
	pg.webhooks = append(pg.webhooks, webhookView{URL: in.URL, Events: upperNames(events)})
	return newToken{string(token)}, nil
}

// newToken is the result of adding an outgoing webhook.
type newToken struct {
	Token string `json:"token"` // signs its deliveries
}

// newURL is the result of adding an incoming webhook.
type newURL struct {
	URL string `json:"url"` // holds its secret
}

// addIncoming adds an incoming webhook. This is the only time that its URL is shown.
func (pg *page) addIncoming(_ context.Context, _ string, in struct {
	User  int64  `json:"user"` // the default is the administrator
	Scope string `json:"scope"`
},
) (newURL, error) {
	in.User = cmp.Or(in.User, eventtest.AdminID)
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case len(pg.webhooks) >= maxWebhooks:
		return newURL{}, badRequest("there are too many webhooks; restart the program for an empty portal")
	case len(in.Scope) > 2000:
		return newURL{}, badRequest("the list of permissions is too long")
	}
	scope := program.Split(in.Scope)
	address, err := pg.portal.AddIncomingWebhook(in.User, scope...)
	if err != nil {
		return newURL{}, problem{http.StatusNotFound, "there is no user with this ID"}
	}
	pg.webhooks = append(pg.webhooks, webhookView{Incoming: true, User: in.User, Scope: scope})
	return newURL{string(address)}, nil
}

// updateApp installs the next version of an application.
func (pg *page) updateApp(_ context.Context, id string, _ noInput) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	return noResult{}, a.Update()
}

// revokeTokens revokes all tokens of an application.
func (pg *page) revokeTokens(_ context.Context, id string, _ noInput) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	a.RevokeTokens()
	return noResult{}, nil
}

// rotateToken replaces an application's token, which signs its deliveries.
func (pg *page) rotateToken(_ context.Context, id string, _ noInput) (noResult, error) {
	a, err := pg.app(id)
	if err != nil {
		return noResult{}, err
	}
	a.RotateApplicationToken()
	return noResult{}, nil
}

func upperNames(names []string) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strings.ToUpper(n)
	}
	return all
}
