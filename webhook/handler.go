package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/dispatch"
	"github.com/b24events/b24events/internal/typednil"
)

// Handler receives Bitrix24 events over HTTP. It verifies a delivery, queues it, responds 200, and
// then calls the event handler. The package documentation lists its responses and guarantees. It is
// safe for concurrent use. Make one with [NewHandler].
type Handler struct {
	cfg        config
	verifier   Verifier
	count      *counters
	log        eventLog
	reporter   *reporter // of deliveries that are refused
	dispatcher *dispatch.Dispatcher
	durable    *durable // nil without a Store

	intake      context.Context //nolint:containedctx // ends when Shutdown is called, and with it all waits for memory
	closeIntake context.CancelCauseFunc
	inFlight    *inFlight
	bodies      bodyPool
}

// NewHandler returns a Handler that passes the deliveries that v accepts to h, usually an
// [event.Mux]. It returns an error that matches [ErrConfig] if v or h is nil, v is misconfigured,
// or an option is invalid. It starts nothing, so a Handler that received nothing needs no
// [Handler.Shutdown]. With [WithStore] it starts to handle what is stored, perhaps before
// NewHandler has returned.
func NewHandler(v Verifier, h event.Handler, opts ...Option) (*Handler, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if err = validate(v); err != nil {
		return nil, err
	}
	if typednil.Is(h) {
		return nil, misconfigured("nil event handler")
	}
	handler := &Handler{cfg: cfg, verifier: v, count: newCounters(cfg.logger), log: eventLog{cfg.logger}}
	handler.reporter = &reporter{count: handler.count, log: handler.log, onDropped: cfg.onDropped}
	handler.dispatcher = newDispatcher(cfg, handler.reporter, h)
	handler.intake, handler.closeIntake = context.WithCancelCause(context.Background())
	handler.inFlight = newInFlight(cfg.inFlightBytes, handler.intake, cfg.enqueueTimeout)
	handler.bodies.inFlight = handler.inFlight
	if cfg.store != nil {
		handler.durable = newDurable(handler, h)
		handler.durable.start()
	}
	return handler, nil
}

// newDispatcher returns the dispatcher, which all modes share. The memory queue is the dispatcher
// itself. With WithSync and WithQueue it runs each delivery within its request.
func newDispatcher(cfg config, a *reporter, h event.Handler) *dispatch.Dispatcher {
	c := dispatch.Config{
		Workers: cfg.workers, Limit: cfg.portalWorkers,
		SlowShare: max(1, cfg.workers/2), Overflow: cfg.workers, Urgent: max(1, cfg.workers/4),
		Size: cfg.queueSize, UrgentSize: max(1, cfg.queueSize/8),
		Front: &handlerFront{reporter: *a, handler: h}, Misfits: a.misfits,
		Timeout: cfg.handlerTimeout, TimedOut: ErrTimeout, Closed: ErrShutdown,
		MaxAttempts: cfg.maxAttempts, Backoff: retryWaits().After, MaxWait: maxRetryAfter, Grace: ShutdownGrace,
		Removed: a.log.removal, Logger: cfg.logger,
	}
	if cfg.store != nil {
		c.Grace -= storeGrace
	}
	if cfg.queue != nil {
		c.Front, c.Timeout = &queueFront{reporter: *a, queue: cfg.queue}, cfg.enqueueTimeout
	}
	return dispatch.New(c)
}

// Format keeps fmt from printing the contents of the Handler, which include tokens.
func (h *Handler) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("webhook.Handler")) }

// ServeHTTP serves one request of the platform. A table in the package documentation lists the
// responses.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet, http.MethodHead: // event.bind checks that the address exists
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		h.reject(w, r, nil, rejection{reason: ReasonMethod})
		h.observe(r, nil, responseTo(ReasonMethod), arrived)
		return
	}
	if h.intake.Err() != nil {
		h.reject(w, r, nil, rejection{reason: ReasonShuttingDown})
		h.observe(r, nil, responseTo(ReasonShuttingDown), arrived)
		return
	}
	b := h.bodies.get()
	defer b.end()
	d, rej := h.read(w, r, b) //nolint:contextcheck // waiting for room ends with the Handler, not with the request
	resp := unavailable()     // unless something else is the response, because the goroutine does not end
	defer func() { h.observe(r, d, resp, arrived) }()
	if rej.reason == "" {
		rej = h.verify(w, r, d)
	}
	if rej.reason != "" {
		resp = responseTo(rej.reason)
		h.reject(w, r, d, rej)
		return
	}
	if h.durable != nil {
		resp = h.store(d, r, arrived) //nolint:contextcheck // storing does not end with the request
	} else {
		resp = h.admit(w, r, newItem(&h.cfg, d, arrived)) //nolint:contextcheck // nor does handling
	}
	if resp.status == http.StatusOK {
		h.count.ack.Record(time.Since(arrived))
		h.count.accepted.Store(time.Now().UnixNano())
	}
	respond(w, resp)
}

