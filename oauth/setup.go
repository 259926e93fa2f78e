package oauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// pageHookTimeout limits Hooks.Installed on a page, for which a person waits, and how long it may
	// wait for the hook of another page or event.
	pageHookTimeout = time.Minute
	// eventAfterPage is how long after its page an installation's ONAPPINSTALL counts as a copy. The
	// platform fires it when the page calls BX24.installFinish.
	eventAfterPage = 10 * time.Minute
)

// setUps makes the Installed hook of one portal run for one caller at a time, and remembers which
// portals a page has set up lately. The zero setUps is ready.
type setUps struct {
	mu    sync.Mutex
	busy  map[string]chan struct{} // by member ID; closed when the hook ends
	pages map[string]time.Time     // by member ID: when a page's hook succeeded, until its event came
}

// lock waits until no hook runs for a portal.
func (s *setUps) lock(ctx context.Context, memberID string) (unlock func(), err error) {
	for {
		s.mu.Lock()
		busy := s.busy[memberID]
		if busy == nil {
			if s.busy == nil {
				s.busy = make(map[string]chan struct{})
			}
			own := make(chan struct{})
			s.busy[memberID] = own
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.busy, memberID)
				s.mu.Unlock()
				close(own)
			}, nil
		}
		s.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// pageDone remembers that a page has set a portal up.
func (s *setUps) pageDone(memberID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages == nil || len(s.pages) >= maxDone {
		s.pages = make(map[string]time.Time) // at worst, a hook runs again
	}
	s.pages[memberID] = time.Now()
}

// takePage reports whether a page has set a portal up lately, and forgets it: one event follows a
// page.
func (s *setUps) takePage(memberID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.hasPageLocked(memberID)
	delete(s.pages, memberID)
	return ok
}

// hasPage reports whether a page has set a portal up lately, and its event has not come yet.
func (s *setUps) hasPage(memberID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasPageLocked(memberID)
}

// hasPageLocked is hasPage. s.mu must be held.
func (s *setUps) hasPageLocked(memberID string) bool {
	at, ok := s.pages[memberID]
	return ok && time.Since(at) < eventAfterPage
}

// setUpByPage runs the hooks of an installation that came with a page, unless they have succeeded
// for it, or for a later one. copied means that the page brought nothing new. setUpByPage returns
// what is stored then.
func (p *Portals) setUpByPage(ctx context.Context, in Installation, copied bool) (Installation, error) {
	var hooks []func(context.Context, Installation, event.AppInstall) error
	for _, l := range p.removals.all() {
		if l.hooks.Installed != nil {
			hooks = append(hooks, l.hooks.Installed)
		}
	}
	if len(hooks) == 0 {
		return in, nil
	}
	ctx = context.WithoutCancel(ctx) // the person may leave the page, but the portal is to be set up
	done := func(current Installation) bool {
		return current.isSetUp() || current.isSetUpFor(in.InstalledAt) || (copied && p.setUps.hasPage(in.MemberID))
	}
	if err := p.runPageHooks(ctx, in.MemberID, done, hooks); err != nil {
		return Installation{}, err
	}
	return p.Installation(ctx, in.MemberID)
}

func (p *Portals) runPageHooks(
	ctx context.Context, memberID string, done func(current Installation) bool,
	hooks []func(context.Context, Installation, event.AppInstall) error,
) error {
	wait, cancel := context.WithTimeout(ctx, pageHookTimeout)
	defer cancel()
	unlock, err := p.setUps.lock(wait, memberID)
	if err != nil {
		return hookError(err)
	}
	defer unlock()
	current, err := p.Installation(ctx, memberID)
	switch {
	case err != nil:
		return err
	case done(current):
		return nil
	}
	for _, hook := range hooks {
		if err := runPageHook(ctx, current, hook); err != nil {
			return hookError(err)
		}
	}
	p.setUps.pageDone(memberID)
	return p.markSetUp(ctx, current)
}

func runPageHook(ctx context.Context, in Installation, hook func(context.Context, Installation, event.AppInstall) error) error {
	ctx, cancel := context.WithTimeout(ctx, pageHookTimeout)
	defer cancel()
	return hook(ctx, in.clone(), event.AppInstall{})
}

// hookError is the error of a page whose hook failed.
func hookError(err error) error { return &Error{Op: opInstall, Kind: ErrHook, Err: err} }

// isSetUp reports whether the hook has succeeded for this very installation. Times are compared for
// equality only, because the clocks of processes differ, and because an installation may be
// replaced while the hook of the one before runs.
func (in Installation) isSetUp() bool { return in.isSetUpFor(in.InstalledAt) }

// isSetUpFor reports whether the installation for which the hook has last succeeded is the one from
// a time. A zero time is that of an installation from configuration, of which there is one.
func (in Installation) isSetUpFor(installedAt time.Time) bool {
	return !in.SetUpAt.IsZero() && (installedAt.IsZero() || in.SetUpAt.Equal(installedAt))
}

// markSetUp stores that the hook has succeeded for an installation.
func (p *Portals) markSetUp(ctx context.Context, done Installation) error {
	_, err := p.change(ctx, p.appKey(done.MemberID), func(in *Installation) bool {
		if in.isSetUp() {
			return false
		}
		if in.SetUpAt = done.InstalledAt; in.SetUpAt.IsZero() {
			in.SetUpAt = time.Now().UTC()
		}
		return true
	})
	return ignoreNotFound(err)
}

// installed handles a verified ONAPPINSTALL.
func (l *lifecycle) installed(ctx context.Context, d *event.Delivery, e event.AppInstall) error {
	if l.hooks.Installed == nil {
		return nil
	}
	p := l.portals
	unlock, err := p.setUps.lock(ctx, d.MemberID())
	if err != nil {
		return err
	}
	defer unlock()
	in, err := p.Installation(ctx, d.MemberID())
	copied := d.Proof.By != event.ProofTokens // it brought no new tokens
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err == nil && copied && (in.isSetUp() || p.setUps.hasPage(d.MemberID())):
		return nil
	case err == nil && !copied && !in.SetUpAt.IsZero() && p.setUps.takePage(d.MemberID()):
		return p.markSetUp(ctx, in) // the page of the same installation has set it up
	}
	if err := runHook(ctx, l, d, l.hooks.Installed, e); err != nil {
		return err
	}
	return p.markSetUp(ctx, in)
}
