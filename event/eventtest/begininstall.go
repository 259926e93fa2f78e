package eventtest

import (
	"errors"
	"fmt"
)

// BeginInstall begins the installation of an application as the user does, but opens no page. It is
// for programs that open the installation page in a real browser, with the request of
// [Application.Frame]. An application without an installation page is installed when BeginInstall
// returns. The errors are those of [Application.InstallAs], except those of the page.
func (a *Application) BeginInstall(user int64) error {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	if err := a.beginInstallLocked(user); err != nil || a.hasInstallPage() {
		return err
	}
	a.installAtOnceLocked()
	return nil
}

// beginInstallLocked registers the application and ends the tokens of its last installation. p.mu
// must be held.
func (a *Application) beginInstallLocked(user int64) error {
	p := a.p
	u := p.accounts.users[user]
	switch {
	case p.closed:
		return ErrClosed
	case a.registered:
		return ErrInstalled
	case u == nil:
		return fmt.Errorf("%w: user %d", ErrNotFound, user)
	case !u.Admin:
		return errors.New("eventtest: only an administrator can install an application")
	}
	a.registered, a.installer = true, user
	// Uninstall keeps the old tokens, because their requests get an error that names the removal. A
	// new installation ends them.
	p.dropTokensLocked(func(app *Application, _ int64) bool { return app == a })
	p.signalChangeLocked()
	return nil
}

// installAtOnceLocked completes the installation of an application without an installation page.
// p.mu must be held.
func (a *Application) installAtOnceLocked() {
	if a.spec.HandlerURL != "" {
		a.p.addBindingLocked(&binding{app: a, event: "ONAPPINSTALL", handler: a.spec.HandlerURL})
	}
	a.completeInstallLocked()
}
