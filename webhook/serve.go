package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Serve runs server.ListenAndServe until ctx ends, and then stops a program in the order in which
// nothing is lost: first the server, so that no more deliveries come, and then what stands behind
// it. Pass [Handler.Shutdown] first, then for example oauth.Portals.Shutdown, and last what closes
// stores. They are called one after the other, in this goroutine, also if the server failed.
//
// All of it may take as long as grace. Of that, requests that are being served get a third at most
// before they are cut off, so that one slow client does not take the time of acknowledged
// deliveries. The context of the functions ends with grace, and not with ctx.
//
// Serve returns what the server failed with and all errors of stop, joined; nil if the program
// stopped as it should. A program that serves TLS or several listeners does the same by itself:
// http.Server.Shutdown, then Handler.Shutdown, then the rest.
func Serve(ctx context.Context, server *http.Server, grace time.Duration, stop ...func(context.Context) error) error {
	served := make(chan error, 1)
	go func() {
		err := server.ListenAndServe()
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		served <- err
	}()
	var errs []error
	select {
	case err := <-served:
		errs = append(errs, err)
		served <- nil
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	running, cut := context.WithTimeout(last, grace/3)
	defer cut()
	if err := server.Shutdown(running); err != nil {
		errs = append(errs, err, server.Close())
	}
	errs = append(errs, <-served)
	for _, f := range stop {
		errs = append(errs, f(last))
	}
	return errors.Join(errs...)
}
