package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// patience is how long a browser on a busy machine may take for one step.
const patience = 60 * time.Second

// tab is a page in a headless Chromium, driven by the DevTools protocol over a pipe: JSON messages,
// each ended by a zero byte.
type tab struct {
	t       *testing.T
	in      io.Writer
	session string
	gone    chan struct{} // closed when the browser's pipe ends

	mu       sync.Mutex
	next     int
	waiting  map[int]chan answer
	problems []string       // errors in the page's console
	contexts map[int]string // script contexts by ID, with their origins
}

// answer is a response of the browser to a command, or an event.
type answer struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// newTab starts a browser with an empty page. Without Chromium it skips the test, or fails it if
// REQUIRE_CHROMIUM is set, as in CI.
func newTab(t *testing.T) *tab {
	t.Helper()
	program := findChromium()
	if program == "" {
		without(t, "no Chromium: apt-get install chromium (or set CHROMIUM to the path of a Chrome) to test the page in a browser")
	}
	theirIn, ourOut, err := os.Pipe()
	require.NoError(t, err)
	ourIn, theirOut, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(program, //nolint:gosec,noctx // the program is the developer's own browser, and is stopped by closeBrowser
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server", "--force-color-profile=srgb",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", // the page uses nothing from outside
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	require.NoError(t, cmd.Start())
	require.NoError(t, errors.Join(theirIn.Close(), theirOut.Close()))

	b := &tab{t: t, in: ourOut, gone: make(chan struct{}), waiting: map[int]chan answer{}, contexts: map[int]string{}}
	go b.listen(ourIn)
	t.Cleanup(func() { b.close(cmd, ourOut, ourIn) })

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.send(ctx, "Browser.getVersion", nil); err != nil {
		without(t, program+" does not start: apt-get install chromium, or set CHROMIUM to the path of a Chrome that does")
	}
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.do("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.do(domain+".enable", nil, nil)
	}
	return b
}

// without ends a test that has no browser.
func without(t *testing.T, cure string) {
	t.Helper()
	if os.Getenv("REQUIRE_CHROMIUM") != "" {
		t.Fatal(cure)
	}
	t.Skip(cure)
}

func findChromium() string {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	return ""
}

// close ends the browser and waits for it, so that its folder can be removed.
func (b *tab) close(cmd *exec.Cmd, pipes ...io.Closer) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b.session = ""
	_, _ = b.send(ctx, "Browser.close", nil)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
	}
	for _, p := range pipes {
		_ = p.Close()
	}
}

// listen passes each answer to the command that waits for it, and collects the errors of the page.
func (b *tab) listen(pipe io.Reader) {
	defer close(b.gone)
	in := bufio.NewReader(pipe)
	for {
		message, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var a answer
		if err := json.Unmarshal(message[:len(message)-1], &a); err != nil {
			return
		}
		b.mu.Lock()
		if to := b.waiting[a.ID]; to != nil {
			delete(b.waiting, a.ID)
			to <- a
		}
		b.complain(a)
		b.mu.Unlock()
	}
}

// complain records an error of a script, the console or the security policy. It also notes which
// frames can run scripts.
func (b *tab) complain(a answer) {
	var p struct {
		Type  string `json:"type"`
		Entry struct {
			Level string `json:"level"`
			Text  string `json:"text"`
			URL   string `json:"url"`
		} `json:"entry"`
		Context struct {
			ID     int    `json:"id"`
			Origin string `json:"origin"`
		} `json:"context"`
		Destroyed int `json:"executionContextId"`
	}
	_ = json.Unmarshal(a.Params, &p)
	switch a.Method {
	case "Runtime.executionContextCreated":
		b.contexts[p.Context.ID] = p.Context.Origin
	case "Runtime.executionContextDestroyed":
		delete(b.contexts, p.Destroyed)
	case "Runtime.exceptionThrown":
		b.problems = append(b.problems, string(a.Params))
	case "Runtime.consoleAPICalled":
		if p.Type == "error" || p.Type == "warning" || p.Type == "assert" {
			b.problems = append(b.problems, string(a.Params))
		}
	case "Log.entryAdded":
		if p.Entry.Level == "error" || p.Entry.Level == "warning" {
			b.problems = append(b.problems, p.Entry.Text+" "+p.Entry.URL)
		}
	}
}

// complaints returns the errors of the page so far.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.problems...)
}

