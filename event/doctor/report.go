package doctor

import (
	"slices"
	"strings"
)

// Status is the result of a check.
type Status string

// The statuses of a check.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it does not stop events by itself, or only some of them
	Failed  Status = "failed"  // events do not arrive because of it
	Skipped Status = "skipped" // not checked; Cause says why
)

// Code names what a check found. Programs compare it; it stays the same when texts change.
type Code string

// Codes of what a check found, in the order of the checks. This list is complete. A check that is
// [OK] or [Skipped] has no code, except for [BoundByPlatform].
const (
	// Installation.
	NotStored   Code = "installation_not_stored"  // this program knows no installation of the portal
	AppRemoved  Code = "application_removed"      // the portal does not have the application, or it is off
	NotFinished Code = "installation_unfinished"  // app.info says INSTALLED: false
	NoAppToken  Code = "application_token_absent" // no application token is known, so deliveries are rejected

	// Credentials and token.
	WrongCredentials Code = "credentials_wrong"       // the OAuth server refuses the client ID and secret
	OAuthFailed      Code = "oauth_unreachable"       // no response of the OAuth server, or none that can be used
	StoreFailed      Code = "store_failed"            // the store of installations cannot be read or written
	StoreEncrypted   Code = "store_encrypted"         // the stored installation needs a key that was not given
	TokenRefused     Code = "token_refused"           // revoked, unknown, or void for good
	TokenExpired     Code = "token_expired"           // and nobody renews it
	OtherApplication Code = "token_other_application" // the token belongs to another application
	OtherPortal      Code = "token_other_portal"      // the token belongs to another portal
	IncomingWebhook  Code = "token_incoming_webhook"  // an incoming webhook cannot manage events
	UserDismissed    Code = "token_user_dismissed"    // the user of the token cannot be authorized
	NoUserAccess     Code = "token_user_access"       // the user of the token may not use the application

	// Portal.
	AddressRefused Code = "portal_address_refused" // an address that package oauth does not allow
	PortalFailed   Code = "portal_unreachable"     // no response, or none that can be used
	PortalClosed   Code = "portal_closed"          // deleted, or closed for maintenance
	PortalBlocks   Code = "portal_limits"          // it refuses calls because there were too many
	CheckFailed    Code = "check_failed"           // one method failed, in any check

	// Scopes, rights, plan and subscription.
	ScopeMissing     Code = "scope_missing"            // the application lacks a permission
	NotAdministrator Code = "user_not_administrator"   // the user of the token
	NoConnectors     Code = "plan_without_connectors"  // no auth_connector
	NoReservations   Code = "plan_without_reservation" // offline records are deleted when they are read
	PaymentExpired   Code = "subscription_expired"     // events are dropped, although REST works
	PlanWithoutAPI   Code = "plan_without_rest"        // no REST at all
	PaymentEnds      Code = "subscription_ending"      // within days

	// Handler and probe.
	BadHandlerURL      Code = "handler_url"         // the portal refuses it, or it would leak tokens
	PrivateHandler     Code = "handler_private"     // the cloud cannot reach the address
	HandlerUnreachable Code = "handler_unreachable" // no connection from this machine
	HandlerTLS         Code = "handler_certificate" // a certificate that this machine does not trust
	HandlerRedirects   Code = "handler_redirects"   // the event is lost on the way
	HandlerRefuses     Code = "handler_refuses"     // a page that does not exist, takes no POST, or wants a login
	HandlerFails       Code = "handler_fails"       // a status of 500 or above, or 429
	HandlerSlow        Code = "handler_slow"        // the portal calls slow handlers less often

	// Events.
	UnknownEvent     Code = "event_unknown"     // no such name; Cure may suggest one
	EventNotBindable Code = "event_unbindable"  // the platform binds it, or it has no offline form
	EventUnavailable Code = "event_unavailable" // the portal does not offer it to the application

	// Bindings.
	BindingMissing   Code = "binding_missing"         // nothing like it is bound
	BindingElsewhere Code = "binding_other_url"       // bound to another URL
	BindingScheme    Code = "binding_other_scheme"    // bound to the same URL with http instead of https, or the reverse
	BindingMode      Code = "binding_other_mode"      // online instead of offline, or the reverse
	BindingConnector Code = "binding_other_connector" // in the offline queue of another connector
	BindingUser      Code = "binding_other_user"      // bound with the tokens of another user
	BindingTwice     Code = "binding_twice"           // every event arrives more than once
	BoundByPlatform  Code = "bound_by_platform"       // for information

	// Test.
	TestFailed      Code = "test_failed"            // the test event could not be requested
	TestNotArrived  Code = "test_not_arrived"       // the test event did not arrive in time
	WrongAppToken   Code = "test_application_token" // it arrived with a token that the handler rejects
	TestOtherPortal Code = "test_other_portal"      // it came from another portal
	TestNotUnbound  Code = "test_not_unbound"       // ONAPPTEST stays bound

	// Deliveries.
	NothingReceived    Code = "deliveries_none"     // the handler has received nothing
	DeliveriesRejected Code = "deliveries_rejected" // the handler has rejected requests
	DeliveriesDropped  Code = "deliveries_dropped"  // the handler has lost events that it had accepted
	DeliveriesLate     Code = "deliveries_late"     // they come long after their event

	// Offline queue.
	QueueWaits  Code = "queue_waiting"  // nobody reads the offline queue
	QueueStuck  Code = "queue_reserved" // a consumer reserved records and died
	QueueParked Code = "queue_parked"   // records were given up

	ClockSkew Code = "clock_skew" // the clocks of this machine and of the portal are apart
)

