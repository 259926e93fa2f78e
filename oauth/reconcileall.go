package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/typednil"
)

const (
	// DefaultReconcileConcurrency is how many portals [ReconcileAll] works on at a time.
	DefaultReconcileConcurrency = 8
	// DefaultReconcileTimeout is how long the second try at a portal may take.
	DefaultReconcileTimeout = time.Minute

	// firstTry limits the first try at a portal, so that those that do not respond hold up nobody.
	firstTry = 10 * time.Second
	// maxSetAside is how many portals wait for their second try. Others get none.
	maxSetAside = 10_000
	// maxReportedErrors is how many failures a report holds.
	maxReportedErrors = 20
	// maxShownErrors is how many of them its text has.
	maxShownErrors = 3
)

// Keys of log attributes of ReconcileAll.
const (
	keyPortals   = "portals"
	keyUnchanged = "unchanged"
	keyChanged   = "changed"
	keyRemoved   = "removed"
)

// ReconcileReport is what [ReconcileAll] has done. Every portal is in one of Unchanged, Changed,
// Removed and Failed.
type ReconcileReport struct {
	Portals   int // stored portals that it has finished with
	Unchanged int // had all bindings
	Changed   int // bindings were created or removed
	Bound     int // bindings created, of all portals together
	Unbound   int // bindings removed
	Removed   int // had removed the application; the hooks have run, and the portal is forgotten
	Failed    int
	Errors    []PortalError // of the first 20 portals that failed
}

// PortalError says why a portal failed. It holds no token.
type PortalError struct {
	MemberID string
	Err      error
}

// Error names the portal and the cause.
func (e PortalError) Error() string { return e.MemberID + ": " + errorText(e.Err) }

// Unwrap returns the cause.
func (e PortalError) Unwrap() error { return e.Err }

// String returns one line for a log: the numbers, and the first few failures. It holds no token.
func (r ReconcileReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "portals: %d, unchanged: %d, changed: %d (+%d -%d bindings), removed: %d, failed: %d",
		r.Portals, r.Unchanged, r.Changed, r.Bound, r.Unbound, r.Removed, r.Failed)
	for i, e := range r.Errors {
		if i == maxShownErrors {
			b.WriteString("; …")
			break
		}
		b.WriteString("; " + e.Error())
	}
	return b.String()
}

// reconcileConfig is what the options of ReconcileAll fill in.
type reconcileConfig struct {
	concurrency int
	timeout     time.Duration
	options     []event.ReconcileOption
}

// ReconcileAllOption configures [ReconcileAll]. A nil one is skipped.
type ReconcileAllOption func(*reconcileConfig) error

// WithReconcileConcurrency sets how many portals are worked on at a time. The default is
// [DefaultReconcileConcurrency]. The limits of each portal are those of its client.
func WithReconcileConcurrency(n int) ReconcileAllOption {
	return func(cfg *reconcileConfig) error {
		if n < 1 {
			return configError("WithReconcileConcurrency", "at least one portal must be worked on at a time")
		}
		cfg.concurrency = n
		return nil
	}
}

// WithReconcileTimeout sets how long the second try at a portal may take. The default is
// [DefaultReconcileTimeout]. The first try takes ten seconds at most.
func WithReconcileTimeout(d time.Duration) ReconcileAllOption {
	return func(cfg *reconcileConfig) error {
		if d <= 0 {
			return configError("WithReconcileTimeout", "the time is not positive")
		}
		cfg.timeout = d
		return nil
	}
}

// WithReconcileOptions passes options on to [event.API.Plan] for each portal, such as
// [event.WithOwnedPrefix].
func WithReconcileOptions(opts ...event.ReconcileOption) ReconcileAllOption {
	return func(cfg *reconcileConfig) error {
		cfg.options = append(cfg.options, opts...)
		return nil
	}
}

