package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
)

// Hooks is the application's own work when something happens to its installation on a portal. Each field may be nil.
//
// A hook gets the installation as it is stored, after what the event says was taken over. It runs once for each event: a copy of
// an event whose hook has succeeded does nothing, and after an error the hook runs again when the queue tries the delivery
// again. What has succeeded is remembered in memory, of the latest 1,000 events: copies that meet another process, or this one
// after a restart, run their hook again.
type Hooks struct {
	// Installed runs after an installation was verified and stored: the place to bind events. in.SetUpAt tells a new installation,
	// for which it is zero until the hook has succeeded, from a repeated one. An application with pages gets the event only where
	// it has bound it before BX24.installFinish; it had better do the same work at its installation page too.
	Installed func(ctx context.Context, in Installation, e event.AppInstall) error
	// Updated runs after the application was updated on the portal. A new application token is stored by then.
	Updated func(ctx context.Context, in Installation, e event.AppUpdate) error
	// Uninstalled runs before the stored installation is deleted; the portal refuses calls already. e.Clean tells whether the
	// administrator wants the application's data of the portal deleted. The installation is deleted only after the hook succeeded.
	Uninstalled func(ctx context.Context, in Installation, e event.AppUninstall) error
	// Paid runs after the application was paid for, or its paid or trial period changed.
	Paid func(ctx context.Context, in Installation, e event.AppPayment) error
	// MethodConfirmed runs after the administrator allowed or refused a method that needs consent.
	MethodConfirmed func(ctx context.Context, in Installation, e event.AppMethodConfirm) error
}

// clockSkew is how far an installation may seem to be later than an uninstallation that followed it: one is dated by this
// machine's clock, the other by the portal's, in whole seconds.
const clockSkew = 10 * time.Second

// Lifecycle registers on mux what keeps stored installations in step with their portals, and the hooks. Deliveries must come
// through a webhook.Handler, or another receiver, that verifies with p.
//
// It takes ONAPPINSTALL and ONAPPUPDATE, which bring application tokens, and ONAPPUNINSTALL, after which the installation is
// forgotten, whatever hooks there are; and ONAPPPAYMENT and ONAPPMETHODCONFIRM where they have a hook. These names join
// mux.Bindings. To handle one of these events in another way, use event.On for each of them instead: a name has one handler.
//
// An ONAPPUNINSTALL that is older than the installation stored was overtaken by another installation; it is logged and deletes
// nothing.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/events/index.html
func (p *Portals) Lifecycle(mux *event.Mux, hooks Hooks) {
	l := &lifecycle{portals: p, hooks: hooks}
	event.On(mux, event.OnAppInstall, l.installed)
	event.On(mux, event.OnAppUpdate, l.updated)
	event.On(mux, event.OnAppUninstall, l.uninstalled)
	if hooks.Paid != nil {
		event.On(mux, event.OnAppPayment, l.paid)
	}
	if hooks.MethodConfirmed != nil {
		event.On(mux, event.OnAppMethodConfirm, l.methodConfirmed)
	}
}

type lifecycle struct {
	portals *Portals
	hooks   Hooks
	done    once
}

func (l *lifecycle) installed(ctx context.Context, d *event.Delivery, e event.AppInstall) error {
	if l.hooks.Installed == nil {
		return nil
	}
	if err := run(ctx, l, d, l.hooks.Installed, e); err != nil {
		return err
	}
	_, err := l.portals.change(ctx, l.portals.appKey(d.MemberID()), func(in *Installation) bool {
		if !in.SetUpAt.IsZero() && in.SetUpAt.After(in.InstalledAt) {
			return false
		}
		in.SetUpAt = time.Now().UTC()
		return true
	})
	return unlessUnknown(err)
}

func (l *lifecycle) updated(ctx context.Context, d *event.Delivery, e event.AppUpdate) error {
	return run(ctx, l, d, l.hooks.Updated, e)
}

func (l *lifecycle) uninstalled(ctx context.Context, d *event.Delivery, e event.AppUninstall) error {
	in, err := l.portals.Installation(ctx, d.MemberID())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // forgotten already
	case err != nil:
		return err
	case !d.Time.IsZero() && in.InstalledAt.After(d.Time.Add(clockSkew)):
		l.portals.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 uninstallation is older than the installation and was ignored",
			slog.String(keyMemberID, in.MemberID))
		return nil
	}
	if err := run(ctx, l, d, l.hooks.Uninstalled, e); err != nil {
		return err
	}
	// The hook may have taken long enough for another installation.
	return l.portals.forget(ctx, d.MemberID(), installedBy(in.InstalledAt))
}

func (l *lifecycle) paid(ctx context.Context, d *event.Delivery, e event.AppPayment) error {
	_, err := l.portals.change(ctx, l.portals.appKey(d.MemberID()), func(in *Installation) bool {
		if e.Status == "" || in.Status == e.Status {
			return false
		}
		in.Status, in.UpdatedAt = e.Status, time.Now().UTC()
		return true
	})
	if err := unlessUnknown(err); err != nil {
		return err
	}
	return run(ctx, l, d, l.hooks.Paid, e)
}

func (l *lifecycle) methodConfirmed(ctx context.Context, d *event.Delivery, e event.AppMethodConfirm) error {
	return run(ctx, l, d, l.hooks.MethodConfirmed, e)
}

// run runs a hook, unless it has succeeded for this delivery.
func run[T any](
	ctx context.Context, l *lifecycle, d *event.Delivery, hook func(context.Context, Installation, T) error, payload T,
) error {
	if hook == nil {
		return nil
	}
	return l.done.do(ctx, d.Key(), func() error {
		in, err := l.portals.Installation(ctx, d.MemberID())
		if errors.Is(err, ErrNotFound) {
			return event.Drop(err) // forgotten while its event was waiting
		}
		if err != nil {
			return err
		}
		return hook(ctx, in, payload)
	})
}

// unlessUnknown leaves out the error of a portal that the store does not have: it was forgotten in the meantime, or waits in
// memory to be written.
func unlessUnknown(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
