package routers

import "context"

// Origin is what event handlers learn about the request that brought their event.
type Origin struct {
	Tenant    string // the path parameter
	RequestID string // for the log
}

type originKey struct{}

// NewContext returns a context that carries the origin of a request.
func NewContext(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginOf returns what [NewContext] stored, or the zero Origin.
func OriginOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
