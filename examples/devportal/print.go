package main

import (
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/b24events/b24events/examples/internal/program"
)

// readyLine is one of the first lines on stdout, one for each portal: the addresses to use, and the
// settings for a handler under test.
type readyLine struct {
	Type           string            `json:"type"`
	Page           string            `json:"page"`
	ClientEndpoint string            `json:"client_endpoint"`
	ServerEndpoint string            `json:"server_endpoint"`
	MemberID       string            `json:"member_id"`
	Domain         string            `json:"domain"`
	BX24           string            `json:"bx24"` // address of the library for pages
	Settings       map[string]string `json:"settings"`
}

// installedLine says that the application of -client-id was installed.
type installedLine struct {
	Type     string `json:"type"`
	Portal   string `json:"portal"` // its member ID
	ClientID string `json:"client_id"`
	Handler  string `json:"handler"`
}

// deliveryLine is one attempt to deliver an event.
type deliveryLine struct {
	Type         string    `json:"type"`
	Portal       string    `json:"portal"` // its member ID
	ID           int64     `json:"id"`
	Event        string    `json:"event"`
	Entity       string    `json:"entity"`
	ClientID     string    `json:"client_id"` // empty for an outgoing webhook
	Handler      string    `json:"handler"`
	Acknowledged bool      `json:"acknowledged"` // the handler returned a status of 2xx
	Status       int       `json:"status"`       // 0 if there was no response
	Error        string    `json:"error,omitempty"`
	Latency      float64   `json:"latency_ms"`
	Time         time.Time `json:"time"`
	ResendOf     int64     `json:"resend_of,omitempty"`
}

// shownURL returns a URL without the parts that may be secret.
func shownURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// printer writes one JSON object per line, until a write fails.
type printer struct {
	stop func() // called after a failed write

	mu    sync.Mutex
	lines *program.LineWriter
	err   error
}

func newPrinter(stdout io.Writer, stop func()) *printer {
	return &printer{lines: program.NewLineWriter(stdout), stop: stop}
}

func (p *printer) print(v any) error {
	line, err := program.JSONLine(v)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err // the output may end in half a line
	}
	if err == nil {
		_, err = p.lines.Write(line)
	}
	if err != nil {
		p.err = err
		p.stop()
	}
	return err
}

func (p *printer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
