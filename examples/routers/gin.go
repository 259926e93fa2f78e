package routers

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/b24events/b24events/webhook"
)

// GinOrigin is for [webhook.WithContext]. It copies what [Gin] put into the request.
func GinOrigin(ctx context.Context, r *http.Request) context.Context {
	return NewContext(ctx, OriginOf(r.Context()))
}

// Gin serves events with gin. gin.WrapH would not do: gin keeps the parameters in its own context,
// which it reuses, and the request does not lead to them.
func Gin(h *webhook.Handler, more ...gin.HandlerFunc) *http.Server {
	engine := gin.New()
	engine.Use(gin.Recovery())
	engine.Use(more...)
	engine.Any("/bitrix24/:tenant", func(c *gin.Context) {
		ctx := NewContext(c.Request.Context(), Origin{Tenant: c.Param("tenant"), RequestID: c.GetHeader("X-Request-Id")})
		h.ServeHTTP(c.Writer, c.Request.WithContext(ctx))
	})
	return httpServer(http.NewCrossOriginProtection().Handler(engine))
}
