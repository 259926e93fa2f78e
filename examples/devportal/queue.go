package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// queueView is the offline queues of all applications.
type queueView struct {
	Rows     []rowView `json:"rows"` // the first ones
	Total    int       `json:"total"`
	Waiting  int       `json:"waiting"`
	Reserved int       `json:"reserved"`
	Errored  int       `json:"errored"`
	Merged   int       `json:"merged"` // records of more than one change
}

type rowView struct {
	ID        int64           `json:"id"`
	Event     string          `json:"event"`
	Entity    string          `json:"entity"`
	App       string          `json:"app"`
	Connector string          `json:"connector"`
	User      int64           `json:"user"`
	ProcessID string          `json:"process_id"`
	State     string          `json:"state"` // waiting, reserved, errored, or reread: errored and reserved
	Merged    int             `json:"merged"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

func (pg *page) queue() queueView {
	rows := pg.portal.OfflineRows()
	view := queueView{Rows: []rowView{}, Total: len(rows)}
	for i, r := range rows {
		state := "waiting"
		switch {
		case r.Error && r.ProcessID != "":
			state = "reread"
		case r.Error:
			state = "errored"
		case r.ProcessID != "":
			state = "reserved"
		}
		switch {
		case r.Error:
			view.Errored++
		case r.ProcessID != "":
			view.Reserved++
		default:
			view.Waiting++
		}
		if r.Merged > 0 {
			view.Merged++
		}
		if i >= maxRows {
			continue
		}
		view.Rows = append(view.Rows, rowView{
			ID: r.ID, Event: r.Event, Entity: entityOf(r.Event, r.Data), App: r.ClientID, Connector: r.Connector, User: r.UserID,
			ProcessID: r.ProcessID, State: state, Merged: r.Merged, Time: r.Time.UTC(), Data: preview(r.Data),
		})
	}
	return view
}

// entityOf returns a short name of the changed object, for example "crm.deal 42".
func entityOf(name string, data event.Data) string {
	e := (&event.Delivery{Kind: event.KindEvent, Name: name, Data: data}).Entity()
	return strings.TrimSpace(e.Kind + " " + shorten(e.ID))
}

// preview returns a record's data without tokens, or a text if it is too long.
func preview(data event.Data) json.RawMessage {
	doc, err := data.MarshalJSON()
	switch {
	case err != nil:
		return json.RawMessage(`null`)
	case len(doc) > maxPreview:
		return json.RawMessage(`"` + strconv.Itoa(len(doc)) + ` bytes, too long to show"`)
	default:
		return doc
	}
}
