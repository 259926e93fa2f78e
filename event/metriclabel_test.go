package event_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestMetricLabel(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ONCRMDEALADD": "ONCRMDEALADD", "OnCrmDealAdd": "ONCRMDEALADD", "": "other", "ONX": "other", strings.Repeat("X", 1<<16): "other",
		"ONCRMDYNAMICITEMADD_147": "ONCRMDYNAMICITEMADD_{TYPEID}", "oncrmdynamicitemadd_1": "ONCRMDYNAMICITEMADD_{TYPEID}",
		"ONCRMDYNAMICITEMADD_" + strings.Repeat("9", 100): "other", "ONCRMDYNAMICITEMADD_{TYPEID}": "ONCRMDYNAMICITEMADD_{TYPEID}",
	} {
		require.Equal(t, want, event.MetricLabel(name), "%.40q", name)
	}
	for info := range event.Catalog() {
		require.Equal(t, info.Name, event.MetricLabel(info.Name))
	}
}
