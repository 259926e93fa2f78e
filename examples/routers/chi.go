package routers

import (
	"context"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/b24events/b24events/webhook"
)

// ChiOrigin is for [webhook.WithContext]. chi reuses its route context as soon as the request is
// over, so chi.URLParam in an event handler would return the tenant of another request.
func ChiOrigin(ctx context.Context, r *http.Request) context.Context {
	return NewContext(ctx, Origin{Tenant: chi.URLParam(r, "tenant"), RequestID: middleware.GetReqID(r.Context())})
}

// Chi serves events with chi.
func Chi(h *webhook.Handler, more ...func(http.Handler) http.Handler) *http.Server {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Recoverer, middleware.Compress(5), middleware.Timeout(10*time.Second))
	r.Use(http.NewCrossOriginProtection().Handler)
	r.Use(more...)
	r.Handle("/bitrix24/{tenant}", h)
	return httpServer(r)
}
