package rest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// contentOf returns n bytes, among whose base64 are the characters that a form escapes.
func contentOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((i*i ^ i>>3) & 0xff)
		if i%7 < 3 {
			b[i] = 0xff
		}
	}
	return b
}

func fileOf(name string, content []byte) rest.File {
	return rest.NewFile(name, bytes.NewReader(content), int64(len(content)))
}

func TestFileOnTheWire(t *testing.T) {
	t.Parallel()
	const name = "отчёт &=\"1\".pdf"
	for _, size := range []int{0, 1, 2, 3, 4, 12<<10 - 1, 12 << 10, 12<<10 + 1, 100_000} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			content := contentOf(size)
			coded := base64.StdEncoding.EncodeToString(content)
			client, portal := clientOf(t, says(200, `{"result":1}`))
			params := map[string]any{
				"id": 7, "fileContent": fileOf(name, content), "file": fileOf("", content).Content(),
				"fields": struct {
					Files []rest.File
					Photo *rest.File `json:",omitempty"`
				}{Files: []rest.File{fileOf("a", content), fileOf("b", nil)}},
				"z": map[string]any{"fileData": fileOf(name, content)},
			}

			require.NoError(t, client.Call(t.Context(), "disk.folder.uploadfile", params, nil))

			seen := portal.requests()
			require.Len(t, seen, 1)
			require.Equal(t, "application/x-www-form-urlencoded", seen[0].contentType)
			require.Equal(t, url.Values{
				"id": {"7"}, "fileContent[0]": {name}, "fileContent[1]": {coded}, "file": {coded},
				"fields[Files][0][0]": {"a"}, "fields[Files][0][1]": {coded}, "fields[Files][1][0]": {"b"}, "fields[Files][1][1]": {""},
				"z[fileData][0]": {name}, "z[fileData][1]": {coded}, "auth": {secretToken},
			}, seen[0].form)
			require.True(t, strings.HasSuffix(seen[0].body, "&auth=s3cr3t%2FACCESS%2Btoken%3D1"))
			require.Equal(t, strconv.Itoa(len(seen[0].body)), seen[0].header.Get("Content-Length"))
		})
	}
}

// A File is the same on the wire as its name and a []byte, which are held in memory.
func TestFileIsAsBytes(t *testing.T) {
	t.Parallel()
	content := contentOf(1000)
	client, portal := clientOf(t, says(200, `{"result":1}`))

	require.NoError(t, client.Call(t.Context(), "m", rest.Ordered{rest.Arg("f", fileOf("a b", content)), rest.Arg("x", 1)}, nil))
	require.NoError(t, client.Call(t.Context(), "m", rest.Ordered{rest.Arg("f", []any{"a b", content}), rest.Arg("x", 1)}, nil))

	seen := portal.requests()
	require.Equal(t, seen[1].body, seen[0].body)
}

// light is a transport that reads the body of a request in its own way, and passes the request on
// without it, so that the portal need not hold it in memory.
func light(next http.RoundTripper, read func(*http.Request) error) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if err := read(r); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body, r.ContentLength = http.NoBody, 0
		return next.RoundTrip(r)
	})
}

// drain reads the body of a request and keeps nothing of it.
func drain(r *http.Request) error { return readIn(r, 0, 32<<10) }

// readIn reads the body of a request in pieces, with a pause before each.
func readIn(r *http.Request, pause time.Duration, size int) error {
	buf := make([]byte, size)
	for n := int64(0); n < r.ContentLength; {
		if err := wait(r.Context(), pause); err != nil {
			return err
		}
		read, err := r.Body.Read(buf)
		if err != nil {
			return err
		}
		n += int64(read)
	}
	if n, err := r.Body.Read(buf); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("test: more than the length of %d", r.ContentLength)
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Not parallel, because it measures what the process allocates.
func TestFileTakesLittleMemory(t *testing.T) { //nolint:paralleltest // see above
	content := bytes.Repeat(contentOf(1<<20), 8)
	client := newHosts(t, on(light(newTransport(t, fine), drain))).Portal(member)
	call := func(content []byte) {
		require.NoError(t, client.Call(t.Context(), "m", map[string]any{"f": fileOf("a", content)}, nil))
	}
	call(content[:1000])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call(content)
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(512<<10), "bytes for a file of 8 MiB, of which each would cost 18")
}

