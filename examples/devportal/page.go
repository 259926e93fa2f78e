package main

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed static
var static embed.FS

// routes are the page, its files, and its API.
func (d *desk) routes(hosts []string) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(files)))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page.html") })

	mux.HandleFunc("GET /api/state", d.serveState)
	mux.HandleFunc("GET /api/stream", d.serveStream)
	mux.HandleFunc("GET /api/events", d.serveEvents)
	mux.HandleFunc("GET /api/deliveries/{id}", d.serveDelivery)
	mux.HandleFunc("POST /api/deliveries/{id}/raw", command(d.rawDelivery)) // POST, since the body holds tokens
	mux.HandleFunc("POST /api/deliveries/{id}/resend", command(d.resend))
	mux.HandleFunc("POST /api/deliveries/forget", command(d.forget))

	mux.HandleFunc("POST /api/apps", command(d.addApp))
	mux.HandleFunc("POST /api/apps/{id}/install", command(d.install))
	mux.HandleFunc("POST /api/apps/{id}/open", command(d.openPage))
	mux.HandleFunc("POST /api/apps/{id}/finish", command(d.finishInstall))
	mux.HandleFunc("POST /api/apps/{id}/uninstall", command(d.uninstall))
	mux.HandleFunc("POST /api/apps/{id}/status", command(d.setStatus))
	mux.HandleFunc("POST /api/apps/{id}/settings", command(d.settings))
	mux.HandleFunc("POST /api/webhooks", command(d.addWebhook))

	mux.HandleFunc("POST /api/objects", command(d.changeObjects))
	mux.HandleFunc("POST /api/raise", command(d.raise))

	mux.HandleFunc("POST /api/quirks", d.serveQuirks)
	mux.HandleFunc("POST /api/tokens/expire", command(d.expireTokens))
	mux.HandleFunc("POST /api/clock", command(d.advance))

	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusNotFound, "nothing is here; the page is at /, REST at /rest/")
	})
	return guard(mux, hosts), nil
}
