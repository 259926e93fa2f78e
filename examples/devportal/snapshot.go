package main

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of one snapshot.
const (
	maxRows    = 200     // records of the offline queue
	maxCalls   = 100     // REST calls
	maxLanes   = 20      // handlers that deliveries wait for
	maxBuckets = 20      // source addresses
	maxBound   = 300     // bindings of one application
	maxShown   = 500     // deliveries
	maxPreview = 2 << 10 // bytes of a record's data
)

// snapshot is the state of the portal that the page shows.
type snapshot struct {
	Portal     portalView    `json:"portal"`
	Portals    []portalLink  `json:"portals"`
	Users      []userView    `json:"users"`
	Apps       []appView     `json:"apps"`
	Webhooks   []webhookView `json:"webhooks"`
	Deliveries deliveryList  `json:"deliveries"`
	Queue      queueView     `json:"queue"`
	Polled     []polledView  `json:"polled"`
	Calls      callList      `json:"calls"`
	Objects    objectList    `json:"objects"`
	Faults     []faultView   `json:"faults"`
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
	Port           string `json:"port"`         // of the page
	BX24           string `json:"bx24"`         // address of the library for pages
	Handler        string `json:"handler"`      // default in the form
	InstallPage    string `json:"install_page"` // default in the form
	Page           string `json:"page"`         // default in the form
	Scope          string `json:"scope"`        // default in the form
	ClockSkew      int64  `json:"clock_skew_s"` // how far the portal's clock is ahead
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

// viewFilter selects the deliveries, calls and objects of a snapshot.
type viewFilter struct {
	failed      bool   // only failed deliveries
	text        string // part of the event's name or the handler's URL
	limit       int    // of deliveries
	callsFailed bool   // only refused calls
	callsText   string // part of the method's name
	kind        string // of the objects
}

func viewFilterOf(q url.Values) viewFilter {
	text := func(name string) string {
		const longest = 200
		t := strings.ToLower(strings.TrimSpace(q.Get(name)))
		return t[:min(len(t), longest)]
	}
	filter := viewFilter{
		failed: q.Get("failed") == "1", text: text("q"), limit: 100, callsFailed: q.Get("calls_failed") == "1", callsText: text("calls_q"),
		kind: objectKind(text("kind")),
	}
	if n, err := strconv.Atoi(q.Get("limit")); err == nil && n > 0 {
		filter.limit = min(n, maxShown)
	}
	return filter
}

func (pg *page) snapshot(filter viewFilter) snapshot {
	p := pg.portal
	pg.mu.Lock()
	webhooks, users := append([]webhookView{}, pg.webhooks...), slices.Clone(pg.users)
	pg.mu.Unlock()
	return snapshot{
		Portal: portalView{
			Domain: p.Domain(), MemberID: p.MemberID(), ClientEndpoint: p.ClientEndpoint(), ServerEndpoint: p.ServerEndpoint(),
			OAuthHost: p.OAuthHost(), Handler: pg.cfg.handler, InstallPage: pg.cfg.installPage, Page: pg.cfg.page,
			Scope: strings.Join(pg.cfg.scope, ","),
			Port:  portOf(p.Domain()), BX24: p.URL() + scriptPath,
			ClockSkew: int64(time.Until(p.Now()).Round(time.Second) / time.Second),
		},
		Portals: pg.all.links(), Users: users, Apps: pg.apps(), Webhooks: webhooks, Deliveries: pg.deliveries(filter),
		Queue: pg.queue(), Polled: pg.polled(users),
		Calls: pg.calls(pg.allCalls(), filter), Objects: pg.objects(filter.kind), Faults: pg.faults(),
		Buckets: pg.buckets(), Lanes: pg.lanes(), Quirks: quirksOf(p.Quirks()),
	}
}

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
