package eventtest

import (
	"strconv"
	"strings"
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
// ADMIN_MODE. It never lists the other kinds, so an empty list does not mean that there is no such
// user.
type UserType string

// The kinds of users, as in the field USER_TYPE.
const (
	Employee      UserType = "employee"
	Extranet      UserType = "extranet"
	EmailUser     UserType = "email"       // takes part by e-mail
	ConnectorUser UserType = "imconnector" // a visitor of an open channel
	ReplicaUser   UserType = "replica"     // of another portal
	Integrator    UserType = "integrator"  // a partner who sets up the portal
)

// unlisted reports whether user.get never lists users of this kind.
func (t UserType) unlisted() bool {
	return t == EmailUser || t == ConnectorUser || t == ReplicaUser || t == Integrator
}

// user is a user of the portal, which also may be a bot. Portal.mu guards it.
type user struct {
	User
	id        int64
	dismissed bool
}

func (u *user) fullName() string { return strings.TrimSpace(u.Name + " " + u.LastName) }

func newAdmin() *user {
	return &user{id: AdminID, User: User{Admin: true, Name: "Ada", LastName: "Min", Email: "admin@example.com"}}
}

// AddUser adds an active user and returns the ID.
func (p *Portal) AddUser(u User) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.nextIDLocked("user")
	p.accounts.users[id] = &user{id: id, User: u}
	p.signalChangeLocked()
	return id
}

// DismissUser dismisses a user: calls with the user's tokens and webhooks fail with
// authorization_error, and events that the user causes carry no tokens. It returns [ErrNotFound]
// for an unknown user.
func (p *Portal) DismissUser(id int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts.users[id] == nil {
		return ErrNotFound
	}
	p.accounts.users[id].dismissed = true
	p.signalChangeLocked()
	return nil
}

// userKey returns an ID as a text, for keys of maps and fields.
func userKey(id int64) string { return strconv.FormatInt(id, 10) }
