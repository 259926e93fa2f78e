package eventtest

import (
	"context"
	"math"
	"time"
)

// Quirks are the ways in which portals differ: by their plan, their build, their load and their
// users. For every field except TokenLifetime, the zero value is the ordinary cloud portal.
// [WithQuirks] and the other options set quirks at the start, [Portal.ChangeQuirks] while the
// portal runs.
type Quirks struct {
	// NoUser makes every change look like the work of a robot or an agent: deliveries have no tokens,
	// and the offline queue has user 0. Handlers bound with AUTH_TYPE still get that user's tokens,
	// and ONAPPINSTALL those of the user who installs.
	NoUser bool
	// NoData leaves the data out of every event except ONAPPINSTALL and ONAPPUSERREADY: deliveries
	// have no section data, and records of the offline queue have null.
	NoData bool
	// NoExtendedOffline is a plan without rest_offline_extended: event.offline.get with clear=0 is
	// rejected.
	NoExtendedOffline bool
	// NoConnectors is a plan without rest_auth_connector: calls of applications with auth_connector
	// are rejected.
	NoConnectors bool
	// Box is a portal on the customer's premises: feature.get returns en_selfhosted for any code,
	// every feature is available, and there is no limit on operating time.
	Box bool
	// HonourMinTimeout is an old build, which respects the option minTimeout of ONOFFLINEEVENT.
	// Current builds ignore it and send at most one per second.
	HonourMinTimeout bool
	// RacingReservations is a current build under load: event.offline.get selects rows and then marks
	// them. Two calls at the same time return the same rows, and the later call owns the reservation.
	RacingReservations bool
	// RacingBinds is a new build under load: if two equal calls of event.bind run at the same time,
	// the second one fails with "Process of binding the handler has already started".
	RacingBinds bool
	// SlowHandlers is how long a handler may take before the portal calls it less often, by the
	// portal's clock, as the platform does; see [Lane]. 0 means never.
	SlowHandlers time.Duration
	// DeliveryJitter is the maximum of a random delay before each delivery, by the portal's clock.
	// Later deliveries can overtake earlier ones: the platform promises no order. The default keeps
	// the order of deliveries to one handler URL, except with [WithParallelDelivery].
	DeliveryJitter time.Duration
	// OfflineLag delays the records of the offline queue, by the portal's clock. On the platform a
	// background job writes them at the end of the request that caused them, some hundred milliseconds
	// late. The default is no delay.
	OfflineLag time.Duration
	// InstallDelay delays ONAPPINSTALL, by the portal's clock. Events that happen meanwhile are
	// delivered before it.
	InstallDelay time.Duration
	// NoInstallEvent means that ONAPPINSTALL is never sent.
	NoInstallEvent bool
	// NoUninstallEvent means that ONAPPUNINSTALL is never sent, as for an application whose process is
	// down when it is removed: the platform tries once.
	NoUninstallEvent bool
	// UserReady says whether an installation creates a system user for the application and posts its
	// tokens to HandlerURL with ONAPPUSERREADY, before or after ONAPPINSTALL; see
	// [Application.SystemUser]. The platform promises no order. The default is never.
	UserReady UserReady
	// WholeBotAuth gives the deliveries to bots of imbot.v2 the same auth block as all other events.
	// The default is what the documentation shows: domain and application_token, with the portal's
	// member_id only in data.bot.auth.
	WholeBotAuth bool
	// OAuthLatency delays every request to the OAuth server, in real time.
	OAuthLatency time.Duration
	// TokenLifetime is the lifetime of access tokens issued from now on. It is never 0; the default is
	// an hour.
	TokenLifetime time.Duration
	// RatePerSecond and RateBurst are the limit on requests: each source address has a bucket of
	// RateBurst requests that drains by RatePerSecond. Both are 0 for no limit. The cloud has 2 and
	// 50, on the Enterprise plan 5 and 250.
	RatePerSecond float64
	RateBurst     int
	// OperatingLimit is how much time the runs of one method for one application may take in ten
	// minutes. Further calls fail with 429 OPERATION_TIME_LIMIT. 0 means no limit; the platform's is
	// 480 seconds. Here only Latency and [Delay] make runs take time. Runs of a tenth of a second or
	// less do not count.
	OperatingLimit time.Duration
	// Latency delays every REST request before its method runs, in real time.
	Latency time.Duration
}

