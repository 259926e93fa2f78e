package event

import (
	"context"
	"slices"
	"strconv"

	"github.com/b24events/b24events/internal/values"
)

// Misfit is a value of a payload that does not fit its field. The field is left zero.
type Misfit struct {
	// Path is where the value is, such as data.FIELDS.OPPORTUNITY. A key that does not look like an
	// identifier becomes a "*", so that the path holds no other text of the sender.
	Path string
	Want string // what the field takes, such as "an integer of 64 bits"
}

// namesOneOf reports whether the misfit is at the ID of one of the objects.
func (m *Misfit) namesOneOf(objects []object) bool {
	for i := range objects {
		for _, id := range objects[i].id {
			if slices.ContainsFunc(id, func(at place) bool { return !at.typeID && at.is(m.Path) }) {
				return true
			}
		}
	}
	return false
}

func misfitsOf(report *values.Report, root string) []Misfit {
	if len(report.Misfits) == 0 {
		return nil
	}
	list := make([]Misfit, len(report.Misfits), len(report.Misfits)+1)
	for i, m := range report.Misfits {
		path := root
		if m.Path != "" {
			path += "." + m.Path
		}
		list[i] = Misfit{Path: path, Want: m.Want}
	}
	if report.More > 0 {
		list = append(list, Misfit{Path: root + ".*", Want: "and " + strconv.Itoa(report.More) + " more"})
	}
	return list
}

// Misfits returns the values that do not fit the payload type of the handler, in the order of the
// fields. It is empty until [On] has decoded the payload. It lists the first 100. If there are
// more, one further element says how many. The caller owns the slice.
func (d *Delivery) Misfits() []Misfit { return slices.Clone(d.misfits) }

// MisfitReporter receives each delivery whose payload has misfits, before its handler runs. It
// reads them from [Delivery.Misfits]. It must be safe for concurrent use and return at once. A
// delivery that is retried is reported again.
type MisfitReporter func(ctx context.Context, d *Delivery)

// MisfitReporterKey is the key under which handlers of [On] find a [MisfitReporter] in their
// context. To save the allocations of [WithMisfitReporter], a context type of your own can return a
// MisfitReporter for Value(event.MisfitReporterKey{}).
type MisfitReporterKey struct{}

// WithMisfitReporter returns a context in which handlers of [On] report misfits to r. Packages
// webhook and offline set a reporter that logs and counts. Code that runs a [Mux] itself can set
// its own.
func WithMisfitReporter(ctx context.Context, r MisfitReporter) context.Context {
	return context.WithValue(ctx, MisfitReporterKey{}, r)
}

// withMisfits returns a copy of the delivery with the misfits, and reports it.
func (d *Delivery) withMisfits(ctx context.Context, misfits []Misfit) *Delivery {
	own := *d
	own.misfits = misfits
	if report, ok := ctx.Value(MisfitReporterKey{}).(MisfitReporter); ok && report != nil {
		report(ctx, &own)
	}
	return &own
}
