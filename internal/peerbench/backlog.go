package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// stormChanges is how many changes of one object come in a storm.
const stormChanges = 1000

// measureBacklogs prints how each store recovers a backlog, and the cost of a storm.
func measureBacklogs(ctx context.Context, w io.Writer, s settings) error {
	all := portals()
	v, err := verifier(ctx, all)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\n| backlog of %d | stored in | to the first handler | to drained | a storm of %d changes | its "+
		"commits |\n|---|---|---|---|---|---|\n",
		s.backlog, stormChanges); err != nil {
		return err
	}
	for _, queue := range s.queues {
		if queue == "memory" {
			continue
		}
		line, err := measureBacklog(ctx, s, queue, v, all)
		if err != nil {
			return fmt.Errorf("%s: %w", queue, err)
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}

func measureBacklog(ctx context.Context, s settings, queue string, v webhook.Verifier, all []portal) (line string, err error) {
	p := peer{name: queue}
	defer func() { err = errors.Join(err, p.close()) }()
	store, err := p.open(ctx, s, queue)
	if err != nil {
		return "", err
	}
	store = slowed(store, s)
	payload, err := payloads()
	if err != nil {
		return "", err
	}
	start := time.Now()
	receiver, err := webhook.NewHandler(v, event.NewMux(), webhook.WithStore(store), webhook.WithReceiveOnly())
	if err != nil {
		return "", err
	}
	if err := errors.Join(fill(receiver, payload[0].body, all, s.backlog), receiver.Shutdown(ctx)); err != nil {
		return "", err
	}
	stored := time.Since(start)

	var handled, first atomic.Int64
	start = time.Now()
	hook, err := webhook.NewHandler(v, event.HandlerFunc(func(context.Context, *event.Delivery) error {
		if handled.Add(1) == 1 {
			first.Store(int64(time.Since(start)))
		}
		return nil
	}), webhook.WithStore(store), webhook.WithCoalescing(event.OnCrmDealUpdate))
	if err != nil {
		return "", err
	}
	if err := hook.Idle(ctx); err != nil {
		return "", err
	}
	drained := time.Since(start)
	if n := hook.Stats(); n.Handled+n.Coalesced < uint64(s.backlog) { //nolint:gosec // not negative
		return "", fmt.Errorf("%d of %d were handled", n.Handled+n.Coalesced, s.backlog)
	}
	before, calls := hook.Stats().Store.Commits, handled.Load()
	if err := post(hook, payload[0].body, &all[0], stormChanges, func(int) int { return 1 }); err != nil {
		return "", err
	}
	if err := hook.Idle(ctx); err != nil {
		return "", err
	}
	line = fmt.Sprintf("| %s | %s | %s | %s | %d calls | %d |\n", queue, rounded(float64(stored)), rounded(float64(first.Load())),
		rounded(float64(drained)),
		handled.Load()-calls, hook.Stats().Store.Commits-before)
	return line, hook.Shutdown(ctx)
}

// fill posts n deliveries of all portals to a handler, each of another object.
func fill(receiver http.Handler, body []byte, all []portal, n int) error {
	const senders = 64
	errs := make([]error, senders)
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			for k := i; k < n && errs[i] == nil; k += senders {
				errs[i] = post(receiver, body, &all[k%len(all)], 1, func(int) int { return k })
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// post passes deliveries of a portal to a handler, 64 at a time.
func post(h http.Handler, body []byte, of *portal, n int, object func(int) int) error {
	var wg sync.WaitGroup
	places := make(chan struct{}, 64)
	var failed atomic.Int64
	for i := range n {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			b := bytes.ReplaceAll(body, []byte(memberMark), []byte(of.member))
			b = bytes.ReplaceAll(b, []byte(tokenMark), []byte(of.token))
			b = bytes.ReplaceAll(b, []byte(objectMark), []byte(strconv.Itoa(100_000+object(i))))
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(b)) //nolint:noctx // of a test
			r.Header.Set("Content-Type", formType)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code != http.StatusOK {
				failed.Store(int64(w.Code))
			}
		})
	}
	wg.Wait()
	if status := failed.Load(); status != 0 {
		return fmt.Errorf("a delivery was answered %d", status)
	}
	return nil
}
