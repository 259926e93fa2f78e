package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// slowResponse is when a handler is slow. The platform calls slow handlers less often and does
	// not say from when on.
	slowResponse = 2 * time.Second
	// slowDelivery is when a delivery is late.
	slowDelivery = time.Minute
	// maxProbes is how many handler URLs are probed.
	maxProbes = 5
	// probeTimeout limits one request to a handler.
	probeTimeout = 10 * time.Second
)

// checkProbe sends requests to the wanted handler URLs.
func (e *exam) checkProbe(ctx context.Context) {
	switch {
	case e.probe == nil:
		e.skip(checkProbe, "not asked for")
		return
	case len(e.handlers) == 0:
		e.skip(checkProbe, "no online binding is wanted")
		return
	}
	for i, h := range e.handlers {
		if handlerError(h) != nil {
			continue // the check of the URL says so
		}
		if i == maxProbes {
			e.skip(checkProbe, "there are more handler URLs than are probed")
			return
		}
		e.probeHandler(ctx, h)
	}
	if !e.found(checkProbe) && len(e.forbidden) == 0 {
		e.skip(checkProbe, "no wanted handler URL is usable")
	}
}

// checkForbidden judges the handlers that forbid both requests of the probe. They may refuse
// strangers only, which the test event and earlier deliveries show.
func (e *exam) checkForbidden(context.Context) {
	for _, h := range e.forbidden {
		if e.arrived || e.received != nil && e.received.Accepted > 0 {
			e.ok(checkProbe, "the handler responds with 403 to this machine, and accepts the portal's deliveries")
			continue
		}
		add := e.warn
		if e.failed[checkTest] {
			add = e.fail
		}
		add(checkProbe, HandlerRefuses, "The handler "+shown(h)+" responds with 403, also to HEAD, so perhaps something in front of it "+
			"rejects every request.", "See whether a firewall, a proxy or a list of addresses lets the portal's servers through. The handler's "+
			"log shows whether the request reached it.")
	}
}

// probeHandler sends two requests to a handler. The response to the HEAD request counts only if
// there is none, or if both are forbidden.
func (e *exam) probeHandler(ctx context.Context, handler string) {
	head, _, err := e.send(ctx, http.MethodHead, handler)
	if err != nil {
		e.unreachable(ctx, handler, err)
		return
	}
	code, took, err := e.send(ctx, http.MethodPost, handler)
	if err != nil {
		e.unreachable(ctx, handler, err)
		return
	}
	at := "The handler " + shown(handler)
	status := strconv.Itoa(code)
	switch {
	case code == http.StatusTemporaryRedirect, code == http.StatusPermanentRedirect:
		e.warn(checkProbe, HandlerRedirects, at+" redirects ("+status+"). The platform does not say whether it follows.",
			"Bind the URL that the redirect leads to.")
	case code >= 300 && code < 400:
		e.fail(checkProbe, HandlerRedirects, at+" redirects ("+status+"). A redirect turns a POST into a GET, and the event is lost.",
			"Bind the URL that the redirect leads to. Often it is https instead of http, www, or a slash at the end.")
	case code == http.StatusNotFound, code == http.StatusGone, code == http.StatusMethodNotAllowed, code == http.StatusNotImplemented,
		code == http.StatusUnauthorized, code == http.StatusProxyAuthRequired:
		e.fail(checkProbe, HandlerRefuses, at+" responds to POST with "+status+".",
			"Check the path, and that nothing in front of the handler wants a login or forbids POST.")
		if code != http.StatusUnauthorized && code != http.StatusProxyAuthRequired {
			e.missed[handler] = code
		}
	case code == http.StatusTooManyRequests, code >= 500:
		e.fail(checkProbe, HandlerFails, at+" responds with "+status+".",
			"See its log. The portal sends an event once, so every such response loses one.")
	case code == http.StatusForbidden && head == http.StatusForbidden:
		e.forbidden = append(e.forbidden, handler)
	case took > slowResponse:
		e.warn(checkProbe, HandlerSlow, at+" took "+rounded(took)+" to respond.",
			"Respond at once, and work afterwards: the portal calls slow handlers less and less often.")
	case code >= 400:
		e.ok(checkProbe, "the handler responds with "+status+", as it should: an empty POST holds no event")
	default:
		e.ok(checkProbe, "the handler responds with "+status)
	}
}

