package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

// Limits in bytes.
const (
	maxRaw    = 1 << 20  // of a body that is shown
	maxParsed = 16 << 10 // of a body that is parsed for its object in the list
)

// deliveryList is the deliveries that match a filter, the latest first, with counts of all.
type deliveryList struct {
	Shown        []deliveryView `json:"shown"`
	Matching     int            `json:"matching"`
	Acknowledged int            `json:"acknowledged"` // the handler returned a status of 2xx, before or after it did its work
	Failed       int            `json:"failed"`
	Open         int            `json:"open"` // failed, and not resent yet
}

// deliveryView is one delivery without its body.
type deliveryView struct {
	ID           int64     `json:"id"`
	Event        string    `json:"event"`
	Entity       string    `json:"entity"`
	App          string    `json:"app"` // empty for an outgoing webhook
	HandlerID    int64     `json:"handler_id"`
	URL          string    `json:"url"`
	Acknowledged bool      `json:"acknowledged"`
	Status       int       `json:"status"`
	Error        string    `json:"error,omitempty"`
	Latency      float64   `json:"latency_ms"`
	Time         time.Time `json:"time"`
	ResendOf     int64     `json:"resend_of,omitempty"`
	Resent       int64     `json:"resent,omitempty"` // ID of its latest repetition
}

// viewOf converts an attempt to JSON.
func viewOf(a eventtest.Attempt) deliveryView {
	v := deliveryView{
		ID: a.ID, Event: shorten(a.Event), App: a.ClientID, HandlerID: a.HandlerID, URL: shorten(a.URL), Acknowledged: a.OK(), Status: a.Status,
		Latency: float64(a.Duration.Microseconds()) / 1000, Time: a.Time.UTC(), ResendOf: a.ResendOf,
	}
	parsed := &event.Delivery{}
	if len(a.Body) <= maxParsed || a.Err != nil {
		if d, err := event.Parse("", []byte(a.Body)); err == nil {
			parsed = d
			v.Entity = entityOf(parsed.Name, parsed.Data)
		}
	}
	if a.Err != nil {
		v.Error = reason(a.Err, parsed)
	}
	return v
}

// reason returns a text that says why there was no response. It is redacted, because an error may
// quote the handler, and the handler may quote the delivery.
func reason(err error, parsed *event.Delivery) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused; is the handler running?"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "the handler closed the connection"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no response in time"
	default:
		return shorten(parsed.Redact(plain(err)))
	}
}

func (pg *page) deliveries(filter viewFilter) deliveryList {
	all := pg.portal.Deliveries()
	resent := repetitions(all)
	view := deliveryList{Shown: []deliveryView{}}
	for _, a := range slices.Backward(all) {
		ok := a.OK()
		switch {
		case ok:
			view.Acknowledged++
		case resent[a.ID] == 0:
			view.Open++
			fallthrough
		default:
			view.Failed++
		}
		if (filter.failed && ok) || !contains(a, filter.text) {
			continue
		}
		if view.Matching++; len(view.Shown) < filter.limit {
			v := viewOf(a)
			v.Resent = resent[a.ID]
			view.Shown = append(view.Shown, v)
		}
	}
	return view
}

// repetitions returns the ID of the latest repetition of each delivery that was resent.
func repetitions(all []eventtest.Attempt) map[int64]int64 {
	latest := map[int64]int64{}
	for _, a := range all {
		if a.ResendOf != 0 {
			latest[a.ResendOf] = a.ID
		}
	}
	return latest
}

func contains(a eventtest.Attempt, text string) bool {
	return text == "" || strings.Contains(strings.ToLower(a.Event), text) || strings.Contains(strings.ToLower(a.URL), text)
}

// delivery returns an attempt by its ID.
func (pg *page) delivery(id string) (eventtest.Attempt, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return eventtest.Attempt{}, badRequest("the ID of a delivery is a number")
	}
	all := pg.portal.Deliveries()
	i, found := slices.BinarySearchFunc(all, n, func(a eventtest.Attempt, n int64) int { return cmp.Compare(a.ID, n) })
	if !found {
		return eventtest.Attempt{}, problem{http.StatusNotFound, "this delivery is no longer kept; the page lists the ones that are"}
	}
	return all[i], nil
}

