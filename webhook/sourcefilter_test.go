package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/webhook"
)

// listServer is the server of the source list, without a network, so that it also runs in a bubble.
type listServer struct {
	mu     sync.Mutex
	answer http.HandlerFunc // nil breaks the connection
	asked  []*http.Request
	at     []time.Time
}

func (s *listServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked, s.at = append(s.asked, r), append(s.at, time.Now())
	answer := s.answer
	s.mu.Unlock()
	if answer == nil {
		return nil, errors.New("no route to host")
	}
	w := httptest.NewRecorder()
	answer(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func (s *listServer) says(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *listServer) requests() ([]*http.Request, []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.asked...), append([]time.Time(nil), s.at...)
}

func nodes(list ...string) http.HandlerFunc {
	return text(`{"nodes":["` + strings.Join(list, `","`) + `"]}`)
}

func text(doc string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, doc) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func newFilter(tb testing.TB, s *listServer, opts ...webhook.SourceOption) *webhook.SourceFilter {
	tb.Helper()
	f, err := webhook.NewSourceFilter(append([]webhook.SourceOption{webhook.WithSourceClient(&http.Client{Transport: s})}, opts...)...)
	require.NoError(tb, err)
	return f
}

// reached is a handler whose response shows that it was reached.
func reached() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
}

