package eventtest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// Install installs the application as the administrator; see [Application.InstallAs].
func (a *Application) Install(ctx context.Context) error { return a.InstallAs(ctx, AdminID) }

// InstallAs installs the application. Without pages it is installed immediately: the portal binds
// ONAPPINSTALL to HandlerURL and sends it. With an installation page, the portal opens that by
// POST, as a browser would, and the application is installed when it calls
// [Application.FinishInstall]. With pages but no installation page it is installed immediately, and
// no page is opened; see [App.PageURL].
//
// It returns [ErrInstalled], or [ErrNotFound] for an unknown user. It also returns an error if the
// user is not an administrator, or if the installation page cannot be opened or returns a status of
// 400 or above.
func (a *Application) InstallAs(ctx context.Context, user int64) error {
	if err := a.BeginInstall(user); err != nil || !a.hasInstallPage() {
		return err
	}
	return a.openInstallPage(ctx, user)
}

// FinishInstall is the page's BX24.installFinish: the application is installed, and ONAPPINSTALL
// goes to the handlers that it has bound by then. From now on its PageURL is opened. It returns
// [ErrNotInstalled] if the installation has not begun, and [ErrInstalled] if it is already done.
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

const onAppUserReady = "ONAPPUSERREADY"

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
	g := p.issueLocked(a, a.systemUser)
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
	p.dropSubscribersLocked(a)
	p.handlers.bound = slices.DeleteFunc(p.handlers.bound, func(b *binding) bool { return b.app == a })
	p.dropRowsLocked(func(r *offlineRow) bool { return r.app == a })
	if u := p.accounts.users[a.systemUser]; u != nil {
		u.dismissed = true
	}
	return nil // its tokens are kept, so that the errors of their requests name the removal
}
