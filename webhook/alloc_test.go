//go:build !race

package webhook_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// answered is a ResponseWriter that can set a read deadline, as those of net/http can.
type answered struct{ sink }

func (*answered) SetReadDeadline(time.Time) error { return nil }

// TestAllocations: to serve an accepted delivery takes, besides parsing it, an item, a lane, a
// worker, the contexts of the verifier and of the handler, and the domain of the proof. (With the
// race detector pools lose what they keep.)
//
//nolint:paralleltest // AllocsPerRun counts those of all goroutines
func TestAllocations(t *testing.T) {
	const most = 6
	for name, text := range map[string]string{"deal": dealUpdate(7), "long": sized(7, 10<<10)} {
		h := newHandler(t, nothing(), webhook.WithQueueSize(unbounded))
		raw := []byte(text)
		reader := strings.NewReader(text)
		closer := io.NopCloser(reader)
		r := request("")
		r.ContentLength = int64(len(text))
		w := answered{sink{header: make(http.Header)}}
		parsing := testing.AllocsPerRun(1000, func() {
			if _, err := event.Parse(form, raw); err != nil {
				t.Error(err)
			}
		})
		serving := testing.AllocsPerRun(1000, func() {
			reader.Reset(text)
			r.Body = closer
			h.ServeHTTP(&w, r)
		})
		require.Equal(t, http.StatusOK, w.status)
		require.LessOrEqual(t, serving-parsing, float64(most), name)
		shutdown(t, h)
	}
}