// Names of checks, in the order of a report.
const (
	checkInstallation = "installation"
	checkCredentials  = "credentials"
	checkToken        = "token"
	checkPortal       = "portal"
	checkScopes       = "scopes"
	checkRights       = "rights"
	checkPlan         = "plan"
	checkSubscription = "subscription"
	checkHandler      = "handler"
	checkProbe        = "probe"
	checkEvents       = "events"
	checkBindings     = "bindings"
	checkTest         = "test"
	checkDeliveries   = "deliveries"
	checkQueue        = "queue"
	checkClock        = "clock"
)

// checkOrder is the order of a report: what comes first explains what comes later.
var checkOrder = [...]string{
	checkInstallation, checkCredentials, checkToken, checkPortal, checkScopes, checkRights, checkPlan, checkSubscription, checkHandler,
	checkProbe, checkEvents, checkBindings, checkTest, checkDeliveries, checkQueue, checkClock,
}

// Check is one line of a report. A check that finds several things has several lines with the same
// name.
type Check struct {
	Name   string `json:"check"` // installation, credentials, token, …
	Status Status `json:"status"`
	Code   Code   `json:"code,omitempty"`
	Cause  string `json:"cause,omitempty"` // what was found, or why the check was skipped
	Cure   string `json:"cure,omitempty"`  // what to do; empty unless the status is Warning or Failed
}

// Report is what an examination found. Its checks are in a fixed order, in which earlier ones
// explain later ones: installation, credentials, token, portal, scopes, rights, plan, subscription,
// handler, probe, events, bindings, test, deliveries, queue, clock.
type Report struct {
	Checks []Check `json:"checks"`
}

// Findings returns the checks that failed, and then the warnings. The first one is the most likely
// cause. It is empty if nothing was found.
func (r Report) Findings() []Check {
	var found []Check
	for _, s := range []Status{Failed, Warning} {
		for _, c := range r.Checks {
			if c.Status == s {
				found = append(found, c)
			}
		}
	}
	return found
}

// Failed reports whether a check failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Status == Failed })
}

// String returns the report with a line for each check.
func (r Report) String() string {
	var b strings.Builder
	for _, c := range r.Checks {
		b.WriteString(c.Name + " " + string(c.Status))
		if c.Cause != "" {
			b.WriteString(": " + c.Cause)
		}
		if c.Cure != "" {
			b.WriteString(" " + c.Cure)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// maxFindings bounds the lines of one check, for a portal or a configuration with thousands of
// bindings.
const maxFindings = 50

// add adds a line to the report. The last of too many lines of a check says how many there are.
func (e *exam) add(c Check) {
	e.count[c.Name]++
	if n := e.count[c.Name]; n <= maxFindings || c.Status == Failed && !e.failed[c.Name] {
		e.checks = append(e.checks, c)
	}
	e.failed[c.Name] = e.failed[c.Name] || c.Status == Failed
}

func (e *exam) ok(name, cause string) { e.add(Check{Name: name, Status: OK, Cause: cause}) }

func (e *exam) skip(name, cause string) { e.add(Check{Name: name, Status: Skipped, Cause: cause}) }

func (e *exam) fail(name string, code Code, cause, cure string) {
	e.add(Check{Name: name, Status: Failed, Code: code, Cause: cause, Cure: cure})
}

func (e *exam) warn(name string, code Code, cause, cure string) {
	e.add(Check{Name: name, Status: Warning, Code: code, Cause: cause, Cure: cure})
}

// found reports whether a check has a line already.
func (e *exam) found(name string) bool { return e.count[name] > 0 }

// report sorts the lines into the order of the checks.
func (e *exam) report() Report {
	rank := make(map[string]int, len(checkOrder))
	for i, name := range checkOrder {
		rank[name] = i
	}
	for _, name := range checkOrder {
		switch n := e.count[name]; {
		case n == 0:
			e.skip(name, "it was not reached")
		case n > maxFindings:
			e.checks = append(e.checks, Check{Name: name, Status: Skipped, Cause: "more was found than is listed here"})
		}
	}
	slices.SortStableFunc(e.checks, func(a, b Check) int { return rank[a.Name] - rank[b.Name] })
	return Report{Checks: e.checks}
}