// verify calls the verifier. The call does not end with the request: if the platform hangs up
// early, the event is still an event.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request, d *event.Delivery) (rej rejection) {
	ctx := h.dispatcher.NewContext(r.Context(), h.cfg.verifyTimeout)
	defer ctx.End()
	err := guardGoexit(func() error { //nolint:contextcheck // see above
		rej = h.prove(ctx, d)
		return nil
	}, func() { h.reject(w, r, d, rejection{reason: ReasonUnavailable, err: errGoexit}) })
	if err != nil {
		return rejection{reason: ReasonUnavailable, err: err}
	}
	return rej
}

// prove calls the verifier and sets the proof of the delivery.
func (h *Handler) prove(ctx context.Context, d *event.Delivery) rejection {
	proof, err := h.verifier.Verify(ctx, d)
	switch {
	case err != nil:
		return rejectionOf(d, err)
	case proof.By == "":
		return rejection{reason: ReasonUnavailable, err: errNoProof}
	}
	if err = d.Contradicts(proof); err != nil {
		return rejection{ReasonForbidden, RefusalOtherPortal, err}
	}
	d.SetProof(proof)
	return rejection{}
}

// store stores a verified delivery, and returns the response.
func (h *Handler) store(d *event.Delivery, r *http.Request, arrived time.Time) response {
	if err := h.durable.put(d, h.saveContext(r, d), arrived); err != nil {
		return h.refuse(&dispatch.Item{Delivery: d}, err)
	}
	return accepted()
}

// admit passes a verified delivery to the dispatcher, and returns the response.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, it *dispatch.Item) response {
	err := h.giveValues(it, r, func() { respond(w, h.refuse(it, errGoexit)) })
	if err != nil {
		return h.refuse(it, err)
	}
	var outcome dispatch.Outcome
	if h.cfg.sync || h.cfg.queue != nil {
		outcome, err = h.dispatcher.Do(keyOf(it.Delivery), it)
	} else {
		err = h.dispatcher.Enqueue(keyOf(it.Delivery), it, h.cfg.enqueueTimeout)
	}
	switch {
	case err == nil:
		return accepted()
	case errors.Is(err, dispatch.ErrFull):
		return h.refuse(it, ErrQueueFull)
	case errors.Is(err, dispatch.ErrClosed):
		return h.refuse(it, ErrShutdown)
	case h.cfg.queue != nil:
		return h.notStored(outcome, err)
	case outcome == dispatch.OutcomeUnhandled:
		return accepted()
	default:
		return handlerFailed()
	}
}

// notStored returns the response if the queue of WithQueue did not store a delivery. The front has
// counted and reported the loss.
func (h *Handler) notStored(o dispatch.Outcome, err error) response {
	reason := lossReason(err)
	if o == dispatch.OutcomeCut {
		reason = ReasonShuttingDown
	}
	h.count.rejected[reason].Add(1)
	return responseTo(reason)
}

// refuse counts and reports a verified delivery that was not accepted, and returns the response.
func (h *Handler) refuse(it *dispatch.Item, err error) response {
	reason := lossReason(err)
	h.count.rejected[reason].Add(1)
	h.reporter.drop(it, err)
	return responseTo(reason)
}

// reject counts and logs a request that is not accepted, and responds to it. d is not verified, and
// may be nil.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, d *event.Delivery, rej rejection) {
	h.count.rejected[rej.reason].Add(1)
	if losesEvent(rej.reason) {
		h.count.lost.Add(1)
	}
	respond(w, responseTo(rej.reason))
	h.log.rejected(r, d, rej)
}