// from posts a request from that peer and returns the status.
func from(h http.Handler, peer string, headers ...string) int {
	r := request("event=ONX")
	r.RemoteAddr = peer
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// filled returns a filter that has a list.
func filled(t *testing.T, list []string, opts ...webhook.SourceOption) http.Handler {
	t.Helper()
	f := newFilter(t, &listServer{answer: nodes(list...)}, append(opts, webhook.WithFailClosed())...)
	h := f.Wrap(reached())
	from(h, "192.0.2.99:1")
	require.Equal(t, len(list), f.Stats().Nodes)
	return h
}

func TestSourceList(t *testing.T) {
	t.Parallel()
	h := filled(t, []string{"192.0.2.1", "198.51.100.0/24", " 192.0.2.7 ", "2001:db8::1", "2001:db8:5::/48", "::ffff:203.0.113.5", "::ffff:203.0.113.64/122"})
	for peer, want := range map[string]int{
		"192.0.2.1:443": 418, "192.0.2.2:443": 403, "192.0.2.7:1": 418, "198.51.100.0:1": 418, "198.51.100.255:1": 418, "198.51.101.1:1": 403,
		"[2001:db8::1]:443": 418, "[2001:db8::2]:443": 403, "[2001:db8:5:ffff::]:1": 418, "[2001:db8:6::]:1": 403,
		"203.0.113.5:1": 418, "203.0.113.127:1": 418, "203.0.113.128:1": 403,
		"[::ffff:192.0.2.1]:443": 418, "[::ffff:192.0.2.2]:443": 403, "[2001:db8::1%eth0]:443": 418,
		"192.0.2.1": 418, "@": 403, "": 403, "pipe": 403, "192.0.2.1:443:443": 403, "192.0.2.01:443": 403,
	} {
		require.Equal(t, want, from(h, peer), "%q", peer)
	}
	require.Equal(t, 403, from(h, "192.0.2.2:1", "X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1"), "headers do not count")

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r := request("")
		r.Method, r.RemoteAddr = method, "192.0.2.2:1"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, http.StatusTeapot, w.Code, "event.bind asks from elsewhere")
	}
	require.Panics(t, func() { newFilter(t, &listServer{}).Wrap(nil) })
}

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	const good, bad, inner, outer = "192.0.2.1", "203.0.113.9", "10.0.0.1:1000", "10.1.2.3"
	list := []string{good, "2001:db8::1"}
	type test struct {
		peer    string
		headers []string
		want    int
	}
	run := func(t *testing.T, header string, tests map[string]test) {
		t.Helper()
		h := filled(t, list, webhook.WithTrustedProxies(header, "10.0.0.0/8", "2001:db8:ffff::1"))
		for name, test := range tests {
			require.Equal(t, test.want, from(h, test.peer, test.headers...), name)
		}
	}
	const xff, fwd = "X-Forwarded-For", "Forwarded"
	run(t, "x-forwarded-for", map[string]test{
		"through the proxy":            {inner, []string{xff, good}, 418},
		"with a port":                  {inner, []string{xff, good + ":5060"}, 418},
		"IPv6":                         {inner, []string{xff, "2001:db8::1"}, 418},
		"IPv6 with a port":             {inner, []string{xff, "[2001:db8::1]:443"}, 418},
		"IPv6 in brackets":             {inner, []string{xff, "[2001:db8::1]"}, 418},
		"IPv4 in IPv6":                 {inner, []string{xff, "::ffff:192.0.2.1"}, 418},
		"the proxy in IPv6":            {"[2001:db8:ffff::1]:1", []string{xff, good}, 418},
		"the proxy as IPv4 in IPv6":    {"[::ffff:10.0.0.1]:1", []string{xff, good}, 418},
		"two proxies":                  {inner, []string{xff, good + ", " + outer}, 418},
		"two proxies, two lines":       {inner, []string{xff, good, xff, outer}, 418},
		"a stranger":                   {inner, []string{xff, bad}, 403},
		"a stranger's forgery":         {inner, []string{xff, good + ", " + bad}, 403},
		"a forgery in an earlier line": {inner, []string{xff, good, xff, bad}, 403},
		"a stranger with the header":   {bad + ":1", []string{xff, good}, 403},
		"listed, no proxy":             {good + ":1", []string{xff, bad}, 418},
		"no header":                    {inner, nil, 403},
		"the other header":             {inner, []string{fwd, "for=" + good}, 403},
		"empty":                        {inner, []string{xff, ""}, 403},
		"garbage last":                 {inner, []string{xff, good + ", unknown"}, 403},
		"garbage before what counts":   {inner, []string{xff, "unknown, " + good}, 418},
		"nobody but proxies":           {inner, []string{xff, "10.9.9.9, 10.8.8.8"}, 403},
		"a comma at the end":           {inner, []string{xff, good + ","}, 403},
	})
	run(t, fwd, map[string]test{
		"through the proxy":          {inner, []string{fwd, "for=" + good}, 418},
		"all parameters":             {inner, []string{fwd, `by=203.0.113.43; FOR="` + good + `:4711";proto=https;host=example.com`}, 418},
		"IPv6":                       {inner, []string{fwd, `for="[2001:db8::1]:4711"`}, 418},
		"IPv6 without quotes":        {inner, []string{fwd, `for=[2001:db8::1]`}, 418},
		"two proxies":                {inner, []string{fwd, "for=" + good + ", for=" + outer}, 418},
		"two lines":                  {inner, []string{fwd, "for=" + good, fwd, "for=" + outer}, 418},
		"a stranger's forgery":       {inner, []string{fwd, "for=" + good + ", for=" + bad}, 403},
		"an open quote":              {inner, []string{fwd, `for=` + good + `;x=", for=` + bad}, 403},
		"an open quote, closed":      {inner, []string{fwd, `for=` + good + `;x=", for="` + bad + `"`}, 403},
		"an open quote, IPv6":        {inner, []string{fwd, `for=` + good + `;x=", for="[2001:db8::2]"`}, 403},
		"an escaped quote":           {inner, []string{fwd, `for=` + good + `;x="\", for="` + bad + `"`}, 403},
		"a comma inside quotes":      {inner, []string{fwd, `x="a, for=` + bad + `";for=` + good}, 418},
		"a broken earlier line":      {inner, []string{fwd, `for="`, fwd, "for=" + good}, 418},
		"a broken line that counts":  {inner, []string{fwd, `for="`, fwd, "for=" + outer}, 403},
		"hidden":                     {inner, []string{fwd, "for=_hidden"}, 403},
		"unknown":                    {inner, []string{fwd, "for=unknown"}, 403},
		"no for":                     {inner, []string{fwd, "proto=https"}, 403},
		"twice for":                  {inner, []string{fwd, "for=" + bad + ";for=" + good}, 403},
		"empty":                      {inner, []string{fwd, ""}, 403},
		"the other header":           {inner, []string{xff, good}, 403},
		"a stranger with the header": {bad + ":1", []string{fwd, "for=" + good}, 403},
	})
}

func TestSourceOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]webhook.SourceOption{
		"plain http":       webhook.WithSourceList("http://dl.bitrix24.com/webhook/app-world.json"),
		"no host":          webhook.WithSourceList("https:///app.json"),
		"no address":       webhook.WithSourceList(""),
		"a password":       webhook.WithSourceList("https://me:SECRET@dl.bitrix24.com/app.json"),
		"a control byte":   webhook.WithSourceList("https://dl.bitrix24.com/\n"),
		"no client":        webhook.WithSourceClient(nil),
		"no logger":        webhook.WithSourceLogger(nil),
		"no header":        webhook.WithTrustedProxies("", "10.0.0.0/8"),
		"another header":   webhook.WithTrustedProxies("X-Real-IP", "10.0.0.0/8"),
		"no proxy":         webhook.WithTrustedProxies("Forwarded"),
		"a proxy's name":   webhook.WithTrustedProxies("Forwarded", "10.0.0.0/8", "proxy.internal"),
		"a prefix too far": webhook.WithTrustedProxies("Forwarded", "10.0.0.0/33"),
	} {
		f, err := webhook.NewSourceFilter(nil, opt)
		require.ErrorIs(t, err, webhook.ErrConfig, name)
		require.NotContains(t, err.Error(), "SECRET")
		require.Nil(t, f)
	}
	f, err := webhook.NewSourceFilter(webhook.WithSourceList("https://repos.1c-bitrix.ru/webhook/app.json"))
	require.NoError(t, err)
	require.Equal(t, "webhook.SourceFilter", fmt.Sprintf("%+v", f))
}

// TestRunKeepsTheListFresh: every 5 to 8 minutes, every minute after a failure, and the last good
// list stays.
func TestRunKeepsTheListFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log lines
		s := &listServer{answer: nodes("192.0.2.1")}
		f := newFilter(t, s, webhook.WithSourceLogger(slog.New(slog.NewTextHandler(&log, nil))))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for range 2 { // the second one changes nothing
			go func() { ended <- f.Run(ctx) }()
		}
		h := f.Wrap(reached())
		<-time.After(time.Hour)
		_, at := s.requests()
		require.GreaterOrEqual(t, len(at), 8)
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			require.True(t, 5*time.Minute <= gap && gap <= 8*time.Minute, "%s", gap)
		}
		require.Equal(t, 418, from(h, "192.0.2.1:1"))
		require.Equal(t, 403, from(h, "192.0.2.2:1"))

		s.says(nodes("192.0.2.2"))
		<-time.After(8 * time.Minute)
		require.Equal(t, 403, from(h, "192.0.2.1:1"))
		require.Equal(t, 418, from(h, "192.0.2.2:1"))

		s.says(nil)
		_, before := s.requests()
		updated := f.Stats().Updated
		<-time.After(6 * time.Hour)
		_, at = s.requests()
		require.InDelta(t, 360, len(at)-len(before), 10)
		for i := len(before) + 1; i < len(at); i++ {
			require.GreaterOrEqual(t, at[i].Sub(at[i-1]), time.Minute)
		}
		require.Equal(t, 418, from(h, "192.0.2.2:1"), "the last good one stays in force")
		require.Equal(t, updated, f.Stats().Updated)
		require.Contains(t, log.String(), "cannot fetch the source list")
		require.Contains(t, log.String(), "nodes=1")
		require.Contains(t, log.String(), "source=192.0.2.1")

		s.says(nodes("192.0.2.3", "192.0.2.4"))
		<-time.After(time.Minute)
		require.Equal(t, 403, from(h, "192.0.2.2:1"))
		stats := f.Stats()
		require.Equal(t, 2, stats.Nodes)
		require.EqualValues(t, len(at)+1, stats.Fetches)
		require.EqualValues(t, len(at)-len(before), stats.Failures)
		require.EqualValues(t, 3, stats.Allowed)
		require.EqualValues(t, 3, stats.Refused)
		require.Zero(t, stats.Unchecked)

		cancel()
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
	})
}

