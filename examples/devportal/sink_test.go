package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

const pollEvery = 5 * time.Millisecond

// sink is a handler that accepts everything. It keeps the latest body and repeats it in its
// response.
type sink struct {
	*httptest.Server

	mu     sync.Mutex
	status int
	body   string
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{status: http.StatusOK}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.body = string(body)
		w.WriteHeader(s.status)
		_, _ = io.WriteString(w, "answered by a sink: "+s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

func (s *sink) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body
}
