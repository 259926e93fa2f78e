package eventtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// deliveryWorkers is how many deliveries are under way at once, over all handlers.
const deliveryWorkers = 16

// maxAnswer bounds what is read of a handler's answer, so that its connection can be used again.
const maxAnswer = 64 << 10

// maxExcerpt bounds what is kept of it.
const maxExcerpt = 1024

// delivery is one delivery to be made.
type delivery struct {
	event     string
	clientID  string
	handlerID int64
	url       string
	body      string
}

// deliveryQueue is the queue server. Portal.mu guards it.
type deliveryQueue struct {
	lanes     map[string]*lane
	ready     []*lane
	scheduled []scheduledRun
	timer     *time.Timer   // of the next thing due; see plan
	pending   int           // queued, under way or to come
	idle      chan struct{} // closed when pending comes to 0; nil while it is 0
	workers   int           // running; they end when no lane is ready
	work      func()        // delivers until no lane is ready; set by New
}

func newDeliveryClient(cfg config) *http.Client {
	c := &http.Client{
		Timeout:       cfg.deliveryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if cfg.network != nil {
		c.Transport = cfg.network
		return c
	}
	c.Transport = &http.Transport{
		DialContext:           (&net.Dialer{Timeout: cfg.deliveryTimeout}).DialContext,
		MaxIdleConnsPerHost:   deliveryWorkers,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: cfg.deliveryTimeout,
	}
	return c
}

// send queues an online delivery to a handler of an application.
func (p *Portal) send(ev *pendingEvents, b *binding, o occurrence) {
	auth := p.authBlockLocked(b.app)
	if b.bot != nil {
		auth.applicationToken = string(b.bot.applicationTokenLocked())
		auth.bot = !p.quirks.WholeBotAuth
	}
	user := o.user
	if b.user > 0 {
		user = b.user
	}
	if user > 0 && p.accounts.users[user] != nil && !p.accounts.users[user].dismissed && !neverHasTokens(o.event) {
		auth.grant(p.issueLocked(b.app, user, ev.chainLeft, hasRefreshToken(o.event)), p.quirks.TokenLifetime)
	}
	c := delivery{
		event: o.event, clientID: b.app.spec.ClientID, handlerID: b.id, url: b.handler,
		body: encodeBody(o.event, b.id, o.data, p.nowLocked(), auth),
	}
	var wait time.Duration
	if o.event == "ONAPPINSTALL" || (o.event == onAppUserReady && p.quirks.UserReady == UserReadyAfter) {
		wait = p.quirks.InstallDelay
	}
	p.enqueueLaterLocked(wait, c)
}

// enqueueLaterLocked queues a delivery after a while, and the jitter of the portal's quirk.
func (p *Portal) enqueueLaterLocked(wait time.Duration, c delivery) {
	if jitter := p.quirks.DeliveryJitter; jitter > 0 {
		wait += rand.N(jitter) //nolint:gosec // chance, not secrecy
	}
	if wait == 0 {
		p.enqueueLocked(c)
		return
	}
	p.scheduleLocked(wait, func() { p.enqueueLocked(c) })
}

// sendToWebhookLocked queues a delivery to an outgoing webhook: no handler, no tokens.
func (p *Portal) sendToWebhookLocked(hook *outgoingWebhook, o occurrence) {
	auth := p.authBlockLocked(nil)
	auth.applicationToken = string(hook.token)
	p.enqueueLaterLocked(0, delivery{event: o.event, url: hook.url, body: encodeBody(o.event, 0, o.data, p.nowLocked(), auth)})
}

// authBlockLocked returns the auth block without tokens.
func (p *Portal) authBlockLocked(a *Application) authBlock {
	auth := authBlock{
		domain: p.addresses.domain, memberID: p.cfg.memberID,
		clientEndpoint: p.baseURLLocked() + "/rest/", serverEndpoint: p.ServerEndpoint(),
	}
	if a != nil {
		auth.applicationToken = string(a.token)
	}
	return auth
}

func (p *Portal) enqueueLocked(c delivery) {
	if p.closed {
		return
	}
	p.signalChangeLocked()
	p.addPendingLocked()
	q := &p.deliveries
	if q.lanes == nil {
		q.lanes = map[string]*lane{}
	}
	l := q.lanes[c.url]
	if l == nil {
		l = &lane{}
		q.lanes[c.url] = l
	}
	l.waiting = append(l.waiting, c)
	if p.readyLaneLocked(l); p.nowLocked().Before(l.until) {
		p.runDueLocked()
	}
}

// addPendingLocked counts a thing that Wait waits for, and end that it is done.
func (p *Portal) addPendingLocked() {
	if p.deliveries.pending++; p.deliveries.idle == nil {
		p.deliveries.idle = make(chan struct{})
	}
}

func (p *Portal) donePendingLocked() {
	if p.deliveries.pending--; p.deliveries.pending == 0 {
		close(p.deliveries.idle)
		p.deliveries.idle = nil
	}
}

// deliverReady is one worker of the queue server, at work until nothing is ready.
func (p *Portal) deliverReady(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.deliveries
	defer func() { q.workers-- }()
	for len(q.ready) > 0 && !p.closed {
		l := q.ready[0]
		q.ready = q.ready[1:]
		c := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.ready = false
		l.busy++
		p.readyLaneLocked(l)

		p.mu.Unlock()
		attempt := p.attempt(ctx, c)
		p.mu.Lock()

		p.recordAttemptLocked(attempt)
		l.busy--
		p.adjustGapLocked(l, attempt.Duration)
		switch {
		case len(l.waiting) == 0 && l.busy == 0 && l.gap == 0:
			delete(q.lanes, c.url)
		case len(l.waiting) > 0 && l.gap > 0:
			p.runDueLocked()
		default:
			p.readyLaneLocked(l)
		}
		p.donePendingLocked()
	}
}

// attempt posts a parcel once. The platform never retries, whatever the answer.
func (p *Portal) attempt(ctx context.Context, c delivery) Attempt {
	a := Attempt{
		Event: c.event, ClientID: c.clientID, HandlerID: c.handlerID, URL: c.url, Body: event.Secret(c.body), Time: p.Now(),
	}
	start := time.Now()
	defer func() {
		a.Duration = time.Since(start)
		p.log.LogAttrs(ctx, slog.LevelDebug, "event delivered",
			slog.String(keyEvent, a.Event), slog.Int(keyStatus, a.Status), slog.Bool(keyOK, a.OK()))
	}()
	r, err := postForm(ctx, c.url, c.body)
	if err != nil {
		a.Err = err
		return a
	}
	resp, err := p.client.Do(r)
	a.Duration = time.Since(start)
	if err != nil {
		a.Err = fmt.Errorf("eventtest: handler did not answer: %w", withoutURL(err))
		return a
	}
	defer resp.Body.Close() //nolint:errcheck // an answer that breaks off is an answer
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	a.Status, a.Answer = resp.StatusCode, event.Secret(answer[:min(len(answer), maxExcerpt)])
	return a
}

// postForm builds a POST of a form body.
func postForm(ctx context.Context, url, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("eventtest: cannot address a request; is its URL absolute and well-formed?")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r, nil
}

// Wait waits until every delivery that was queued by now, and those that their handling queued, has
// been attempted. That includes what [Quirks.InstallDelay], [Quirks.DeliveryJitter],
// [Quirks.OfflineLag] and [Quirks.SlowHandlers] hold back until [Portal.Advance] or time itself
// makes it due. It returns the context's error, or [ErrClosed].
func (p *Portal) Wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		idle, closed := p.deliveries.idle, p.closed
		p.mu.Unlock()
		if closed {
			return ErrClosed
		}
		if idle == nil {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return fmt.Errorf("eventtest: deliveries are still under way: %w", ctx.Err())
		case <-p.life.done:
			return ErrClosed
		}
	}
}

// Resend queues the delivery of an earlier attempt again, its body unchanged. No real portal offers
// this.
func (p *Portal) Resend(a Attempt) error {
	if err := checkURL(a.URL, false); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.enqueueLocked(delivery{event: a.Event, clientID: a.ClientID, handlerID: a.HandlerID, url: a.URL, body: string(a.Body)})
	return nil
}