// at is a reader by its method.
type at func(p []byte, off int64) (int, error)

func (f at) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

var errReader = errors.New("read /home/planted-path: no more")

func TestFilesThatFail(t *testing.T) {
	t.Parallel()
	const size = 100_000
	content := contentOf(size)
	var nilReader io.ReaderAt
	flaky := func() at { // its base64 gets longer after the first reading
		var reads atomic.Int64
		return func(p []byte, off int64) (int, error) {
			n := copy(p, content[off:])
			if reads.Add(1) > size/(12<<10)+1 && off > 0 {
				for i := range p {
					p[i] = 0xff
				}
			}
			return n, nil
		}
	}
	tests := map[string]struct {
		params any
		code   error  // of an ErrBadCall or of the reader
		text   string // in the error
		sent   bool
	}{
		"zero":              {rest.File{}, rest.ErrBadCall, "without content", false},
		"zero content":      {rest.FileContent{}, rest.ErrBadCall, "without content", false},
		"nil reader":        {rest.NewFile("a", nilReader, 1), rest.ErrBadCall, "without content", false},
		"nil reader, alone": {rest.NewFile("a", nil, 1).Content(), rest.ErrBadCall, "without content", false},
		"negative size":     {rest.NewFile("a", bytes.NewReader(nil), -1), rest.ErrBadCall, "-1 bytes", false},
		"enormous size":     {rest.NewFile("a", bytes.NewReader(nil), 1<<62), rest.ErrBadCall, "impossible size", false},
		"no name":           {fileOf("", content), rest.ErrBadCall, "without a name", false},
		"too short": {
			rest.NewFile("a", bytes.NewReader(content), size+1), io.ErrUnexpectedEOF, "ended after 100000 of 100001 bytes; nothing was sent", false,
		},
		"empty": {rest.NewFile("a", bytes.NewReader(nil), 9), io.ErrUnexpectedEOF, "ended after 0 of 9 bytes", false},
		"silent reader": {
			rest.NewFile("a", at(func([]byte, int64) (int, error) { return 0, nil }), 9), io.ErrUnexpectedEOF, "ended after 0 of 9 bytes", false,
		},
		"failing reader": {
			rest.NewFile("a", at(func([]byte, int64) (int, error) { return 3, errReader }), 9),
			errReader, "could not be read after 3 of 9 bytes; nothing was sent", false,
		},
		"panicking reader": {
			rest.NewFile("a", at(func([]byte, int64) (int, error) { panic("planted-path") }), 9), nil, "panicked; nothing was sent", false,
		},
		"changing reader": {rest.NewFile("a", flaky(), size), nil, "changed while it was sent; a part of the request was sent", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, says(200, `{"result":1}`))

			err := client.With(rest.Retries(3), rest.Idempotent()).Call(t.Context(), "m", map[string]any{"f": test.params}, nil)

			require.ErrorContains(t, err, test.text)
			require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), "planted-path")
			if test.code != nil {
				require.ErrorIs(t, err, test.code)
			}
			var e interface{ NotRun() bool }
			require.ErrorAs(t, err, &e)
			require.Equal(t, !test.sent, e.NotRun())
			for _, r := range portal.requests() {
				require.True(t, test.sent)
				require.Empty(t, r.body, "the portal of the test keeps no half of a body")
			}
			_, again := rest.Retryable(err)
			require.False(t, again)
		})
	}
}

func TestFilesWhereTheyCannotBe(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(200, `{"result":[]}`))
	file := fileOf("a", contentOf(10))
	params := map[string]any{"f": file}
	b := rest.NewBatch()
	rest.Add[int](b, "a", "m.add", params)
	alone := rest.NewBatch()
	rest.Add[int](alone, "a", "m.add", map[string]any{"f": file.Content()})
	_, list := collect(t, rest.All[deal](t.Context(), client, "m.list", params))
	for name, test := range map[string]struct {
		err  error
		text string
	}{
		"batch":         {client.Batch(t.Context(), b), "a File needs a request of its own"},
		"content":       {client.Batch(t.Context(), alone), "a File needs a request of its own"},
		"list":          {list, "a list takes no File"},
		"whole":         {client.Call(t.Context(), "m", file, nil), "not a single value"},
		"whole content": {client.Call(t.Context(), "m", file.Content(), nil), "not a single value"},
		"joined": {client.Call(t.Context(), "m", struct {
			F []rest.File `url:",comma"`
		}{[]rest.File{file}}, nil), "written as one text"},
	} {
		require.ErrorIs(t, test.err, rest.ErrBadCall, name)
		require.ErrorContains(t, test.err, test.text, name)
	}
	require.Empty(t, portal.requests())
}

