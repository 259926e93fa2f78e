package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// maxRequest bounds the body of a command, in bytes.
const maxRequest = 256 << 10

// problem is a command that cannot be done: an HTTP status, and what to do about it.
type problem struct {
	status int
	text   string
}

func (p problem) Error() string { return p.text }

func refuse(text string) error { return problem{http.StatusBadRequest, text} }

// command serves a POST: JSON in, JSON out. do may return nil for nothing to tell.
func command[T any](do func(ctx context.Context, id string, in T) (any, error)) http.HandlerFunc {
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
		if out == nil {
			out = struct{}{}
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// nothing is the input of commands that need none.
type nothing struct{}

// readJSON decodes one object. An empty body stands for an empty object.
func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	decoder.DisallowUnknownFields()
	var tooLarge *http.MaxBytesError
	switch err := decoder.Decode(into); {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &tooLarge):
		return problem{http.StatusRequestEntityTooLarge, "that is more than 256 KiB; send less"}
	case err != nil:
		return refuse("this is not the JSON that is wanted: " + shorten(strings.TrimPrefix(err.Error(), "json: ")))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse("something stands after the JSON; send one object")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeProblem(w, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a browser that went away misses it
}

func writeError(w http.ResponseWriter, err error) {
	var p problem
	switch {
	case errors.As(err, &p):
		writeProblem(w, p.status, err.Error()) // of which p may be the last part
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
