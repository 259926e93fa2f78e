package eventtest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
)

// App describes an application to [Portal.AddApp]. Every field may be left empty.
type App struct {
	ClientID     string       // random if empty
	ClientSecret event.Secret // random if empty
	Scope        []string     // permissions such as crm and task; every application has the basic ones
	// HandlerURL is what the portal's form calls the path for the initial installation. Without pages
	// it gets ONAPPINSTALL. With pages it is the installation page, which administrators see until
	// [Application.FinishInstall].
	HandlerURL string
	// PageURL is the page of an application with pages, which is opened once it is installed. If it is
	// empty, that is HandlerURL, as if both fields of the portal's form had the same address.
	//
	// If only PageURL is set, there is no installation page: the application is installed at once, as
	// the platform does it.
	//
	// Source: https://apidocs.bitrix24.com/settings/app-installation/local-apps/index.html
	PageURL string
	// RedirectURL is the address that authorization codes are sent to. If it is empty, PageURL is
	// used, and then HandlerURL.
	RedirectURL string
	// Status is what app.info and token responses report: F free, D demo, T trial, P paid, L local, S
	// by subscription. The default is L.
	Status string
	// UI makes an application with pages. If it has an installation page, it is installed, and gets
	// events, only after [Application.FinishInstall].
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
	spec.RedirectURL = cmp.Or(spec.RedirectURL, spec.PageURL, spec.HandlerURL)
	for _, address := range []string{spec.HandlerURL, spec.PageURL} {
		if err := checkURL(address, address == ""); err != nil {
			return nil, err
		}
	}
	switch {
	case spec.UI && spec.HandlerURL == "" && spec.PageURL == "":
		return nil, misconfigured("an application with pages needs a PageURL or a HandlerURL to open")
	case !spec.UI && spec.PageURL != "":
		return nil, misconfigured("an application without pages has no PageURL; set UI, or leave PageURL out")
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

// HandlerURL returns the address that gets ONAPPINSTALL, or that of the installation page; see
// [App]. It may be empty.
func (a *Application) HandlerURL() string { return a.spec.HandlerURL }

// PageURL returns the address that [Application.Frame] opens now: that of the installation page
// until the application is installed, and after that the page's. Without pages it is HandlerURL. It
// may be empty.
func (a *Application) PageURL() string {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	return a.pageLocked()
}

// pageLocked returns the address that a browser opens now. p.mu must be held.
func (a *Application) pageLocked() string {
	if a.installed || !a.hasInstallPage() {
		return cmp.Or(a.spec.PageURL, a.spec.HandlerURL)
	}
	return a.spec.HandlerURL
}

// hasInstallPage reports whether a page must call BX24.installFinish before the application is
// installed.
func (a *Application) hasInstallPage() bool { return a.spec.UI && a.spec.HandlerURL != "" }

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

// Format prints the client ID for every verb, because the application holds secrets.
func (a Application) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "eventtest.Application(%s)", a.spec.ClientID)
}
