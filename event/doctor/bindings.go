package doctor

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
)

// checkHandlers applies the rules for handler URLs. It does not ask the portal.
func (e *exam) checkHandlers(context.Context) {
	if len(e.handlers) == 0 {
		e.skip(checkHandler, "no online binding is wanted")
		return
	}
	for _, h := range e.handlers {
		err := handlerError(h)
		switch {
		case err != nil:
			e.fail(checkHandler, BadHandlerURL, upperFirst(err.Error())+".", "Correct the URL "+shown(h)+" and bind again.")
		case private(h) && e.cloudPortal():
			e.fail(checkHandler, PrivateHandler, "The handler "+shown(h)+" has an address of a local network, which the cloud cannot reach.",
				"Use an address of the internet, a tunnel, or the offline queue (examples/listen).")
		}
	}
	if !e.found(checkHandler) {
		e.ok(checkHandler, "the URL keeps the portal's rules")
	}
}

// handlerError returns what is wrong with a handler URL, or nil.
func handlerError(handler string) error {
	err := event.Binding{Event: testEvent, Handler: handler}.Validate()
	if err == nil {
		return nil
	}
	text := strings.TrimPrefix(errorText(err), errorText(event.ErrConfig)+": ")
	return errors.New(strings.TrimPrefix(text, "binding of "+testEvent+": "))
}