// UserReady says when ONAPPUSERREADY is sent; see [Quirks].
type UserReady int

// Values of [UserReady].
const (
	UserReadyNever  UserReady = iota
	UserReadyBefore           // before ONAPPINSTALL, and without waiting for it
	UserReadyAfter            // after ONAPPINSTALL, delayed as it is
)

// raceWindow is the real time in which two racing calls count as simultaneous.
const raceWindow = 20 * time.Millisecond

// runOthersLocked releases p.mu for the raceWindow, so that other calls run in the middle of this
// one.
func (p *Portal) runOthersLocked() {
	p.mu.Unlock()
	p.pause(context.Background(), raceWindow)
	p.mu.Lock()
}

func defaultQuirks() Quirks { return Quirks{TokenLifetime: time.Hour} }

// check returns an ErrConfig that names the first field that makes no sense.
func (q *Quirks) check() error {
	switch {
	case q.TokenLifetime < time.Second:
		return misconfigured("Quirks.TokenLifetime must be a second or more")
	case q.RatePerSecond < 0 || math.IsNaN(q.RatePerSecond) || math.IsInf(q.RatePerSecond, 0):
		return misconfigured("Quirks.RatePerSecond must be a number of requests, 0 for no limit")
	case q.RateBurst < 0:
		return misconfigured("Quirks.RateBurst must not be negative")
	case (q.RatePerSecond == 0) != (q.RateBurst == 0):
		return misconfigured("Quirks.RatePerSecond and RateBurst go together; give both, or 0 for both")
	case q.OperatingLimit < 0:
		return misconfigured("Quirks.OperatingLimit must not be negative")
	case q.Latency < 0:
		return misconfigured("Quirks.Latency must not be negative")
	case q.SlowHandlers < 0:
		return misconfigured("Quirks.SlowHandlers must not be negative")
	case q.DeliveryJitter < 0:
		return misconfigured("Quirks.DeliveryJitter must not be negative")
	case q.OfflineLag < 0:
		return misconfigured("Quirks.OfflineLag must not be negative")
	case q.InstallDelay < 0:
		return misconfigured("Quirks.InstallDelay must not be negative")
	case q.OAuthLatency < 0:
		return misconfigured("Quirks.OAuthLatency must not be negative")
	case q.UserReady < UserReadyNever || q.UserReady > UserReadyAfter:
		return misconfigured("Quirks.UserReady must be UserReadyNever, UserReadyBefore or UserReadyAfter")
	}
	return nil
}

// Quirks returns how the portal behaves now.
func (p *Portal) Quirks() Quirks {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.quirks
}

// ChangeQuirks changes how the portal behaves from now on. It calls change with the current quirks,
// to edit them; change must not call ChangeQuirks. Concurrent calls run one after the other, so
// none undoes another's changes. If a field makes no sense, ChangeQuirks changes nothing and
// returns an [ErrConfig] that names the field. It returns [ErrClosed] for a closed portal.
func (p *Portal) ChangeQuirks(change func(*Quirks)) error {
	p.quirksTurn.Lock()
	defer p.quirksTurn.Unlock()
	q := p.Quirks()
	change(&q)
	if err := q.check(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if q.RateBurst == 0 {
		clear(p.limits.buckets)
	}
	if q.SlowHandlers == 0 {
		for url, l := range p.deliveries.lanes {
			if l.gap, l.until = 0, (time.Time{}); len(l.waiting) == 0 && l.busy == 0 {
				delete(p.deliveries.lanes, url)
			}
		}
	}
	p.quirks = q
	p.runDueLocked()
	p.signalChangeLocked()
	return nil
}