// TestRunEndsWithinAFetch: the end of the context ends a fetch too, and is no failure.
func TestRunEndsWithinAFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &listServer{answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}
		f := newFilter(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		synctest.Wait()
		cancel()
		require.NoError(t, <-ended)
		require.Zero(t, f.Stats().Failures)
	})
}

// TestBeforeTheFirstList: events are let through, or wait with WithFailClosed.
func TestBeforeTheFirstList(t *testing.T) {
	t.Parallel()
	slow := func(after time.Duration, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(after):
				then(w, r)
			case <-r.Context().Done():
			}
		}
	}
	for name, test := range map[string]struct {
		server    http.HandlerFunc
		closed    bool
		want      [2]int // of a listed and of an unlisted address
		took      time.Duration
		unchecked uint64
	}{
		"open":                    {slow(time.Second, nodes("192.0.2.1")), false, [2]int{418, 418}, 0, 2},
		"open, server down":       {nil, false, [2]int{418, 418}, 0, 2},
		"closed":                  {slow(time.Second, nodes("192.0.2.1")), true, [2]int{418, 403}, time.Second, 0},
		"closed, server too slow": {slow(time.Minute, nodes("192.0.2.1")), true, [2]int{503, 503}, 10 * time.Second, 0},
		"closed, server down":     {nil, true, [2]int{503, 503}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &listServer{answer: test.server}
				var opts []webhook.SourceOption
				if test.closed {
					opts = append(opts, webhook.WithFailClosed())
				}
				f := newFilter(t, s, opts...)
				h := f.Wrap(reached())
				start := time.Now()
				require.Equal(t, test.want, [2]int{from(h, "192.0.2.1:1"), from(h, "192.0.2.2:1")})
				require.Equal(t, test.took, time.Since(start))
				require.Equal(t, test.unchecked, f.Stats().Unchecked)
				<-time.After(30 * time.Second) // longer than any fetch
				asked, _ := s.requests()
				require.Len(t, asked, 1, "one request for both")
			})
		})
	}
}

// TestRequestsKeepTheListFresh works without Run: a request starts the fetch that is due, and no
// request waits for it.
func TestRequestsKeepTheListFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &listServer{answer: nodes("192.0.2.1")}
		f := newFilter(t, s)
		h := f.Wrap(reached())
		for range 3 * 60 * 60 {
			from(h, "192.0.2.1:1")
			<-time.After(time.Second)
		}
		_, at := s.requests()
		require.True(t, len(at) >= 3*60/8 && len(at) <= 3*60/5, "%d", len(at))
		s.says(status(http.StatusInternalServerError))
		for range 60 * 60 {
			require.Equal(t, 418, from(h, "192.0.2.1:1"))
			<-time.After(time.Second)
		}
		_, later := s.requests()
		require.InDelta(t, 55, len(later)-len(at), 6)
	})
}

