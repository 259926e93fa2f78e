package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/b24events/b24events/examples/internal/program"
)

// scriptLine is one command of a script: a path to read, or a path with a body to post.
type scriptLine struct {
	Get    string          `json:"get"`
	Post   string          `json:"post"`
	Body   json.RawMessage `json:"body"`
	Portal int             `json:"portal"` // from 1; the default is the first
	Expect int             `json:"expect"` // status; the default is any of 2xx
}

// answerLine is the answer to a line of the script.
type answerLine struct {
	Type   string          `json:"type"`
	Line   int             `json:"line"`
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

// openScript opens the file of a script. It returns nil if there is none.
func openScript(name string, stdin io.Reader) (io.Reader, error) {
	switch name {
	case "":
		return nil, nil //nolint:nilnil // there is no script
	case "-":
		return stdin, nil
	}
	f, err := os.Open(name) //nolint:gosec // the user chooses it
	var cause *os.PathError
	if errors.As(err, &cause) {
		return nil, program.Usage("-script cannot be opened: %w", cause.Err)
	}
	return f, err
}

// runScript runs the commands of a script, one after the other, and prints their answers. It ends
// at the first command that fails, when ctx ends, or at the end of the script. Empty lines and
// those that begin with # are comments.
func (g *group) runScript(ctx context.Context, script io.Reader, out *printer) error {
	if c, ok := script.(io.Closer); ok {
		defer func() { _ = c.Close() }() // only read from
	}
	apis := make([]http.Handler, len(g.pages))
	for n, pg := range g.pages {
		apis[n] = pg.commands()
	}
	number := 0
	for line := range readLines(ctx, script) {
		number++
		text := bytes.TrimSpace(line.text)
		if line.err != nil {
			return fmt.Errorf("script: line %d: %w", number, line.err)
		}
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		if err := g.runLine(ctx, number, text, apis, out); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// runLine runs one command and prints its answer.
func (g *group) runLine(ctx context.Context, number int, text []byte, apis []http.Handler, out *printer) error {
	var in scriptLine
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil || decoder.More() {
		return program.Usage(`script: line %d is not a command; write {"post": "/api/objects", "body": {…}} or {"get": "/api/state"}`, number)
	}
	n, path := cmp.Or(in.Portal, 1), cmp.Or(in.Get, in.Post)
	switch {
	case (in.Get == "") == (in.Post == ""), !strings.HasPrefix(path, "/api/"), in.Get != "" && in.Body != nil:
		return program.Usage("script: line %d needs either get or post, with a path that begins with /api/; only post has a body", number)
	case strings.HasPrefix(path, "/api/stream"):
		return program.Usage("script: line %d: a script cannot read the stream; read /api/state, or post to /api/wait", number)
	case n < 1 || n > len(apis):
		return program.Usage("script: line %d: there is no portal %d; -portals sets their number", number, n)
	}
	method := http.MethodGet
	if in.Post != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://devportal"+path, bytes.NewReader(in.Body))
	if err != nil {
		return program.Usage("script: line %d: the path is not one of a URL", number)
	}
	w := &answerWriter{header: http.Header{}, status: http.StatusOK}
	apis[n-1].ServeHTTP(w, r)
	body := json.RawMessage(bytes.TrimSpace(w.body.Bytes()))
	if !json.Valid(body) {
		body = json.RawMessage("null")
	}
	if err := out.print(answerLine{Type: "answer", Line: number, Status: w.status, Body: body}); err != nil {
		return nil //nolint:nilerr // the printer reports it
	}
	if in.Expect != 0 && w.status != in.Expect {
		return fmt.Errorf("script: line %d: the status is %d instead of %d", number, w.status, in.Expect)
	}
	if in.Expect == 0 && w.status/100 != 2 {
		var said struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &said)
		return fmt.Errorf("script: line %d: status %d: %s", number, w.status, said.Error)
	}
	return nil
}

// scriptText is a line of a script, or why there is none.
type scriptText struct {
	text []byte
	err  error
}

// readLines returns the lines of a script until it or ctx ends. A read from a terminal or a pipe
// cannot be interrupted, so its goroutine may stay until the process ends.
func readLines(ctx context.Context, script io.Reader) func(yield func(scriptText) bool) {
	lines := make(chan scriptText)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(script)
		scanner.Buffer(nil, maxRequest+1000)
		send := func(t scriptText) bool {
			select {
			case lines <- t:
				return true
			case <-ctx.Done():
				return false
			}
		}
		for scanner.Scan() {
			if !send(scriptText{text: bytes.Clone(scanner.Bytes())}) {
				return
			}
		}
		if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
			send(scriptText{err: program.Usage("it has more than 256 KiB")})
		} else if err != nil {
			send(scriptText{err: errors.New("it cannot be read")})
		}
	}()
	return func(yield func(scriptText) bool) {
		for {
			select {
			case line, more := <-lines:
				if !more || !yield(line) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// answerWriter keeps a response.
type answerWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *answerWriter) Header() http.Header         { return w.header }
func (w *answerWriter) Write(p []byte) (int, error) { return w.body.Write(p) }
func (w *answerWriter) WriteHeader(status int)      { w.status = status }
