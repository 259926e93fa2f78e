package main

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// Limits of one command.
const (
	maxTimes  = 1000
	maxAtOnce = 8 << 20 // bytes

	maxOwnEvents = 1000 // names of events that are not in the catalogue
)

// causeRequest is the user who causes events, and how often.
type causeRequest struct {
	User  *int64 `json:"user"`  // the default is the administrator; 0 for nobody
	Times int    `json:"times"` // the default is 1
}

func (c causeRequest) user() int64 {
	if c.User == nil {
		return eventtest.AdminID
	}
	return *c.User
}

func (c causeRequest) times() int { return cmp.Or(c.Times, 1) }

// checkAmount limits the size of all repetitions, because the portal keeps what it sends.
func (c causeRequest) checkAmount(bytes int) error {
	switch times := c.times(); {
	case times < 1 || times > maxTimes:
		return badRequest("the number of times must be from 1 to 1000")
	case bytes*times > maxAtOnce:
		return badRequest("this is more than 8 MiB in total; send less, or fewer times")
	default:
		return nil
	}
}

// eventData reads the data of an event, which is nil if the event has none, and checks the size of
// all repetitions.
func (c causeRequest) eventData(doc json.RawMessage) (any, error) {
	if err := c.checkAmount(len(doc)); err != nil {
		return nil, err
	}
	if len(doc) == 0 || string(doc) == "null" {
		return nil, nil //nolint:nilnil // there is no data
	}
	tree, err := event.ParseData(doc)
	if err != nil {
		return nil, badRequest("the data cannot be in an event: " + err.Error())
	}
	return tree, nil
}

// mayCause returns an error if the caller has gone away, or too much waits.
func (pg *page) mayCause(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return pg.checkRoom()
}

// checkRoom refuses to cause more while too much waits for handlers.
func (pg *page) checkRoom() error {
	if pg.portal.WaitingBytes() > maxWaiting/2 {
		return problem{http.StatusTooManyRequests, "deliveries of more than 32 MiB wait for their handlers; let these respond first"}
	}
	return nil
}

// raise raises any event by its name.
func (pg *page) raise(ctx context.Context, _ string, in struct {
	causeRequest

	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"` // null or missing for none
},
) (raised, error) {
	name := strings.ToUpper(strings.TrimSpace(in.Event))
	if name == "" || len(name) > 200 || strings.ContainsAny(name, " \t\n{}") {
		return raised{}, badRequest("give the name of one event, for example ONCRMDEALUPDATE")
	}
	data, err := in.eventData(in.Data)
	if err != nil {
		return raised{}, err
	}
	if err := pg.addEvent(name); err != nil {
		return raised{}, err
	}
	for range in.times() {
		if err := pg.mayCause(ctx); err != nil {
			return raised{}, err
		}
		if err := pg.portal.Raise(name, data, in.user()); err != nil {
			return raised{}, err
		}
	}
	return raised{name + " raised" + times(in.times()), pg.hears(name)}, nil
}

// addEvent lets an event be raised that is not in the catalogue, because it is the user's own.
func (pg *page) addEvent(name string) error {
	if _, known := event.Lookup(name); known {
		return nil
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if !pg.ownEvents[name] && len(pg.ownEvents) >= maxOwnEvents {
		return badRequest("there are too many events that are not in the catalogue; restart the program for an empty portal")
	}
	pg.ownEvents[name] = true
	pg.portal.AddEvent(name, "")
	return nil
}

// raised is the result of raising an event.
type raised struct {
	Text string `json:"text"` // what happened, for people
	hearing
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return " " + strconv.Itoa(n) + " times"
}