// TestListsThatAreNone: if a response is not a list, the last good list stays.
func TestListsThatAreNone(t *testing.T) {
	t.Parallel()
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				nodes("0.0.0.0/8", "203.0.113.9")(w, r)
				return
			}
			http.Redirect(w, r, to, http.StatusFound)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		taken  bool
	}{
		"status 500": {status(http.StatusInternalServerError), false},
		"status 404 with a list": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			nodes("203.0.113.9")(w, r)
		}, false},
		"not modified, no tag":     {status(http.StatusNotModified), false},
		"a page":                   {text("<html>"), false},
		"empty":                    {text(""), false},
		"no nodes":                 {text(`{}`), false},
		"nodes null":               {text(`{"nodes":null}`), false},
		"nodes empty":              {text(`{"nodes":[]}`), false},
		"nodes a text":             {text(`{"nodes":"203.0.113.9"}`), false},
		"a list":                   {text(`["203.0.113.9"]`), false},
		"garbage alone":            {nodes("host.example", "203.0.113.9:443", "fe80::1%eth0", "1.2.3", ""), false},
		"the whole internet":       {nodes("0.0.0.0/0", "::/0", "::ffff:0:0/96", "203.0.0.0/7"), false},
		"numbers":                  {text(`{"nodes":[3405803785]}`), false},
		"too long":                 {text(`{"nodes":["203.0.113.9"]` + strings.Repeat(" ", 1<<20) + `}`), false},
		"more behind":              {text(`{"nodes":["203.0.113.9"]}{"nodes":[]}`), false},
		"a panic":                  {func(http.ResponseWriter, *http.Request) { panic("SECRET") }, false},
		"moved to another host":    {redirect("https://evil.example/moved"), false},
		"moved to another port":    {redirect("https://dl.bitrix24.com:8443/moved"), false},
		"moved to plain http":      {redirect("http://dl.bitrix24.com/moved"), false},
		"round and round":          {redirect("/webhook/app-world.json"), false},
		"moved on the same host":   {redirect("/moved"), true},
		"garbage among good ones":  {text(`{"nodes":["host.example",7,null,"203.0.113.9",{}]}`), true},
		"a mark before it":         {text("\xef\xbb\xbf" + `{"nodes":["203.0.113.9"]}`), true},
		"more than nodes":          {text(`{"updated":1,"nodes":["203.0.113.9"],"x":[[]]}`), true},
		"a prefix of the smallest": {nodes("203.0.0.0/8"), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log lines
				s := &listServer{answer: nodes("192.0.2.1")}
				f := newFilter(t, s, webhook.WithFailClosed(), webhook.WithSourceLogger(slog.New(slog.NewTextHandler(&log, nil))))
				h := f.Wrap(reached())
				require.Equal(t, 418, from(h, "192.0.2.1:1"))
				s.says(test.answer)
				<-time.After(10 * time.Minute)
				from(h, "192.0.2.1:1")
				synctest.Wait()
				now, other := from(h, "192.0.2.1:1"), from(h, "203.0.113.9:1")
				if test.taken {
					require.Equal(t, []int{403, 418}, []int{now, other})
					require.Zero(t, f.Stats().Failures)
					return
				}
				if name == "not modified, no tag" { // the list in force is confirmed, although nobody asked
					require.Zero(t, f.Stats().Failures)
				} else {
					require.EqualValues(t, 1, f.Stats().Failures)
				}
				require.Equal(t, []int{418, 403}, []int{now, other})
				require.NotContains(t, log.String(), "SECRET")
				require.NotContains(t, log.String(), "https://")
			})
		})
	}
}

// TestListThatDidNotChange is requested with its tag, and the server sends no list.
func TestListThatDidNotChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &listServer{answer: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") == `"v1"` && r.Header.Get("If-Modified-Since") == "yesterday" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Last-Modified", "yesterday")
			nodes("192.0.2.1")(w, r)
		}}
		f := newFilter(t, s, webhook.WithFailClosed())
		h := f.Wrap(reached())
		require.Equal(t, 418, from(h, "192.0.2.1:1"))
		first := f.Stats().Updated
		for range 3 {
			<-time.After(10 * time.Minute)
			require.Equal(t, 418, from(h, "192.0.2.1:1"))
			synctest.Wait()
			require.Zero(t, f.Stats().Failures)
		}
		require.Greater(t, f.Stats().Updated, first)
		asked, _ := s.requests()
		require.Len(t, asked, 4)
		require.Equal(t, `"v1"`, asked[3].Header.Get("If-None-Match"))
	})
}

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
