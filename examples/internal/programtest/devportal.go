package programtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Devportal is the program devportal in a process of its own.
type Devportal struct {
	page string // without the slash at the end
}

// StartDevportal builds devportal and starts it on free ports. It is killed at the end of the test.
func StartDevportal(tb testing.TB) *Devportal {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "devportal.exe")
	build := exec.CommandContext(tb.Context(), "go", "build", "-o", path, //nolint:gosec // a folder of the test
		"github.com/b24events/b24events/examples/devportal")
	if said, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("devportal cannot be built: %v: %s", err, said)
	}
	e := StartExec(tb, ExecConfig{Command: []string{path}, Env: Env{"PATH": os.Getenv("PATH"), "DEVPORTAL_LISTEN": "127.0.0.1:0"}})
	e.Await(tb, func() bool { return strings.Contains(e.Stdout.String(), "\n") })
	line, _, _ := strings.Cut(e.Stdout.String(), "\n")
	var ready struct {
		Page string `json:"page"`
	}
	if err := json.Unmarshal([]byte(line), &ready); err != nil || ready.Page == "" {
		tb.Fatalf("devportal does not say where its page is: %s", line)
	}
	return &Devportal{page: strings.TrimSuffix(ready.Page, "/")}
}

// Page returns the address of devportal, without the slash at the end.
func (d *Devportal) Page() string { return d.page }

// Post sends a command to the API of devportal, which must succeed. result may be nil.
func (d *Devportal) Post(tb testing.TB, path string, body, result any) {
	tb.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, d.page+path, bytes.NewReader(text))
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	d.do(tb, r, result)
}

// Get reads from the API of devportal.
func (d *Devportal) Get(tb testing.TB, path string, result any) {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, d.page+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	d.do(tb, r, result)
}

func (*Devportal) do(tb testing.TB, r *http.Request, result any) {
	tb.Helper()
	client := &http.Client{Timeout: Patience}
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // only read from
	if err != nil || response.StatusCode != http.StatusOK {
		tb.Fatalf("%s: status %d: %v: %s", r.URL.Path, response.StatusCode, err, text)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(text, result); err != nil {
		tb.Fatalf("%s: %v: %s", r.URL.Path, err, text)
	}
}
