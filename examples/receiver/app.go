package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/webhook"
)

// app verifies and handles events.
type app struct {
	cfg      config
	mux      *event.Mux
	verifier webhook.Verifier
	access   *program.Access // of an application; nil with outgoing webhooks only
	install  http.Handler    // the installation page of an application; nil with outgoing webhooks only
}

func newApp(ctx context.Context, cfg config, s *storage, p *printer) (*app, error) {
	a := &app{cfg: cfg, mux: event.NewMux()}
	verifiers := tokenVerifiers(cfg.tokens)
	if cfg.app() {
		for _, b := range a.bindings() {
			if err := b.Validate(); err != nil {
				return nil, fmt.Errorf("PUBLIC_URL or EVENTS: %w", err)
			}
		}
		installations, err := s.installations(ctx)
		if err != nil {
			return nil, err
		}
		if a.access, err = program.OpenOn(cfg.Values, cfg.logger, nil, installations); err != nil {
			return nil, err
		}
		verifiers = append(verifiers, a.access.Tokens)
		// Installations are stored before the hook runs, and forgotten after a verified ONAPPUNINSTALL.
		a.access.Tokens.Lifecycle(a.mux, oauth.Hooks{Installed: a.installed})
		page, err := oauth.PageHandler(a.access.Tokens.Install, a.access.Tokens.FinishInstall(nil), oauth.WithPageLogger(cfg.logger))
		if err != nil {
			a.release()
			return nil, err
		}
		a.install = page
	}
	a.verifier = webhook.Any(verifiers...)
	a.mux.Use(p.printing)
	printed := event.HandlerFunc(func(context.Context, *event.Delivery) error { return nil })
	a.mux.Unhandled(printed) // most events are only printed
	return a, nil
}

// tokenVerifiers returns the verifiers of fixed tokens.
func tokenVerifiers(tokens []program.Token) []webhook.Verifier {
	verifiers := make([]webhook.Verifier, len(tokens))
	for i, t := range tokens {
		if t.MemberID == "" {
			verifiers[i] = webhook.Tokens(t.Text)
		} else {
			verifiers[i] = webhook.TokensOf(t.MemberID, t.Text)
		}
	}
	return verifiers
}

// bindings returns the bindings of EVENTS to PUBLIC_URL.
func (a *app) bindings() []event.Binding {
	if a.cfg.publicURL == "" {
		return nil
	}
	wanted := make([]event.Binding, len(a.cfg.events))
	for i, name := range a.cfg.events {
		wanted[i] = event.Binding{Event: name, Handler: a.cfg.publicURL}
	}
	return wanted
}

// installed binds the events at a portal that was installed.
func (a *app) installed(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
	wanted := a.bindings()
	if len(wanted) == 0 {
		return nil
	}
	return event.NewAPI(a.access.API.Portal(in.MemberID)).Reconcile(ctx, wanted)
}

// bindAll updates the bindings of every stored portal, because EVENTS or PUBLIC_URL may have
// changed while the receiver was down. It forgets portals that have removed the application.
func (a *app) bindAll(ctx context.Context) {
	if a.access == nil {
		return
	}
	if len(a.bindings()) == 0 {
		a.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "PUBLIC_URL is not set: nothing is bound")
		return
	}
	if !slices.ContainsFunc(a.cfg.events, func(name string) bool { return strings.EqualFold(name, event.OnAppUninstall.Name()) }) {
		a.cfg.logger.LogAttrs(ctx, slog.LevelInfo,
			"EVENTS lacks ONAPPUNINSTALL: the receiver does not notice when a portal removes the application")
	}
	// It logs what it did, and which portals failed.
	if _, err := oauth.ReconcileAll(ctx, a.access.Tokens, a.access.API.Portal, a.bindings()); err != nil && ctx.Err() == nil {
		a.cfg.logger.LogAttrs(ctx, slog.LevelError, "bindings could not be updated", slog.String("error", err.Error()))
	}
}

// figures adds those of an application.
func (a *app) figures(f figures) figures {
	if a.access != nil {
		calls, access := a.access.API.Stats(), a.access.Tokens.Stats()
		f.rest, f.oauth = &calls, &access
	}
	return f
}

func (a *app) close(ctx context.Context) error {
	if a.access == nil {
		return nil
	}
	return a.access.Tokens.Shutdown(ctx)
}

// release closes the files of the store.
func (a *app) release() {
	if a.access != nil {
		a.access.Close()
	}
}
