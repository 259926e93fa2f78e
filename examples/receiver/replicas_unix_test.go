//go:build unix

package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/longtest"
)

// proxy is a way to a server that can be cut: bytes stop, and connections stay open, as when a
// network breaks.
type proxy struct {
	address string
	to      string

	mu   sync.Mutex
	cut  chan struct{} // closed while the way is open
	open bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{address: l.Addr().String(), to: to, cut: make(chan struct{}), open: true}
	close(p.cut)
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(t.Context(), from)
		}
	}()
	return p
}

func (p *proxy) serve(ctx context.Context, from net.Conn) {
	defer func() { _ = from.Close() }()
	p.pass(ctx)
	to, err := new(net.Dialer).DialContext(ctx, "tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			defer func() { ended <- struct{}{} }()
			buf := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buf)
				p.pass(ctx)
				if n > 0 {
					if _, err := way[1].Write(buf[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// pass waits while the way is cut.
func (p *proxy) pass(ctx context.Context) {
	for {
		p.mu.Lock()
		cut, open := p.cut, p.open
		p.mu.Unlock()
		if open {
			return
		}
		select {
		case <-cut:
		case <-ctx.Done():
			return
		}
	}
}

func (p *proxy) set(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case open && !p.open:
		close(p.cut)
	case !open && p.open:
		p.cut = make(chan struct{})
	}
	p.open = open
}

// replicas are the processes of a test.
type replicas struct {
	*field

	all    [3]*realProcess
	ways   [3]*proxy
	usable [3]atomic.Bool // requests go there
}

// urls are the addresses of those that are usable.
func (r *replicas) urls() []string {
	var all []string
	for i := range r.usable {
		if r.usable[i].Load() {
			all = append(all, r.all[i].web.url)
		}
	}
	return all
}

// worked returns how many partitions some processes work.
func (r *replicas) worked(which ...int) (n int) {
	for _, i := range which {
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		text, err := r.all[i].text(ctx, "/partitions")
		cancel()
		if err != nil {
			return -1
		}
		k, _ := strconv.Atoi(text)
		n += k
	}
	return n
}

// moved waits until some processes work all partitions, and returns how long that took.
func (r *replicas) moved(partitions int, which ...int) time.Duration {
	r.t.Helper()
	start := time.Now()
	require.Eventually(r.t, func() bool { return r.worked(which...) == partitions }, 30*time.Second, 20*time.Millisecond)
	return time.Since(start)
}

// TestReplicas: three processes share the work. One is killed, one is frozen for two leases, and
// one is cut off from the store for two leases, while events come all the time.
func TestReplicas(t *testing.T) {
	t.Parallel()
	longtest.Skip(t, "it starts replicas behind a balancer")
	for _, e := range engines(t) {
		if !e.shared {
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			const ttl = 4 * time.Second
			r := &replicas{field: newField(t, e, "HANDLER_DELAY", "5ms", "WORKERS", "16", workerTTL, ttl.String())}
			server, partitions := "127.0.0.1:5432", 64
			if e.name == "nats" {
				server, partitions = "127.0.0.1:4222", 32
			}
			start := func(i int, life string) {
				r.all[i] = r.start(workerReplica, "r"+strconv.Itoa(i)+life, "QUEUE_URL",
					strings.Replace(e.env["QUEUE_URL"], server, r.ways[i].address, 1))
				r.usable[i].Store(true)
			}
			for i := range r.all {
				r.ways[i] = newProxy(t, server)
				start(i, "")
			}
			t.Logf("%s: the partitions are shared after %v", e.name, r.moved(partitions, 0, 1, 2))

			ctx, stop := context.WithCancel(t.Context())
			var sending sync.WaitGroup
			sending.Go(func() { r.burst(ctx, r.urls, load{portals: 20, objects: 2, versions: 1_000_000, from: 1}) })
			pause := func(d time.Duration) { <-time.After(d) }
			pause(time.Second)

			r.usable[0].Store(false)
			r.all[0].kill(t)
			took := r.moved(partitions, 1, 2)
			t.Logf("%s: after a kill the others have all partitions after %v", e.name, took)
			require.Less(t, took, 10*time.Second)
			start(0, "again")
			r.moved(partitions, 0, 1, 2)

			r.usable[1].Store(false)
			pause(200 * time.Millisecond) // for the requests that are under way
			r.all[1].Signal(t, syscall.SIGSTOP)
			took = r.moved(partitions, 0, 2)
			t.Logf("%s: after a freeze the others have all partitions after %v", e.name, took)
			require.Less(t, took, 10*time.Second)
			pause(max(0, 2*ttl-took))
			r.all[1].Signal(t, syscall.SIGCONT)
			r.usable[1].Store(true)
			r.moved(partitions, 0, 1, 2)

			r.usable[2].Store(false)
			r.ways[2].set(false)
			took = r.moved(partitions, 0, 1)
			t.Logf("%s: after a cut the others have all partitions after %v", e.name, took)
			require.Less(t, took, 10*time.Second)
			pause(max(0, 2*ttl-took))
			r.ways[2].set(true)
			r.moved(partitions, 0, 1, 2)
			r.usable[2].Store(true)
			pause(time.Second)

			stop()
			sending.Wait()
			require.Zero(t, r.drained(r.all[0], 2*time.Minute))
			report := r.report()
			t.Logf("%s: %v; %d requests without a 200", e.name, report, r.lost.Load())
			for _, w := range report.wrong {
				t.Log(w)
			}
			require.Greater(t, report.acknowledged, 1000)
			require.Zero(t, report.lost)
			require.Zero(t, report.outOfOrder)
			require.LessOrEqual(t, report.overlapping, 16, "handlers that ran when their process was frozen")
			for _, p := range r.all {
				p.kill(t)
			}
		})
	}
}
