package main

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// Bounds of what one picture of the portal holds.
const (
	maxRows    = 200     // records of the offline queue
	maxCalls   = 60      // REST calls
	maxLanes   = 20      // handlers that deliveries wait for
	maxBuckets = 20      // source addresses
	maxBound   = 300     // bindings of one application
	maxShown   = 500     // deliveries
	maxPreview = 2 << 10 // bytes of a record's data
)

// snapshot is what the page shows: the portal as it stands.
type snapshot struct {
	Portal     portalView    `json:"portal"`
	Users      []userView    `json:"users"`
	Apps       []appView     `json:"apps"`
	Webhooks   []webhookView `json:"webhooks"`
	Deliveries deliveryList  `json:"deliveries"`
	Queue      queueView     `json:"queue"`
	Calls      []callView    `json:"calls"`
	Buckets    []bucketView  `json:"buckets"`
	Lanes      []laneView    `json:"lanes"`
	Quirks     quirksView    `json:"quirks"`
}

type portalView struct {
	Domain         string `json:"domain"`
	MemberID       string `json:"member_id"`
	ClientEndpoint string `json:"client_endpoint"`
	ServerEndpoint string `json:"server_endpoint"`
	OAuthHost      string `json:"oauth_host"`
	Handler        string `json:"handler"`      // what the form proposes
	Scope          string `json:"scope"`        // likewise
	ClockSkew      int64  `json:"clock_skew_s"` // how far the portal's clock is ahead
}

type callView struct {
	Method string    `json:"method"`
	App    string    `json:"app"`
	User   int64     `json:"user"`
	Status int       `json:"status"`
	Error  string    `json:"error,omitempty"`
	Batch  bool      `json:"batch,omitempty"`
	Time   time.Time `json:"time"`
}

type bucketView struct {
	Source    string  `json:"source"`
	Level     float64 `json:"level"`
	Burst     int     `json:"burst"`
	PerSecond float64 `json:"per_second"`
}

// laneView is the deliveries that wait for one handler.
type laneView struct {
	URL     string    `json:"url"`
	Waiting int       `json:"waiting"`
	Busy    int       `json:"busy"`
	Gap     float64   `json:"gap_s"` // between deliveries, since the handler was slow
	Until   time.Time `json:"until"`
}

// look is which deliveries somebody wants to see.
type look struct {
	failed bool
	text   string // in the name of the event or the handler's URL
	limit  int
}

func lookOf(q url.Values) look {
	l := look{failed: q.Get("failed") == "1", text: strings.ToLower(strings.TrimSpace(q.Get("q"))), limit: 100}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		l.limit = min(n, maxShown)
	}
	return l
}

func (d *desk) snapshot(l look) snapshot {
	p := d.portal
	d.mu.Lock()
	webhooks := append([]webhookView{}, d.webhooks...)
	d.mu.Unlock()
	return snapshot{
		Portal: portalView{
			Domain: p.Domain(), MemberID: p.MemberID(), ClientEndpoint: p.ClientEndpoint(), ServerEndpoint: p.ServerEndpoint(),
			OAuthHost: p.OAuthHost(), Handler: d.cfg.handler, Scope: strings.Join(d.cfg.scope, ","),
			ClockSkew: int64(time.Until(p.Now()).Round(time.Second) / time.Second),
		},
		Users: d.users, Apps: d.apps(), Webhooks: webhooks, Deliveries: d.deliveries(l), Queue: d.queue(), Calls: d.calls(),
		Buckets: d.buckets(), Lanes: d.lanes(), Quirks: quirksOf(p.Quirks()),
	}
}

func (d *desk) calls() []callView {
	all := append(latest(d.portal.Calls(), maxCalls), latest(d.portal.OAuthCalls(), maxCalls)...)
	slices.SortStableFunc(all, func(a, b eventtest.Call) int { return b.Time.Compare(a.Time) })
	views := []callView{}
	for _, c := range all[:min(len(all), maxCalls)] {
		views = append(views, callView{
			Method: shorten(c.Method), App: c.ClientID, User: c.UserID, Status: c.Status, Error: c.ErrorCode, Batch: c.Batch, Time: c.Time.UTC(),
		})
	}
	return views
}

// latest returns the last elements of a list, n at most, for the caller to keep.
func latest[T any](list []T, n int) []T { return slices.Clone(list[max(0, len(list)-n):]) }

func (d *desk) buckets() []bucketView {
	views := []bucketView{}
	for _, b := range d.portal.Buckets() {
		views = append(views, bucketView{Source: b.Source, Level: b.Level, Burst: b.Burst, PerSecond: b.Rate})
	}
	return views[:min(len(views), maxBuckets)]
}

func (d *desk) lanes() []laneView {
	views := []laneView{}
	for _, l := range d.portal.Lanes() {
		views = append(views, laneView{URL: shorten(l.URL), Waiting: l.Waiting, Busy: l.Busy, Gap: l.Gap.Seconds(), Until: l.Until.UTC()})
	}
	return views[:min(len(views), maxLanes)]
}

// shorten keeps a text that a stranger chose from filling the page.
func shorten(text string) string {
	const longest = 200
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}