// serveDelivery returns the content of one delivery without tokens, as examples/decode prints it.
func (pg *page) serveDelivery(w http.ResponseWriter, r *http.Request) {
	a, err := pg.delivery(r.PathValue("id"))
	if err != nil {
		writeError(w, err)
		return
	}
	parsed, err := event.Parse("", []byte(a.Body))
	if err != nil {
		writeError(w, err)
		return
	}
	decoded, err := parsed.MarshalJSON()
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, deliveryDetail{viewOf(a), len(a.Body), decoded, shownAnswer(a, parsed)})
}

// deliveryDetail is one delivery with its content, without tokens.
type deliveryDetail struct {
	deliveryView

	Bytes   int             `json:"bytes"`   // of its body
	Decoded json.RawMessage `json:"decoded"` // as examples/decode prints it
	Answer  string          `json:"answer"`  // the beginning of the response's body
}

// shownAnswer returns the beginning of a handler's response without tokens of the delivery.
func shownAnswer(a eventtest.Attempt, parsed *event.Delivery) string {
	return strings.ToValidUTF8(parsed.RedactExcerpt(string(a.Answer)), "\uFFFD")
}

// rawBody is the body of a delivery with its tokens.
type rawBody struct {
	Body  string `json:"body"`  // as it was sent, at most 1 MiB of it
	Bytes int    `json:"bytes"` // of the whole body
}

// rawDelivery returns the body as it was sent, including tokens.
func (pg *page) rawDelivery(_ context.Context, id string, _ noInput) (rawBody, error) {
	a, err := pg.delivery(id)
	if err != nil {
		return rawBody{}, err
	}
	body := string(a.Body)
	return rawBody{body[:min(len(body), maxRaw)], len(body)}, nil
}

// resend posts a delivery again, and waits until the handler has responded.
func (pg *page) resend(ctx context.Context, id string, _ noInput) (deliveryView, error) {
	a, err := pg.delivery(id)
	if err != nil {
		return deliveryView{}, err
	}
	last := pg.lastDeliveryID()
	if err := pg.portal.Resend(a); err != nil {
		return deliveryView{}, err
	}
	for {
		changed := pg.portal.Changed()
		for _, b := range slices.Backward(pg.portal.Deliveries()) {
			if b.ID <= last {
				break
			}
			if b.ResendOf == a.ID {
				return viewOf(b), nil
			}
		}
		if !pause(ctx, changed, heartbeat) {
			return deliveryView{}, ctx.Err()
		}
	}
}

// resentMany is the result of sending deliveries again.
type resentMany struct {
	Resent int `json:"resent"` // how many were queued
	Left   int `json:"left"`   // how many more there are than one command takes
}

// maxResends limits how many deliveries one command sends again.
const maxResends = 1000

// resendMany sends deliveries again, without waiting for the handlers: those with the given IDs, or
// all that failed, match the text and were not resent yet.
func (pg *page) resendMany(ctx context.Context, _ string, in struct {
	IDs    []int64 `json:"ids"`
	Failed bool    `json:"failed"`
	Text   string  `json:"q"` // with failed: part of the event's name or the handler's URL
},
) (resentMany, error) {
	if in.Failed == (len(in.IDs) > 0) || len(in.IDs) > maxResends {
		return resentMany{}, badRequest("give either failed=true or ids, at most 1000")
	}
	all := pg.portal.Deliveries()
	resent, text := repetitions(all), strings.ToLower(strings.TrimSpace(in.Text))
	queued, left := 0, 0
	for _, a := range all {
		if in.Failed && (a.OK() || resent[a.ID] != 0 || !contains(a, text)) || !in.Failed && !slices.Contains(in.IDs, a.ID) {
			continue
		}
		if queued == maxResends {
			left++
			continue
		}
		if err := ctx.Err(); err != nil {
			return resentMany{}, err
		}
		if err := pg.checkRoom(); err != nil {
			return resentMany{}, fmt.Errorf("%d resent, then: %w", queued, err)
		}
		if err := pg.portal.Resend(a); err != nil {
			return resentMany{}, err
		}
		queued++
	}
	return resentMany{queued, left}, nil
}

// lastDeliveryID returns the ID of the latest delivery, or 0.
func (pg *page) lastDeliveryID() int64 {
	if all := pg.portal.Deliveries(); len(all) > 0 {
		return all[len(all)-1].ID
	}
	return 0
}

// forget deletes the records of deliveries and calls.
func (pg *page) forget(context.Context, string, noInput) (noResult, error) {
	pg.portal.ResetRecords()
	return noResult{}, nil
}
