package eventtest

import (
	"context"
	"math"
	"time"
)

// Quirks is how a portal behaves beyond what is the same on all of them: its plan, its build, its
// load, and what its users are. The zero value of every field but TokenLifetime is the ordinary
// cloud portal. [WithQuirks] and the options named With… set them at the start,
// [Portal.ChangeQuirks] while the portal runs.
type Quirks struct {
	// NoUser makes every change the work of a robot or an agent: no tokens in deliveries, user 0 in
	// the offline queue. Handlers bound with AUTH_TYPE still get that user's tokens, and ONAPPINSTALL
	// those of whoever installs.
	NoUser bool
	// NoData leaves the data out of every event but ONAPPINSTALL and ONAPPUSERREADY: deliveries
	// have no section data, records of the offline queue a null.
	NoData bool
	// NoExtendedOffline is a plan without rest_offline_extended: event.offline.get with clear=0 is
	// refused.
	NoExtendedOffline bool
	// NoConnectors is a plan without rest_auth_connector: a call of an application that carries
	// auth_connector is refused.
	NoConnectors bool
	// Box is a portal on the customer's premises: feature.get answers en_selfhosted to any code, no
	// feature is refused, and there is no limit on operating time.
	Box bool
	// HonourMinTimeout is an old build, which honours the option minTimeout of ONOFFLINEEVENT. Current
	// builds ignore it and send one a second at most.
	HonourMinTimeout bool
	// RacingReservations is a current build under load: event.offline.get selects rows and then marks
	// them, so that two at the same time hand out the same rows, and the later of them owns the
	// reservation.
	RacingReservations bool
	// RacingBinds is a new build under load: of two equal calls of event.bind at the same time the
	// second is refused with "Process of binding the handler has already started".
	RacingBinds bool
	// SlowHandlers is how long a handler may take before deliveries to it become rarer and rarer, by
	// the portal's clock, as they do on the platform; see [Lane]. 0 for never.
	SlowHandlers time.Duration
	// DeliveryJitter is how long a delivery may wait before it begins, a random while by the portal's
	// clock, so that later ones overtake it: the platform promises no order. The default keeps the
	// order of those to one handler URL, but for [WithParallelDelivery].
	DeliveryJitter time.Duration
	// OfflineLag is how late records get into the offline queue, by the portal's clock. On the
	// platform a background job writes them at the end of the request that caused them, some hundred
	// milliseconds late; the default is at once.
	OfflineLag time.Duration
	// InstallDelay is how late ONAPPINSTALL is, by the portal's clock. What happens meanwhile is
	// delivered before it.
	InstallDelay time.Duration
	// NoInstallEvent keeps ONAPPINSTALL from being sent at all.
	NoInstallEvent bool
	// NoUninstallEvent keeps ONAPPUNINSTALL from being sent at all, as for an application whose
	// process is down when it is removed: the platform tries once.
	NoUninstallEvent bool
	// UserReady is whether an installation makes a system user for the application and posts its
	// tokens with ONAPPUSERREADY to HandlerURL, and whether that comes before ONAPPINSTALL or after
	// it; see [Application.SystemUser]. The platform promises no order. The default is not to.
	UserReady UserReady
	// WholeBotAuth puts the auth block of every other event into the deliveries to bots of imbot.v2
	// too. The default is what the documentation shows: domain and application_token, and the
	// portal's member_id in data.bot.auth only.
	WholeBotAuth bool
	// OAuthLatency is how long a request to the OAuth server takes before it is looked at, in real
	// time.
	OAuthLatency time.Duration
	// TokenLifetime is how long access tokens live that are issued from now on. It is never 0; the
	// default is an hour.
	TokenLifetime time.Duration
	// RatePerSecond and RateBurst are the limit on requests: a bucket of RateBurst requests for each
	// source address that drains by RatePerSecond. Both are 0 for no limit. The cloud has 2 and 50, on
	// the Enterprise plan 5 and 250.
	RatePerSecond float64
	RateBurst     int
	// OperatingLimit is how much time the runs of one method for one application may take in ten
	// minutes before its calls are answered 429 OPERATION_TIME_LIMIT; 0 for no limit. The platform's
	// is 480 seconds. Runs take no time here but for Latency and [Delay], and those of a tenth of a
	// second or less are not counted.
	OperatingLimit time.Duration
	// Latency is how long a request to REST takes before its method runs, in real time.
	Latency time.Duration
}

// UserReady is when ONAPPUSERREADY comes; see [Quirks].
type UserReady int

// Values of [UserReady].
const (
	UserReadyNever  UserReady = iota
	UserReadyBefore           // before ONAPPINSTALL, and without waiting for it
	UserReadyAfter            // after ONAPPINSTALL, delayed as it is
)

// raceWindow is the time, real time, in which two calls are at the same time where they race.
const raceWindow = 20 * time.Millisecond

// runOthersLocked lets other calls run in the middle of one, which holds the lock.
func (p *Portal) runOthersLocked() {
	p.mu.Unlock()
	p.pause(context.Background(), raceWindow)
	p.mu.Lock()
}

func defaultQuirks() Quirks { return Quirks{TokenLifetime: time.Hour} }

// check returns an error that names the first field that makes no sense.
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

// ChangeQuirks changes how the portal behaves from now on: change is called with the present quirks
// and edits them. It must not call ChangeQuirks. Calls take turns, so that none undoes another's
// changes. It returns an error that names the field where one makes no sense, and changes nothing
// then, and [ErrClosed].
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
