package polling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/logattr"
	"github.com/b24events/b24events/internal/timing"
)

const (
	methodBotGet      = "imbot.v2.Event.get"
	methodBot         = "imbot.v2.Bot.get"
	methodUserGet     = "im.v2.Event.get"
	methodSubscribe   = "im.v2.Event.subscribe"
	methodUnsubscribe = "im.v2.Event.unsubscribe"
	methodProfile     = "profile"
)

// run is the work of a consumer from a start to a stop. One goroutine calls its methods; the
// dispatcher's workers call those of dispatch.Front.
type run struct {
	c      *Consumer
	window window
	signal chan struct{}    // an event was finished
	portal *dispatch.Portal // the events in work
	values context.Context  //nolint:containedctx // handlers find its values
	life   context.Context  //nolint:containedctx // of hooks; it ends as the contexts of handlers do
	end    context.CancelCauseFunc

	stopping chan struct{} // closed by stop

	leaseLost atomic.Bool   // another process may poll now
	abandoned atomic.Uint64 // events that were not finished at the stop
	loaded    bool          // the kept offset was read
	ready     bool          // the bot and the user were checked, and the user is subscribed
	empty     bool          // the last response had nothing
	nextPoll  time.Time     // not before; the offset is kept first
	nextCheck time.Time     // of the bot and the user
	fullSince time.Time     // since when no more events fit into memory; zero if some do
	nextKeep  time.Time     // not before, after an error of the store
	lastKept  time.Time
	idle      time.Duration // the present wait while no events come
	failures  int           // of calls, in a row
	unkept    int           // failures of the store, in a row
	drain     bool
}

func newRun(ctx context.Context, c *Consumer, drain bool) *run {
	r := &run{c: c, signal: make(chan struct{}, 1), stopping: make(chan struct{}), values: context.WithoutCancel(ctx), drain: drain}
	r.life, r.end = context.WithCancelCause(r.values)
	r.portal = c.cfg.dispatcher.Open(dispatch.Key{ClientID: c.cfg.key.ClientID, MemberID: c.cfg.key.MemberID}, dispatch.PortalOptions{
		Front: r, Limit: c.cfg.workers, Misfits: c.reportMisfits, Intake: ctx,
	})
	return r
}

// work polls until ctx ends, a permanent error occurs, or, if drain is set, nothing is left. It
// calls check before each turn.
func (r *run) work(ctx context.Context, check func()) error {
	for ctx.Err() == nil {
		check()
		wait, err := r.turn(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case r.drain && r.drained():
			return nil
		default:
			r.sleep(ctx, wait)
		}
	}
	return ctx.Err()
}

// sleep waits for d, or until an event is finished.
func (r *run) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-r.signal:
	case <-timer.C:
	}
}

// turn keeps the offset and polls, if either is due. It returns how long to wait for the next turn,
// unless an event is finished before. Every error that it returns is permanent; others are logged,
// and the call is made again later.
func (r *run) turn(ctx context.Context) (time.Duration, error) {
	if now := time.Now(); !now.Before(r.nextPoll) && (!r.ready || !now.Before(r.nextCheck)) {
		if err := r.prepare(ctx); err != nil {
			return r.failed(ctx, "polling: cannot ask for events yet, trying again", err)
		}
	}
	if !r.loaded {
		return time.Until(r.nextPoll), nil
	}
	keepAt, kept, err := r.keepIfDue(ctx)
	if err != nil {
		return 0, err
	}
	offset, limit, room := r.window.next(r.batch())
	r.noteRoom(ctx, room, offset)
	if kept && room && r.ready && !time.Now().Before(r.nextPoll) {
		if err := r.poll(ctx, offset, limit); err != nil {
			return r.failed(ctx, "polling: the portal could not be asked, trying again", err)
		}
		return 0, nil // to see what is due now
	}
	next := time.Now().Add(min(r.c.cfg.maxInterval, warnFullFor))
	if kept && room {
		next = r.nextPoll
	}
	if !keepAt.IsZero() && keepAt.Before(next) {
		next = keepAt
	}
	return time.Until(next), nil
}

// batch returns how many new events to ask for: fewer after failures, because a response may have
// been too large, or may have taken the portal too long.
func (r *run) batch() int {
	return max(1, r.c.cfg.batchSize>>min(r.failures, 10)) //nolint:mnd // 2^10 is more than the largest batch
}

// noteRoom logs if the consumer has had too many events in memory for long. room reports whether
// more fit.
func (r *run) noteRoom(ctx context.Context, room bool, offset int64) {
	now := time.Now()
	switch {
	case room:
		r.fullSince = time.Time{}
	case r.fullSince.IsZero():
		r.fullSince = now
	case now.Sub(r.fullSince) >= warnFullFor:
		r.fullSince = now
		r.c.log(ctx, slog.LevelWarn, "polling: too many events wait for the one at the offset, no more are asked for; is a handler stuck?",
			slog.Int64(keyOffset, offset), slog.Int(keyEvents, r.window.inWork()))
	}
}