// A coalescer sends a call with a file by itself, small as it is.
func TestFileThroughACoalescer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := newTransport(t, fine)
		c := newHosts(t, on(tr)).Coalescer(member)
		done := make(chan error)
		for i := range 3 {
			go func() {
				done <- c.Call(t.Context(), "m.add", map[string]any{"i": i, "f": fileOf("a", contentOf(5))}, nil)
			}()
		}
		for range 3 {
			require.NoError(t, <-done)
		}
		require.Equal(t, 3, tr.count())
		for _, s := range tr.requests() {
			require.Equal(t, "m.add", s.method)
			require.Equal(t, base64.StdEncoding.EncodeToString(contentOf(5)), s.form.Get("f[1]"))
		}
	})
}

// A call that surely did not run is sent again with the file from its beginning. The same goes for
// a new token and a new address.
func TestFileIsSentAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tr := newScript(t, func(sent) (int, string, error) {
			switch n++; n {
			case 1:
				return http.StatusServiceUnavailable, limited, nil
			case 2:
				return http.StatusUnauthorized, `{"error":"expired_token"}`, nil
			case 3:
				return http.StatusFound, "", nil
			default:
				return http.StatusOK, fine, nil
			}
		})
		redirecting := roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := tr.RoundTrip(r)
			if err == nil && resp.StatusCode == http.StatusFound {
				resp.Header.Set("Location", "https://new.example"+r.URL.Path)
			}
			return resp, err
		})
		creds := &movable{
			tokens:  &tokens{endpoint: "https://old.example/rest/", token: "first", renewals: []string{"second"}},
			vouches: func(string) bool { return true },
		}
		content := contentOf(50_000)
		client := newClient(t, creds, on(redirecting), rest.WithRetries(1))

		require.NoError(t, client.Call(t.Context(), "m.add", map[string]any{"f": fileOf("a", content)}, nil))

		var hosts []string
		for _, s := range tr.requests() {
			hosts = append(hosts, s.host)
			require.Equal(t, base64.StdEncoding.EncodeToString(content), s.form.Get("f[1]"))
		}
		require.Equal(t, []string{"old.example", "old.example", "old.example", "new.example"}, hosts)
	})
}

// Transports may go on reading after they gave up.
func TestFileIsNotReadAfterTheCall(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"early answer": nil, "failure": io.ErrUnexpectedEOF} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var returned, late atomic.Bool
			over := make(chan error, 1)
			eager := func(r *http.Request) error {
				started := make(chan struct{})
				go func() {
					_, err := r.Body.Read(make([]byte, 2000))
					close(started)
					for err == nil {
						_, err = r.Body.Read(make([]byte, 20))
					}
					over <- err
				}()
				<-started
				return failure
			}
			tr := newScript(t, func(sent) (int, string, error) { return http.StatusRequestEntityTooLarge, "", nil })
			file := rest.NewFile("a", at(func(p []byte, _ int64) (int, error) {
				late.Store(late.Load() || returned.Load())
				return len(p), nil
			}), 20<<20)
			client := newHosts(t, on(light(tr, eager)), rest.WithRetries(0)).Portal(member)

			err := client.Call(t.Context(), "m.add", map[string]any{"f": file}, nil)
			returned.Store(true)

			require.Error(t, err)
			require.Error(t, <-over)
			require.False(t, late.Load())
		})
	}
}

