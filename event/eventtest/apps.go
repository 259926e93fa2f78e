package eventtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// App describes an application to [Portal.AddApp]. Every field may be left empty.
type App struct {
	ClientID     string       // random if empty
	ClientSecret event.Secret // random if empty
	Scope        []string     // permissions such as crm and task; every application has the basic ones
	// HandlerURL is the address that gets ONAPPINSTALL. For an application with pages it is also the
	// address of its installation page.
	HandlerURL string
	// RedirectURL is the address that authorization codes are sent to. If it is empty, HandlerURL is
	// used.
	RedirectURL string
	// Status is what app.info and token responses report: F free, D demo, T trial, P paid, L local, S
	// by subscription. The default is L.
	Status string
	// UI makes an application with pages. It is installed, and gets events, only after
	// [Application.FinishInstall].
	UI bool
}

// Application is an application of a portal. Its methods are safe for concurrent use.
//
//nolint:recvcheck // Format has a value receiver, so that a copy does not print the secrets either
type Application struct {
	p    *Portal
	spec App // set by AddApp

	// p.mu guards the fields below.
	token      event.Secret
	registered bool // its installation has begun; it has tokens and pages
	installed  bool // its installation is done; it gets events
	inactive   bool
	expired    bool
	installer  int64
	systemUser int64 // 0 until Quirks.UserReady makes one
	version    int64
}

// AddApp adds an application, which is not installed yet. It returns [ErrConfig] if spec makes no
// sense or the portal has an application with the client ID.
func (p *Portal) AddApp(spec App) (*Application, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if spec.ClientID == "" {
		spec.ClientID = "local." + randomText(14, hexDigits) + "." + randomText(8, "0123456789")
	}
	if spec.ClientSecret == "" {
		spec.ClientSecret = event.Secret(randomText(50, base36))
	}
	if p.appLocked(spec.ClientID) != nil {
		return nil, misconfigured("the portal already has an application with this client ID")
	}
	for _, s := range spec.Scope {
		if s == "" || strings.ContainsAny(s, ", ") {
			return nil, misconfigured("scope %q is not one permission; give each as an element of its own", s)
		}
	}
	spec.Scope = slices.Clone(spec.Scope)
	if spec.RedirectURL == "" {
		spec.RedirectURL = spec.HandlerURL
	}
	if err := checkURL(spec.HandlerURL, spec.HandlerURL == ""); err != nil {
		return nil, err
	}
	if spec.HandlerURL == "" && spec.UI {
		return nil, misconfigured("an application with pages needs a HandlerURL to open")
	}
	if spec.Status = cmp.Or(spec.Status, "L"); !slices.Contains([]string{"F", "D", "T", "P", "L", "S"}, spec.Status) {
		return nil, misconfigured("the status of an application is one of F, D, T, P, L and S")
	}
	a := &Application{p: p, spec: spec, version: 1}
	a.token = event.Secret(md5Hex([]byte(p.cfg.memberID + "|" + spec.ClientID + "|" + string(spec.ClientSecret))))
	p.accounts.apps = append(p.accounts.apps, a)
	p.signalChangeLocked()
	return a, nil
}

// Applications returns the applications in the order in which they were added.
func (p *Portal) Applications() []*Application {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.accounts.apps)
}

func (p *Portal) appLocked(clientID string) *Application {
	for _, a := range p.accounts.apps {
		if a.spec.ClientID == clientID {
			return a
		}
	}
	return nil
}

// ClientID returns the application's client_id.
func (a *Application) ClientID() string { return a.spec.ClientID }

// ClientSecret returns the application's client_secret.
func (a *Application) ClientSecret() event.Secret { return a.spec.ClientSecret }

// ApplicationToken returns the secret that authenticates the portal's deliveries to this
// application.
func (a *Application) ApplicationToken() event.Secret {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.token
}

// Scope returns the application's permissions, without the basic ones.
func (a *Application) Scope() []string { return slices.Clone(a.spec.Scope) }

// HandlerURL returns the address that gets ONAPPINSTALL, or that the browser opens. It may be
// empty.
func (a *Application) HandlerURL() string { return a.spec.HandlerURL }

