package routers

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"

	"github.com/b24events/b24events/webhook"
)

// EchoOrigin is for [webhook.WithContext]. It copies what [Echo] put into the request.
func EchoOrigin(ctx context.Context, r *http.Request) context.Context {
	return NewContext(ctx, OriginOf(r.Context()))
}

// Echo serves events with echo. echo.WrapHandler would not do: echo keeps the parameters in its own
// context, which it reuses, and the request does not lead to them.
func Echo(h *webhook.Handler, more ...echo.MiddlewareFunc) *http.Server {
	e := echo.New()
	e.Use(middleware.RequestID(), middleware.Recover(), middleware.Gzip(), middleware.ContextTimeout(10*time.Second))
	// A portal has no CSRF token: without the skipper its events are refused.
	e.Use(middleware.CSRFWithConfig(middleware.CSRFConfig{Skipper: func(c echo.Context) bool {
		return strings.HasPrefix(c.Request().URL.Path, "/bitrix24/")
	}}))
	e.Use(more...)
	e.Any("/bitrix24/:tenant", func(c echo.Context) error {
		id := c.Response().Header().Get(echo.HeaderXRequestID)
		ctx := NewContext(c.Request().Context(), Origin{Tenant: c.Param("tenant"), RequestID: id})
		h.ServeHTTP(c.Response(), c.Request().WithContext(ctx))
		return nil
	})
	return httpServer(e)
}