func (b *tab) send(ctx context.Context, method string, params map[string]any) (json.RawMessage, error) {
	b.mu.Lock()
	b.next++
	to := make(chan answer, 1)
	b.waiting[b.next] = to
	message := map[string]any{"id": b.next, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case a := <-to:
		if a.Error != nil {
			return nil, errors.New(method + ": " + a.Error.Message)
		}
		return a.Result, nil
	case <-b.gone:
		return nil, errors.New("the browser has ended")
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// do runs one command of the protocol.
func (b *tab) do(method string, params map[string]any, into any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	result, err := b.send(ctx, method, params)
	require.NoError(b.t, err)
	if into != nil {
		require.NoError(b.t, json.Unmarshal(result, into))
	}
}

// value runs a script in the page and returns its value.
func (b *tab) value(script string) any {
	b.t.Helper()
	return b.evaluate(script, 0)
}

// evaluate runs a script in the page, or in a frame if its context is not 0.
func (b *tab) evaluate(script string, frame int) any {
	b.t.Helper()
	v, err := b.tryScript(script, frame)
	require.NoError(b.t, err, script)
	return v
}

// tryScript is evaluate for a page that may just be going away.
func (b *tab) tryScript(script string, frame int) (any, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	var out struct {
		Result struct {
			Value any `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	params := map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}
	if frame != 0 {
		params["contextId"] = frame
	}
	result, err := b.send(ctx, "Runtime.evaluate", params)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(result, &out); err != nil {
		return nil, err
	}
	if out.Exception != nil {
		return nil, errors.New(out.Exception.Text)
	}
	return out.Result.Value, nil
}

// frame returns the ID of the script context of the frame whose page has an origin.
func (b *tab) frame(origin string) int {
	b.t.Helper()
	found := 0
	require.Eventually(b.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for id, at := range b.contexts {
			if at == origin {
				found = max(found, id)
			}
		}
		return found > 0
	}, patience, 20*time.Millisecond, "no frame of %s", origin)
	return found
}

// open loads an address and waits for the first snapshot of the portal.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	b.until(`document.querySelector('#live')?.dataset.state === 'live' && document.querySelector('#domain').textContent !== '…'`)
}

// until waits until a script returns true. The script may fail at first, because the page does not
// have its elements yet.
func (b *tab) until(script string) {
	b.t.Helper()
	b.untilIn(0, script)
}

// untilIn waits until a script returns true in a frame, or in the page for 0.
func (b *tab) untilIn(frame int, script string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for {
		last, err := b.tryScript("(() => { try { return "+script+" } catch (e) { return String(e) } })()", frame)
		if last == true {
			return
		}
		if err != nil {
			last = err // the page went away, or the browser did
		}
		select {
		case <-tick.C:
		case <-deadline:
			require.FailNow(b.t, "not true in time", "%s\nis %v; the page says:\n%v", script, last, b.evaluate(`document.body.innerText`, frame))
		}
	}
}

// click presses the mouse in the middle of an element.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`!!document.querySelector(%q)`, selector))
	at, ok := b.value(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e.scrollIntoView({block: 'center'});
		const r = e.getBoundingClientRect();
		return [r.x + r.width / 2, r.y + r.height / 2];
	})()`, selector)).([]any)
	require.True(b.t, ok)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.do("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
}

// press presses one key, for example Tab or Enter.
func (b *tab) press(key string) {
	b.t.Helper()
	k := map[string]any{"key": key, "code": key}
	switch key {
	case "Tab":
		k["windowsVirtualKeyCode"] = 9
	case "Enter":
		k["windowsVirtualKeyCode"], k["text"] = 13, "\r"
	case "ArrowRight":
		k["windowsVirtualKeyCode"] = 39
	case "Space":
		k["windowsVirtualKeyCode"], k["text"], k["key"] = 32, " ", " "
	default:
		b.t.Fatal("which key is ", key, "?")
	}
	for _, kind := range []string{"keyDown", "keyUp"} {
		k["type"] = kind
		b.do("Input.dispatchKeyEvent", k, nil)
	}
}

// reach presses Tab until an element has the focus.
func (b *tab) reach(selector string) {
	b.t.Helper()
	for range 300 {
		if b.value(fmt.Sprintf(`document.activeElement.matches(%q)`, selector)) == true {
			return
		}
		b.press("Tab")
	}
	b.t.Fatal("the Tab key does not reach ", selector)
}

// fill replaces the text of the field that has the focus.
func (b *tab) fill(text string) {
	b.t.Helper()
	b.value(`document.activeElement.select()`)
	b.do("Input.insertText", map[string]any{"text": text}, nil)
}

// look sets the size of the window and the colours that the user prefers.
func (b *tab) look(width, height int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
	}, nil)
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture writes a screenshot of the window as PNG; if full, of the whole page.
func (b *tab) picture(file string, full bool) {
	b.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": full}, &shot)
	pixels, err := png.Decode(base64.NewDecoder(base64.StdEncoding, strings.NewReader(shot.Data)))
	require.NoError(b.t, err)
	var small bytes.Buffer
	require.NoError(b.t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(pixels)))
	require.NoError(b.t, os.WriteFile(file, small.Bytes(), 0o644)) //nolint:gosec // a picture is not secret
}

// fewColours keeps the 256 most frequent colours of a picture, which reduces its file to a third.
func fewColours(src image.Image) image.Image {
	count := map[color.Color]int{}
	for y := src.Bounds().Min.Y; y < src.Bounds().Max.Y; y++ {
		for x := src.Bounds().Min.X; x < src.Bounds().Max.X; x++ {
			count[src.At(x, y)]++
		}
	}
	palette := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	dst := image.NewPaletted(src.Bounds(), palette[:min(len(palette), 256)])
	draw.Draw(dst, dst.Bounds(), src, src.Bounds().Min, draw.Src)
	return dst
}
