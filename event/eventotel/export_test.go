package eventotel

import (
	"context"

	"github.com/b24events/b24events/rest"
)

// RestoreTrace is what the option of [Telemetry.Webhook] does with the text that a store has.
var RestoreTrace = restoreTrace

// Calling and Called are the functions of [Telemetry.REST].
func (t *Telemetry) Calling(ctx context.Context, method string) context.Context {
	return t.calling(ctx, method)
}
func (t *Telemetry) Called(ctx context.Context, info rest.CallInfo) { t.called(ctx, info) }
