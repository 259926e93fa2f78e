package eventtest

import (
	"errors"
	"strings"

	"github.com/b24events/b24events/event"
)

// User describes a user to [Portal.AddUser].
type User struct {
	Name     string
	LastName string
	Email    string
	Admin    bool
	Type     UserType // [Employee] if empty
}

// UserType is a kind of user. user.get lists employees, and extranet users to administrators in
// ADMIN_MODE. It never lists the other kinds: an empty list does not say that there is no such
// user.
type UserType string

// The kinds of users, by what USER_TYPE says of them.
const (
	Employee      UserType = "employee"
	Extranet      UserType = "extranet"
	EmailUser     UserType = "email"       // who takes part by e-mail
	ConnectorUser UserType = "imconnector" // a visitor of an open channel
	ReplicaUser   UserType = "replica"     // of another portal
	Integrator    UserType = "integrator"  // a partner who sets up the portal
)

func (t UserType) unlisted() bool {
	return t == EmailUser || t == ConnectorUser || t == ReplicaUser || t == Integrator
}

type user struct {
	User
	id        int64
	dismissed bool
}

func (u *user) fullName() string { return strings.TrimSpace(u.Name + " " + u.LastName) }

func newAdmin() *user {
	return &user{id: AdminID, User: User{Admin: true, Name: "Ada", LastName: "Min", Email: "admin@example.com"}}
}

// AddUser adds an active user and returns the identifier.
func (p *Portal) AddUser(u User) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.next("user")
	p.users[id] = &user{id: id, User: u}
	return id
}

// DismissUser lets a user leave the company: REST answers the user's tokens and webhooks with
// authorization_error, and events that the user causes carry no tokens. It returns [ErrNotFound]
// for an unknown user.
func (p *Portal) DismissUser(id int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[id] == nil {
		return ErrNotFound
	}
	p.users[id].dismissed = true
	p.touch()
	return nil
}

// inboundHook is an incoming webhook: a fixed way to call REST as one user.
type inboundHook struct {
	secret event.Secret
	scope  []string
	user   int64
}

// AddIncomingWebhook adds an incoming webhook of a user and returns its base URL, which ends in a
// slash and is a secret. Method names are appended to it. It returns [ErrNotFound] for an unknown
// user.
func (p *Portal) AddIncomingWebhook(user int64, scope ...string) (event.Secret, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[user] == nil {
		return "", ErrNotFound
	}
	h := &inboundHook{secret: event.Secret(randomText(16, base36)), scope: scope, user: user}
	p.hooks = append(p.hooks, h)
	return event.Secret(p.base() + "/rest/" + userKey(user) + "/" + string(h.secret) + "/"), nil
}

// outgoingHook is an outgoing webhook: events to an address, without an application.
type outgoingHook struct {
	token  event.Secret
	events []string
	url    string
}

// AddOutgoingWebhook adds an outgoing webhook: the events named are sent to the address, signed
// with the token that is returned. It returns an error where the address is not a URL or no event
// is named.
func (p *Portal) AddOutgoingWebhook(url string, events ...string) (event.Secret, error) {
	if err := checkURL(url, false); err != nil {
		return "", err
	}
	if len(events) == 0 {
		return "", errors.New("eventtest: an outgoing webhook needs at least one event")
	}
	h := &outgoingHook{token: event.Secret(randomText(32, base36)), url: url}
	for _, name := range events {
		h.events = append(h.events, upper(name))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outgoing = append(p.outgoing, h)
	return h.token, nil
}
