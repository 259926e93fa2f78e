package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// Bounds in bytes.
const (
	maxRaw    = 1 << 20  // of a body that is revealed
	maxParsed = 16 << 10 // of a body whose object the list names
)

// deliveryList is the deliveries that somebody looks at, the latest first, and the number of all.
type deliveryList struct {
	Shown    []deliveryView `json:"shown"`
	Matching int            `json:"matching"`
	OK       int            `json:"ok"`
	Failed   int            `json:"failed"`
}

// deliveryView is one attempt, without its body.
type deliveryView struct {
	ID        int64     `json:"id"`
	Event     string    `json:"event"`
	Entity    string    `json:"entity"`
	App       string    `json:"app"` // empty for an outgoing webhook
	HandlerID int64     `json:"handler_id"`
	URL       string    `json:"url"`
	OK        bool      `json:"ok"`
	Status    int       `json:"status"`
	Error     string    `json:"error,omitempty"`
	Latency   float64   `json:"latency_ms"`
	Time      time.Time `json:"time"`
	ResendOf  int64     `json:"resend_of,omitempty"`
	Resent    int64     `json:"resent,omitempty"` // the latest time that it was sent again
}

func viewOf(a eventtest.Attempt) deliveryView {
	v := deliveryView{
		ID: a.ID, Event: shorten(a.Event), App: a.ClientID, HandlerID: a.HandlerID, URL: shorten(a.URL), OK: a.OK(), Status: a.Status,
		Latency: float64(a.Duration.Microseconds()) / 1000, Time: a.Time.UTC(),
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

// reason says in words why there was no answer. An error may quote what the handler wrote, and the
// handler what it was sent.
func reason(err error, parsed *event.Delivery) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused; is the handler running?"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF):
		return "the handler closed the connection"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	default:
		return shorten(parsed.Redact(plain(err)))
	}
}

func (d *desk) deliveries(l look) deliveryList {
	all := d.portal.Deliveries()
	view := deliveryList{Shown: []deliveryView{}}
	for _, a := range slices.Backward(all) {
		ok := a.OK()
		if ok {
			view.OK++
		} else {
			view.Failed++
		}
		if (l.failed && ok) || !contains(a, l.text) {
			continue
		}
		if view.Matching++; len(view.Shown) < l.limit {
			view.Shown = append(view.Shown, viewOf(a))
		}
	}
	d.linkResends(view.Shown)
	return view
}

func contains(a eventtest.Attempt, text string) bool {
	return text == "" || strings.Contains(strings.ToLower(a.Event), text) || strings.Contains(strings.ToLower(a.URL), text)
}

// linkResends fills in which delivery is which one's repetition.
func (d *desk) linkResends(shown []deliveryView) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range shown {
		shown[i].ResendOf = d.resendOf[shown[i].ID]
		shown[i].Resent = d.resentAs[shown[i].ID]
	}
}

// find returns an attempt by its number.
func (d *desk) find(id string) (eventtest.Attempt, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return eventtest.Attempt{}, refuse("a delivery is named by its number")
	}
	all := d.portal.Deliveries()
	i, found := slices.BinarySearchFunc(all, n, func(a eventtest.Attempt, n int64) int { return cmp.Compare(a.ID, n) })
	if !found {
		return eventtest.Attempt{}, problem{http.StatusNotFound, "this delivery is no longer kept; the page shows those that are"}
	}
	return all[i], nil
}

// serveDelivery tells what one delivery carried, without tokens: the object that examples/decode
// prints.
func (d *desk) serveDelivery(w http.ResponseWriter, r *http.Request) {
	a, err := d.find(r.PathValue("id"))
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
	writeJSON(w, http.StatusOK, struct {
		deliveryView
		Bytes   int             `json:"bytes"`
		Decoded json.RawMessage `json:"decoded"`
		Answer  string          `json:"answer"`
	}{viewOf(a), len(a.Body), decoded, shownAnswer(a, parsed)})
}

// shownAnswer is the beginning of a handler's answer, which may repeat tokens of the delivery.
func shownAnswer(a eventtest.Attempt, parsed *event.Delivery) string {
	return strings.ToValidUTF8(parsed.RedactExcerpt(string(a.Answer)), "\uFFFD")
}

// rawDelivery gives the body as it was sent, tokens included.
func (d *desk) rawDelivery(_ context.Context, id string, _ nothing) (any, error) {
	a, err := d.find(id)
	if err != nil {
		return nil, err
	}
	body := string(a.Body)
	return map[string]any{"body": body[:min(len(body), maxRaw)], "bytes": len(body)}, nil
}

// resend posts a delivery once more, and waits until the handler answered.
func (d *desk) resend(ctx context.Context, id string, _ nothing) (any, error) {
	a, err := d.find(id)
	if err != nil {
		return nil, err
	}
	last := d.last()
	if err := d.portal.Resend(a); err != nil {
		return nil, err
	}
	for {
		changed := d.portal.Changed()
		for _, b := range slices.Backward(d.portal.Deliveries()) {
			if b.ID <= last {
				break
			}
			if b.HandlerID == a.HandlerID && b.URL == a.URL && b.Body == a.Body && d.link(a.ID, b.ID) {
				return viewOf(b), nil
			}
		}
		if !pause(ctx, changed, heartbeat) {
			return nil, ctx.Err()
		}
	}
}

// last is the number of the latest delivery.
func (d *desk) last() int64 {
	if all := d.portal.Deliveries(); len(all) > 0 {
		return all[len(all)-1].ID
	}
	return 0
}

// link remembers that one delivery repeats another. It reports false where the repetition belongs
// to another resend already.
func (d *desk) link(first, again int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.resendOf[again] != 0 {
		return false
	}
	if len(d.resendOf) >= maxLinks {
		clear(d.resendOf)
		clear(d.resentAs)
	}
	d.resendOf[again], d.resentAs[first] = first, again
	return true
}

// maxLinks bounds how many resends are remembered.
const maxLinks = 10_000

// forget empties the records.
func (d *desk) forget(context.Context, string, nothing) (any, error) {
	d.portal.ResetRecords()
	return nil, nil //nolint:nilnil // there is nothing to tell
}
