package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/program"
)

// maxRequest limits the body of a command, in bytes.
const maxRequest = 256 << 10

// problem is the error of a command: an HTTP status, and a text that says what to do.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

// badRequest returns a problem with status 400.
func badRequest(text string) error { return problem{http.StatusBadRequest, text} }

// command serves a POST request. It decodes the JSON body for do, and encodes its result.
func command[T, R any](do func(ctx context.Context, id string, in T) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if err := readJSON(w, r, &in); err != nil {
			writeError(w, err)
			return
		}
		out, err := do(r.Context(), r.PathValue("id"), in)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// noInput is the input of commands that have none, and noResult the result.
type (
	noInput  struct{}
	noResult struct{}
)

// doneText is the result of commands that only say what they did.
type doneText struct {
	Text string `json:"text"` // what happened, for people
}

// readJSON decodes the body of a request. An empty body means an empty object.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	const unknown = "unknown field "
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	var tooLarge *http.MaxBytesError
	switch err := decoder.Decode(into); {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return problem{http.StatusRequestEntityTooLarge, "the request has more than 256 KiB; send less"}
	case err != nil:
		text := strings.TrimPrefix(err.Error(), "json: ")
		if name, found := strings.CutPrefix(text, unknown); found {
			return badRequest("there is no field " + shorten(name) + "; " + knownFields(into))
		}
		return badRequest("this is not the expected JSON: " + shorten(text))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badRequest("there is something after the JSON; send one object")
	}
	return nil
}

// knownFields returns a text that names the fields of a request.
func knownFields(into any) string {
	var names []string
	for _, f := range fieldsOf(reflect.TypeOf(into).Elem()) {
		names = append(names, f.name)
	}
	if len(names) == 0 {
		return "this command takes none"
	}
	return "it may have " + strings.Join(names, ", ")
}

// writeJSON writes a response. It escapes what a terminal would act on.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, "the response cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(program.EscapeControls(body)) // the browser may have gone away
}

func writeError(w http.ResponseWriter, err error) {
	var p problem
	switch {
	case errors.As(err, &p):
		writeProblem(w, p.status, err.Error()) // p may be only its last part
	case errors.Is(err, eventtest.ErrNotFound):
		writeProblem(w, http.StatusNotFound, plain(err))
	case errors.Is(err, eventtest.ErrInstalled), errors.Is(err, eventtest.ErrNotInstalled):
		writeProblem(w, http.StatusConflict, plain(err))
	case errors.Is(err, eventtest.ErrClosed):
		writeProblem(w, http.StatusServiceUnavailable, "the portal is stopping")
	default:
		writeProblem(w, http.StatusBadRequest, plain(err))
	}
}

func writeProblem(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, map[string]string{"error": text})
}

// plain returns the text of an error without the prefixes of package eventtest.
func plain(err error) string {
	text := strings.TrimPrefix(err.Error(), eventtest.ErrConfig.Error()+": ")
	return strings.TrimPrefix(text, "eventtest: ")
}
