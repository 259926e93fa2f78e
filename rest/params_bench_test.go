package rest

import (
	"testing"

	"github.com/b24events/b24events/internal/batch"
)

func BenchmarkEncode(b *testing.B) {
	type filter struct {
		Stage string `url:"STAGE_ID"`
		After int    `url:">ID"`
	}
	type list struct {
		Filter filter   `url:"filter"`
		Select []string `url:"select,brackets"`
	}
	params := map[string]any{
		"map":    map[string]any{"filter": map[string]any{"STAGE_ID": "NEW", ">ID": 5}, "select": []string{"ID", "TITLE", "CONTACT_ID"}},
		"struct": list{Filter: filter{"NEW", 5}, Select: []string{"ID", "TITLE", "CONTACT_ID"}},
	}
	for name, p := range params {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encodeParams(p, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("batch of 50", func(b *testing.B) {
		form, err := encodeParams(params["map"], nil)
		if err != nil {
			b.Fatal(err)
		}
		items := make([]*item, batch.Max)
		for i := range items {
			items[i] = &item{name: "c", method: "crm.deal.list", form: form.Text}
		}
		b.ReportAllocs()
		for b.Loop() {
			batchForm(items, false)
		}
	})
}
