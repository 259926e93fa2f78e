package main

import (
	"embed"
	"io/fs"
	"net/http"
	"sync"

	"github.com/b24events/b24events/event/eventtest"
)

//go:embed static
var static embed.FS

// page serves the web page and its API. It holds the portal and what the page remembers.
type page struct {
	portal *eventtest.Portal
	cfg    config
	users  []userView

	quirksTurn sync.Mutex // held while a command changes quirks; taken before mu

	mu       sync.Mutex                 // guards everything below
	added    map[eventtest.Kind][]int64 // IDs of objects that the page added and did not delete, the oldest first
	webhooks []webhookView
	resendOf map[int64]int64 // ID of a delivery → ID of the one that it repeats
	resentAs map[int64]int64 // ID of a delivery → ID of its latest repetition
}

// userView is a user who can cause events.
type userView struct {
	ID    int64  `json:"id"`
	Name  string `json:"name"`
	Admin bool   `json:"admin"`
}

func newPage(p *eventtest.Portal, cfg config) *page {
	uma := p.AddUser(eventtest.User{Name: "Uma", LastName: "Ser", Email: "uma@example.com"})
	return &page{
		portal: p, cfg: cfg, added: map[eventtest.Kind][]int64{}, resendOf: map[int64]int64{}, resentAs: map[int64]int64{},
		users: []userView{{eventtest.AdminID, "Ada Min", true}, {uma, "Uma Ser", false}},
	}
}

// routes returns the handler of the page, its files and its API.
func (pg *page) routes(hosts []string) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(files)))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page.html") })

	mux.HandleFunc("GET /api/state", pg.serveState)
	mux.HandleFunc("GET /api/stream", pg.serveStream)
	mux.HandleFunc("GET /api/events", pg.serveEvents)
	mux.HandleFunc("GET /api/deliveries/{id}", pg.serveDelivery)
	mux.HandleFunc("POST /api/deliveries/{id}/raw", command(pg.rawDelivery)) // POST, since the body holds tokens
	mux.HandleFunc("POST /api/deliveries/{id}/resend", command(pg.resend))
	mux.HandleFunc("POST /api/deliveries/forget", command(pg.forget))

	mux.HandleFunc("POST /api/apps", command(pg.addApp))
	mux.HandleFunc("POST /api/apps/{id}/install", command(pg.install))
	mux.HandleFunc("POST /api/apps/{id}/open", command(pg.openPage))
	mux.HandleFunc("POST /api/apps/{id}/finish", command(pg.finishInstall))
	mux.HandleFunc("POST /api/apps/{id}/uninstall", command(pg.uninstall))
	mux.HandleFunc("POST /api/apps/{id}/status", command(pg.setStatus))
	mux.HandleFunc("POST /api/apps/{id}/settings", command(pg.settings))
	mux.HandleFunc("POST /api/webhooks", command(pg.addWebhook))

	mux.HandleFunc("POST /api/objects", command(pg.changeObjects))
	mux.HandleFunc("POST /api/raise", command(pg.raise))

	mux.HandleFunc("POST /api/quirks", pg.serveQuirks)
	mux.HandleFunc("POST /api/tokens/expire", command(pg.expireTokens))
	mux.HandleFunc("POST /api/clock", command(pg.advance))

	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusNotFound, "nothing is here; the page is at /, REST at /rest/")
	})
	return guard(mux, hosts), nil
}
