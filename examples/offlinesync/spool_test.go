package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
	"github.com/b24events/b24events/internal/longtest"
)

// tap stands between a process and the portal, and knows which records were in an answer after
// which nothing more was heard of the process: those may be lost with it, if the portal deletes
// records on reading.
type tap struct {
	portal string // address

	mu      sync.Mutex
	ended   sync.Cond             // of mu: a request has ended
	running int                   // requests
	doubted map[event.Entity]bool // objects in the answer that came last, if it had any
	lost    map[event.Entity]int  // objects that may be lost, with the version up to which
	answers chan struct{}         // one for each answer that held records, as far as there is room
}

// ServeHTTP passes a request on, and its response back. It reads the response even if the process
// has died.
func (p *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running--
		p.ended.Broadcast()
	}()
	p.mu.Lock()
	p.running++
	p.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if strings.Contains(r.URL.Path, "event.offline.") || bytes.Contains(body, []byte("event.offline.")) {
		p.mu.Lock()
		p.doubted = nil // what it has read it has stored, because it works on the queue again; handlers may call at any time
		p.mu.Unlock()
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, p.portal+r.URL.RequestURI(), bytes.NewReader(body)) //nolint:gosec // between a test and its portal
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	request.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	text, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var document any
	_ = json.Unmarshal(text, &document)
	taken := make(map[event.Entity]bool)
	collect(document, taken)
	p.mu.Lock()
	if len(taken) > 0 {
		p.doubted = taken
	}
	p.mu.Unlock()
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text)
	_ = http.NewResponseController(w).Flush()
	if len(taken) > 0 {
		select {
		case p.answers <- struct{}{}:
		default:
		}
	}
}

// collect finds the records that an answer has under "events", in a batch or not, and names their
// objects.
func collect(v any, found map[event.Entity]bool) {
	members, ok := v.(map[string]any)
	if !ok {
		return
	}
	if rows, ok := members["events"].([]any); ok {
		for _, row := range rows {
			name, id := "", ""
			if r, ok := row.(map[string]any); ok {
				name = fmt.Sprint(r["EVENT_NAME"])
				if data, ok := r["EVENT_DATA"].(map[string]any); ok {
					if fields, ok := data["FIELDS"].(map[string]any); ok {
						id = fmt.Sprint(fields["ID"])
					}
				}
			}
			kind := "crm.deal"
			if strings.Contains(name, "CONTACT") {
				kind = "crm.contact"
			}
			found[event.Entity{Kind: kind, ID: id}] = true
		}
		return
	}
	for _, m := range members {
		collect(m, found)
	}
}

// died is called when a process is dead, with the version of the world.
func (p *tap) died(now int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.running > 0 {
		p.ended.Wait()
	}
	for object := range p.doubted {
		p.lost[object] = now
	}
	p.doubted = nil
}

// On a plan without the extended mode the portal deletes records on reading. Whatever the process
// had stored is delivered, wherever it is killed; what was in the answer that it read last and had
// not stored yet is the only loss.
func TestKilledWithoutExtendedMode(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it kills processes")
	}
	kills := longtest.Times(5, 20)
	portal, app, env := programtest.Portal(t, eventtest.WithoutExtendedOffline())
	between := &tap{portal: portal.URL(), lost: make(map[event.Entity]int), answers: make(chan struct{}, 1)}
	between.ended.L = &between.mu
	server := httptest.NewServer(between)
	t.Cleanup(server.Close)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	env = env.Seeded(t, app).With("OUT", out, "EVENTS", worldEvents, "POLL", "100ms", "B24_CLIENT_ENDPOINT", server.URL+"/rest/")
	t.Logf("-crash.seed=%d", *crashSeed)
	random := rand.New(rand.NewPCG(*crashSeed, 6)) //nolint:gosec // repeatable
	onAnswer := func(*eventtest.Portal, *rand.Rand, string) func(*victim) {
		select {
		case <-between.answers: // an earlier one
		default:
		}
		return func(v *victim) { v.works(limit, func() bool { return len(between.answers) > 0 }) }
	}
	triggers := []trigger{early, after, onLine, onLine, onAnswer}
	w := newWorld(portal, *crashSeed, 60)
	_, _ = once(t, env) // binds
	stop := w.turn(t, 2*time.Millisecond)
	for range kills {
		wait := triggers[random.IntN(len(triggers))](portal, random, out)
		v := startVictim(t, env)
		wait(v)
		v.kill(t)
		between.died(w.now())
	}
	stop()
	_, stderr := once(t, env)
	said := slices.DeleteFunc(strings.Split(stderr, "\n"), func(l string) bool { return !strings.Contains(l, "rest_offline_extended") })
	require.Len(t, said, 1, "it says so once")
	require.Empty(t, portal.OfflineRows())
	lines := programtest.Lines(t, programtest.Read(t, out))
	missed := w.unseen(t, out)
	for object, what := range missed {
		require.LessOrEqual(t, w.changed[object], between.lost[object], "%v: %s; that change was in no answer that got lost", object, what)
	}
	t.Logf("%d changes, %d lines, %d objects could be lost, %d were", w.version, len(lines), len(between.lost), len(missed))
}
