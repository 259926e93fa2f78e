package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
)

func (s *stage) introduce(context.Context) (string, error) {
	return fmt.Sprintf("a Bitrix24 portal at %s, its OAuth server at %s, an application at %s",
		s.portal.Domain(), s.portal.OAuthHost(), strings.TrimPrefix(s.url, "http://")), nil
}

// install: the portal sends the install event; the application accepts it only after the OAuth
// server has confirmed it.
func (s *stage) install(ctx context.Context) (string, error) {
	if err := s.app.Install(ctx); err != nil {
		return "", err
	}
	if _, err := s.next(ctx); err != nil {
		return "", err
	}
	in, err := s.portals.Installation(ctx, s.portal.MemberID())
	if err != nil {
		return "", err
	}
	asked := len(s.portal.OAuthCalls())
	if in.ApplicationToken != s.app.ApplicationToken() || asked == 0 {
		return "", errors.New("the installation was not verified")
	}
	return fmt.Sprintf("install event verified at the OAuth server (%d requests) and stored", asked), nil
}

// bindings: the portal sends the events that the mux handles.
func (s *stage) bindings(ctx context.Context) (string, error) {
	want := s.mux.Bindings(s.url)
	bound := s.portal.Bindings()
	for _, b := range want {
		if !slices.ContainsFunc(bound, func(have eventtest.Binding) bool { return have.Event == b.Event && have.Handler == b.Handler }) {
			return "", fmt.Errorf("%s is not bound", b.Event)
		}
	}
	plan, err := s.events24(s.portal.MemberID()).Plan(ctx, want)
	if err != nil {
		return "", err
	}
	if plan.Changes() != 0 || len(bound) != len(want) {
		return "", fmt.Errorf("%d bindings for %d events, %d changes left", len(bound), len(want), plan.Changes())
	}
	return fmt.Sprintf("%d made from the handlers at install, 0 left to change", len(bound)), nil
}

// events: the portal posts forms, and the handlers get structs.
func (s *stage) events(ctx context.Context) (string, error) {
	user := s.portal.AddUser(eventtest.User{Name: "Eve"})
	bot, err := s.app.AddBot(eventtest.Bot{Code: "helper"})
	if err != nil {
		return "", err
	}
	var said []string
	for _, change := range []func() error{
		func() error { return s.add(eventtest.Deal, user, map[string]any{"TITLE": "from the quickstart"}) },
		func() error { return s.add(eventtest.Task, user, map[string]any{"TITLE": "from the quickstart"}) },
		func() error {
			return s.add(eventtest.SmartProcess(smartProcess), user, map[string]any{"title": "from the quickstart"})
		},
		func() error {
			return s.add(eventtest.ChatMessage, user, map[string]any{"DIALOG_ID": bot, "MESSAGE": "Hello & hi"})
		},
	} {
		if err := change(); err != nil {
			return "", err
		}
		what, err := s.next(ctx)
		if err != nil {
			return "", err
		}
		said = append(said, what)
	}
	want := []string{"deal 1", "task 1", "item 1 of smart process 147", `message "Hello & hi" to a bot`}
	if !slices.Equal(said, want) {
		return "", fmt.Errorf("got %q", said)
	}
	return "4 decoded: " + strings.Join(said, ", "), nil
}

func (s *stage) add(kind eventtest.Kind, user int64, fields map[string]any) error {
	_, err := s.portal.Add(kind, fields, user)
	return err
}

