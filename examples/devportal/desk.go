package main

import (
	"sync"

	"github.com/b24events/b24events/event/eventtest"
)

// desk is what the page's commands work on: the portal, and what the page remembers besides.
type desk struct {
	portal *eventtest.Portal
	cfg    config
	users  []userView

	quirkTurn sync.Mutex // held while a command changes quirks

	mu       sync.Mutex                 // guards what follows
	made     map[eventtest.Kind][]int64 // objects that the page added and did not delete, oldest first
	webhooks []webhookView
	resendOf map[int64]int64 // delivery → the one that it repeats
	resentAs map[int64]int64 // delivery → its latest repetition
}

// userView is somebody who can cause an event.
type userView struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Admin bool   `json:"admin"`
}

func newDesk(p *eventtest.Portal, cfg config) *desk {
	uma := p.AddUser(eventtest.User{Name: "Uma", LastName: "Ser", Email: "uma@example.com"})
	return &desk{
		portal: p, cfg: cfg, made: map[eventtest.Kind][]int64{}, resendOf: map[int64]int64{}, resentAs: map[int64]int64{},
		users: []userView{{eventtest.AdminID, "Ada Min", true}, {uma, "Uma Ser", false}},
	}
}