func TestFileOutlastsTheTimeLimit(t *testing.T) {
	t.Parallel()
	steady := func(r *http.Request) error { return readIn(r, time.Minute, 4096) }
	stalled := func(r *http.Request) error {
		if _, err := r.Body.Read(make([]byte, 4096)); err != nil {
			return err
		}
		return wait(r.Context(), 2*time.Minute)
	}
	synctest.Test(t, func(t *testing.T) {
		file := map[string]any{"f": fileOf("a", contentOf(100_000))}
		through := func(read func(*http.Request) error) *rest.Client {
			return newHosts(t, on(light(newTransport(t, fine), read))).Portal(member)
		}
		began := time.Now()
		require.NoError(t, through(steady).Call(t.Context(), "m.add", file, nil))
		require.Greater(t, time.Since(began), 30*time.Minute)

		// The limit applies to a part of it.
		began = time.Now()
		err := through(stalled).Call(t.Context(), "m.add", file, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "rest: m.add: the time limit of the HTTP client passed")
		require.Equal(t, rest.DefaultTimeout, time.Since(began))
		_, again := rest.Retryable(err)
		require.False(t, again, "nobody knows")

		// The response has no more time than those of other calls.
		began = time.Now()
		slow := dripping(light(newTransport(t, fine), drain), 0, slowly(100)...)
		err = newHosts(t, on(slow)).Portal(member).Call(t.Context(), "m.add", file, nil)
		require.EqualError(t, err, "rest: m.add: the time limit of the HTTP client passed")
		require.Equal(t, rest.DefaultTimeout, time.Since(began))

		// Timeout bounds the whole.
		began = time.Now()
		err = through(steady).With(rest.Timeout(5*time.Minute)).Call(t.Context(), "m.add", file, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Minute, time.Since(began))
	})
}

func TestFileEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	client, portal := clientOf(t, says(200, `{"result":1}`))
	file := rest.NewFile("a", at(func(p []byte, _ int64) (int, error) {
		cancel()
		return len(p), nil
	}), 1<<40)

	err := client.Call(ctx, "m.add", map[string]any{"f": file}, nil)

	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, portal.requests())
}

func TestFileShowsNothing(t *testing.T) {
	t.Parallel()
	file := fileOf("a", []byte("planted"))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %v %+v %#v", file, file, file, file.Content(), file.Content(), file.Content()), "planted")
}

// A call with a file that fails is not sent once more, even if it may run twice: it would fail
// again.
func TestReaderFailsHalfway(t *testing.T) {
	t.Parallel()
	const pieces = 100 // of 12 KiB, which are read twice
	for name, fail := range map[string]func() (int, error){
		"fails":  func() (int, error) { return 0, errReader },
		"panics": func() (int, error) { panic("planted-path") },
		"ends":   func() (int, error) { return 5, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var reads atomic.Int64
			file := rest.NewFile("a", at(func(p []byte, _ int64) (int, error) {
				if reads.Add(1) > pieces*3/2 {
					return fail()
				}
				return len(p), nil
			}), pieces*12<<10)
			client, _ := clientOf(t, says(200, fine))

			err := client.With(rest.Retries(3), rest.Idempotent()).Call(t.Context(), "m.add", map[string]any{"f": file}, nil)

			require.ErrorContains(t, err, "a part of the request was sent")
			require.NotContains(t, err.Error(), "planted-path")
			require.EqualValues(t, pieces*3/2+1, reads.Load())
			var e interface{ NotRun() bool }
			require.ErrorAs(t, err, &e)
			require.False(t, e.NotRun())
		})
	}
}

// One File, and one list, serve goroutines at the same time.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const crowd = 8
	u := newUploads(t)
	client := u.client(t)
	content := contentOf(50_000)
	file := fileOf("a", content)
	rows := rest.All[idRow](t.Context(), count(400).portals(t).Portal("a"), "crm.deal.list", nil, byID()...)
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, file)
			if err == nil {
				err = client.Call(t.Context(), "m.add", map[string]any{"f": file}, nil)
			}
			if err != nil {
				t.Error(err)
			}
			ids, err := read(rows)
			if err != nil || !slices.Equal(ids, span(1, 400, nil)) {
				t.Error(len(ids), err)
			}
			for range rows {
				break
			}
		})
	}
	wg.Wait()
	sent := 0
	for _, r := range u.requests() {
		if r.path == "/rest/upload.json" {
			_, _, got := uploaded(t, r)
			require.Equal(t, content, got)
			sent++
		}
	}
	require.Equal(t, crowd, sent)
}