// forgery: an event with the wrong token, an event of another portal, and an installation that
// names a hostile OAuth server.
func (s *stage) forgery(ctx context.Context) (string, error) {
	var asked atomic.Int64
	hostile, stop, err := s.listen(ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	if err != nil {
		return "", err
	}
	defer stop()
	member := eventtest.WithMember(s.portal.MemberID())
	before, err := s.portals.Installation(ctx, s.portal.MemberID())
	if err != nil {
		return "", err
	}
	forged := []struct {
		e       eventtest.Event
		payload any
		options []eventtest.RequestOption
	}{
		{
			event.OnCrmDealAdd,
			event.CRMEntity{ID: 666},
			[]eventtest.RequestOption{member, eventtest.WithToken("00000000000000000000000000000000")},
		},
		{event.OnCrmDealAdd, event.CRMEntity{ID: 666}, []eventtest.RequestOption{eventtest.WithToken(s.app.ApplicationToken())}},
		{event.OnAppInstall, event.AppInstall{Version: "1"}, []eventtest.RequestOption{
			member, eventtest.WithToken("11111111111111111111111111111111"), eventtest.WithUser(1, "forged-access-token"),
			eventtest.WithRefreshToken("forged-refresh-token"), eventtest.WithEndpoints(hostile+"/rest/", hostile+"/rest/"),
		}},
	}
	for _, f := range forged {
		status, err := s.post(ctx, f.e, f.payload, f.options...)
		if err != nil {
			return "", err
		}
		if status != http.StatusForbidden {
			return "", fmt.Errorf("a forged %s was answered %d", f.e.Name(), status)
		}
	}
	after, err := s.portals.Installation(ctx, s.portal.MemberID())
	switch {
	case err != nil:
		return "", err
	case after.ApplicationToken != before.ApplicationToken || after.AccessToken != before.AccessToken:
		return "", errors.New("a forged installation changed the stored one")
	case asked.Load() != 0 || len(s.seen) != 0:
		return "", errors.New("a forged event reached a handler, or its host a request")
	}
	return fmt.Sprintf("%d forged events answered 403, 0 reached a handler, 0 requests to the host they named", len(forged)), nil
}

// employee: a user without rights has the tokens and the application token that every page of the
// application shows. The user sends an installation, and an event that says that the application
// was removed. The application refuses the first, and ignores the second, because the stored token
// still works.
func (s *stage) employee(ctx context.Context) (string, error) {
	before, err := s.portals.Installation(ctx, s.portal.MemberID())
	if err != nil {
		return "", err
	}
	employee := s.portal.AddUser(eventtest.User{Name: "Mallory"})
	grant, err := s.app.Grant(employee)
	if err != nil {
		return "", err
	}
	status, err := s.post(ctx, event.OnAppInstall, event.AppInstall{Version: "1"},
		eventtest.WithGrant(grant), eventtest.WithToken("22222222222222222222222222222222"))
	switch {
	case err != nil:
		return "", err
	case status != http.StatusForbidden:
		return "", fmt.Errorf("an employee's installation was answered %d", status)
	}
	processed := s.handler.Stats().Handled
	if status, err = s.post(ctx, event.OnAppUninstall, event.AppUninstall{Clean: true}, eventtest.WithPortal(grant)); err != nil {
		return "", err
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("a forged uninstallation was answered %d", status)
	}
	for s.handler.Stats().Handled == processed {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for a handler: %w", ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	after, err := s.portals.Installation(ctx, s.portal.MemberID())
	switch {
	case err != nil || s.removed.Load():
		return "", fmt.Errorf("a forged uninstallation removed the portal: %w", err)
	case after.ApplicationToken != before.ApplicationToken || after.UserID != before.UserID:
		return "", errors.New("an employee took the installation over")
	}
	return "own installation answered 403, forged uninstallation not believed: the stored token still works", nil
}

func (s *stage) post(ctx context.Context, e eventtest.Event, payload any, options ...eventtest.RequestOption) (int, error) {
	r, err := eventtest.NewRequest(ctx, e, payload, append(options, eventtest.WithURL(s.url))...)
	if err != nil {
		return 0, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<16))
	return answer.StatusCode, err
}

// token: fifty goroutines use an expired access token at once; one of them refreshes it for all.
func (s *stage) token(ctx context.Context) (string, error) {
	const callers = 50
	s.portal.Advance(2 * time.Hour) // tokens live for one
	before := s.portal.CallCount("oauth/token")
	var group errgroup.Group
	for range callers {
		group.Go(func() error {
			deal, err := rest.Call[struct{ TITLE string }](ctx, s.api.Portal(s.portal.MemberID()), "crm.deal.get", map[string]any{"id": 1})
			if err == nil && deal.TITLE != "from the quickstart" {
				err = fmt.Errorf("the deal's title is %q", deal.TITLE)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	refreshes := s.portal.CallCount("oauth/token") - before
	if refreshes != 1 {
		return "", fmt.Errorf("%d refreshes", refreshes)
	}
	return fmt.Sprintf("expired under %d concurrent calls: %d refresh, %d answers", callers, refreshes, callers), nil
}

// burst: a deal changes a thousand times while its handler runs. The portal posts a thousand
// events. The handler runs only once more, because it reads the deal's present state.
func (s *stage) burst(ctx context.Context) (string, error) {
	const changes = 1000
	before := s.handler.Stats()
	for i := range changes {
		if err := s.portal.Update(eventtest.Deal, 1, map[string]any{"OPPORTUNITY": i}, eventtest.AdminID); err != nil {
			return "", err
		}
	}
	if err := s.portal.Wait(ctx); err != nil {
		return "", err
	}
	accepted := s.handler.Stats().Accepted - before.Accepted
	close(s.busy)
	if err := s.idle(ctx); err != nil {
		return "", err
	}
	runs := len(s.runs)
	if accepted != changes || runs < 1 || runs > 2 {
		return "", fmt.Errorf("%d of %d changes accepted, %d handler runs", accepted, changes, runs)
	}
	return fmt.Sprintf("%d changes of one deal, %d acknowledged, %d handler runs", changes, accepted, runs), nil
}

// idle waits until the queue is empty and no handler runs.
func (s *stage) idle(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if now := s.handler.Stats(); now.Queued == 0 && now.Running == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the queue to empty: %w", ctx.Err())
		}
	}
}

// offline: the portal keeps events in its queue; a process reserves some and dies, and the next one
// finishes them.
func (s *stage) offline(ctx context.Context) (string, error) {
	const deals = 5
	caller := s.api.Portal(s.portal.MemberID())
	var handled atomic.Int64
	mux := event.NewMux()
	event.On(mux, event.OnCrmLeadAdd, func(context.Context, *event.Delivery, event.CRMEntity) error {
		handled.Add(1)
		return nil
	})
	if err := s.events24(s.portal.MemberID()).Reconcile(ctx, mux.OfflineBindings("")); err != nil {
		return "", err
	}
	for range deals {
		if err := s.add(eventtest.Lead, eventtest.AdminID, map[string]any{"TITLE": "from the quickstart"}); err != nil {
			return "", err
		}
	}
	queue, err := offline.NewQueue(caller)
	if err != nil {
		return "", err
	}
	crashed, err := queue.Reserve(ctx, 3) // then this process crashes
	if err != nil {
		return "", err
	}
	reserved := len(crashed.Records)
	consumer, err := offline.NewConsumer(caller, mux, offline.WithMemberID(s.portal.MemberID()), offline.WithLogger(s.log))
	if err != nil {
		return "", err
	}
	if err := consumer.Drain(ctx); err != nil {
		return "", err
	}
	left := len(s.portal.OfflineRows())
	if reserved != 3 || handled.Load() != deals || left != 0 {
		return "", fmt.Errorf("%d reserved by the crashed process, %d of %d handled, %d left", reserved, handled.Load(), deals, left)
	}
	return fmt.Sprintf("%d records, %d of them reserved by a process that crashed: %d handled, %d left", deals, reserved, handled.Load(),
		left), nil
}

// shutdown: all acknowledged events were processed.
func (s *stage) shutdown(ctx context.Context) (string, error) {
	if err := s.handler.Shutdown(ctx); err != nil {
		return "", err
	}
	n := s.handler.Stats()
	if n.Accepted != n.Handled+n.Coalesced || n.Unhandled+n.Failed+n.Lost != 0 {
		return "", fmt.Errorf("%d accepted, %d processed, %d coalesced, %d unhandled, %d failed, %d dropped",
			n.Accepted, n.Handled, n.Coalesced, n.Unhandled, n.Failed, n.Lost)
	}
	return fmt.Sprintf("drained: %d accepted = %d processed + %d coalesced, 0 failed, 0 dropped", n.Accepted, n.Handled, n.Coalesced), nil
}