// failed notes that a call failed. It returns an error that does not pass.
func (r *run) failed(ctx context.Context, message string, err error) (time.Duration, error) {
	if permanent(err) || ctx.Err() != nil {
		return 0, err
	}
	r.failures++
	wait := errorBackoff().After(r.failures)
	r.nextPoll = time.Now().Add(wait)
	r.c.log(ctx, slog.LevelWarn, message, logattr.Error(nil, err), logattr.Wait(wait))
	return wait, nil
}

func errorBackoff() timing.Backoff {
	return timing.Backoff{First: minErrorWait, Longest: maxErrorWait, Factor: 2}
}

// prepare reads the kept offset, checks the bot and the user, and subscribes the user. It is
// repeated now and then. A portal does not report that a bot was switched to webhook mode, or that
// somebody has ended a user's subscription: it just returns no events.
func (r *run) prepare(ctx context.Context) error {
	c := r.c
	if !r.loaded {
		offset, err := r.load(ctx)
		if err != nil {
			return err
		}
		if offset < 0 || offset > maxID {
			return fmt.Errorf("%w: it is %d", ErrStore, offset)
		}
		r.window.reset(offset)
		c.meter.count(func(s *Stats) { s.Offset = offset })
		r.loaded = true
	}
	if c.cfg.key.BotID != 0 && !time.Now().Before(r.nextCheck) {
		r.checkMode(ctx)
	}
	if c.cfg.key.UserID != 0 {
		if err := r.checkUser(ctx); err != nil {
			return err
		}
		if err := c.meter.call(ctx, methodSubscribe, nil, nil); err != nil {
			return err
		}
	}
	r.ready, r.nextCheck = true, time.Now().Add(checkEvery)
	return nil
}

func (r *run) load(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return r.c.cfg.store.Load(ctx, r.c.cfg.key)
}

// checkMode logs if the bot is in webhook mode. It ignores errors: the next request for events
// returns them, too.
func (r *run) checkMode(ctx context.Context) {
	var got struct {
		Bot event.ChatBot `json:"bot"`
	}
	if err := r.c.meter.call(ctx, methodBot, r.botParams(), &got); err == nil && got.Bot.EventMode == "webhook" {
		r.c.log(ctx, slog.LevelWarn, "polling: the bot is in webhook mode, so its events go to its webhookUrl and not to this program; "+
			"call imbot.v2.Bot.update with eventMode fetch")
	}
}

// botParams returns the parameters that name the bot.
func (r *run) botParams() map[string]any {
	params := map[string]any{"botId": r.c.cfg.key.BotID}
	if token := r.c.cfg.botToken; token != "" {
		params["botToken"] = string(token)
	}
	return params
}

// checkUser checks that the caller has a token of the user. The portal takes the user from the
// token, so an offset of another user would acknowledge events that nobody has seen.
func (r *run) checkUser(ctx context.Context) error {
	var doc json.RawMessage
	if err := r.c.meter.call(ctx, methodProfile, nil, &doc); err != nil {
		return err
	}
	var profile struct {
		ID scalar `json:"ID"`
	}
	if json.Unmarshal(doc, &profile) != nil || profile.ID.id() == 0 {
		return fmt.Errorf("%w: %s names no user", ErrBadResponse, methodProfile)
	}
	if got := profile.ID.id(); got != r.c.cfg.key.UserID {
		return fmt.Errorf("%w: its token is that of user %d, and not of user %d", ErrIdentity, got, r.c.cfg.key.UserID)
	}
	return nil
}

// keepIfDue keeps the offset that may be kept, if it is time: nothing is in work, it is time for
// the next request, or the last write was a while ago. kept reports whether nothing is left to be
// kept before the next request. at is when to try again; zero if nothing waits.
func (r *run) keepIfDue(ctx context.Context) (at time.Time, kept bool, err error) {
	now, position := time.Now(), r.window.position()
	if position == r.window.keptOffset() {
		return time.Time{}, true, nil
	}
	at = r.lastKept.Add(keepInterval)
	if r.window.inWork() == 0 {
		at = now
	}
	if r.nextPoll.Before(at) {
		at = r.nextPoll
	}
	if at.Before(r.nextKeep) {
		at = r.nextKeep
	}
	if now.Before(at) {
		return at, false, nil
	}
	err = r.keep(ctx, position)
	switch {
	case err == nil:
		r.unkept = 0
		return time.Time{}, true, nil
	case permanent(err) || ctx.Err() != nil:
		return time.Time{}, false, err
	}
	r.unkept++
	wait := errorBackoff().After(r.unkept)
	r.nextKeep = time.Now().Add(wait)
	r.c.log(ctx, slog.LevelWarn, "polling: the offset cannot be kept, no more events are asked for; trying again",
		logattr.Error(nil, err), logattr.Wait(wait))
	return r.nextKeep, false, nil
}

