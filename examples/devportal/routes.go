package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io/fs"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

// route is one command or question of the API.
type route struct {
	method, path string
	does         string
	body         reflect.Type // of the JSON in a request; nil for none
	answer       reflect.Type // of the JSON in a response
	handler      http.HandlerFunc
}

// get makes a route that only reads. The handler writes a T.
func get[T any](path, does string, handler http.HandlerFunc) route {
	return route{method: http.MethodGet, path: path, does: does, answer: reflect.TypeFor[T](), handler: handler}
}

// post makes a route that runs a command with a JSON body.
func post[T, R any](path, does string, do func(ctx context.Context, id string, in T) (R, error)) route {
	return route{
		method: http.MethodPost, path: path, does: does, body: reflect.TypeFor[T](), answer: reflect.TypeFor[R](), handler: command(do),
	}
}

// api returns the routes of the API, in the order of API.md.
func (pg *page) api() []route {
	return slices.Concat(pg.readingRoutes(), pg.appRoutes(), pg.portalRoutes())
}

func (pg *page) readingRoutes() []route {
	return []route{
		get[routeList]("/api/{$}", "this list", pg.serveIndex),
		get[snapshot](
			"/api/state", "everything that the page shows; the query takes failed=1, q, limit, calls_failed=1, calls_q and kind", pg.serveState,
		),
		get[snapshot]("/api/stream", "the same after each change, as server-sent events", pg.serveStream),
		get[[]eventInfo]("/api/events", "the events of the catalogue, with sample data", pg.serveEvents),
		get[deliveryDetail]("/api/deliveries/{id}", "one delivery, decoded and without tokens", pg.serveDelivery),
		post("/api/deliveries/{id}/raw", "its body as sent, with tokens", pg.rawDelivery),
		post("/api/deliveries/{id}/resend", "send it again and wait for the handler", pg.resend),
		post("/api/deliveries/resend", "send again all failed ones that were not resent, or the given ids, without waiting", pg.resendMany),
		post("/api/deliveries/forget", "delete the records of deliveries and calls", pg.forget),
		get[callDetail]("/api/calls/{id}", "one REST or OAuth call with its parameters and its answer, without secrets", pg.serveCall),
		post("/api/calls/{id}/raw", "its parameters and answer with secrets", pg.rawCall),
		get[[]kindView]("/api/objects", "the kinds of objects, and how many there are", pg.serveKinds),
		get[[]objectView]("/api/objects/{kind}", "the latest objects of a kind", pg.serveObjects),
		get[objectDetail]("/api/objects/{kind}/{id}", "the fields of one object", pg.serveObject),
		post("/api/wait", "wait until every delivery was attempted, and until a method was called that often", pg.wait),
	}
}

func (pg *page) appRoutes() []route {
	return []route{
		post("/api/apps", "add an application, and install it unless install is false", pg.addApp),
		post("/api/apps/{id}/install", "install it: one that was added with install=false, or that was removed", pg.install),
		post("/api/apps/{id}/open", "post its page, or its installation page, from here, as a browser would", pg.openPage),
		post("/api/apps/{id}/frame", "the form that opens its page in a browser, with tokens of a user", pg.frameForm),
		post("/api/apps/{id}/finish", "finish its installation, as BX24.installFinish does", pg.finishInstall),
		post("/api/apps/{id}/grant", "new tokens of a user, as BX24.refreshAuth returns them", pg.grant),
		post("/api/apps/{id}/update", "install its next version; it gets ONAPPUPDATE", pg.updateApp),
		post("/api/apps/{id}/uninstall", "remove it; it gets ONAPPUNINSTALL", pg.uninstall),
		post("/api/apps/{id}/status", "switch it off or on, and end or renew its subscription", pg.setStatus),
		post("/api/apps/{id}/settings", "its settings as lines for a shell, with secrets and new tokens", pg.settings),
		post("/api/settings", "the settings of an application that is not added yet, so that it can start first", pg.proposedSettings),
		post("/api/apps/{id}/revoke", "revoke all of its tokens", pg.revokeTokens),
		post("/api/apps/{id}/rotate", "replace its application_token", pg.rotateToken),
		post("/api/webhooks", "add an outgoing webhook; returns its token, only now", pg.addWebhook),
		post("/api/webhooks/incoming", "add an incoming webhook; returns its URL, which is a secret, only now", pg.addIncoming),
	}
}