// UI reports whether the application has pages.
func (a *Application) UI() bool { return a.spec.UI }

// Status returns the application's status as app.info reports it; see [App].
func (a *Application) Status() string { return a.spec.Status }

// RotateApplicationToken replaces the application token, as a reinstallation may do, and returns
// the new one.
func (a *Application) RotateApplicationToken() event.Secret {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.token = event.Secret(randomText(32, hexDigits))
	a.p.signalChangeLocked()
	return a.token
}

// Installed reports whether the application gets events.
func (a *Application) Installed() bool {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.installed
}

// Registered reports whether the installation has begun. From then on the application has tokens.
func (a *Application) Registered() bool {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.registered
}

// Active reports whether the application is on; see [Application.SetActive].
func (a *Application) Active() bool {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return !a.inactive
}

// PaymentExpired reports whether the subscription has run out; see [Application.SetPaymentExpired].
func (a *Application) PaymentExpired() bool {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.expired
}

// SetActive switches the application off or on. While it is off, it gets no events and its calls
// fail with APPLICATION_NOT_FOUND.
func (a *Application) SetActive(active bool) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.inactive = !active
	a.p.signalChangeLocked()
}

// SetPaymentExpired ends or renews the application's subscription. While it is expired, REST works
// and events are dropped.
func (a *Application) SetPaymentExpired(expired bool) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.expired = expired
	a.p.signalChangeLocked()
}

// getsEventsLocked reports whether the application gets events. p.mu must be held.
func (a *Application) getsEventsLocked() bool { return a.installed && !a.inactive && !a.expired }

// Install installs the application as the administrator; see [Application.InstallAs].
func (a *Application) Install(ctx context.Context) error { return a.InstallAs(ctx, AdminID) }

// InstallAs installs the application. Without pages it is installed immediately: the portal binds
// ONAPPINSTALL to HandlerURL and sends it. With pages, the portal opens the installation page by
// POST, as a browser would, and the application is installed when it calls
// [Application.FinishInstall].
//
// It returns [ErrInstalled], or [ErrNotFound] for an unknown user. It also returns an error if the
// user is not an administrator, or if the installation page cannot be opened or returns a status of
// 400 or above.
func (a *Application) InstallAs(ctx context.Context, user int64) error {
	p := a.p
	p.mu.Lock()
	u := p.accounts.users[user]
	switch {
	case p.closed:
		p.mu.Unlock()
		return ErrClosed
	case a.registered:
		p.mu.Unlock()
		return ErrInstalled
	case u == nil:
		p.mu.Unlock()
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	case !u.Admin:
		p.mu.Unlock()
		return errors.New("eventtest: only an administrator can install an application")
	}
	a.registered, a.installer = true, user
	// Uninstall keeps the old tokens, because their requests get an error that names the removal. A
	// new installation ends them.
	p.dropTokensLocked(func(app *Application, _ int64) bool { return app == a })
	p.signalChangeLocked()
	if a.spec.UI {
		p.mu.Unlock()
		return a.openInstallPage(ctx, user)
	}
	defer p.mu.Unlock()
	if a.spec.HandlerURL != "" {
		p.addBindingLocked(&binding{app: a, event: "ONAPPINSTALL", handler: a.spec.HandlerURL})
	}
	a.completeInstallLocked()
	return nil
}

// FinishInstall is the page's BX24.installFinish: the application is installed, and ONAPPINSTALL
// goes to the handlers that it has bound by then. It returns [ErrNotInstalled] if the installation
// has not begun, and [ErrInstalled] if it is already done.
func (a *Application) FinishInstall() error {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	switch {
	case !a.registered:
		return ErrNotInstalled
	case a.installed:
		return ErrInstalled
	}
	a.completeInstallLocked()
	return nil
}

