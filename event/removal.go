package event

import (
	"context"
	"time"
)

// RemovalReporter gets the portals that removed an application; see [ReportRemoval]. It must be
// safe for concurrent use and return at once.
type RemovalReporter func(clientID, memberID string, at time.Time)

// RemovalReporterKey is the key of a [RemovalReporter] in a handler's context. A context type of
// the caller's own returns one for Value(event.RemovalReporterKey{}).
type RemovalReporterKey struct{}

// ReportRemoval says that the portal that d is proven to come from has removed the application, as
// a handler of [OnAppUninstall] found out. What package webhook still holds of that portal and
// application, and was fired at the time of d or earlier, is dropped and counted; it could only
// fail. Application events stay: one of them may be a new installation.
//
// Package oauth calls it once an uninstallation is confirmed. A program with a handler of its own
// calls it after it deleted its record of the portal. Confirm the removal first: everybody who
// opens a page of the application can send an ONAPPUNINSTALL.
//
// It does nothing without a reporter in ctx, or if d proves no application.
func ReportRemoval(ctx context.Context, d *Delivery) {
	report, ok := ctx.Value(RemovalReporterKey{}).(RemovalReporter)
	if !ok || report == nil || !d.ProvenFor(d.Proof.ClientID) {
		return
	}
	report(d.Proof.ClientID, d.MemberID(), d.Time)
}
