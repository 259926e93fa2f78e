package routers

import (
	"context"
	"net/http"

	"github.com/b24events/b24events/webhook"
)

// NetHTTPOrigin is for [webhook.WithContext]. It runs within the request, so it may read the path.
func NetHTTPOrigin(ctx context.Context, r *http.Request) context.Context {
	return NewContext(ctx, Origin{Tenant: r.PathValue("tenant"), RequestID: r.Header.Get("X-Request-Id")})
}

// NetHTTP serves events with the router of net/http. The more middleware, the earlier it runs.
func NetHTTP(h *webhook.Handler, more ...func(http.Handler) http.Handler) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/bitrix24/{tenant}", h) // all methods: the handler responds to GET and HEAD too
	// Portals send no Origin, so their events pass. Pages of an application come from a browser:
	// bypass their path with AddInsecureBypassPattern.
	routes := http.NewCrossOriginProtection().Handler(mux)
	for _, m := range more {
		routes = m(routes)
	}
	return httpServer(routes)
}
