package event_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/b24events/b24events/event"
)

func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"ONCRMDEALUPDATE", "ONTASKUPDATE", "ONIMBOTMESSAGEADD"} {
		body, err := os.ReadFile(filepath.Join("testdata", "events", name+".form")) //nolint:gosec // a constant name
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := event.Parse(formType, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDispatch(b *testing.B) {
	mux := event.NewMux()
	event.On(mux, event.OnCrmContactAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	d, err := event.Parse(formType, []byte(contactAdd))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("typed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := mux.HandleEvent(b.Context(), d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("entity", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if d.Entity().ID == "" {
				b.Fatal("no entity")
			}
		}
	})
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = d.Key()
		}
	})
}
