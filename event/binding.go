package event

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/b24events/b24events/internal/redact"
)

// Binding is one subscription. Event, Handler, AuthType and Connector together identify it: the
// same URL with another AuthType is a second binding and receives every event again.
type Binding struct {
	Event     string // wire name, any case
	Handler   string // URL that the portal posts to; empty for offline bindings
	AuthType  int64  // user whose token the deliveries carry; 0 means the user who caused the event
	Offline   bool   // into the offline queue instead of to a URL
	Connector string // queue of an integration (auth_connector); needs a plan with the feature rest_auth_connector
	// MinTimeout, in seconds, requests a pause between deliveries of ONOFFLINEEVENT. Current portals
	// ignore it and use one second.
	MinTimeout int
}

// Validate returns an error that matches [ErrConfig] if the portal would refuse the binding or
// confuse it with another, or if it would send tokens over the internet in clear. A handler URL
// must start with https:// unless its host is a loopback or a private address or a name below
// localhost. [API.Bind] and [API.Plan] call Validate before any request. Call it at start-up to
// find a misconfigured handler URL early.
func (b Binding) Validate() error {
	name := b.wireName()
	switch {
	case name == "":
		return misconfigured("a binding without an event name")
	case strings.ContainsFunc(name, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }):
		return misconfigured("the name of an event must not hold spaces or characters that do not print: %s", redact.Clean(name, maxBindingText))
	case strings.HasSuffix(name, typeIDMark):
		return misconfigured("binding of %s: replace the braces with the ID of a smart process", name)
	case b.Offline && b.Handler != "":
		return misconfigured("offline binding of %s has a handler URL; leave it empty", name)
	case b.Offline && !bindable(name, true):
		return misconfigured("%s cannot be bound to the offline queue", name)
	case b.Offline:
		return nil
	case !bindable(name, false):
		return misconfigured("the platform binds %s by itself; leave it out", name)
	}
	if err := checkHandlerURL(b.Handler); err != nil {
		return misconfigured("binding of %s: %v", name, err)
	}
	return nil
}

func (b Binding) wireName() string { return strings.ToUpper(strings.TrimSpace(b.Event)) }

// byPlatform reports whether the platform creates such a binding by itself.
func (b Binding) byPlatform() bool {
	info, _ := Lookup(b.wireName())
	return !b.Offline && (info.PlatformBound || info.AutoSubscribed)
}

// bindable reports whether event.bind accepts the event. It assumes so for unknown events.
func bindable(name string, offline bool) bool {
	info, known := Lookup(name)
	return !known || (!info.AutoSubscribed && (!offline || info.Offline))
}

func (b Binding) bindParams() map[string]any {
	p := b.params()
	if b.MinTimeout > 0 {
		p["options"] = map[string]any{"minTimeout": b.MinTimeout}
	}
	return p
}

func (b Binding) params() map[string]any {
	p := map[string]any{"event": b.wireName()}
	if b.Offline {
		p["event_type"] = "offline"
	} else {
		p["handler"] = b.Handler
		if b.AuthType != 0 {
			p["auth_type"] = b.AuthType
		}
	}
	if b.Connector != "" { // even an empty one is refused on plans without the feature
		p[connectorKey] = b.Connector
	}
	return p
}

// String names the binding without the query of its URL, which often holds a tenant or a secret.
// The result is always one line.
func (b Binding) String() string {
	text := b.Event
	switch {
	case b.Offline && b.Connector != "":
		text += " offline " + b.Connector
	case b.Offline:
		text += " offline"
	default:
		text += " " + shownURL(b.Handler)
	}
	if b.AuthType != 0 && !b.Offline {
		text += " user " + strconv.FormatInt(b.AuthType, 10)
	}
	return redact.Escape(redact.New().Redact(text), maxBindingText)
}

// maxBindingText is the longest text that [Binding.String] returns, in characters.
const maxBindingText = 512
