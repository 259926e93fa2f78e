package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/examples/internal/programtest"
)

// worldEvents are those of the objects of a world.
const worldEvents = "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE,ONCRMCONTACTADD,ONCRMCONTACTUPDATE,ONCRMCONTACTDELETE"

// world is a set of objects on a portal that users add, change and delete, with their last state.
type world struct {
	portal *eventtest.Portal
	random *rand.Rand
	most   int // objects that live at a time

	mu      sync.Mutex
	version int
	alive   []event.Entity
	state   map[event.Entity]string // the field TITLE or NAME; empty for a deleted object
	changed map[event.Entity]int    // the version of the last change
}

func newWorld(portal *eventtest.Portal, seed uint64, most int) *world {
	return &world{
		portal: portal, most: most, random: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // repeatable
		state: make(map[event.Entity]string), changed: make(map[event.Entity]int),
	}
}

// nameField returns the field that holds the version of an object.
func nameField(kind string) string {
	if kind == string(eventtest.Contact) {
		return "NAME"
	}
	return "TITLE"
}

// step makes one change.
func (w *world) step() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.version++
	name := "v" + strconv.Itoa(w.version)
	dice := w.random.IntN(10)
	if len(w.alive) == 0 || (dice < 3 && len(w.alive) < w.most) {
		kind := []eventtest.Kind{eventtest.Deal, eventtest.Contact}[w.random.IntN(2)]
		id, err := w.portal.Add(kind, map[string]any{nameField(string(kind)): name}, eventtest.AdminID)
		e := event.Entity{Kind: string(kind), ID: strconv.FormatInt(id, 10)}
		w.alive = append(w.alive, e)
		w.state[e], w.changed[e] = name, w.version
		return err
	}
	at := w.random.IntN(len(w.alive))
	e := w.alive[at]
	id, err := strconv.ParseInt(e.ID, 10, 64)
	if err != nil {
		return err
	}
	w.changed[e] = w.version
	if dice == 9 {
		w.alive = append(w.alive[:at], w.alive[at+1:]...)
		w.state[e] = ""
		return w.portal.Delete(eventtest.Kind(e.Kind), id, eventtest.AdminID)
	}
	w.state[e] = name
	return w.portal.Update(eventtest.Kind(e.Kind), id, map[string]any{nameField(e.Kind): name}, eventtest.AdminID)
}

// turn makes a change each pause, until stop is called.
func (w *world) turn(t *testing.T, pause time.Duration) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
				if err := w.step(); err != nil {
					ended <- err
					return
				}
			}
		}
	}()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// unseen compares the last line of each object with its last state. It returns the objects whose
// last state was not delivered, with a description of the difference.
func (w *world) unseen(t *testing.T, out string) map[event.Entity]string {
	t.Helper()
	lines := programtest.Lines(t, programtest.Read(t, out))
	last := make(map[event.Entity]map[string]any)
	for _, l := range lines {
		entity, ok := l["entity"].(map[string]any)
		require.True(t, ok, "%v", l)
		last[event.Entity{Kind: fmt.Sprint(entity["kind"]), ID: fmt.Sprint(entity["id"])}] = l
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	missed := make(map[event.Entity]string)
	for e, want := range w.state {
		got := ""
		l, seen := last[e]
		if object, ok := l["object"].(map[string]any); ok {
			got = fmt.Sprint(object[nameField(e.Kind)])
		}
		if !seen || got != want || l["error"] != nil {
			missed[e] = fmt.Sprintf("it is %q, and its last line: %v", want, l)
		}
	}
	return missed
}

// now returns the version of the last change.
func (w *world) now() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version
}

// settled asserts that nothing was missed and that the queue is empty.
func (w *world) settled(t *testing.T, out string) []map[string]any {
	t.Helper()
	require.Empty(t, w.unseen(t, out))
	require.Empty(t, w.portal.OfflineRows())
	return programtest.Lines(t, programtest.Read(t, out))
}
