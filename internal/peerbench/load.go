package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// load is the result of one turn of one server.
type load struct {
	requests int
	rate     float64 // requests a second
	p50, p99 time.Duration
	cpu      time.Duration // of the process, for one request; 0 if the system does not report it
}

// generator sends requests over TCP connections that stay open: one request, its response, the next
// request. It allocates nothing and parses as little as possible, because it takes CPU time from
// the server.
type generator struct {
	portals []portal
	request []byte // the whole request, with placeholders
	members []int  // positions of the placeholders
	tokens  []int
	objects []int
}

func newGenerator(p payload, portals []portal) *generator {
	request := append([]byte("POST /bitrix24 HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Bitrix24 Webhook Engine\r\n"+
		"Content-Type: "+formType+"\r\nContent-Length: "+strconv.Itoa(len(p.body))+"\r\n\r\n"), p.body...)
	return &generator{
		portals: portals, request: request,
		members: places(request, memberMark), tokens: places(request, tokenMark), objects: places(request, objectMark),
	}
}

func places(in []byte, mark string) []int {
	var all []int
	for at := 0; ; {
		i := bytes.Index(in[at:], []byte(mark))
		if i < 0 {
			return all
		}
		all = append(all, at+i)
		at += i + len(mark)
	}
}

// patience is how much longer than its duration a turn may take.
const patience = 30 * time.Second

// run loads a server for a while.
func (g *generator) run(ctx context.Context, addr string, s settings) (load, error) {
	clients := make([]*client, s.connections)
	for i := range clients {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return load{}, err
		}
		defer func() { _ = conn.Close() }()
		if err = conn.SetDeadline(time.Now().Add(s.duration + patience)); err != nil {
			return load{}, err
		}
		clients[i] = &client{
			generator: g, conn: conn, request: bytes.Clone(g.request), random: rand.New(rand.NewPCG(1, uint64(i))), //nolint:gosec // no secret
			latencies: make([]time.Duration, 0, 1<<16),
		}
	}
	for _, c := range clients { // the first request of a connection is slower
		c.vary()
		if err := c.exchange(); err != nil {
			return load{}, err
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(clients))
	cpu := cpuTime()
	start := time.Now()
	for i, c := range clients {
		wg.Go(func() { errs[i] = c.loop(ctx, start.Add(s.duration)) })
	}
	wg.Wait()
	took := time.Since(start)
	cpu = cpuTime() - cpu
	if err := errors.Join(errs...); err != nil {
		return load{}, err
	}
	var all []time.Duration
	for _, c := range clients {
		all = append(all, c.latencies...)
	}
	if len(all) == 0 {
		return load{}, errors.New("no request was answered")
	}
	slices.Sort(all)
	return load{
		requests: len(all),
		rate:     float64(len(all)) / took.Seconds(),
		p50:      all[len(all)/2],
		p99:      all[len(all)*99/100],
		cpu:      cpu / time.Duration(len(all)),
	}, nil
}

// client is one connection.
type client struct {
	*generator

	conn      net.Conn
	request   []byte
	answer    [1024]byte
	random    *rand.Rand
	latencies []time.Duration
}

func (c *client) loop(ctx context.Context, end time.Time) error {
	done := ctx.Done()
	for last := time.Now(); last.Before(end); {
		select {
		case <-done:
			return ctx.Err()
		default:
		}
		c.vary()
		start := time.Now()
		if err := c.exchange(); err != nil {
			return err
		}
		last = time.Now()
		c.latencies = append(c.latencies, last.Sub(start))
	}
	return nil
}

// vary changes the request to one of a random portal about a random object.
func (c *client) vary() {
	p := &c.portals[c.random.IntN(len(c.portals))]
	for _, at := range c.members {
		copy(c.request[at:], p.member)
	}
	for _, at := range c.tokens {
		copy(c.request[at:], p.token)
	}
	var number [len(objectMark)]byte
	strconv.AppendInt(number[:0], 100_000+c.random.Int64N(900_000), 10)
	for _, at := range c.objects {
		copy(c.request[at:], number[:])
	}
}

// exchange sends the request and reads its response, which must be a 200 without a body.
func (c *client) exchange() error {
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	n := 0
	for {
		m, err := c.conn.Read(c.answer[n:])
		if err != nil {
			return err
		}
		n += m
		if bytes.Contains(c.answer[:n], []byte("\r\n\r\n")) {
			break
		}
		if n == len(c.answer) {
			return errors.New("the response is too long")
		}
	}
	if !bytes.HasPrefix(c.answer[:n], []byte("HTTP/1.1 200 ")) || !bytes.Contains(c.answer[:n], []byte("\r\nContent-Length: 0\r\n")) {
		return fmt.Errorf("unexpected response: %.40q", c.answer[:n])
	}
	return nil
}
