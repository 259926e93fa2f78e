package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// maxPolled limits the events of one log that are shown.
const maxPolled = 20

// polledView is the events that wait to be polled by one bot in fetch mode, or for one user.
type polledView struct {
	Bot        int64         `json:"bot,omitempty"`  // its ID
	App        string        `json:"app,omitempty"`  // that the bot belongs to
	User       int64         `json:"user,omitempty"` // whose events they are, if not a bot's
	Name       string        `json:"name"`           // of the bot or the user
	Waiting    int           `json:"waiting"`        // how many events
	NextOffset int64         `json:"next_offset"`    // the offset of the call that acknowledges all of them; 0 if none waits
	Latest     []waitingView `json:"latest"`         // the latest first
}

// waitingView is an event that waits to be polled.
type waitingView struct {
	ID     int64           `json:"id"` // eventId
	Event  string          `json:"event"`
	Entity string          `json:"entity"`
	Time   time.Time       `json:"time"`
	Data   json.RawMessage `json:"data"` // without tokens
}

// polled returns the logs of bots in fetch mode and of subscribed users.
func (pg *page) polled(users []userView) []polledView {
	type owner struct{ name, app string }
	bots := map[int64]owner{}
	for _, a := range pg.portal.Applications() {
		for id, b := range a.Bots() {
			bots[id] = owner{shorten(b.Name), a.ClientID()}
		}
	}
	names := map[int64]string{}
	for _, u := range users {
		names[u.ID] = u.Name
	}
	views := []polledView{}
	for _, log := range pg.portal.EventLogs(maxPolled) {
		view := polledView{
			Bot: log.BotID, App: bots[log.BotID].app, User: log.UserID, Name: bots[log.BotID].name + names[log.UserID],
			Waiting: log.Waiting, NextOffset: log.NextOffset, Latest: []waitingView{},
		}
		for _, e := range slices.Backward(log.Latest) {
			view.Latest = append(view.Latest, waitingView{e.ID, shorten(e.Event), entityOf(e.Event, e.Data), e.Time.UTC(), preview(e.Data)})
		}
		views = append(views, view)
	}
	return views
}

// v2Bot returns a bot of imbot.v2 and its application.
func (pg *page) v2Bot(id string) (int64, *eventtest.Application, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return 0, nil, badRequest("the ID of a bot is a number")
	}
	for _, a := range pg.portal.Applications() {
		if b, found := a.Bots()[n]; found && modeOf(b) != "old" {
			return n, a, nil
		}
	}
	return 0, nil, problem{
		http.StatusNotFound, "there is no bot of imbot.v2 with this ID; an application registers one with imbot.v2.Bot.register",
	}
}

// raiseForBot raises an event that only one bot of imbot.v2 gets, in the mode that it has.
func (pg *page) raiseForBot(ctx context.Context, id string, in struct {
	causeRequest

	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"` // null or missing for none
},
) (raised, error) {
	bot, a, err := pg.v2Bot(id)
	if err != nil {
		return raised{}, err
	}
	data, err := in.eventData(in.Data)
	if err != nil {
		return raised{}, err
	}
	name := strings.ToUpper(strings.TrimSpace(in.Event))
	if info, known := event.Lookup(name); !known || !strings.HasPrefix(info.Name, "ONIMBOTV2") {
		return raised{}, badRequest("the event is one of bots of imbot.v2, for example ONIMBOTV2CONTEXTGET")
	}
	for range in.times() {
		if err := pg.mayCause(ctx); err != nil {
			return raised{}, err
		}
		if err := a.RaiseForBot(bot, name, data, in.user()); err != nil {
			return raised{}, err
		}
	}
	return raised{name + " raised for bot " + id + times(in.times()), pg.v2Hears(a, bot)}, nil
}

// react adds a user's reaction to a message, or takes it back.
func (pg *page) react(_ context.Context, _ string, in struct {
	Message  int64  `json:"message"` // its ID
	User     *int64 `json:"user"`    // the default is the administrator
	Reaction string `json:"reaction"`
	Remove   bool   `json:"remove"`
},
) (doneText, error) {
	user := causeRequest{User: in.User}.user()
	if len(in.Reaction) > 100 {
		return doneText{}, badRequest("the name of a reaction is short, for example like")
	}
	if err := pg.portal.React(in.Message, user, in.Reaction, !in.Remove); err != nil {
		return doneText{}, err
	}
	done := "added to"
	if in.Remove {
		done = "removed from"
	}
	return doneText{in.Reaction + " " + done + " message " + strconv.FormatInt(in.Message, 10)}, nil
}