// send sends a request without a body. It returns the status of the response, and how long it took.
func (e *exam) send(ctx context.Context, method, handler string) (status int, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(e.timeout, probeTimeout))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, handler, http.NoBody)
	if err != nil {
		return 0, 0, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("User-Agent", "b24events-doctor")
	began := time.Now()
	resp, err := e.probe.Do(r)
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	_ = resp.Body.Close()
	return resp.StatusCode, took, nil
}

// unreachable adds the line for a handler that did not respond.
func (e *exam) unreachable(ctx context.Context, handler string, err error) {
	if ctx.Err() != nil {
		e.skip(checkProbe, "stopped before the handler responded")
		return
	}
	var (
		address     *url.Error
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
	)
	if errors.As(err, &address) {
		err = address.Err // without the address, whose query may be secret
	}
	at := "The handler " + shown(handler)
	switch {
	case errors.As(err, &certificate), errors.As(err, &record), strings.Contains(err.Error(), "tls: "):
		e.fail(checkProbe, HandlerTLS, at+" has no certificate that this machine trusts: "+errorText(err),
			"Use a certificate of a public authority, with the whole chain. The portal's servers refuse one that is signed by itself.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		e.fail(checkProbe, HandlerSlow, at+" did not respond within "+rounded(min(e.timeout, probeTimeout))+".",
			"See whether it runs, and whether a firewall drops the packets.")
	default:
		more := "let the portal send it a test event: WithRoundTrip, or -test or -listen of examples/doctor."
		if e.roundTrip {
			more = "see the check test."
		}
		e.fail(checkProbe, HandlerUnreachable, at+" cannot be reached from this machine: "+errorText(err),
			"Start it, and check the name, the port and the firewall. If only this machine cannot reach it, "+more)
	}
}

// checkDeliveries looks at what the handler has seen.
func (e *exam) checkDeliveries(context.Context) {
	r := e.received
	if r == nil {
		e.skip(checkDeliveries, "it is not known what the handler has seen")
		return
	}
	rejected, reasons := uint64(0), []string(nil)
	for _, reason := range slices.Sorted(maps.Keys(r.Rejected)) {
		if n := r.Rejected[reason]; n > 0 {
			rejected += n
			reasons = append(reasons, name(reason)+" "+strconv.FormatUint(n, 10))
		}
	}
	const cure = "See the handler's log. If the application token does not match, install the application again."
	switch {
	case r.Accepted == 0 && rejected == 0:
		cause := "The handler has received nothing"
		if !r.Since.IsZero() {
			cause += " for " + rounded(time.Since(r.Since))
		}
		e.warn(checkDeliveries, NothingReceived, cause+".",
			"If events should have come, the requests do not reach the handler: see the other checks.")
	case r.Accepted == 0:
		e.fail(checkDeliveries, DeliveriesRejected, "The handler has rejected every request ("+list(reasons)+").", cure)
	case rejected > 0:
		e.warn(checkDeliveries, DeliveriesRejected, "The handler has rejected requests ("+list(reasons)+").", cure)
	}
	if r.Dropped > 0 {
		e.warn(checkDeliveries, DeliveriesDropped, "The handler has lost "+strconv.FormatUint(r.Dropped, 10)+" deliveries: its queue was full, "+
			"or it was stopping.", "Use a durable queue (webhook.WithStore), or more workers.")
	}
	if r.Ack > slowResponse {
		e.warn(checkDeliveries, HandlerSlow, "The handler takes "+rounded(r.Ack)+" to respond.",
			"Respond at once, and work afterwards: the portal calls slow handlers less and less often.")
	}
	e.checkLag(r.Last)
	if !e.found(checkDeliveries) {
		e.ok(checkDeliveries, "the handler has accepted "+strconv.FormatUint(r.Accepted, 10))
	}
}

