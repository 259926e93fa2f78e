package routers

import (
	"context"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/adaptor"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/csrf"
	"github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/gofiber/fiber/v3/middleware/requestid"

	"github.com/b24events/b24events/webhook"
)

// FiberOrigin is for [webhook.WithContext]. It copies what [Fiber] put into the request.
func FiberOrigin(ctx context.Context, r *http.Request) context.Context {
	return NewContext(ctx, OriginOf(r.Context())) // which is the context of fasthttp here
}

// Fiber serves events with fiber. Its adaptor makes a request of net/http out of one of fasthttp,
// with these differences:
//
//   - The whole body is in memory before the handler sees the request, so the handler's limits on
//     bytes and time come too late. BodyLimit and ReadTimeout are what limits strangers.
//   - Every text of the request, even a header, is memory that fasthttp uses again for the next
//     one. Clone what outlives the request. The handler keeps nothing of it.
//   - The context of the request does not end when the client hangs up, and it ends when the server
//     begins to shut down. The handler depends on neither.
func Fiber(h *webhook.Handler, more ...fiber.Handler) *FiberServer {
	app := fiber.New(fiber.Config{BodyLimit: 1 << 20, ReadTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute})
	app.Use(requestid.New(), recover.New(), compress.New())
	// A portal has no CSRF token: without Next its events are refused.
	app.Use(csrf.New(csrf.Config{Next: func(c fiber.Ctx) bool { return strings.HasPrefix(c.Path(), "/bitrix24/") }}))
	for _, m := range more {
		app.Use(m)
	}
	events := adaptor.HTTPHandler(h)
	app.All("/bitrix24/:tenant", func(c fiber.Ctx) error {
		c.Locals(originKey{}, Origin{Tenant: strings.Clone(c.Params("tenant")), RequestID: strings.Clone(requestid.FromContext(c))})
		return events(c)
	})
	return &FiberServer{app}
}

// FiberServer is a fiber application as a [Server].
type FiberServer struct{ App *fiber.App }

// Serve accepts connections until Shutdown is called.
func (s *FiberServer) Serve(l net.Listener) error {
	return s.App.Listener(l, fiber.ListenConfig{DisableStartupMessage: true})
}

// Shutdown accepts no more connections and waits for the requests under way, until ctx ends.
func (s *FiberServer) Shutdown(ctx context.Context) error { return s.App.ShutdownWithContext(ctx) }
