package webhook

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/histogram"
)

func TestStatsJSON(t *testing.T) {
	t.Parallel()
	var h histogram.Histogram
	h.Record(2 * time.Second)
	text, err := json.Marshal(Stats{Ack: Latency{h.Snapshot()}, Rejected: map[Reason]uint64{ReasonMethod: 1}})
	require.NoError(t, err)
	var got struct {
		Ack      map[string]float64 `json:"ack"`
		Rejected map[string]int     `json:"rejected"`
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.InDelta(t, 2, got.Ack["sum"], 0)
	require.Equal(t, 1, got.Rejected["method"])
}