// ReconcileAll gives every stored portal the bindings in want, as [event.API.Reconcile] does for
// one. Call it when the program starts, because events, or the handler URL, may have changed with a
// new version, and portals may have lost bindings or removed the application meanwhile:
//
//	report, err := oauth.ReconcileAll(ctx, portals, api.Portal, mux.Bindings("https://example.com/bitrix24"))
//
// It first checks want, so a handler URL that no portal accepts is an [ErrConfig] at the start,
// even if no portal is stored yet. Then it works on several portals at a time. A portal that does
// not respond within ten seconds, or fails in a way that may pass, is tried again after all others.
//
// If a portal or the OAuth server refuses the application, ReconcileAll confirms the removal as
// [Portals.Removed] does. Then it runs [Hooks.Removed] and forgets the portal. Register hooks with
// [Portals.Lifecycle] before. A removal that cannot be confirmed counts as a failure.
//
// Failures of portals are in the report and in the log, and do not end the call. The error is an
// [ErrConfig]; an [ErrStore] if the portals could not be listed, or not all of them; or that of ctx
// if it ended. The report is valid in any case. ReconcileAll needs memory for 10,000 member IDs at
// most, even with more portals. It costs a request for each portal, and a renewal if the
// token has expired. So with many portals run it in a goroutine, and in one process only if several
// start together.
func ReconcileAll[C event.Caller](
	ctx context.Context, p *Portals, portal func(memberID string) C, want []event.Binding, opts ...ReconcileAllOption,
) (ReconcileReport, error) {
	cfg := reconcileConfig{concurrency: DefaultReconcileConcurrency, timeout: DefaultReconcileTimeout}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return ReconcileReport{}, err
		}
	}
	if p == nil || portal == nil {
		return ReconcileReport{}, configError("ReconcileAll", "the Portals or the function is nil; pass the method Portal of rest.Clients")
	}
	for _, b := range want {
		if err := b.Validate(); err != nil {
			return ReconcileReport{}, &Error{Op: "ReconcileAll", Kind: ErrConfig, Err: err}
		}
	}
	r := &reconciler{portals: p, cfg: cfg, want: want, caller: func(memberID string) event.Caller {
		c := portal(memberID)
		if typednil.Is(c) {
			return nil
		}
		return c
	}}
	return r.run(ctx)
}

// reconciler is one run of ReconcileAll.
type reconciler struct {
	portals *Portals
	cfg     reconcileConfig
	want    []event.Binding
	caller  func(memberID string) event.Caller

	mu     sync.Mutex
	report ReconcileReport
	aside  []string // member IDs for a second try
}

func (r *reconciler) run(ctx context.Context) (ReconcileReport, error) {
	failure := r.each(ctx, r.stored(ctx), func(memberID string) { r.try(ctx, memberID, min(firstTry, r.cfg.timeout), true) })
	if again := r.aside; ctx.Err() == nil { // also if the list failed midway
		ended := r.each(ctx, func(yield func(string, error) bool) {
			for _, memberID := range again {
				if !yield(memberID, nil) {
					return
				}
			}
		}, func(memberID string) { r.try(ctx, memberID, r.cfg.timeout, false) })
		failure = cmp.Or(failure, ended)
	}
	report := r.report
	r.portals.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 bindings reconciled", slog.Int(keyPortals, report.Portals),
		slog.Int(keyUnchanged, report.Unchanged), slog.Int(keyChanged, report.Changed), slog.Int(keyRemoved, report.Removed),
		slog.Int(keyFailed, report.Failed))
	return report, failure
}

// stored lists the stored portals.
func (r *reconciler) stored(ctx context.Context) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		for key, err := range Keys(ctx, r.portals.store, r.portals.ClientID()) {
			if err != nil {
				yield("", &Error{Op: "ReconcileAll", Kind: ErrStore, Err: err})
				return
			}
			if key.UserID == 0 && !yield(key.MemberID, nil) {
				return
			}
		}
	}
}