// completeInstallLocked marks the application as installed and raises the events of an
// installation. p.mu must be held.
func (a *Application) completeInstallLocked() {
	a.installed = true
	p := a.p
	ev := p.newPendingEvents(a.installer)
	if p.quirks.UserReady == UserReadyBefore {
		a.raiseUserReady(ev)
	}
	if !p.quirks.NoInstallEvent {
		ev.raise(occurrence{event: "ONAPPINSTALL", app: a, user: a.installer, data: phpform.Map(
			number("VERSION", a.version), text("ACTIVE", "Y"), text("INSTALLED", "Y"), text("LANGUAGE_ID", "en"),
		)})
	}
	if p.quirks.UserReady == UserReadyAfter {
		a.raiseUserReady(ev)
	}
	p.sendPending(ev)
}

// raiseUserReady creates or restores the application's system user and sends its tokens to
// HandlerURL. The platform binds that handler automatically.
func (a *Application) raiseUserReady(ev *pendingEvents) {
	p := a.p
	if a.systemUser == 0 {
		a.systemUser = p.nextIDLocked("user")
		p.accounts.users[a.systemUser] = &user{id: a.systemUser, User: User{Name: "Application", LastName: a.spec.ClientID}}
	}
	p.accounts.users[a.systemUser].dismissed = false
	if a.spec.HandlerURL != "" {
		p.addBindingLocked(&binding{app: a, event: onAppUserReady, handler: a.spec.HandlerURL, minTimeout: -1})
	}
	g := p.issueLocked(a, a.systemUser, maxEventChain, true)
	ev.raise(occurrence{event: onAppUserReady, app: a, user: a.installer, data: phpform.Map(
		text("access_token", string(g.AccessToken)),
		text("refresh_token", string(g.RefreshToken)),
		number("expires_in", int64(p.quirks.TokenLifetime/time.Second)),
		text("scope", strings.Join(g.Scope, ",")),
		text("domain", p.oauth.addr),
		text("server_endpoint", g.ServerEndpoint),
		text("client_endpoint", g.ClientEndpoint),
		text("member_id", g.MemberID),
		number("user_id", g.UserID),
		text("client_id", a.spec.ClientID),
		text("status", g.Status),
		text("LANGUAGE_ID", "en"),
	)})
}

const onAppUserReady = "ONAPPUSERREADY"

// SystemUser returns the ID of the user that [Quirks.UserReady] made for the application, 0 if
// there is none. The user is not an administrator.
func (a *Application) SystemUser() int64 {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.systemUser
}

// Update installs the application's next version, 2 after 1. ONAPPUPDATE goes to the handlers that
// the application has bound. Its handlers, tokens and offline queue stay. It returns
// [ErrNotInstalled] or [ErrClosed].
func (a *Application) Update() error {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case !a.installed:
		return ErrNotInstalled
	}
	a.version++
	ev := p.newPendingEvents(AdminID)
	ev.raise(occurrence{event: "ONAPPUPDATE", app: a, user: AdminID, data: phpform.Map(
		number("VERSION", a.version), number("PREVIOUS_VERSION", a.version-1), text("LANGUAGE_ID", "en"),
	)})
	p.sendPending(ev)
	return nil
}

// Uninstall removes the application. It sends ONAPPUNINSTALL without tokens, unless
// [Quirks.NoUninstallEvent] is set, and deletes the application's handlers and offline queue. Until
// the application is installed again, calls with its access tokens fail with APPLICATION_NOT_FOUND,
// and refreshes with invalid_client. clean means that the user wants the application's data to be
// deleted. Uninstall returns [ErrNotInstalled] if there is nothing to remove.
func (a *Application) Uninstall(clean bool) error {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.registered {
		return ErrNotInstalled
	}
	var n int64
	if clean {
		n = 1
	}
	ev := p.newPendingEvents(AdminID)
	if !p.quirks.NoUninstallEvent {
		ev.raise(occurrence{event: "ONAPPUNINSTALL", app: a, user: AdminID, data: phpform.Map(
			text("LANGUAGE_ID", "en"), number("CLEAN", n),
		)})
	}
	p.sendPending(ev)
	a.registered, a.installed = false, false
	p.dropBotsLocked(a)
	p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool { return b.app == a })
	p.dropRowsLocked(func(r *offlineRow) bool { return r.app == a })
	if u := p.accounts.users[a.systemUser]; u != nil {
		u.dismissed = true
	}
	return nil // its tokens are kept, so that the errors of their requests name the removal
}

