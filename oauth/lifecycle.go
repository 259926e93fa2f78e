package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
)

// Hooks is the application's own work when something happens to its installation on a portal. Each
// field may be nil.
//
// Everybody who opens a page of the application can send its events, because the page has the
// application token. What an event says in e is confirmed for Installed, Uninstalled and Paid, as
// described there. For Updated and MethodConfirmed it is only the sender's claim.
//
// A hook gets the installation as it is stored after the event's changes. It runs once for each
// event: a copy of an event whose hook has succeeded does nothing. After an error the hook runs
// again when the queue retries the delivery, or when the user opens the page again. The latest
// 1,000 successes are kept in memory. So a copy that reaches another process, or this one after a
// restart, runs its hook again.
type Hooks struct {
	// Installed runs after an installation was verified and stored: that of an ONAPPINSTALL, and that
	// of an installation page, by [Portals.Install]. Bind events here. in.SetUpAt is zero for a new
	// installation, until the hook has succeeded, and not for a repeated one.
	//
	// An installation that arrives as page and as event runs the hook once, even if both arrive at
	// the same time: an ONAPPINSTALL within ten minutes after its page is a copy. If the two reach
	// different processes, both run the hook, and the later one usually finds in.SetUpAt set. For a
	// page, e is zero and the hook has a minute; Portals.Install returns its error as [ErrHook].
	// [Portals.Exchange] and [Portals.Seed] run no hook.
	Installed func(ctx context.Context, in Installation, e event.AppInstall) error
	// Updated runs after the application was updated on the portal. A new application token is stored
	// by then.
	Updated func(ctx context.Context, in Installation, e event.AppUpdate) error
	// Uninstalled runs before the stored installation is deleted, once the portal or the OAuth
	// server refuses its tokens for good. e.Clean says whether the sender wants the application's
	// data of the portal deleted; nobody confirms it. The installation is deleted only after the
	// hook succeeded.
	Uninstalled func(ctx context.Context, in Installation, e event.AppUninstall) error
	// Removed runs instead of Uninstalled if a call finds that the application was removed from the
	// portal and no ONAPPUNINSTALL was handled, for example because the process was down when it was
	// sent. Nobody says whether to delete the data. The installation is deleted after the hook
	// succeeded. After an error the hook runs again when another call finds the same. Its context
	// ends after five minutes.
	Removed func(ctx context.Context, in Installation) error
	// UserReady runs after the tokens of the application's system user were verified and stored,
	// for [Portals.User] with user.UserID. It may run before the application itself is installed.
	// Any user of the portal can send the event with their own tokens, and nobody says which user is
	// the system user. So use these tokens only for what any user may do.
	UserReady func(ctx context.Context, user Installation) error
	// Paid runs after the application was paid for, or after its paid or trial period changed. e is
	// what the portal returned when it was asked, not what the event says.
	Paid func(ctx context.Context, in Installation, e event.AppPayment) error
	// MethodConfirmed runs after the administrator allowed or refused a method that needs consent.
	// The next call of the method shows whether it is allowed.
	MethodConfirmed func(ctx context.Context, in Installation, e event.AppMethodConfirm) error
}

// clockSkew is how far the clocks of this machine and of a portal may differ.
const clockSkew = 5 * time.Minute

// Lifecycle registers handlers on mux that keep stored installations in step with their portals and
// run the hooks. A delivery that is not proven for this application, by p or by another verifier of
// it, changes nothing; see [event.Delivery.ProvenFor].
//
// It handles ONAPPINSTALL and ONAPPUPDATE, which bring application tokens; ONAPPUNINSTALL;
// ONAPPUSERREADY; and ONAPPPAYMENT and ONAPPMETHODCONFIRM if they have a hook. Those that an
// application can bind are in mux.Bindings. A name has one handler, so to handle one of these
// events in another way, do not call Lifecycle and use event.On for each of them.
//
// Everybody who opens a page of the application can send a valid ONAPPUNINSTALL. So Lifecycle tries
// the stored token, and deletes the installation only if the portal or the OAuth server refuses the
// token for good. If it cannot find out, the delivery is retried. An ONAPPUNINSTALL without a time,
// or older than the stored installation, is ignored. After the deletion, what package webhook still
// has queued for the portal is dropped; see [event.ReportRemoval]. If any other call finds that the
// application was removed from a portal, that is handled the same way; see [Portals.Removed].
//
// Source: https://apidocs.bitrix24.com/api-reference/common/events/index.html
func (p *Portals) Lifecycle(mux *event.Mux, hooks Hooks) {
	l := &lifecycle{portals: p, hooks: hooks}
	p.removals.add(l)
	event.On(mux, event.OnAppInstall, provenOnly(l, l.installed))
	event.On(mux, event.OnAppUpdate, provenOnly(l, l.updated))
	event.On(mux, event.OnAppUninstall, provenOnly(l, l.uninstalled))
	event.On(mux, event.OnAppUserReady, provenOnly(l, l.userReady))
	if hooks.Paid != nil {
		event.On(mux, event.OnAppPayment, provenOnly(l, l.paid))
	}
	if hooks.MethodConfirmed != nil {
		event.On(mux, event.OnAppMethodConfirm, provenOnly(l, l.methodConfirmed))
	}
}