// each calls work for several portals at a time. It returns the error of the list, or that of ctx.
func (r *reconciler) each(ctx context.Context, portals func(func(string, error) bool), work func(memberID string)) error {
	queue := make(chan string)
	var all sync.WaitGroup
	for range r.cfg.concurrency {
		all.Go(func() {
			for memberID := range queue {
				work(memberID)
			}
		})
	}
	var failure error
	for memberID, err := range portals {
		if failure = err; failure != nil {
			break
		}
		select {
		case queue <- memberID:
		case <-ctx.Done():
			failure = ctx.Err()
		}
		if failure != nil {
			break
		}
	}
	close(queue)
	all.Wait()
	if ctx.Err() != nil { // the store may have failed for the same reason
		return fmt.Errorf("oauth: ReconcileAll: %w", ctx.Err())
	}
	return failure
}

// try reconciles one portal within a time. If may is true, a portal that fails can be set aside for
// another try.
func (r *reconciler) try(ctx context.Context, memberID string, limit time.Duration, may bool) {
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	plan, err := r.reconcile(within, memberID)
	removed := false
	if err != nil && ctx.Err() == nil {
		removed, err = r.portals.confirmRemoval(ctx, memberID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.doneLocked(plan, removed)
	case ctx.Err() != nil: // neither done nor failed
	case may && len(r.aside) < maxSetAside && mayPass(err):
		r.aside = append(r.aside, memberID)
	default:
		r.failedLocked(ctx, memberID, err)
	}
}

// mayPass reports whether another try can help. Without the application's own credentials none can,
// unless the renewal of another portal shows that they are right.
func mayPass(err error) bool {
	outcome, _ := event.OutcomeOf(err)
	return outcome != event.OutcomeDropped || errors.Is(err, ErrCredentials)
}

// doneLocked counts a portal that is done. r.mu must be held.
func (r *reconciler) doneLocked(plan event.Plan, removed bool) {
	r.report.Portals++
	switch {
	case removed:
		r.report.Removed++
	case plan.Changes() == 0:
		r.report.Unchanged++
	default:
		r.report.Changed++
		r.report.Bound += len(plan.Bind)
		r.report.Unbound += len(plan.Unbind)
	}
}

// failedLocked counts a portal that failed. r.mu must be held.
func (r *reconciler) failedLocked(ctx context.Context, memberID string, err error) {
	r.report.Portals++
	r.report.Failed++
	if len(r.report.Errors) >= maxReportedErrors {
		return
	}
	r.report.Errors = append(r.report.Errors, PortalError{memberID, err})
	r.portals.log.LogAttrs(ctx, slog.LevelWarn, "bitrix24 bindings of a portal could not be reconciled",
		slog.String(keyMemberID, memberID), slog.String(keyError, errorText(err)))
}

// reconcile creates and removes the bindings of one portal. A panic of the caller is an error.
func (r *reconciler) reconcile(ctx context.Context, memberID string) (plan event.Plan, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = event.NewPanicError(v, debug.Stack())
		}
	}()
	api := event.NewAPI(r.caller(memberID))
	if plan, err = api.Plan(ctx, r.want, r.cfg.options...); err == nil && plan.Changes() > 0 {
		err = api.Apply(ctx, plan)
	}
	return plan, err
}

// confirmRemoval finds out whether a call failed with failure because the application was removed
// from the portal. If so, it runs the hooks, forgets the portal and returns true. Otherwise it
// returns the failure, or why it could not find out.
func (p *Portals) confirmRemoval(ctx context.Context, memberID string, failure error) (removed bool, err error) {
	if !suggestsRemoval(failure) {
		return false, failure
	}
	lifecycles := p.removals.all()
	_, err = p.flights.do(ctx, opRemoval+" "+memberID, opRemoval, func(ctx context.Context) (Installation, error) {
		return Installation{}, p.checkRemoval(ctx, memberID, lifecycles)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	switch _, err = p.Installation(ctx, memberID); {
	case errors.Is(err, ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	default:
		return false, failure
	}
}

// suggestsRemoval reports whether a call may have failed because the application was removed.
func suggestsRemoval(err error) bool {
	var portal event.CallError
	if errors.As(err, &portal) && meansRemoved(portal.ErrorCode()) {
		return true
	}
	var e *Error
	return errors.As(err, &e) && (e.Kind == ErrNotFound || e.Kind == ErrCredentials || e.refusesToken())
}
