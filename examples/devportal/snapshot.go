package main

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// Limits of one snapshot.
const (
	maxRows    = 200     // records of the offline queue
	maxCalls   = 60      // REST calls
	maxLanes   = 20      // handlers that deliveries wait for
	maxBuckets = 20      // source addresses
	maxBound   = 300     // bindings of one application
	maxShown   = 500     // deliveries
	maxPreview = 2 << 10 // bytes of a record's data
)

// snapshot is the state of the portal that the page shows.
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
	Handler        string `json:"handler"`      // default in the form
	Scope          string `json:"scope"`        // default in the form
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

// laneView describes the deliveries that wait for one handler.
type laneView struct {
	URL     string    `json:"url"`
	Waiting int       `json:"waiting"`
	Busy    int       `json:"busy"`
	Gap     float64   `json:"gap_s"` // between deliveries, since the handler was slow
	Until   time.Time `json:"until"`
}

// deliveryFilter selects deliveries.
type deliveryFilter struct {
	failed bool // only failed ones

	text  string // part of the event's name or the handler's URL
	limit int
}

func deliveryFilterOf(q url.Values) deliveryFilter {
	filter := deliveryFilter{failed: q.Get("failed") == "1", text: strings.ToLower(strings.TrimSpace(q.Get("q"))), limit: 100}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		filter.limit = min(n, maxShown)
	}
	return filter
}

func (pg *page) snapshot(filter deliveryFilter) snapshot {
	p := pg.portal
	pg.mu.Lock()
	webhooks := append([]webhookView{}, pg.webhooks...)
	pg.mu.Unlock()
	return snapshot{
		Portal: portalView{
			Domain: p.Domain(), MemberID: p.MemberID(), ClientEndpoint: p.ClientEndpoint(), ServerEndpoint: p.ServerEndpoint(),
			OAuthHost: p.OAuthHost(), Handler: pg.cfg.handler, Scope: strings.Join(pg.cfg.scope, ","),
			ClockSkew: int64(time.Until(p.Now()).Round(time.Second) / time.Second),
		},
		Users: pg.users, Apps: pg.apps(), Webhooks: webhooks, Deliveries: pg.deliveries(filter), Queue: pg.queue(), Calls: pg.calls(),
		Buckets: pg.buckets(), Lanes: pg.lanes(), Quirks: quirksOf(p.Quirks()),
	}
}

func (pg *page) calls() []callView {
	all := append(latest(pg.portal.Calls(), maxCalls), latest(pg.portal.OAuthCalls(), maxCalls)...)
	slices.SortStableFunc(all, func(a, b eventtest.Call) int { return b.Time.Compare(a.Time) })
	views := []callView{}
	for _, c := range all[:min(len(all), maxCalls)] {
		views = append(views, callView{
			Method: shorten(c.Method), App: c.ClientID, User: c.UserID, Status: c.Status, Error: c.ErrorCode, Batch: c.Batch, Time: c.Time.UTC(),
		})
	}
	return views
}

// latest returns a copy of the last n elements of a list.
func latest[T any](list []T, n int) []T { return slices.Clone(list[max(0, len(list)-n):]) }

func (pg *page) buckets() []bucketView {
	views := []bucketView{}
	for _, b := range pg.portal.Buckets() {
		views = append(views, bucketView{Source: b.Source, Level: b.Level, Burst: b.Burst, PerSecond: b.Rate})
	}
	return views[:min(len(views), maxBuckets)]
}

func (pg *page) lanes() []laneView {
	views := []laneView{}
	for _, l := range pg.portal.Lanes() {
		views = append(views, laneView{URL: shorten(l.URL), Waiting: l.Waiting, Busy: l.Busy, Gap: l.Gap.Seconds(), Until: l.Until.UTC()})
	}
	return views[:min(len(views), maxLanes)]
}

// shorten limits a text that somebody else chose, so that it does not fill the page.
func shorten(text string) string {
	const longest = 200
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}