func (r *run) keep(ctx context.Context, offset int64) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := r.c.cfg.store.Keep(ctx, r.c.cfg.key, offset); err != nil {
		return err
	}
	r.lastKept = time.Now()
	r.window.advance(offset)
	r.c.meter.count(func(s *Stats) { s.Offset = offset })
	return nil
}

// poll makes a request and passes new events on to their handlers.
func (r *run) poll(ctx context.Context, offset int64, limit int) error {
	doc, err := r.get(ctx, offset, limit)
	if err != nil {
		return err
	}
	p, err := readPage(doc, limit, r.proof())
	if err != nil {
		return err
	}
	events, err := r.window.add(p)
	if err != nil {
		return err
	}
	r.failures, r.empty = 0, len(p.events) == 0 && !p.more
	r.pace(len(events) > 0, p.more)
	r.c.meter.count(func(s *Stats) {
		s.Received += counted(len(events))
		s.LastResponse = time.Now()
		if len(events) > 0 {
			s.LastEvent = s.LastResponse
		}
	})
	items := make([]*dispatch.Item, len(events))
	for i, f := range events {
		items[i] = f.item(r.values) //nolint:contextcheck // items have contexts of their own
	}
	r.portal.Add(items...) //nolint:contextcheck // items have contexts of their own
	return nil
}

// get makes the request.
func (r *run) get(ctx context.Context, offset int64, limit int) (doc json.RawMessage, err error) {
	key := r.c.cfg.key
	method, params := methodUserGet, map[string]any{}
	if key.BotID != 0 {
		method, params = methodBotGet, r.botParams()
		if key.UserID != 0 {
			params["withUserEvents"] = true
		}
	}
	params["limit"] = limit
	if offset > 0 {
		params["offset"] = offset
	}
	err = r.c.meter.call(ctx, method, params, &doc)
	if codeOf(err) == codeNotSubscribed {
		r.ready = false // somebody ended the subscription
	}
	return doc, err
}

// proof is the proof of the events.
func (r *run) proof() event.Proof {
	return event.Proof{By: event.ProofCall, ClientID: r.c.cfg.key.ClientID, MemberID: r.c.cfg.key.MemberID}
}

// pace decides when the next request is due.
func (r *run) pace(came, more bool) {
	cfg := r.c.cfg
	switch {
	case came || r.idle == 0:
		r.idle = cfg.minInterval
	default:
		r.idle = min(2*r.idle, cfg.maxInterval)
	}
	wait := r.idle - timing.Below((r.idle-cfg.minInterval)/2) //nolint:mnd // many consumers do not call in step
	if more || (r.drain && came) {
		wait = MinInterval
	}
	r.nextPoll = time.Now().Add(wait)
}

// drained reports whether the portal has nothing left, by its last response.
func (r *run) drained() bool {
	return r.empty && r.window.inWork() == 0 && r.window.position() == r.window.keptOffset()
}

// stop ends the work: it starts no more handlers, waits for those that run, and keeps the offset.
func (r *run) stop(ctx context.Context) {
	cfg := r.c.cfg
	close(r.stopping)
	r.portal.Stop(ErrStopped) //nolint:contextcheck // handlers have contexts of their own
	if errors.Is(context.Cause(ctx), ErrLeaseLost) {
		r.loseLease()
	}
	grace := time.AfterFunc(cfg.grace, func() { r.cancel(ErrStopped) })
	<-r.portal.Done()
	grace.Stop()
	r.end(nil)
	r.portal.Close()
	if !r.leaseLost.Load() {
		r.keepLast(ctx)
	}
	if n := r.abandoned.Load(); n > 0 {
		r.c.log(ctx, slog.LevelInfo, "polling: events are left for the next start", slog.Uint64(keyEvents, n))
	}
}

// loseLease ends the contexts of handlers, because another process may poll now. It may be called
// at any time.
func (r *run) loseLease() {
	r.leaseLost.Store(true)
	r.cancel(ErrLeaseLost)
}

// cancel ends the contexts of handlers and hooks.
func (r *run) cancel(cause error) {
	r.portal.Cancel(cause)
	r.end(cause)
}

// keepLast keeps the offset at the end. If that fails, some events are handled again.
func (r *run) keepLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastKeep)
	defer cancel()
	for failures := 1; ; failures++ {
		position := r.window.position()
		if position == r.window.keptOffset() {
			return
		}
		err := r.keep(ctx, position)
		if err == nil || permanent(err) || timing.Sleep(ctx, errorBackoff().After(failures)) != nil {
			if err != nil {
				r.c.log(ctx, slog.LevelWarn, "polling: the offset was not kept; the next start handles some events again",
					logattr.Error(nil, err), slog.Int64(keyOffset, position))
			}
			return
		}
	}
}
