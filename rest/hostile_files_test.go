package rest_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

// Package net/http repeats a POST with an Idempotency-Key by itself if a connection that was used
// before breaks. The portal may still be at work on the first one then.
func TestHostileConnectionBreaksUnderAKey(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 2 {
			panic(http.ErrAbortHandler)
		}
		says(200, task51)(w, r)
	})
	add := func(key string) error {
		return client.Call3(t.Context(), "tasks.task.add", nil, nil, rest.IdempotencyKey(key))
	}
	require.NoError(t, add("a"))
	err := add("b")
	require.Error(t, err)
	var keys []string
	for _, r := range portal.requests() {
		keys = append(keys, r.header.Get("Idempotency-Key"))
	}
	require.Equal(t, []string{"a", "b"}, keys, "it is not sent again")
	var e interface{ NotRun() bool }
	require.ErrorAs(t, err, &e)
	require.False(t, e.NotRun())
	_, again := rest.Retryable(err)
	require.False(t, again)
}

// What REST 3.0 refuses before a method runs says so, as in the older API.
func TestHostileRefusalsOfREST3(t *testing.T) {
	t.Parallel()
	for code, notRun := range map[rest.ErrorCode]bool{
		rest.ErrV3MethodNotFound: true, rest.ErrV3Scope: true, rest.ErrV3AccessDenied: false, rest.ErrV3NotFound: false, rest.ErrV3KeyReused: false,
	} {
		client, _ := clientOf(t, says(http.StatusForbidden, `{"error":{"code":"`+string(code)+`","message":"m"}}`))
		err := client.Call3(t.Context(), "tasks.task.add", nil, nil)
		var e *rest.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, notRun, e.NotRun(), code)
		_, again := rest.Retryable(err)
		require.False(t, again, code)
	}
}

// A file that fails is not sent once more, even if the call may run twice: it would fail again.
func TestHostileReaderFailsHalfway(t *testing.T) {
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
func TestHostileCrowd(t *testing.T) {
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

// An address that somebody else wrote must not become a call with the secret of the webhook, which
// is a part of the endpoint.
func TestHostileAddressesBelowAWebhook(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3tHook"
	u := newUploads(t)
	hook := u.ClientEndpoint() + "1/" + secret + "/"
	client, err := rest.NewWebhook(hook, rest.WithInsecureHTTP())
	require.NoError(t, err)
	for _, address := range []string{"crm.deal.delete?id=5", "./crm.deal.delete?id=5", "?id=5", "upload.json"} {
		file, err := client.Download(t.Context(), address, 1)
		if err == nil {
			require.NoError(t, file.Close())
		}
		u.offer = func(string) http.HandlerFunc {
			return says(200, `{"result":{"field":"file","uploadUrl":`+quoted(address)+`}}`)
		}
		_, _ = client.Upload(t.Context(), "offer", nil, fileOf("a", nil)) // whatever becomes of it
	}
	for _, r := range u.requests() {
		if r.path != "/rest/1/"+secret+"/offer" {
			require.NotContains(t, r.path, secret)
		}
	}
	_, err = client.Download(t.Context(), "", 1)
	require.ErrorIs(t, err, rest.ErrBadCall)
	require.ErrorContains(t, err, "the address is empty")
}

// counted counts what is read of a body.
type counted struct {
	io.ReadCloser

	n *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// What is no file is not read to its end, which may be far.
func TestHostileAnswerInsteadOfAFile(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]string{"JSON": "application/json", "page": "text/html"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			tr := newTransport(t, "")
			endless := roundTrip(func(r *http.Request) (*http.Response, error) {
				answer, err := tr.RoundTrip(r)
				if err == nil {
					_ = answer.Body.Close()
					answer.Header.Set("Content-Type", kind)
					answer.Body = counted{io.NopCloser(spaces(strings.Repeat(" ", 64<<10))), &n}
				}
				return answer, err
			})
			_, err := newHosts(t, on(endless), rest.WithRetries(0)).Portal(member).Download(t.Context(), "/rest/"+place, 100)
			require.ErrorIs(t, err, rest.ErrBadResponse)
			require.Less(t, n.Load(), int64(2<<20))
		})
	}
}

// The portal may quote the address at which the download began.
func TestHostileEchoBehindARedirect(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rest/final" {
			http.Redirect(w, r, "/rest/final?token=s3cr3t-of-the-second-address", http.StatusFound)
			return
		}
		says(400, `{"error":"ERROR_CORE","error_description":"no s3cr3t-in-the-address s3cr3t-of-the-second-address"}`)(w, r)
	})
	_, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 1)
	require.EqualError(t, err, "rest: download: ERROR_CORE (status 400): no [redacted] [redacted]")
}

// The context ends while the file is on its way.
func TestHostileCancelWithinAnUpload(t *testing.T) {
	t.Parallel()
	u := newUploads(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads atomic.Int64
	var returned, late atomic.Bool
	file := rest.NewFile("a", at(func(p []byte, _ int64) (int, error) {
		if reads.Add(1) == 100 {
			cancel()
		}
		late.Store(late.Load() || returned.Load())
		return len(p), nil
	}), 1<<30)
	_, err := u.client(t, rest.WithRetries(3)).With(rest.Idempotent()).Upload(ctx, "disk.folder.uploadfile", nil, file)
	returned.Store(true)
	require.ErrorIs(t, err, context.Canceled)
	var e interface{ NotRun() bool }
	require.ErrorAs(t, err, &e)
	require.False(t, e.NotRun())
	require.Less(t, reads.Load(), int64(10_000), "no more than buffers take")
	require.False(t, late.Load())
}

// A portal that is renamed between the two steps takes no file, and the next upload finds it.
func TestHostileMoveWithinAnUpload(t *testing.T) {
	t.Parallel()
	fresh := newUploads(t)
	old := newUploads(t)
	var renamed atomic.Bool
	old.take = func(w http.ResponseWriter, r *http.Request) {
		renamed.Store(true)
		http.Redirect(w, r, fresh.URL()+r.URL.Path, http.StatusFound) //nolint:gosec // what a test is about
	}
	first := old.offer
	old.offer = func(address string) http.HandlerFunc {
		if renamed.Load() {
			return old.take
		}
		return first(address)
	}
	creds := &movable{
		tokens:  &tokens{endpoint: old.ClientEndpoint(), token: secretToken},
		vouches: func(endpoint string) bool { return endpoint == fresh.ClientEndpoint() },
	}
	client := newClient(t, creds)
	upload := func() error {
		_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", contentOf(50)))
		return err
	}

	err := upload()
	require.ErrorIs(t, err, rest.ErrMoved)
	require.ErrorContains(t, err, "upload it once more")
	var e interface{ NotRun() bool }
	require.ErrorAs(t, err, &e)
	require.True(t, e.NotRun())
	require.Empty(t, fresh.requests())

	require.NoError(t, upload())
	require.Len(t, fresh.requests(), 2)
}
