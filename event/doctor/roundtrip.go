package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
)

// testEvent is what event.test sends.
const testEvent = "ONAPPTEST"

// marker is the parameter of event.test that tells one examination's event from others.
const marker = "doctor"

// checkTest requests a test event and waits for it.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/test-handler.html
func (e *exam) checkTest(ctx context.Context) {
	handler := ""
	if i := slices.IndexFunc(e.handlers, func(h string) bool { return handlerError(h) == nil }); i >= 0 {
		handler = e.handlers[i]
	}
	switch {
	case !e.roundTrip:
		e.skip(checkTest, "not asked for")
	case e.dead != nil:
		e.unknown(checkTest, "event.test", e.dead)
	case !e.info.installed:
		e.skip(checkTest, "it would not arrive before the installation is finished")
	case e.info.expired:
		e.skip(checkTest, "it would not arrive while the payment is due")
	case handler == "":
		e.skip(checkTest, "no online binding with a usable URL is wanted")
	case !e.seen:
		e.skip(checkTest, "the bindings of the portal are not known")
	default:
		e.testRoundTrip(ctx, event.Binding{Event: testEvent, Handler: handler})
	}
}

// maxTests is how often the test event is requested, if other examinations unbind it meanwhile.
const maxTests = 3

// testRoundTrip requests the test event and waits for it. It binds the event if it is not bound,
// and then unbinds it in the end.
func (e *exam) testRoundTrip(ctx context.Context, b event.Binding) {
	mark := rand.Text()
	binds := false
	for try := 1; ; try++ {
		if !isBound(e.have, b) {
			if !binds {
				binds = true
				defer e.unbind(ctx, b) // the portal may have bound it although the call failed
			}
			// If the request were given up, the portal could bind the event after it was unbound.
			err := e.timed(context.WithoutCancel(ctx), func(ctx context.Context) error { return e.api.Bind(ctx, b) })
			if ctx.Err() != nil {
				err = errStopped
			}
			if err != nil {
				e.testFailed(err, "The test event could not be bound: ", "See the other checks. The portal refuses the URL, the token or the "+
					"application.")
				return
			}
		}
		if err := e.timed(ctx, func(ctx context.Context) error { return e.api.Test(ctx, map[string]any{marker: mark}) }); err != nil {
			e.testFailed(err, "The test event could not be requested: ", "Try again later.")
			return
		}
		// Another examination of the handler may have unbound the event in its end.
		err := e.timed(ctx, func(ctx context.Context) (err error) {
			e.have, err = e.api.Bindings(ctx)
			return err
		})
		if err != nil || isBound(e.have, b) || try == maxTests {
			break
		}
	}
	if e.arrivals == nil {
		e.skip(checkTest, "the portal sends "+testEvent+" with "+marker+"="+mark+" to "+shown(b.Handler)+"; look for it in the handler's log")
		return
	}
	e.await(ctx, b, mark)
}

// testFailed adds the line for a test event that was not sent.
func (e *exam) testFailed(err error, cause, cure string) {
	if errors.Is(err, errStopped) {
		e.skip(checkTest, "stopped")
		return
	}
	e.fail(checkTest, TestFailed, cause+errorText(err), cure)
}

// isBound reports whether an online event is bound to a handler, for any user.
func isBound(have []event.Binding, b event.Binding) bool {
	return slices.ContainsFunc(have, func(h event.Binding) bool { return !h.Offline && h.Event == b.Event && h.Handler == b.Handler })
}

// unbind removes the binding of the test event, also after ctx has ended.
func (e *exam) unbind(ctx context.Context, b event.Binding) {
	err := e.timed(context.WithoutCancel(ctx), func(ctx context.Context) error {
		_, err := e.api.Unbind(ctx, b)
		return err
	})
	if err != nil {
		e.warn(checkTest, TestNotUnbound, b.String()+" could not be unbound: "+errorText(err), "It does no harm. Unbind it with event.unbind.")
	}
}

// await waits for the test event and looks at what it carries.
func (e *exam) await(ctx context.Context, b event.Binding, mark string) {
	timer := time.NewTimer(e.wait)
	defer timer.Stop()
	began := time.Now()
	for {
		select {
		case d, open := <-e.arrivals:
			if !open {
				e.skip(checkTest, "the handler has stopped reporting what it receives")
				return
			}
			if d != nil && d.Name == testEvent && bytes.Contains(d.Data.JSON(), []byte(mark)) {
				e.judgeTest(d, time.Since(began))
				return
			}
		case <-timer.C:
			e.fail(checkTest, TestNotArrived, "The test event did not arrive at "+shown(b.Handler)+" within "+rounded(e.wait)+".",
				"Look for the request in the logs of the web server, the proxy and the firewall. The portal's servers must reach the URL from the "+
					"internet, and must trust its certificate.")
			return
		case <-ctx.Done():
			e.skip(checkTest, "stopped before the test event arrived")
			return
		}
	}
}

// judgeTest looks at the test event that has arrived.
func (e *exam) judgeTest(d *event.Delivery, took time.Duration) {
	e.arrived = true
	member, token := d.ClaimedMemberID(), d.Auth.ApplicationToken
	if e.memberID != "" && member != "" && member != e.memberID {
		e.fail(checkTest, TestOtherPortal, "The test event came from another portal than the member ID says.",
			"Correct the member ID, which is in every event of the portal (auth[member_id]).")
	}
	if token != "" && len(e.appTokens) > 0 && !slices.Contains(e.appTokens, token) {
		e.fail(checkTest, WrongAppToken, "The test event carries another application token than those that the handler accepts, so the handler "+
			"rejects every delivery.", "Install the application again, so that ONAPPINSTALL brings the token, or correct the configured token.")
	}
	switch {
	case e.failed[checkTest]:
	case took > slowDelivery:
		e.warn(checkTest, DeliveriesLate, "The test event took "+rounded(took)+" to arrive.",
			"The portal calls slow handlers less and less often. Respond at once, and work afterwards.")
	default:
		e.ok(checkTest, "it arrived after "+rounded(took))
	}
}
