package main

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// Bounds of what one command does.
const (
	maxTimes  = 1000
	maxAtOnce = 8 << 20 // bytes
)

// cause is who causes something, and how often.
type cause struct {
	User  *int64 `json:"user"`  // the administrator where absent, 0 for nobody
	Times int    `json:"times"` // 1 where 0
}

func (c cause) user() int64 {
	if c.User == nil {
		return eventtest.AdminID
	}
	return *c.User
}

func (c cause) times() int { return cmp.Or(c.Times, 1) }

// tooMuch refuses to have a large thing done many times: the portal keeps what it sent.
func (c cause) tooMuch(bytes int) error {
	switch times := c.times(); {
	case times < 1 || times > maxTimes:
		return refuse("once to 1000 times, please")
	case bytes*times > maxAtOnce:
		return refuse("that is more than 8 MiB in all; send less, or fewer times")
	default:
		return nil
	}
}

// raise lets any event happen by its name.
func (d *desk) raise(ctx context.Context, _ string, in struct {
	cause

	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"` // null or left out for none
},
) (any, error) {
	name := strings.ToUpper(strings.TrimSpace(in.Event))
	if name == "" || len(name) > 200 || strings.ContainsAny(name, " \t\n{}") {
		return nil, refuse("name one event, such as ONCRMDEALUPDATE")
	}
	if err := in.tooMuch(len(in.Data)); err != nil {
		return nil, err
	}
	var data any // nil: the event has none
	if len(in.Data) > 0 && string(in.Data) != "null" {
		tree, err := event.ParseData(in.Data)
		if err != nil {
			return nil, refuse("the data cannot stand in an event: " + err.Error())
		}
		data = tree
	}
	for range in.times() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := d.portal.Raise(name, data, in.user()); err != nil {
			return nil, err
		}
	}
	return map[string]any{"text": name + " raised" + times(in.times()), "heard": d.heard(name)}, nil
}

func times(n int) string {
	if n == 1 {
		return ""
	}
	return " " + strconv.Itoa(n) + " times"
}

// heard reports whether anything is bound to the event, so that the page can say why nothing
// arrives.
func (d *desk) heard(name string) bool {
	for _, b := range d.portal.Bindings() {
		if b.Event == name || strings.HasPrefix(b.Event, name+"_") { // the latter of one smart process
			return true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.webhooks, func(w webhookView) bool { return slices.Contains(w.Events, name) })
}
