package event

import (
	"context"
	"slices"
	"strconv"

	"github.com/b24events/b24events/internal/values"
)

// Misfit is a value of a payload that does not fit its field. The field is left zero.
type Misfit struct {
	// Path is where the value is, such as data.FIELDS.OPPORTUNITY. It holds no text of the
	// sender but keys that look like identifiers; any other key is a "*".
	Path string
	Want string // what the field takes, such as "a number of 64 bits"
}

// namesOneOf reports whether the misfit is at a place that names one of the objects.
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

// Misfits returns the values that do not fit the payload type of the handler that the delivery was
// handed to, in the order of the fields. It is empty before [On] decoded the payload. It lists the
// first 100; one more element then says how many there are besides. The slice is the caller's own.
func (d *Delivery) Misfits() []Misfit { return slices.Clone(d.misfits) }

// MisfitReporter gets each delivery whose payload has misfits, before its handler runs. It reads
// them from [Delivery.Misfits]. It must be safe for concurrent use and return at once. A delivery
// that is tried again is reported again.
type MisfitReporter func(ctx context.Context, d *Delivery)

// MisfitReporterKey is the key under which handlers of [On] find a [MisfitReporter] in their
// context. A context type of the caller's own can return a MisfitReporter for
// Value(event.MisfitReporterKey{}), and save the allocations of [WithMisfitReporter].
type MisfitReporterKey struct{}

// WithMisfitReporter returns a context in which handlers of [On] report misfits to r. Package
// webhook and package offline set a reporter that logs and counts; code that runs a [Mux] by itself
// can set its own.
func WithMisfitReporter(ctx context.Context, r MisfitReporter) context.Context {
	return context.WithValue(ctx, MisfitReporterKey{}, r)
}

// withMisfits returns a copy of the delivery that lists misfits, and reports it.
func (d *Delivery) withMisfits(ctx context.Context, misfits []Misfit) *Delivery {
	own := *d
	own.misfits = misfits
	if report, ok := ctx.Value(MisfitReporterKey{}).(MisfitReporter); ok && report != nil {
		report(ctx, &own)
	}
	return &own
}
