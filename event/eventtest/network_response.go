package eventtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxInMemory limits a response on a [Network]. A handler that writes more breaks the connection.
const maxInMemory = 64 << 20

// responseRecorder is the http.ResponseWriter of a handler on a [Network].
type responseRecorder struct {
	request *http.Request   // of the client
	gone    <-chan struct{} // closed when the client has gone
	header  http.Header
	sent    http.Header // the header as it was when the status was written
	status  int
	body    bytes.Buffer
	flushed bool
	broken  error // why the connection broke; what was flushed before arrives
}

func newResponseRecorder(r *http.Request) *responseRecorder {
	return &responseRecorder{request: r, header: http.Header{}}
}

// run calls the handler and recovers its panics.
func (rec *responseRecorder) run(h http.Handler, r *http.Request) {
	rec.gone = r.Context().Done()
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			rec.broken = rec.reset()
		default:
			rec.broken = fmt.Errorf("eventtest: the handler of %s panicked: %v", r.Host, v)
			rec.flushed = false
		}
	}()
	h.ServeHTTP(rec, r)
}

// reset returns the error of a connection that the other side broke.
func (rec *responseRecorder) reset() error {
	return &net.OpError{Op: "read", Net: "tcp", Addr: address(rec.request.URL.Host), Err: errors.New("connection reset by peer")}
}

func (rec *responseRecorder) Header() http.Header { return rec.header }

func (rec *responseRecorder) WriteHeader(status int) {
	if rec.status == 0 && status >= 200 { // informational responses are dropped
		rec.status, rec.sent = status, rec.header.Clone()
	}
}

func (rec *responseRecorder) Write(p []byte) (int, error) {
	if rec.status == 0 {
		if rec.header.Get("Content-Type") == "" {
			rec.header.Set("Content-Type", http.DetectContentType(p))
		}
		rec.WriteHeader(http.StatusOK)
	}
	select {
	case <-rec.gone:
		return 0, net.ErrClosed
	default:
	}
	switch {
	case rec.broken != nil:
		return 0, rec.broken
	case rec.body.Len()+len(p) > maxInMemory:
		rec.broken = rec.reset()
		return 0, rec.broken
	case rec.status == http.StatusNoContent || rec.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case rec.request.Method == http.MethodHead:
		return len(p), nil
	}
	return rec.body.Write(p)
}

// Flush implements http.Flusher. What was written so far reaches the client even if the connection
// breaks later.
func (rec *responseRecorder) Flush() {
	rec.WriteHeader(http.StatusOK)
	rec.flushed = true
}

// response returns the response as the client gets it.
func (rec *responseRecorder) response() (*http.Response, error) {
	if rec.broken != nil && !rec.flushed {
		return nil, rec.broken
	}
	rec.WriteHeader(http.StatusOK)
	if rec.sent.Get("Date") == "" {
		rec.sent.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	}
	length := int64(rec.body.Len())
	cut := rec.broken != nil
	if declared, err := strconv.ParseInt(rec.sent.Get("Content-Length"), 10, 64); err == nil && rec.request.Method != http.MethodHead {
		cut = cut || declared > length
		length = declared
	}
	body := io.Reader(&rec.body)
	if cut {
		body = io.MultiReader(body, brokenReader{})
	}
	return &http.Response{
		Status:     strconv.Itoa(rec.status) + " " + http.StatusText(rec.status),
		StatusCode: rec.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rec.sent, Body: io.NopCloser(body), ContentLength: length, Request: rec.request,
	}, nil
}

// brokenReader follows the body of a response that was cut off.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