func upperFirst(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// private reports whether only machines nearby reach the handler.
func private(handler string) bool {
	u, err := url.Parse(handler)
	if err != nil {
		return false
	}
	return nearby(u.Hostname())
}

// nearby reports whether a host is in a local network: it has an address without a way from the
// internet, or a name that no public DNS server resolves.
func nearby(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	addr, err := netip.ParseAddr(host)
	if err != nil {
		local := []string{".localhost", ".local", ".lan", ".internal", ".home.arpa"}
		return host == "localhost" || slices.ContainsFunc(local, func(d string) bool { return strings.HasSuffix(host, d) })
	}
	addr = addr.Unmap()
	carrier := netip.MustParsePrefix("100.64.0.0/10") // of customers behind a provider's NAT, and of some tunnels
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || carrier.Contains(addr)
}

// cloudPortal reports whether the portal is surely not on the customer's premises: its address is
// known and not a private one, and it does not call itself a box.
func (e *exam) cloudPortal() bool {
	if !e.known || e.box {
		return false
	}
	u, err := url.Parse(e.stored.ClientEndpoint)
	return err == nil && u.Hostname() != "" && !nearby(u.Hostname())
}

// checkBindings compares the wanted bindings with those of the portal.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/event-get.html
func (e *exam) checkBindings(ctx context.Context) {
	if e.dead != nil {
		e.unknown(checkBindings, "event.get", e.dead)
		return
	}
	var have []event.Binding
	err := e.timed(ctx, func(ctx context.Context) (err error) {
		have, err = e.api.Bindings(ctx)
		return err
	})
	if err != nil {
		e.unknown(checkBindings, "event.get", err)
		return
	}
	e.have, e.seen = have, true
	byEvent := make(map[string][]event.Binding)
	for _, b := range have {
		byEvent[b.Event] = append(byEvent[b.Event], b)
	}
	otherEvents, elsewhere := 0, 0
	for _, b := range have {
		switch info, _ := event.Lookup(b.Event); {
		case e.wanted(b):
		case b.Event == testEvent:
			e.ok(checkBindings, b.String()+" is bound, which does no harm; perhaps an examination was killed before it could unbind it")
		case !b.Offline && (info.PlatformBound || info.AutoSubscribed):
			e.add(Check{
				Name: checkBindings, Status: OK, Code: BoundByPlatform, Cause: "the platform itself has bound " + b.String() + "; leave it as it is",
			})
		case slices.ContainsFunc(e.want, func(w event.Binding) bool { return w.Event == b.Event }):
			elsewhere++
		default:
			otherEvents++
		}
	}
	before := e.count[checkBindings]
	for _, w := range e.want {
		if e.refused[wantedEvent{w.Event, w.Offline}] {
			continue // another check says why it cannot be bound
		}
		e.checkBinding(w, byEvent[w.Event])
	}
	switch {
	case e.count[checkBindings] > before:
	case len(e.refused) > 0:
		e.skip(checkBindings, "some wanted events cannot be bound; see above")
	default:
		text := strconv.Itoa(len(e.want)) + " of " + strconv.Itoa(len(e.want)) + " wanted are there"
		var more []string
		if otherEvents > 0 {
			more = append(more, strconv.Itoa(otherEvents)+" for other events")
		}
		if elsewhere > 0 {
			more = append(more, strconv.Itoa(elsewhere)+" to another handler or queue")
		}
		if len(more) > 0 {
			text += "; besides, the application has " + strings.Join(more, ", and ")
		}
		e.ok(checkBindings, text)
	}
}

// identity is the part of a binding that event.get returns.
func identity(b event.Binding) event.Binding {
	b.MinTimeout = 0
	if !b.Offline {
		b.Connector = ""
	}
	return b
}

func (e *exam) wanted(b event.Binding) bool {
	for _, w := range e.want {
		if identity(w) == identity(b) {
			return true
		}
	}
	return false
}

// checkBinding looks for one wanted binding among those of its event, and otherwise for what looks
// like it.
func (e *exam) checkBinding(w event.Binding, have []event.Binding) {
	var present, otherUser, otherScheme, otherMode, otherConnector, otherURL *event.Binding
	for i := range have {
		b := &have[i]
		switch {
		case identity(*b) == identity(w):
			present = b
		case b.Offline != w.Offline:
			otherMode = b
		case w.Offline:
			otherConnector = b
		case b.Handler == w.Handler:
			otherUser = b
		case sameButScheme(b.Handler, w.Handler):
			otherScheme = b
		case otherURL == nil || alike(b.Handler, w.Handler):
			otherURL = b
		}
	}
	reconcile, oneOfTwo := e.reconcile(w, false), e.reconcile(w, true)
	switch {
	case present != nil:
		e.checkTwice(w, otherUser, otherScheme)
	case otherUser != nil:
		e.warn(checkBindings, BindingUser, "Instead of "+w.String()+" there is "+otherUser.String()+": deliveries carry the tokens of another "+
			"user.",
			reconcile+", with an administrator's token: the portal binds for others only then.")
	case otherScheme != nil:
		e.fail(checkBindings, BindingScheme, "Bound is "+otherScheme.String()+", which differs from the wanted URL by http and https.",
			oneOfTwo+", and unbind the other URL.")
	case otherMode != nil:
		e.fail(checkBindings, BindingMode, "Wanted is "+w.String()+", and bound is "+otherMode.String()+": one goes to a URL, the other into "+
			"the offline queue.", reconcile+", or work the offline queue.")
	case otherConnector != nil:
		e.fail(checkBindings, BindingConnector, "Wanted is "+w.String()+", and bound is "+otherConnector.String()+": records go into the queue "+
			"of another connector.", reconcile+", or read the other queue.")
	case otherURL != nil:
		e.fail(checkBindings, BindingElsewhere, "Wanted is "+w.String()+", and bound is "+otherURL.String()+".",
			oneOfTwo+". If the URL has changed, pass WithOwnedPrefix, so that the old one is unbound.")
	default:
		e.missing(w)
	}
}

func (e *exam) missing(w event.Binding) {
	cause := w.String() + " is not bound."
	if e.judged && !e.admin {
		cause += " Or another user has bound it: the portal lists only the bindings of the token's user."
	}
	e.fail(checkBindings, BindingMissing, cause, e.reconcile(w, false)+", at every installation, update and start.")
}

// reconcile returns how to make a wanted binding. If the probe found that its URL has no handler,
// the URL comes first, because a binding to it would not help. oneOfTwo means that another URL is
// bound.
func (e *exam) reconcile(w event.Binding, oneOfTwo bool) string {
	status, missed := e.missed[w.Handler]
	switch {
	case !missed || w.Offline:
		return "Run event.API.Reconcile with the wanted bindings"
	case oneOfTwo:
		return "First check which of the two URLs is right, because the wanted one responds with " + strconv.Itoa(status) + ". Then run " +
			"event.API.Reconcile with the right one"
	default:
		return "First check the wanted URL, because it responds with " + strconv.Itoa(status) + ". Then run event.API.Reconcile with the " +
			"right one"
	}
}

// checkTwice adds a line if a second binding brings the same events to the same handler.
func (e *exam) checkTwice(w event.Binding, others ...*event.Binding) {
	for _, b := range others {
		if b != nil && !e.wanted(*b) {
			e.warn(checkBindings, BindingTwice, "Besides "+w.String()+" there is "+b.String()+": the event arrives twice.",
				"Unbind the one that is not needed. event.API.Reconcile does so for another user of the same URL.")
		}
	}
}

// sameButScheme reports whether two URLs differ only by http and https.
func sameButScheme(a, b string) bool {
	schemeA, restA, okA := strings.Cut(a, "://")
	schemeB, restB, okB := strings.Cut(b, "://")
	return okA && okB && restA == restB && !strings.EqualFold(schemeA, schemeB)
}

// alike reports whether two URLs are the same for people: they differ by case, a slash at the end,
// or the query.
func alike(a, b string) bool {
	short := func(s string) string {
		s, _, _ = strings.Cut(s, "?")
		return strings.ToLower(strings.TrimSuffix(s, "/"))
	}
	return short(a) == short(b)
}