func (pg *page) portalRoutes() []route {
	quirks := route{
		method: http.MethodPost, path: "/api/quirks", does: "change quirks; fields that are left out stay",
		body: reflect.TypeFor[quirksView](), answer: reflect.TypeFor[quirksView](), handler: pg.serveQuirks,
	}
	return []route{
		post("/api/objects", "add, update or delete objects", pg.changeObjects),
		post("/api/raise", "raise an event by its name", pg.raise),
		post("/api/bots/{id}/raise", "raise an event for one bot of imbot.v2, also in fetch mode", pg.raiseForBot),
		post("/api/reactions", "add a user's reaction to a message, or take it back", pg.react),
		post("/api/users", "add a user", pg.addUser),
		post("/api/users/{id}/dismiss", "dismiss a user", pg.dismissUser),
		quirks,
		post("/api/faults", "let the next calls of a method fail", pg.addFault),
		post("/api/faults/heal", "remove the faults of a method, or all", pg.heal),
		post("/api/tokens/expire", "let all access tokens expire", pg.expireTokens),
		post("/api/clock", "move the portal's clock forward", pg.advance),
		post("/api/rename", "give the portal a new domain; the old one redirects", pg.rename),
	}
}

// handler returns the page, its files and its API.
func (pg *page) handler(hosts []string) (http.Handler, error) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(files)))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "page.html") })
	mux.HandleFunc("GET "+framePath, func(w http.ResponseWriter, r *http.Request) { pg.serveFrame(w, r, files) })
	mux.HandleFunc("GET "+scriptPath, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "bx24.js") })
	mux.Handle("/", pg.commands())
	return guard(mux, hosts), nil
}

// commands returns the API alone, without what protects it from websites.
func (pg *page) commands() http.Handler {
	mux := http.NewServeMux()
	for _, r := range pg.api() {
		mux.HandleFunc(r.method+" "+r.path, r.handler)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusNotFound, "nothing is here; the page is at /, the list of commands at /api/, REST at /rest/")
	})
	return mux
}

// routeList is the list of the routes.
type routeList struct {
	Routes []routeView `json:"routes"`
}

type routeView struct {
	Method string            `json:"method"`
	Path   string            `json:"path"`
	Does   string            `json:"does"`
	Body   map[string]string `json:"body,omitempty"`   // names and types of the fields of a request
	Answer map[string]string `json:"answer,omitempty"` // names and types of the fields of a response, or of its elements
}

// serveIndex lists the routes.
func (pg *page) serveIndex(w http.ResponseWriter, _ *http.Request) {
	list := []routeView{}
	for _, r := range pg.api() {
		answer := r.answer
		if answer.Kind() == reflect.Slice {
			answer = answer.Elem()
		}
		list = append(list, routeView{
			Method: r.method, Path: strings.TrimSuffix(r.path, "{$}"), Does: r.does, Body: kindsOf(r.body), Answer: kindsOf(answer),
		})
	}
	writeJSON(w, http.StatusOK, routeList{list})
}

// kindsOf returns the members that a JSON object may have, with the names of their types.
func kindsOf(object reflect.Type) map[string]string {
	kinds := map[string]string{}
	for _, f := range fieldsOf(object) {
		kinds[f.name] = f.kind
	}
	return kinds
}

// field is one member of a JSON body.
type field struct{ name, kind string }

// fieldsOf returns the members that a body may have, in the order of their declaration.
func fieldsOf(body reflect.Type) []field {
	if body == nil || body.Kind() != reflect.Struct {
		return nil
	}
	var fields []field
	for _, f := range reflect.VisibleFields(body) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && !f.Anonymous && name != "" && name != "-" {
			fields = append(fields, field{name, kindName(f.Type)})
		}
	}
	slices.SortStableFunc(fields, func(a, b field) int { return cmp.Compare(a.name, b.name) })
	return fields
}

// kindName returns the name of a type in JSON.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Float64:
		return "number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		if t == reflect.TypeFor[json.RawMessage]() {
			return "any JSON"
		}
		return "list of: " + kindName(t.Elem())
	default:
		return "object"
	}
}
