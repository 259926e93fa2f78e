package main

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// Limits of one command.
const (
	maxTimes  = 1000
	maxAtOnce = 8 << 20 // bytes
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
) (any, error) {
	name := strings.ToUpper(strings.TrimSpace(in.Event))
	if name == "" || len(name) > 200 || strings.ContainsAny(name, " \t\n{}") {
		return nil, badRequest("give the name of one event, for example ONCRMDEALUPDATE")
	}
	if err := in.checkAmount(len(in.Data)); err != nil {
		return nil, err
	}
	var data any // nil if the event has none
	if len(in.Data) > 0 && string(in.Data) != "null" {
		tree, err := event.ParseData(in.Data)
		if err != nil {
			return nil, badRequest("the data cannot be in an event: " + err.Error())
		}
		data = tree
	}
	if _, known := event.Lookup(name); !known {
		pg.portal.AddEvent(name, "") // the page may raise events of its user's own
	}
	for range in.times() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := pg.checkRoom(); err != nil {
			return nil, err
		}
		if err := pg.portal.Raise(name, data, in.user()); err != nil {
			return nil, err
		}
	}
	return map[string]any{"text": name + " raised" + times(in.times()), "heard": pg.hasHandler(name)}, nil
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return " " + strconv.Itoa(n) + " times"
}

// hasHandler reports whether anything is bound to the event. If not, the page can say why nothing
// arrives.
func (pg *page) hasHandler(name string) bool {
	for _, b := range pg.portal.Bindings() {
		if b.Event == name || strings.HasPrefix(b.Event, name+"_") { // the second is the event of one smart process
			return true
		}
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return slices.ContainsFunc(pg.webhooks, func(w webhookView) bool { return slices.Contains(w.Events, name) })
}
