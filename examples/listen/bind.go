package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

// unbindTimeout bounds the work after a stop signal.
const unbindTimeout = 20 * time.Second

// binder makes bindings and ends them. It first writes them to a file, so that after a crash the
// next start ends them.
type binder struct {
	portal *oneportal.Portal
	cfg    config

	connector string // its queue is used; empty for the application's own queue
	dir       string // for the state of the queue
	release   func()
	made      []string // events bound by this program
}

// bind selects the queue and binds the missing events to it.
func (b *binder) bind(ctx context.Context) error {
	err := b.bindTo(ctx, b.cfg.connector)
	if oneportal.Code(err) != "WRONG_LICENSE" {
		return err
	}
	if failure := b.forget(); failure != nil || b.cfg.connector != defaultConnector { // nothing was bound
		return errors.Join(err, failure)
	}
	b.cfg.logger.LogAttrs(ctx, slog.LevelWarn,
		"the portal's plan has no connectors: using the application's own queue, which does not get the application's own changes")
	return b.bindTo(ctx, "")
}

func (b *binder) bindTo(ctx context.Context, connector string) (err error) {
	b.connector = connector
	if b.dir, b.release, err = b.portal.QueueDir(connector); err != nil {
		return err
	}
	if b.made, err = b.load(); err != nil {
		b.release()
		b.dir = "" // there is nothing to unbind
		return err
	}
	api := event.NewAPI(b.portal.Client())
	var have []event.Binding
	err = b.portal.Connect(ctx, func(ctx context.Context) error {
		have, err = api.Bindings(ctx)
		return err
	})
	if err != nil {
		return err
	}
	plan, foreign := b.plan(have)
	if len(foreign) > 0 {
		if connector == "" && !b.cfg.shareQueue {
			return fmt.Errorf("%s bound to the application's own queue already, and its other worker would miss the events that listen takes; "+
				"stop that worker and set -share-queue, or choose a -connector", strings.Join(foreign, ", "))
		}
		b.cfg.logger.LogAttrs(ctx, slog.LevelWarn, "another program has bound these events to the queue: they stay bound at the end",
			slog.Any("events", foreign))
	}
	for _, x := range plan.Bind {
		b.made = append(b.made, x.Event)
	}
	if err := b.save(); err != nil {
		return err
	}
	return b.portal.Connect(ctx, func(ctx context.Context) error { return api.Apply(ctx, plan) })
}

// plan compares the events that are bound to the queue with those that are wanted. It takes over
// bindings that an earlier start left. foreign are events that another program has bound.
func (b *binder) plan(have []event.Binding) (plan event.Plan, foreign []string) {
	left := b.made
	b.made = nil
	bound := make(map[string]bool)
	wanted := make(map[string]bool)
	for _, x := range b.cfg.bindings {
		wanted[x.Event] = true
	}
	for _, x := range have {
		if !x.Offline || x.Connector != b.connector {
			continue
		}
		bound[x.Event] = true
		switch {
		case !slices.Contains(left, x.Event):
			foreign = append(foreign, x.Event)
		case wanted[x.Event]:
			b.made = append(b.made, x.Event)
		default:
			b.made = append(b.made, x.Event) // close ends it if that fails now
			plan.Unbind = append(plan.Unbind, x)
		}
	}
	for _, x := range b.cfg.bindings {
		if !bound[x.Event] {
			bound[x.Event] = true // named twice, bound once
			x.Connector = b.connector
			plan.Bind = append(plan.Bind, x)
		}
	}
	return plan, foreign
}

// close ends the bindings that this program has made.
func (b *binder) close(ctx context.Context) error {
	if b.dir == "" {
		return nil
	}
	if len(b.made) > 0 {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), unbindTimeout)
		defer cancel()
		var plan event.Plan
		for _, name := range b.made {
			plan.Unbind = append(plan.Unbind, event.Binding{Event: name, Offline: true, Connector: b.connector})
		}
		if err := event.NewAPI(b.portal.Client()).Apply(last, plan); err != nil {
			b.release()
			return fmt.Errorf("%s stay bound until the next start ends that: %w", strings.Join(b.made, ", "), err)
		}
		b.cfg.logger.LogAttrs(ctx, slog.LevelInfo, "unbound", slog.Any("events", b.made))
	}
	return b.forget()
}

// forget removes the file and unlocks the queue.
func (b *binder) forget() error {
	defer b.release()
	b.made = nil
	if err := os.Remove(b.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (b *binder) file() string { return filepath.Join(b.dir, "bound-by-listen.json") }

func (b *binder) load() ([]string, error) {
	text, err := program.ReadFile(b.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(text, &names)
	}
	return names, err
}

func (b *binder) save() error {
	text, err := json.Marshal(b.made)
	if err != nil {
		return err
	}
	return program.WriteFile(b.file(), text)
}
