package eventtest

import (
	"github.com/b24events/b24events/event"
)

// incomingWebhook is an incoming webhook, a fixed URL that calls REST as one user.
type incomingWebhook struct {
	secret event.Secret
	scope  []string
	user   int64
}

// AddIncomingWebhook adds an incoming webhook of a user. It returns the base URL, which ends in a
// slash and is a secret; append the name of a method to it. It returns [ErrNotFound] for an unknown
// user.
func (p *Portal) AddIncomingWebhook(user int64, scope ...string) (event.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts.users[user] == nil {
		return "", ErrNotFound
	}
	h := &incomingWebhook{secret: event.Secret(randomText(16, base36)), scope: scope, user: user}
	p.accounts.incoming = append(p.accounts.incoming, h)
	p.signalChangeLocked()
	return event.Secret(p.baseURLLocked() + "/rest/" + userKey(user) + "/" + string(h.secret) + "/"), nil
}

// outgoingWebhook is an outgoing webhook, which sends events to a URL without an application.
type outgoingWebhook struct {
	token  event.Secret
	events []string
	url    string
}

// AddOutgoingWebhook adds an outgoing webhook: the portal sends the events to the URL, with the
// application token that it returns. It returns [ErrConfig] if url is not a URL or there are no
// events.
func (p *Portal) AddOutgoingWebhook(url string, events ...string) (event.Secret, error) {
	if err := checkURL(url, false); err != nil {
		return "", err
	}
	if len(events) == 0 {
		return "", misconfigured("an outgoing webhook needs at least one event")
	}
	h := &outgoingWebhook{token: event.Secret(randomText(32, base36)), url: url}
	for _, name := range events {
		h.events = append(h.events, upperName(name))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accounts.outgoing = append(p.accounts.outgoing, h)
	p.signalChangeLocked()
	return h.token, nil
}
