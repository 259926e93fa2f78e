package oauth

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/b24events/b24events/event"
)

const (
	// pageHookTimeout limits Hooks.Installed on a page, for which a person waits.
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
	at, ok := s.pages[memberID]
	delete(s.pages, memberID)
	return ok && time.Since(at) < eventAfterPage
}

// setUpByPage runs the hooks of an installation that came with a page. It returns what is stored
// then.
func (p *Portals) setUpByPage(ctx context.Context, in Installation) (Installation, error) {
	ctx = context.WithoutCancel(ctx) // the person may leave the page, but the portal is to be set up
	ran := false
	for _, l := range p.removals.all() {
		if l.hooks.Installed == nil {
			continue
		}
		ran = true
		if err := l.installedByPage(ctx, in); err != nil {
			return Installation{}, err
		}
	}
	if !ran {
		return in, nil
	}
	return p.Installation(ctx, in.MemberID)
}

// installedByPage runs the hook for an installation that came with a page, unless it has run since
// the installation was stored.
func (l *lifecycle) installedByPage(ctx context.Context, in Installation) error {
	ctx, cancel := context.WithTimeout(ctx, pageHookTimeout)
	defer cancel()
	unlock, err := l.setUps.lock(ctx, in.MemberID)
	if err != nil {
		return hookError(err)
	}
	defer unlock()
	current, err := l.portals.Installation(ctx, in.MemberID)
	switch {
	case err != nil:
		return err
	case !current.SetUpAt.IsZero() && !current.SetUpAt.Before(in.InstalledAt):
		return nil
	}
	if err := l.hooks.Installed(ctx, current, event.AppInstall{}); err != nil {
		return hookError(err)
	}
	l.setUps.pageDone(in.MemberID)
	return l.markSetUp(ctx, in.MemberID)
}

// hookError is the error of a page whose hook failed.
func hookError(err error) error { return &Error{Op: opInstall, Kind: ErrHook, Err: err} }

// markSetUp stores that the hook has succeeded for the stored installation.
func (l *lifecycle) markSetUp(ctx context.Context, memberID string) error {
	_, err := l.portals.change(ctx, l.portals.appKey(memberID), func(in *Installation) bool {
		if in.SetUpAt.After(in.InstalledAt) {
			return false
		}
		in.SetUpAt = time.Now().UTC()
		return true
	})
	return ignoreNotFound(err)
}

// installed handles a verified ONAPPINSTALL.
func (l *lifecycle) installed(ctx context.Context, d *event.Delivery, e event.AppInstall) error {
	if l.hooks.Installed == nil {
		return nil
	}
	unlock, err := l.setUps.lock(ctx, d.MemberID())
	if err != nil {
		return err
	}
	defer unlock()
	in, err := l.portals.Installation(ctx, d.MemberID())
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	case err == nil && d.Proof.By != event.ProofTokens && in.SetUpAt.After(in.InstalledAt):
		return nil // a copy of what is set up already, which brought no new tokens
	case err == nil && !in.SetUpAt.IsZero() && l.setUps.takePage(d.MemberID()):
		return l.markSetUp(ctx, d.MemberID()) // the page of the same installation has set it up
	}
	if err := runHook(ctx, l, d, l.hooks.Installed, e); err != nil {
		return err
	}
	return l.markSetUp(ctx, d.MemberID())
}
