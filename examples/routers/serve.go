package routers

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/b24events/b24events/webhook"
)

// Server is what [Serve] runs: an [http.Server], or that of fiber.
type Server interface {
	// Serve accepts connections until Shutdown is called.
	Serve(l net.Listener) error
	// Shutdown accepts no more connections and waits for the requests under way, until ctx ends.
	Shutdown(ctx context.Context) error
}

// Drain is how long [Serve] waits for requests and handlers after its context ended.
const Drain = 30 * time.Second

var errEnded = errors.New("routers: the server ended before it was stopped")

// Serve runs a server until ctx ends, and then stops everything in the only order that loses
// nothing: the server, so that no more events arrive; the handler, which processes what it
// acknowledged, or leaves it in the store; and the store, which the handler uses until then. store
// is nil for the queue in memory. Serve closes l.
func Serve(ctx context.Context, l net.Listener, s Server, h *webhook.Handler, store io.Closer) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-served:
		errs = append(errs, errEnded, err)
		served <- nil
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), Drain)
	defer cancel()
	errs = append(errs, s.Shutdown(last))
	_ = l.Close() // ends a fiber server that had not begun when Shutdown was called
	if err := <-served; !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	errs = append(errs, h.Shutdown(last))
	if store != nil {
		errs = append(errs, store.Close())
	}
	return errors.Join(errs...)
}

// httpServer returns a server with the time limits that one on the Internet needs. ReadTimeout also
// limits slow bodies when a middleware hides from the handler how to set deadlines.
func httpServer(routes http.Handler) *http.Server {
	return &http.Server{Handler: routes, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute}
}