// checkLag looks for deliveries that came long after their event.
func (e *exam) checkLag(arrivals []Arrival) {
	late, worst := 0, time.Duration(0)
	for _, a := range arrivals {
		if a.Fired.IsZero() || a.At.IsZero() {
			continue
		}
		if lag := a.At.Sub(a.Fired) + e.skew; lag > slowDelivery {
			late++
			worst = max(worst, lag)
		}
	}
	if late > 0 {
		e.warn(checkDeliveries, DeliveriesLate, strconv.Itoa(late)+" of "+strconv.Itoa(len(arrivals))+" deliveries came late, one of them by "+
			rounded(worst)+".", "The portal calls slow handlers less and less often. Respond at once, and work afterwards.")
	}
}

const (
	// oldRecord is when a record has waited too long.
	oldRecord = 10 * time.Minute
	// maxQueues is how many offline queues are looked at.
	maxQueues = 10
	fullPage  = 50
)

// checkQueues looks at the offline queues of the wanted bindings.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-offline-list.html
func (e *exam) checkQueues(ctx context.Context) {
	switch {
	case !e.offline:
		e.skip(checkQueue, "no offline binding is wanted")
		return
	case e.judged && !e.admin:
		e.skip(checkQueue, "only an administrator may look at it")
		return
	}
	for i, connector := range e.queues {
		if connector != "" && e.failed[checkPlan] {
			continue // the plan has no connectors
		}
		if i == maxQueues {
			e.skip(checkQueue, "there are more queues than are looked at")
			return
		}
		if !e.checkOneQueue(ctx, connector) {
			return
		}
	}
	if !e.found(checkQueue) {
		e.ok(checkQueue, "nothing waits for long")
	}
}

// checkOneQueue looks at the first records of a queue, and at the first that were given up. It
// reports whether the queue could be read.
func (e *exam) checkOneQueue(ctx context.Context, connector string) bool {
	params := map[string]any{}
	queue := "the application's queue"
	if connector != "" {
		params["auth_connector"] = connector
		queue = "the queue of the connector " + name(connector)
	}
	var rows, parked rowList
	if err := e.call(ctx, "event.offline.list", params, &rows); err != nil {
		e.unknown(checkQueue, "event.offline.list", err)
		return false
	}
	withFilter := maps.Clone(params)
	withFilter["filter"] = map[string]any{"=ERROR": 1}
	if err := e.call(ctx, "event.offline.list", withFilter, &parked); err != nil {
		e.unknown(checkQueue, "event.offline.list", err)
		return false
	}
	waiting, reserved := 0, 0
	for _, r := range rows {
		at, err := time.Parse(time.RFC3339, r.text("TIMESTAMP_X"))
		switch {
		case err != nil, time.Since(at)+e.skew < oldRecord, r.flag("ERROR"):
		case r.text("PROCESS_ID") != "":
			reserved++
		default:
			waiting++
		}
	}
	if waiting > 0 {
		e.warn(checkQueue, QueueWaits, count(waiting)+" have waited in "+queue+" for more than "+rounded(oldRecord)+".",
			"Start the consumer of the queue, and see its log. Nobody else reads these events.")
	}
	if reserved > 0 {
		e.warn(checkQueue, QueueStuck, count(reserved)+" in "+queue+" are reserved and not cleared: their consumer works for long, or has died.",
			"Start the consumer: that of package offline takes over what a crash left.")
	}
	if len(parked) > 0 {
		e.warn(checkQueue, QueueParked, count(len(parked))+" in "+queue+" were given up (event.offline.error). Newer changes of the same "+
			"objects are merged into them.", "See why they failed, and let the consumer try them again (RetryParked).")
	}
	return true
}

func count(n int) string {
	text := strconv.Itoa(n) + " records"
	if n >= fullPage {
		text = "At least " + text
	}
	return text
}

// rowList is a list of rows. Rows of another form are left out.
type rowList []object

// UnmarshalJSON returns an error only if there is no list.
func (l *rowList) UnmarshalJSON(doc []byte) error {
	var v []json.RawMessage
	if err := json.Unmarshal(doc, &v); err != nil {
		return errors.New("the response is not a list")
	}
	for _, raw := range v {
		var o object
		if json.Unmarshal(raw, &o) == nil && o != nil {
			*l = append(*l, o)
		}
	}
	return nil
}
