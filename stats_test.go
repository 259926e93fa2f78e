package b24events_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/polling"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
)

// TestStatsAreInSeconds: all packages write the durations of their figures as seconds, and no
// figure is missing in JSON.
func TestStatsAreInSeconds(t *testing.T) {
	t.Parallel()
	for _, stats := range []any{
		&webhook.Stats{}, &webhook.StoreStats{}, &rest.Stats{}, &oauth.Stats{}, &polling.Stats{}, &offline.Stats{}, &offline.FleetStats{},
		&offline.PortalStats{},
	} {
		value := reflect.ValueOf(stats).Elem()
		t.Run(value.Type().String(), func(t *testing.T) {
			t.Parallel()
			want := map[string]any{}
			fill(value, want)
			text, err := json.Marshal(stats)
			require.NoError(t, err)
			got := map[string]any{}
			require.NoError(t, json.Unmarshal(text, &got))
			for name, figure := range want {
				require.Equal(t, figure, got[name], name)
			}
		})
	}
}

// fill gives the durations, numbers and times of a struct a value, and adds what JSON should have.
func fill(v reflect.Value, want map[string]any) {
	for i := range v.NumField() {
		field, at := v.Type().Field(i), v.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch x := at.Addr().Interface().(type) {
		case *time.Duration:
			*x = 1500 * time.Millisecond
			want[name] = 1.5
		case *time.Time:
			*x = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			want[name] = "2026-01-02T03:04:05Z"
		case *uint64:
			*x = 7
			want[name] = 7.0
		case *int:
			*x = 8
			want[name] = 8.0
		case *bool:
			*x = true
			want[name] = true
		default:
			if field.Anonymous {
				fill(at, want)
			}
		}
	}
}
