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

// deliveryWorkers is the number of deliveries that run at the same time, over all handlers.
const deliveryWorkers = 16

// maxAnswer limits how much of a handler's response is read. It is read so that the connection can
// be reused.
const maxAnswer = 64 << 10

// maxExcerpt limits how much of a response body is kept.
const maxExcerpt = 1024

// delivery is one request to a handler that waits to be sent.
type delivery struct {
	event     string
	clientID  string
	handlerID int64
	url       string
	body      string
	resendOf  int64 // ID of the attempt that it repeats
}

// attempt returns the attempt of a delivery before it is made.
func (d delivery) attempt(now time.Time) Attempt {
	return Attempt{
		Event: d.event, ClientID: d.clientID, HandlerID: d.handlerID, URL: d.url, Body: event.Secret(d.body), Time: now, ResendOf: d.resendOf,
	}
}

// deliveryQueue is the platform's event queue server. Portal.mu guards it.
type deliveryQueue struct {
	lanes map[string]*lane // by handler URL

	ready []*lane // lanes that wait for a worker

	scheduled []scheduledRun // see scheduleLocked

	timer   *time.Timer   // of what is due next; see runDueLocked
	bytes   int           // of deliveries that wait or run; see admitLocked
	pending int           // deliveries and scheduled functions that Wait waits for
	idle    chan struct{} // closed when pending becomes 0; nil while it is 0
	workers int           // running; they end when no lane is ready
	work    func()        // delivers until no lane is ready; set by New
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
		MaxIdleConns:          100,
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
		auth.grant(p.tokensForLocked(ev, b, o, user), p.quirks.TokenLifetime)
	}
	d := delivery{
		event: o.event, clientID: b.app.spec.ClientID, handlerID: b.id, url: b.handler,
		body: encodeBody(o.event, b.id, o.data, p.nowLocked(), auth),
	}
	var wait time.Duration
	if o.event == "ONAPPINSTALL" || (o.event == onAppUserReady && p.quirks.UserReady == UserReadyAfter) {
		wait = p.quirks.InstallDelay
	}
	p.enqueueLaterLocked(wait, d)
}

// tokensForLocked issues the tokens of a user for a delivery. An application stores those of its
// installation.
func (p *Portal) tokensForLocked(ev *pendingEvents, b *binding, o occurrence, user int64) Grant {
	if o.event == "ONAPPINSTALL" {
		return p.issueLocked(b.app, user)
	}
	return p.issueForEventLocked(b.app, user, ev.chainLeft, hasRefreshToken(o.event))
}

// enqueueLaterLocked queues a delivery after wait and a random part of [Quirks.DeliveryJitter].
func (p *Portal) enqueueLaterLocked(wait time.Duration, d delivery) {
	if !p.admitLocked(d) {
		return
	}
	if jitter := p.quirks.DeliveryJitter; jitter > 0 {
		wait += rand.N(jitter) //nolint:gosec // chance, not secrecy
	}
	if wait == 0 {
		p.enqueueLocked(d)
		return
	}
	p.scheduleLocked(wait, func() { p.enqueueLocked(d) })
}

// sendToWebhookLocked queues a delivery to an outgoing webhook. It has no handler ID and no tokens.
func (p *Portal) sendToWebhookLocked(hook *outgoingWebhook, o occurrence) {
	auth := p.authBlockLocked(nil)
	auth.applicationToken = string(hook.token)
	p.enqueueLaterLocked(0, delivery{event: o.event, url: hook.url, body: encodeBody(o.event, 0, o.data, p.nowLocked(), auth)})
}

// authBlockLocked returns an auth block without tokens. a is nil for outgoing webhooks.
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

