package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/b24events/b24events/event"
)

// Handler receives Bitrix24 events over HTTP: it verifies a delivery, queues it, answers 200 and then has it handled. The package
// documentation lists its answers and guarantees. It is safe for concurrent use and is made with [NewHandler] only.
type Handler struct {
	cfg      config
	verifier Verifier
	count    *counters
	log      journal
	queue    *queue
	inFlight *inFlight
	bodies   bodyPool
}

// NewHandler returns a Handler that passes to h, usually an [event.Mux], what v accepts. It returns an error that matches [ErrConfig]
// when v or h is nil, v is misconfigured, or an option makes no sense. It starts nothing: a Handler that received nothing needs no
// [Handler.Shutdown].
func NewHandler(v Verifier, h event.Handler, opts ...Option) (*Handler, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	if err = validate(v); err != nil {
		return nil, err
	}
	if isNil(h) {
		return nil, misconfigured("nil event handler")
	}
	handler := &Handler{
		cfg:      cfg,
		verifier: v,
		count:    newCounters(cfg.logger),
		log:      journal{cfg.logger},
	}
	handler.queue = newQueue(cfg, h, handler.count)
	handler.inFlight = newInFlight(cfg.inFlightBytes, handler.queue.intake, cfg.enqueueTimeout)
	handler.bodies.inFlight = handler.inFlight
	return handler, nil
}

// Format keeps fmt from printing what the Handler holds, tokens among it.
func (h *Handler) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("webhook.Handler")) }

// Stats returns what the Handler did so far. It is cheap enough to call for each scrape of a metrics endpoint.
func (h *Handler) Stats() Stats {
	s := h.count.snapshot()
	s.Queued, s.Running = h.queue.depth()
	s.InFlight = h.inFlight.used.Load()
	return s
}

// Shutdown stops the Handler without losing what it accepted. Call it after http.Server.Shutdown. It refuses new deliveries with
// 503, then waits until everything accepted was handled, with contexts that stay alive and with retries, which start at once where they
// were waiting for their time (further ones wait as usual). When ctx ends first, it cancels the contexts of running handlers with the cause [ErrShutdown], waits for them up to
// [ShutdownGrace], and gives the rest up: each such delivery goes to the function of [WithOnDropped], and Shutdown returns
// a [ShutdownError], which matches [ErrShutdown], with their number. It returns nil when nothing was lost.
//
// Shutdown may be called several times, also at once: all calls return the same, and the first context that ends, ends the wait for all.
// A handler must not call it, as it would wait for itself.
func (h *Handler) Shutdown(ctx context.Context) error { return h.queue.shutdown(ctx) }

// ServeHTTP answers one request of the platform, by the table in the package documentation.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	switch r.Method {
	case http.MethodPost:
	case http.MethodGet, http.MethodHead: // event.bind asks whether the address is there
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		h.reject(w, r, nil, ReasonMethod, nil)
		return
	}
	if h.queue.closed() {
		h.reject(w, r, nil, ReasonShuttingDown, nil)
		return
	}
	b := h.bodies.get()
	defer b.end()
	d, reason, err := h.read(w, r, b) //nolint:contextcheck // waiting for room ends with the Handler, not with the request
	if err != nil {
		h.reject(w, r, d, reason, loggable(err))
		return
	}
	if d.Kind != event.KindEvent {
		if d.Kind == event.KindFrame {
			err = errPage
		}
		h.reject(w, r, nil, ReasonNotEvent, err)
		return
	}
	d.Source = event.SourceOnline
	if reason, err = h.verify(r.Context(), d); err != nil {
		if err.Error() == event.ErrForbidden.Error() {
			err = nil // the reason says it all
		}
		h.reject(w, r, d, reason, err)
		return
	}
	it := &item{d: d, values: r.Context(), arrived: arrived, units: 1 + (d.Size()-1)/unitBytes}
	h.accept(w, it) //nolint:contextcheck // item carries the request's values; contexts derive from the queue's life
}

// accept passes a verified delivery on, and answers.
func (h *Handler) accept(w http.ResponseWriter, it *item) {
	ctx, d := it.values, it.d
	var err error
	switch {
	case h.cfg.sync:
		if err = h.queue.enter(it); err != nil {
			break
		}
		h.count.accepted.Add(1)
		h.count.lag.record(it.begun.Sub(it.arrived))
		if err := h.queue.serve(nil, it); err != nil && !isUnhandled(err) {
			respond(w, handlerFailed())
			return
		}
	case h.cfg.queue != nil:
		err = h.handOn(it)
	default:
		err = h.queue.enqueue(it)
	}
	if err != nil {
		reason := lostBecause(err)
		h.count.rejected[reason].Add(1)
		respond(w, answerTo(reason))
		if !errors.Is(err, errReported) {
			h.queue.drop(ctx, d, err)
		}
		return
	}
	h.count.ack.record(time.Since(it.arrived))
	w.WriteHeader(http.StatusOK)
}

// errReported means that Shutdown gave a delivery up and reported it already.
const errReported Error = "webhook: given up by shutdown"

// handOn gives a delivery to the queue of WithQueue.
func (h *Handler) handOn(it *item) error {
	if err := h.queue.enter(it); err != nil {
		return err
	}
	mine := false
	err := func() error {
		defer func() { mine = h.queue.leave(it) }()
		ctx := h.queue.context(it, h.cfg.enqueueTimeout)
		defer ctx.end()
		return guard(func() error { return h.cfg.queue.Enqueue(ctx, it.d) })
	}()
	switch {
	case err != nil && !mine:
		return errReported
	case err != nil:
		return fmt.Errorf("webhook: enqueue: %w", err)
	}
	h.count.accepted.Add(1)
	return nil
}

// verify asks the verifier. It does not end with the request: when the platform hangs up early, the event is still an event.
func (h *Handler) verify(request context.Context, d *event.Delivery) (Reason, error) {
	ctx := &callContext{
		parent: context.Background(), values: request, marker: h.queue.life,
		deadline: time.Now().Add(h.cfg.verifyTimeout),
	}
	defer ctx.end()
	var proof event.Proof
	err := guard(func() (err error) { //nolint:contextcheck // see above
		proof, err = h.verifier.Verify(ctx, d)
		return err
	})
	switch {
	case err != nil:
		return refusal(err)
	case proof.By == "":
		return ReasonUnavailable, errNoProof
	}
	if err = d.Contradicts(proof); err != nil {
		return ReasonForbidden, err
	}
	d.SetProof(proof)
	return "", nil
}

// refusal says what a verifier's error means.
func refusal(err error) (Reason, error) {
	var p *event.PanicError
	switch {
	case errors.As(err, &p):
		return ReasonUnavailable, p
	case errors.Is(err, event.ErrForbidden):
		return ReasonForbidden, err
	default:
		return ReasonUnavailable, err
	}
}

// reject counts, answers and logs a request that is not accepted. d is not verified, and may be nil.
func (h *Handler) reject(w http.ResponseWriter, r *http.Request, d *event.Delivery, reason Reason, err error) {
	h.count.rejected[reason].Add(1)
	if losesEvent(reason) {
		h.count.dropped.Add(1)
	}
	respond(w, answerTo(reason))
	h.log.rejected(r, d, reason, err)
}
