package main

import (
	"context"
	"embed"
	"net/http"
	"strconv"
	"sync"

	"github.com/b24events/b24events/event/eventtest"
)

//go:embed static
var static embed.FS

// page serves the web page of one portal and its API. It holds the portal and what the page
// remembers.
type page struct {
	portal *eventtest.Portal
	cfg    config
	all    *group
	shared sharedState

	quirksTurn sync.Mutex // held while a command changes quirks; taken before mu

	mu        sync.Mutex // guards everything below
	users     []userView
	added     map[eventtest.Kind][]int64 // IDs of objects that the page added and did not delete, the oldest first
	webhooks  []webhookView
	addresses map[string]appAddresses // by client ID
	renamed   int
	ownEvents map[string]bool // names of events that are not in the catalogue
	processes map[int64]bool  // smart processes that the page added, by entityTypeId
	written   objectSizes
}

// Limits of what can be added.
const (
	maxUsers   = 50
	maxRenames = 20
)

// userView is a user who can cause events.
type userView struct {
	ID        int64  `json:"id"`
	Name      string `json:"name"`
	Admin     bool   `json:"admin"`
	Dismissed bool   `json:"dismissed"`
}

func newPage(p *eventtest.Portal, cfg config, all *group) *page {
	uma := p.AddUser(eventtest.User{Name: "Uma", LastName: "Ser", Email: "uma@example.com"})
	return &page{
		portal: p, cfg: cfg, all: all, added: map[eventtest.Kind][]int64{}, addresses: map[string]appAddresses{},
		ownEvents: map[string]bool{}, processes: map[int64]bool{},
		written: objectSizes{limit: maxWritten, of: map[objectKey]int{}},
		users:   []userView{{ID: eventtest.AdminID, Name: "Ada Min", Admin: true}, {ID: uma, Name: "Uma Ser"}},
	}
}

// addUser adds a user to the portal.
func (pg *page) addUser(_ context.Context, _ string, in struct {
	Name     string `json:"name"`
	LastName string `json:"last_name"`
	Email    string `json:"email"`
	Admin    bool   `json:"admin"`
},
) (newID, error) {
	if in.Name == "" || len(in.Name)+len(in.LastName)+len(in.Email) > 300 {
		return newID{}, badRequest("a user needs a name, and at most 300 bytes in all")
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if len(pg.users) >= maxUsers {
		return newID{}, badRequest("there are too many users; restart the program for an empty portal")
	}
	id := pg.portal.AddUser(eventtest.User{Name: in.Name, LastName: in.LastName, Email: in.Email, Admin: in.Admin})
	name := in.Name
	if in.LastName != "" {
		name += " " + in.LastName
	}
	pg.users = append(pg.users, userView{ID: id, Name: name, Admin: in.Admin})
	return newID{id}, nil
}

// newID is the result of adding a user.
type newID struct {
	ID int64 `json:"id"`
}

// dismissUser dismisses a user, for good.
func (pg *page) dismissUser(_ context.Context, id string, _ noInput) (noResult, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return noResult{}, badRequest("the ID of a user is a number")
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if err := pg.portal.DismissUser(n); err != nil {
		return noResult{}, problem{http.StatusNotFound, "there is no user with this ID"}
	}
	for i := range pg.users {
		pg.users[i].Dismissed = pg.users[i].Dismissed || pg.users[i].ID == n
	}
	return noResult{}, nil
}

// rename gives the portal a new domain.
func (pg *page) rename(ctx context.Context, _ string, _ noInput) (newDomain, error) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.renamed >= maxRenames {
		return newDomain{}, badRequest("the portal was renamed too often; restart the program")
	}
	if err := pg.portal.Rename(ctx); err != nil {
		return newDomain{}, err
	}
	pg.renamed++
	return newDomain{pg.portal.Domain(), pg.portal.URL() + "/"}, nil
}

// newDomain is the result of a rename.
type newDomain struct {
	Domain string `json:"domain"`
	Page   string `json:"page"` // the new address of this page
}