// Placement is the place in the portal's interface that opens an application's page.
type Placement struct {
	Name    string // DEFAULT if empty
	Options any    // anything that encodes to JSON; nil for none
}

// Frame builds the POST that opens the application's page at HandlerURL for a user, as a browser
// sends it. The errors are those of [Application.Grant].
func (a *Application) Frame(ctx context.Context, user int64, placement Placement) (*http.Request, error) {
	if a.spec.HandlerURL == "" {
		return nil, errors.New("eventtest: the application has no HandlerURL to open a page at")
	}
	options, err := treeOf(placement.Options)
	if err != nil {
		return nil, fmt.Errorf("eventtest: placement options: %w", err)
	}
	if options.Kind() == phpform.Null {
		options = phpform.Map()
	}
	if placement.Name == "" {
		placement.Name = "DEFAULT"
	}
	g, err := a.Grant(user)
	if err != nil {
		return nil, err
	}
	body := phpform.Encode(phpform.Map(
		text("AUTH_ID", string(g.AccessToken)),
		number("AUTH_EXPIRES", int64(a.p.Quirks().TokenLifetime/time.Second)),
		text("REFRESH_ID", string(g.RefreshToken)),
		text("SERVER_ENDPOINT", g.ServerEndpoint),
		text("APPLICATION_TOKEN", string(g.ApplicationToken)),
		text("APPLICATION_SCOPE", strings.Join(g.Scope, ",")),
		text("member_id", g.MemberID),
		text("status", g.Status),
		text("PLACEMENT", placement.Name),
		text("PLACEMENT_OPTIONS", string(appendJSON(nil, options))),
	))
	target, err := url.Parse(a.spec.HandlerURL)
	if err != nil {
		return nil, errors.New("eventtest: HandlerURL is not a URL")
	}
	protocol := "0"
	if a.p.cfg.network != nil {
		protocol = "1"
	}
	query := phpform.Encode(phpform.Map(
		text("DOMAIN", g.Domain), text("PROTOCOL", protocol), text("LANG", "en"), text("APP_SID", randomText(32, hexDigits)),
	))
	if target.RawQuery != "" {
		query = target.RawQuery + "&" + query
	}
	target.RawQuery = query
	return postForm(ctx, target.String(), body)
}

// OpenPage opens the application's page at HandlerURL for a user, administrator or not, as the
// user's browser does: it sends the request that [Application.Frame] builds. It returns the status
// of the response. The errors are those of Frame, and one for a page that cannot be reached.
func (a *Application) OpenPage(ctx context.Context, user int64, placement Placement) (status int, err error) {
	r, err := a.Frame(ctx, user, placement)
	if err != nil {
		return 0, err
	}
	resp, err := a.p.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("eventtest: opening the page: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // only the status matters
	return resp.StatusCode, nil
}

// openInstallPage opens the installation page. A status of 400 or above is an error.
func (a *Application) openInstallPage(ctx context.Context, user int64) error {
	status, err := a.OpenPage(ctx, user, Placement{})
	if err == nil && status >= 400 {
		err = errors.New("eventtest: the installation page answered with status " + strconv.Itoa(status))
	}
	return err
}

// Redirected builds the GET that a user's browser makes to RedirectURL after the user has
// authorized the application at /oauth/authorize/. It carries a fresh authorization code of that
// user, and the state. If the state, the user or the portal are not those that the program began
// with, the request is a login CSRF. The errors are those of [Application.Grant], and one if the
// application has no RedirectURL.
func (a *Application) Redirected(ctx context.Context, user int64, state string) (*http.Request, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return nil, err
	}
	target, err := p.redirectionLocked(a, user, state)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, errors.New("eventtest: RedirectURL is not a URL")
	}
	return r, nil
}

// Format prints the client ID for every verb, because the application holds secrets.
func (a Application) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "eventtest.Application(%s)", a.spec.ClientID)
}
