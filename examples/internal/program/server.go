package program

import (
	"container/list"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server returns an HTTP server with the limits that a program on the internet needs. It logs its
// errors. Serve it on [LimitConnections].
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       15 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

const (
	// maxConnections bounds the connections of a server, no matter how many descriptors there are.
	// 10,000 connections that send their bodies slowly take about 250 MB.
	maxConnections = 10_000
	// minReserve is how many descriptors are reserved for files and for calls to portals.
	minReserve = 64
)

// Connections returns how many connections a server may hold, so that enough descriptors are left
// for everything else.
func Connections() int {
	descriptors := descriptorLimit()
	if descriptors <= 0 {
		return maxConnections
	}
	return max(1, min(maxConnections, descriptors-max(minReserve, descriptors/4)))
}

// LimitConnections returns a listener with at most limit connections of the server. If one more
// arrives, it closes the connection that has been idle longest, so that idle connections do not
// keep others out. If all connections have a request, the new one waits. It sets the server's
// ConnState.
func LimitConnections(server *http.Server, l net.Listener, limit int) net.Listener {
	c := &connLimiter{Listener: l, limit: limit, idle: list.New()}
	c.changed.L = &c.mu
	server.ConnState = c.noteState
	return c
}

// connLimiter counts the connections of a server and knows which of them are idle.
type connLimiter struct {
	net.Listener

	limit int

	mu      sync.Mutex
	changed sync.Cond // a connection became idle or was closed, or the listener was closed
	open    int
	idle    *list.List // of *limitedConn, the longest idle first
	closed  bool
}

// limitedConn is a counted connection. Close removes it from the count.
type limitedConn struct {
	net.Conn

	limiter *connLimiter
	once    sync.Once
	idle    *list.Element // in the limiter's list, or nil; the limiter's mu guards it
}

// Accept returns the next connection as soon as there is room for it.
func (c *connLimiter) Accept() (net.Conn, error) {
	raw, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if !c.makeRoom() {
		_ = raw.Close()
		return nil, net.ErrClosed
	}
	conn := &limitedConn{Conn: raw, limiter: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	conn.idle = c.idle.PushBack(conn)
	return conn, nil
}

// makeRoom waits until there is room for a connection. It returns false if the listener is closed
// before that.
func (c *connLimiter) makeRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open >= c.limit && !c.closed {
		oldest := c.oldestIdleLocked()
		if oldest == nil {
			c.changed.Wait()
			continue
		}
		c.mu.Unlock()
		_ = oldest.Close() // removes it from the list
		c.mu.Lock()
	}
	return !c.closed
}

// oldestIdleLocked returns the connection that has been idle longest, or nil. c.mu must be held.
func (c *connLimiter) oldestIdleLocked() *limitedConn {
	if front := c.idle.Front(); front != nil {
		if conn, ok := front.Value.(*limitedConn); ok {
			return conn
		}
	}
	return nil
}

// removeIdleLocked removes a connection from the list of idle ones. c.mu must be held.
func (c *connLimiter) removeIdleLocked(conn *limitedConn) {
	if conn.idle != nil {
		c.idle.Remove(conn.idle)
		conn.idle = nil
	}
}

// noteState is the server's ConnState.
func (c *connLimiter) noteState(raw net.Conn, state http.ConnState) {
	conn, ok := raw.(*limitedConn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateIdle:
		c.removeIdleLocked(conn)
		conn.idle = c.idle.PushBack(conn)
		c.changed.Signal()
	case http.StateActive:
		c.removeIdleLocked(conn)
	default: // Accept has noted new ones, and Close notes closed ones
	}
}

// Close closes the listener. Connections stay open.
func (c *connLimiter) Close() error {
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// Close closes the connection and makes room for another.
func (c *limitedConn) Close() error {
	c.once.Do(func() {
		c.limiter.mu.Lock()
		defer c.limiter.mu.Unlock()
		c.limiter.open--
		c.limiter.removeIdleLocked(c)
		c.limiter.changed.Signal()
	})
	return c.Conn.Close()
}