type lifecycle struct {
	portals *Portals
	hooks   Hooks
	done    once
}

// provenOnly lets handle get only deliveries that are proven for the application. It ignores those
// of another application that shares the handler. Any other is an error of the code that passed it
// on.
func provenOnly[T any](
	l *lifecycle, handle func(context.Context, *event.Delivery, T) error,
) func(context.Context, *event.Delivery, T) error {
	return func(ctx context.Context, d *event.Delivery, e T) error {
		switch {
		case d.ProvenFor(l.portals.ClientID()):
			return handle(ctx, d, e)
		case d.Proof.ClientID != "" && d.Proof.ClientID != l.portals.ClientID():
			return nil
		default:
			return event.Drop(&Error{Op: d.Name, Kind: ErrUnverified, Detail: "the delivery is not proven for this application; verify it first"})
		}
	}
}

func (l *lifecycle) updated(ctx context.Context, d *event.Delivery, e event.AppUpdate) error {
	return runHook(ctx, l, d, l.hooks.Updated, e)
}

func (l *lifecycle) uninstalled(ctx context.Context, d *event.Delivery, e event.AppUninstall) error {
	p := l.portals
	in, err := p.Installation(ctx, d.MemberID())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil // forgotten already
	case err != nil:
		return err
	case isOutdated(d.Time, in):
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 uninstallation is older than the installation, or has no time, and was ignored",
			slog.String(keyMemberID, in.MemberID))
		return nil
	}
	// This keeps a second check from running in the background. It would forget the portal before the
	// hook has run.
	_, _ = p.removals.beginCheck(in.MemberID)
	gone, err := p.isRemoved(ctx, in)
	switch {
	case err != nil:
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 uninstallation could not be confirmed; the installation is kept and the event retried",
			slog.String(keyMemberID, in.MemberID), slog.String(keyError, errorText(err)))
		return event.Retry(err, confirmRetryAfter)
	case !gone:
		p.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 uninstallation was ignored, because the stored tokens still work",
			slog.String(keyMemberID, in.MemberID))
		return nil
	}
	if err := runHook(ctx, l, d, l.hooks.Uninstalled, e); err != nil {
		return err
	}
	// The application may have been installed again while the hook ran.
	if err := ignoreNotFound(p.forget(ctx, d.MemberID(), installedUntil(in.InstalledAt))); err != nil {
		return err
	}
	event.ReportRemoval(ctx, d) // what is queued for the portal can only fail
	return nil
}

// isOutdated reports whether an uninstallation that was fired at a time came before the stored
// installation. Both times are the portal's if the installation was an event.
func isOutdated(fired time.Time, in Installation) bool {
	if fired.IsZero() {
		return true
	}
	if !in.EventTime.IsZero() {
		return fired.Before(in.EventTime)
	}
	return in.InstalledAt.After(fired.Add(clockSkew))
}

// installedUntil matches installations from at or before.
func installedUntil(at time.Time) func(Installation) bool {
	return func(in Installation) bool { return !in.InstalledAt.After(at) }
}

func (l *lifecycle) userReady(ctx context.Context, d *event.Delivery, e event.AppUserReady) error {
	if l.hooks.UserReady == nil || d.Proof.By != event.ProofTokens {
		return nil // a copy brings no tokens, and everybody who knows the application token can make one
	}
	return l.done.do(ctx, d.Key(), func() error {
		r, err := l.portals.load(ctx, l.portals.userKey(d.MemberID(), e.UserID))
		if errors.Is(err, ErrNotFound) {
			return event.Drop(err) // forgotten while its event was waiting
		}
		if err != nil {
			return err
		}
		return l.hooks.UserReady(ctx, r.in.clone())
	})
}

// paid asks the portal what was paid for, because everybody who opens a page of the application can
// send the event.
func (l *lifecycle) paid(ctx context.Context, d *event.Delivery, e event.AppPayment) error {
	in, err := l.portals.access(ctx, l.portals.appKey(d.MemberID()))
	if errors.Is(err, ErrNotFound) {
		return event.Drop(err) // forgotten while its event was waiting
	}
	if err != nil {
		return err
	}
	if e, err = l.portals.fetchPayment(ctx, in, e); err != nil {
		return err
	}
	_, err = l.portals.change(ctx, l.portals.appKey(d.MemberID()), func(in *Installation) bool {
		if e.Status == "" || in.Status == e.Status {
			return false
		}
		in.Status, in.UpdatedAt = e.Status, time.Now().UTC()
		return true
	})
	if err := ignoreNotFound(err); err != nil {
		return err
	}
	return runHook(ctx, l, d, l.hooks.Paid, e)
}

func (l *lifecycle) methodConfirmed(ctx context.Context, d *event.Delivery, e event.AppMethodConfirm) error {
	return runHook(ctx, l, d, l.hooks.MethodConfirmed, e)
}

// runHook runs a hook, unless it has succeeded for this delivery.
func runHook[T any](
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

// ignoreNotFound returns nil for the error of a portal that the store does not have: it was
// forgotten in the meantime, or waits in memory to be written.
func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
