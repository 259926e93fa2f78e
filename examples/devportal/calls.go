package main

import (
	"cmp"
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

// callList is the latest calls that match a filter, with counts of all that are kept.
type callList struct {
	Shown    []callView `json:"shown"`
	Matching int        `json:"matching"`
	Total    int        `json:"total"`
	Refused  int        `json:"refused"`
}

type callView struct {
	ID     int64     `json:"id"`
	Method string    `json:"method"`
	App    string    `json:"app"` // empty for an incoming webhook, and if the caller is unknown
	User   int64     `json:"user"`
	Status int       `json:"status"`
	Error  string    `json:"error,omitempty"`
	Batch  bool      `json:"batch,omitempty"`
	Time   time.Time `json:"time"`
}

func callViewOf(c eventtest.Call) callView {
	return callView{
		ID: c.ID, Method: shorten(c.Method), App: c.ClientID, User: c.UserID, Status: c.Status, Error: shorten(c.ErrorCode), Batch: c.Batch,
		Time: c.Time.UTC(),
	}
}

// allCalls returns the calls to REST and to the OAuth server that are kept, in their order.
func (pg *page) allCalls() []eventtest.Call {
	all := append(pg.portal.Calls(), pg.portal.OAuthCalls()...)
	slices.SortFunc(all, func(a, b eventtest.Call) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func (pg *page) calls(all []eventtest.Call, filter viewFilter) callList {
	list := callList{Shown: []callView{}, Total: len(all)}
	for _, c := range slices.Backward(all) {
		if c.ErrorCode != "" {
			list.Refused++
		}
		if (filter.callsFailed && c.ErrorCode == "") || !strings.Contains(c.Method, filter.callsText) {
			continue
		}
		if list.Matching++; len(list.Shown) < maxCalls {
			list.Shown = append(list.Shown, callViewOf(c))
		}
	}
	return list
}

// call returns a call by its ID.
func (pg *page) call(id string) (eventtest.Call, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return eventtest.Call{}, badRequest("the ID of a call is a number")
	}
	all := pg.allCalls()
	i, found := slices.BinarySearchFunc(all, n, func(c eventtest.Call, n int64) int { return cmp.Compare(c.ID, n) })
	if !found {
		return eventtest.Call{}, problem{http.StatusNotFound, "this call is no longer kept; the page lists the ones that are"}
	}
	return all[i], nil
}

// callDetail is one call with its content. Params and Answer are JSON; Answer is null if it was not
// kept.
type callDetail struct {
	callView

	Params     json.RawMessage `json:"params"`
	Answer     json.RawMessage `json:"answer"`
	AnswerSize int             `json:"answer_bytes"`
}

// serveCall returns one call without secrets.
func (pg *page) serveCall(w http.ResponseWriter, r *http.Request) {
	c, err := pg.call(r.PathValue("id"))
	if err != nil {
		writeError(w, err)
		return
	}
	params, err := c.Params.MarshalJSON()
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, callDetail{callViewOf(c), params, redacted(c.Answer), c.AnswerSize})
}

// rawCall returns one call as it was. The credentials of the caller are not kept.
func (pg *page) rawCall(_ context.Context, id string, _ noInput) (callDetail, error) {
	c, err := pg.call(id)
	if err != nil {
		return callDetail{}, err
	}
	answer := json.RawMessage(c.Answer)
	if len(answer) == 0 {
		answer = json.RawMessage("null")
	}
	return callDetail{callViewOf(c), c.Params.JSON(), answer, c.AnswerSize}, nil
}

// redacted returns an answer without the tokens in it.
func redacted(answer event.Secret) json.RawMessage {
	if answer == "" {
		return json.RawMessage("null")
	}
	data, err := event.ParseData([]byte(`{"answer":` + string(answer) + `}`))
	if err != nil {
		return json.RawMessage("null")
	}
	shown, err := data.Get("answer").MarshalJSON()
	if err != nil || len(shown) == 0 {
		return json.RawMessage("null")
	}
	return shown
}