// enqueueLocked adds a delivery to the lane of its URL.
func (p *Portal) enqueueLocked(d delivery) {
	if p.closed {
		return
	}
	p.signalChangeLocked()
	p.addPendingLocked()
	q := &p.deliveries
	if q.lanes == nil {
		q.lanes = map[string]*lane{}
	}
	l := q.lanes[d.url]
	if l == nil {
		l = &lane{}
		q.lanes[d.url] = l
	}
	l.waiting = append(l.waiting, d)
	if p.readyLaneLocked(l); p.nowLocked().Before(l.until) {
		p.runDueLocked()
	}
}

// addPendingLocked counts one more thing that Wait waits for.
func (p *Portal) addPendingLocked() {
	if p.deliveries.pending++; p.deliveries.idle == nil {
		p.deliveries.idle = make(chan struct{})
	}
}

// donePendingLocked counts one of them as done.
func (p *Portal) donePendingLocked() {
	if p.deliveries.pending--; p.deliveries.pending == 0 {
		close(p.deliveries.idle)
		p.deliveries.idle = nil
	}
}

// deliverReady is one worker of the queue server. It delivers until no lane is ready.
func (p *Portal) deliverReady(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := &p.deliveries
	defer func() { q.workers-- }()
	for len(q.ready) > 0 && !p.closed {
		l := q.ready[0]
		q.ready = q.ready[1:]
		d := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.ready = false
		l.busy++
		p.readyLaneLocked(l)

		p.mu.Unlock()
		attempt := p.attempt(ctx, d)
		p.mu.Lock()

		p.recordAttemptLocked(attempt)
		q.bytes -= d.weight()
		l.busy--
		p.adjustGapLocked(l, attempt.Duration)
		switch {
		case len(l.waiting) == 0 && l.busy == 0 && l.gap == 0:
			delete(q.lanes, d.url)
		case len(l.waiting) > 0 && l.gap > 0:
			p.runDueLocked()
		default:
			p.readyLaneLocked(l)
		}
		p.donePendingLocked()
	}
}

// attempt posts a delivery once. The platform never retries, whatever status it gets.
func (p *Portal) attempt(ctx context.Context, d delivery) Attempt {
	a := d.attempt(p.Now())
	start := time.Now()
	defer func() {
		a.Duration = time.Since(start)
		p.log.LogAttrs(ctx, slog.LevelDebug, "event delivered",
			slog.String(keyEvent, a.Event), slog.Int(keyStatus, a.Status), slog.Bool(keyOK, a.OK()))
	}()
	r, err := postForm(ctx, d.url, d.body)
	if err != nil {
		a.Err = err
		return a
	}
	resp, err := p.client.Do(r)
	a.Duration = time.Since(start)
	if err != nil {
		a.Err = fmt.Errorf("eventtest: the handler did not respond: %w", withoutURL(err))
		return a
	}
	defer resp.Body.Close() //nolint:errcheck // only the status and an excerpt matter
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	a.Status, a.Answer = resp.StatusCode, event.Secret(answer[:min(len(answer), maxExcerpt)])
	return a
}

// postForm builds a POST of a form body.
func postForm(ctx context.Context, url, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("eventtest: cannot build a request; is its URL absolute and well-formed?")
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r, nil
}

// Wait waits until every delivery that was queued by now, and those that their handling queued, has
// been attempted. That includes what [Quirks.InstallDelay], [Quirks.DeliveryJitter],
// [Quirks.OfflineLag] and [Quirks.SlowHandlers] delay, until it is due by the portal's clock; see
// [Portal.Advance]. Wait returns the context's error, or [ErrClosed].
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

// Resend queues an earlier delivery again, with the same body. [Attempt.ResendOf] of the new
// attempt is the ID of the earlier one. No real portal offers this. It returns [ErrConfig] for an
// attempt without a valid URL, and [ErrClosed].
func (p *Portal) Resend(a Attempt) error {
	if err := checkURL(a.URL, false); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	d := delivery{event: a.Event, clientID: a.ClientID, handlerID: a.HandlerID, url: a.URL, body: string(a.Body), resendOf: a.ID}
	if p.admitLocked(d) {
		p.enqueueLocked(d)
	}
	return nil
}
