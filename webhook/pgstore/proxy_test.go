package pgstore_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// verdict is what a proxy does with a message of the client.
type verdict int

const (
	pass    verdict = iota
	drop            // cut the connection; the server never gets the message
	swallow         // pass it on, and cut the connection when the server has answered
)

// proxy is between a pool and a server, and reads what the pool sends.
type proxy struct {
	testing.TB

	listener net.Listener
	target   string

	mu    sync.Mutex
	judge func(message string) verdict // gets the type of a message and its text
	shut  bool                         // refuse new connections
	conns map[net.Conn]bool
	all   sync.WaitGroup
}

func newProxy(tb testing.TB, target string) *proxy {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &proxy{TB: tb, listener: l, target: target, conns: make(map[net.Conn]bool)}
	p.all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.all.Wait()
	})
	return p
}

// set sets what becomes of messages.
func (p *proxy) set(judge func(message string) verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.judge = judge
}

// refuse refuses new connections, or accepts them again.
func (p *proxy) refuse(shut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = shut
}

// cut cuts all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) open(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *proxy) close(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

func (p *proxy) serve(client net.Conn) {
	defer p.close(client)
	if !p.open(client) {
		return
	}
	var d net.Dialer
	server, err := d.DialContext(p.Context(), "tcp", p.target)
	if err != nil {
		return
	}
	defer p.close(server)
	if !p.open(server) {
		return
	}
	l := &link{client: client, server: server}
	p.all.Go(func() { l.back() })
	for first := true; ; first = false {
		message, err := readMessage(client, first)
		if err != nil {
			return
		}
		switch p.verdict(string(message)) {
		case drop:
			return
		case swallow:
			l.silence()
		default:
		}
		if _, err := server.Write(message); err != nil {
			return
		}
	}
}

// verdict asks the judge about a message, by its type and its text up to the first zero.
func (p *proxy) verdict(message string) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.judge == nil {
		return pass
	}
	return p.judge(message)
}

// link passes on what the server answers.
type link struct {
	client, server net.Conn

	mu     sync.Mutex
	silent bool
}

// silence makes the link cut the connection instead of passing the next answer on.
func (l *link) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent = true
}

func (l *link) back() {
	defer func() { _ = l.client.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		silent := l.silent
		l.mu.Unlock()
		if silent && bytes.ContainsRune(buf[:n], 'Z') { // ReadyForQuery: the transaction is over
			return
		}
		if silent {
			continue
		}
		if _, err := l.client.Write(buf[:n]); err != nil {
			return
		}
	}
}

// readMessage reads a message of the client whole. The first has no type.
func readMessage(r io.Reader, first bool) ([]byte, error) {
	header := 5
	if first {
		header = 4
	}
	message := make([]byte, header)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(message[header-4:]))
	if size < 4 || size > 1<<28 {
		return nil, errors.New("no message")
	}
	whole := make([]byte, header+size-4)
	copy(whole, message)
	_, err := io.ReadFull(r, whole[header:])
	return whole, err
}

// once makes a judge that finds one verdict, for the first message of a type with a text in it.
func once(kind byte, text string, v verdict) func(string) verdict {
	var found bool
	return func(message string) verdict {
		if !found && message[0] == kind && strings.Contains(strings.ToUpper(message), text) {
			found = true
			return v
		}
		return pass
	}
}
