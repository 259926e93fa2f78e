package eventtest

import (
	"net"
	"net/http"
)

// WithServers lets a program limit the HTTP servers of the portal, on sockets. adjust is called
// with each server before it serves, also with that of a renamed portal and of the OAuth server. It
// may change the server's limits and its ErrorLog, and returns the listener to serve on: the given
// one, or one that wraps it.
func WithServers(adjust func(*http.Server, net.Listener) net.Listener) Option {
	return func(c *config) error {
		if adjust == nil {
			return misconfigured("WithServers with a nil function")
		}
		c.adjust = adjust
		return nil
	}
}
