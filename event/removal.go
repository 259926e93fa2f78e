package event

import (
	"context"
	"time"
)

// RemovalReporter receives each portal that removed an application; see [ReportRemoval]. It must be
// safe for concurrent use and return at once.
type RemovalReporter func(clientID, memberID string, at time.Time)

// RemovalReporterKey is the key of a [RemovalReporter] in a handler's context. A context type of
// your own returns one for Value(event.RemovalReporterKey{}).
type RemovalReporterKey struct{}

// ReportRemoval reports that a portal has removed the application. Handlers of [OnAppUninstall]
// call it; the portal is the one that d is proven to come from. Package webhook then drops and
// counts the deliveries of that portal and application that it still holds and that were fired at
// the time of d or earlier, because they could only fail. It keeps application events: one of them
// may be a new installation.
//
// Package oauth calls it once an uninstallation is confirmed. If you write your own handler, call
// it after you have deleted what you store about the portal. Confirm the removal first: anyone who
// opens a page of the application can send an ONAPPUNINSTALL.
//
// It does nothing if ctx has no reporter, or if d proves no application.
func ReportRemoval(ctx context.Context, d *Delivery) {
	report, ok := ctx.Value(RemovalReporterKey{}).(RemovalReporter)
	if !ok || report == nil || !d.ProvenFor(d.Proof.ClientID) {
		return
	}
	report(d.Proof.ClientID, d.MemberID(), d.Time)
}
