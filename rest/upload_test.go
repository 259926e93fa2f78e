package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/rest"
)

const uploadToken = "disk|s3cr3t-signature-of-an-upload"

// uploads is a portal that accepts files in two steps. Each step returns what its function says, if
// there is one.
type uploads struct {
	*portal

	offer func(address string) http.HandlerFunc
	take  http.HandlerFunc
}

func newUploads(t *testing.T) *uploads {
	t.Helper()
	u := &uploads{
		offer: func(address string) http.HandlerFunc {
			return says(200, `{"result":{"field":"file","uploadUrl":`+quoted(address)+`}}`)
		},
		take: says(200, `{"result":{"ID":9011,"NAME":"test.png"},"time":{"duration":1}}`),
	}
	u.portal = newPortal(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/upload.json") {
			u.take(w, r)
			return
		}
		u.offer(u.address())(w, r)
	})
	return u
}

func quoted(s string) string {
	doc, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(doc)
}

func (u *uploads) address() string {
	return u.ClientEndpoint() + "upload.json?auth=s3cr3t-in-the-address&token=" + strings.ReplaceAll(uploadToken, "|", "%7C")
}

func (u *uploads) client(t *testing.T, opts ...rest.Option) *rest.Client {
	t.Helper()
	return newClient(t, &tokens{endpoint: u.ClientEndpoint(), token: secretToken, renewals: []string{"second"}}, opts...)
}

// uploaded reads the only part of an upload.
func uploaded(t *testing.T, r request) (field, name string, content []byte) {
	t.Helper()
	kind, args, err := mime.ParseMediaType(r.contentType)
	require.NoError(t, err)
	require.Equal(t, "multipart/form-data", kind)
	require.Equal(t, strconv.Itoa(len(r.body)), r.header.Get("Content-Length"))
	form := multipart.NewReader(strings.NewReader(r.body), args["boundary"])
	part, err := form.NextRawPart()
	require.NoError(t, err)
	content, err = io.ReadAll(part)
	require.NoError(t, err)
	_, err = form.NextRawPart()
	require.ErrorIs(t, err, io.EOF)
	_, args, err = mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	require.NoError(t, err)
	return args["name"], args["filename"], content
}

func TestUpload(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 12 << 10, 300_001} {
		for _, name := range []string{"test.png", `от "чёт" \ 1.pdf`} {
			t.Run(fmt.Sprint(size, name), func(t *testing.T) {
				t.Parallel()
				u := newUploads(t)
				content := contentOf(size)

				response, err := u.client(t).Upload(t.Context(), "disk.folder.uploadfile", map[string]any{"id": 8930}, fileOf(name, content))

				require.NoError(t, err)
				var object struct {
					ID   int
					Name string `json:"NAME"`
				}
				require.NoError(t, response.Decode(&object))
				require.Equal(t, 9011, object.ID)
				require.InDelta(t, 1, response.Time.Duration, 0)
				seen := u.requests()
				require.Len(t, seen, 2)
				require.Equal(t, "/rest/disk.folder.uploadfile", seen[0].path)
				require.Equal(t, "id=8930&auth=s3cr3t%2FACCESS%2Btoken%3D1", seen[0].body)
				require.Equal(t, "/rest/upload.json", seen[1].path)
				require.Equal(t, "auth=s3cr3t-in-the-address&token=disk%7Cs3cr3t-signature-of-an-upload", seen[1].query)
				field, sent, got := uploaded(t, seen[1])
				require.Equal(t, "file", field)
				require.Equal(t, name, sent)
				require.True(t, bytes.Equal(content, got))
			})
		}
	}
}

func TestUploadThroughAWebhook(t *testing.T) {
	t.Parallel()
	u := newUploads(t)
	hook := u.ClientEndpoint() + "1/s3cr3tHook/"
	u.offer = func(string) http.HandlerFunc {
		return says(200, `{"result":{"fieldName":"record","uploadUrl":`+quoted(hook+"upload.json?token=x")+`}}`)
	}
	u.take = says(400, `{"error":"ERROR_CORE","error_description":"no s3cr3tHook"}`)
	client, err := rest.NewWebhook(hook, rest.WithInsecureHTTP())
	require.NoError(t, err)

	_, err = client.Upload(t.Context(), "telephony.externalCall.attachRecord", map[string]any{"FILENAME": "a.mp3"}, fileOf("a.mp3", nil))

	require.EqualError(t, err, "rest: upload: ERROR_CORE (status 400): no [redacted]")
	seen := u.requests()
	require.Len(t, seen, 2)
	require.Equal(t, "/rest/1/s3cr3tHook/upload.json", seen[1].path)
	field, _, _ := uploaded(t, seen[1])
	require.Equal(t, "record", field)
}

// Nothing is sent to a place to which the token and the file do not belong.
func TestUploadsToForeignAddresses(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{ //nolint:gosec // what looks like credentials is what the test is about
		"host":       "http://evil.example/rest/upload.json?token=s3cr3t",
		"port":       "http://127.0.0.1:1/rest/upload.json?token=s3cr3t",
		"subdomain":  "http://HOST.evil.example/upload.json",
		"userinfo":   "http://s3cr3t@HOST/rest/upload.json",
		"password":   "http://user:s3cr3t@HOST/rest/upload.json",
		"host later": "http://evil.example/@HOST/rest/upload.json",
		"scheme":     "https://HOST/rest/upload.json?token=s3cr3t",
		"file":       "file:///s3cr3t",
		"opaque":     "http:s3cr3t",
		"relative":   "//evil.example/upload.json?token=s3cr3t",
		"backslash":  "http://HOST\\@evil.example/upload.json",
		"control":    "http://HOST/rest/upload.json?token=s3cr3t\x01\n",
		"long":       "http://HOST/rest/upload.json?token=" + strings.Repeat("s3cr3t", 3000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUploads(t)
			u.offer = func(string) http.HandlerFunc {
				return says(200, `{"result":{"field":"file","uploadUrl":`+quoted(strings.ReplaceAll(address, "HOST", u.Domain()))+`}}`)
			}
			client := u.client(t, rest.WithRetries(3))

			_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", contentOf(5)))

			require.ErrorIs(t, err, rest.ErrBadEndpoint)
			require.ErrorContains(t, err, "the file was not sent")
			requireNoSecrets(t, err)
			require.NotContains(t, err.Error(), "evil")
			require.Len(t, u.requests(), 1)
		})
	}
}

// A portal behind https returns no address of http.
func TestUploadKeepsTLS(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		address string
		ok      bool
	}{
		"http":         {"http://p.example/rest/upload.json", false},
		"other port":   {"https://p.example:8443/rest/upload.json", false},
		"default port": {"https://p.example:443/rest/upload.json", true},
		"capitals":     {"HTTPS://P.EXAMPLE/rest/upload.json", true},
		"relative":     {"/rest/upload.json", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var seen []string
			tr := light(newTransport(t, `{"result":{"field":"file","uploadUrl":`+quoted(test.address)+`}}`), func(r *http.Request) error {
				seen = append(seen, r.URL.String())
				return drain(r)
			})
			client := newHosts(t, on(tr), rest.WithInsecureHTTP("p.example")).Portal("p")
			_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", nil))
			if !test.ok {
				require.ErrorIs(t, err, rest.ErrBadEndpoint)
				require.Len(t, seen, 1)
				return
			}
			require.NoError(t, err)
			require.Len(t, seen, 2)
		})
	}
}

func TestUploadsThatFail(t *testing.T) {
	t.Parallel()
	result := func(body string) func(string) http.HandlerFunc {
		return func(string) http.HandlerFunc { return says(200, `{"result":`+body+`}`) }
	}
	tests := map[string]struct {
		method   string
		params   any
		file     rest.File
		offer    func(string) http.HandlerFunc
		take     http.HandlerFunc
		code     rest.ErrorCode
		text     string
		requests int
	}{
		"bad method":   {method: "a/b", file: fileOf("a", nil), code: rest.ErrBadCall},
		"bad params":   {params: 5, file: fileOf("a", nil), code: rest.ErrBadCall},
		"zero file":    {code: rest.ErrBadCall, text: "without content"},
		"no name":      {file: fileOf("", nil), code: rest.ErrBadCall, text: "needs a name"},
		"line in name": {file: fileOf("a\r\nX: y", nil), code: rest.ErrBadCall, text: "needs a name"},
		"no UTF-8":     {file: fileOf("a\xff", nil), code: rest.ErrBadCall, text: "needs a name"},
		"refused": {
			offer: func(string) http.HandlerFunc { return says(403, `{"error":"ACCESS_DENIED"}`) }, code: rest.ErrAccessDenied, requests: 1,
		},
		"file object": {offer: result(`{"ID":5}`), code: rest.ErrBadResult, text: "no uploadUrl", requests: 1},
		"true":        {offer: result(`true`), code: rest.ErrBadResult, text: "no uploadUrl", requests: 1},
		"list":        {offer: result(`[]`), code: rest.ErrBadResult, text: "no uploadUrl", requests: 1},
		"no field":    {offer: result(`{"uploadUrl":"/rest/upload.json"}`), code: rest.ErrBadResult, text: "the name of a field", requests: 1},
		"odd field": {
			offer: result(`{"uploadUrl":"/rest/upload.json","field":"a\r\nb"}`), code: rest.ErrBadResult, text: "the name of a field", requests: 1,
		},
		"long field": {
			offer: result(`{"uploadUrl":"/rest/upload.json","field":"` + strings.Repeat("a", 200) + `"}`),
			code:  rest.ErrBadResult, requests: 1,
		},
		"echo": {
			take: says(400, `{"error":"DISK_X","error_description":"bad `+uploadToken+` s3cr3t-in-the-address"}`), code: "DISK_X",
			text: "bad [redacted] [redacted]", requests: 2,
		},
		"page":     {take: says(413, `<html>`), code: rest.ErrBadResponse, text: "status 413", requests: 2},
		"redirect": {take: http.RedirectHandler("http://evil.example/", http.StatusFound).ServeHTTP, code: rest.ErrMoved, requests: 2},
		"failure":  {take: says(502, `<html>`), code: rest.ErrBadResponse, text: "status 502", requests: 2},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUploads(t)
			if test.offer != nil {
				u.offer = test.offer
			}
			if test.take != nil {
				u.take = test.take
			}
			if test.requests > 0 {
				test.file = fileOf("a", contentOf(5))
			}
			if test.method == "" {
				test.method = "disk.folder.uploadfile"
			}

			_, err := u.client(t, rest.WithRetries(2)).Upload(t.Context(), test.method, test.params, test.file)

			require.ErrorIs(t, err, test.code)
			require.ErrorContains(t, err, test.text)
			require.NotContains(t, err.Error(), "evil")
			requireNoSecrets(t, err)
			require.Len(t, u.requests(), test.requests)
		})
	}
}

func TestUploadOfAFileThatIsTooShort(t *testing.T) {
	t.Parallel()
	u := newUploads(t)
	for name, test := range map[string]struct {
		file rest.File
		want string
	}{
		"short": {
			rest.NewFile("a", bytes.NewReader(contentOf(10)), 11), "rest: upload: the file is shorter than its 11 bytes; nothing was sent",
		},
		"failing": {
			rest.NewFile("a", at(func([]byte, int64) (int, error) { return 0, errReader }), 5),
			"rest: upload: the file could not be read after 4 of 5 bytes; nothing was sent",
		},
	} {
		_, err := u.client(t, rest.WithRetries(2)).Upload(t.Context(), "disk.folder.uploadfile", nil, test.file)
		require.EqualError(t, err, test.want, name)
	}
	require.Len(t, u.requests(), 2, "the first steps only")
}

// A call that surely did not run is sent again; one that may have run is not.
func TestUploadIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var methods, bodies []string
		tr := newScript(t, func(s sent) (int, string, error) {
			methods = append(methods, s.method)
			switch len(methods) {
			case 1:
				return http.StatusOK, `{"result":{"field":"file","uploadUrl":"/rest/upload.json?token=x"}}`, nil
			case 2:
				return http.StatusServiceUnavailable, limited, nil
			default:
				return http.StatusBadGateway, "<html>", nil
			}
		})
		client := newHosts(t, on(light(tr, func(r *http.Request) error {
			text, err := io.ReadAll(r.Body)
			_, text, _ = bytes.Cut(text, []byte("\r\n\r\n"))
			bodies = append(bodies, string(text[:min(50, len(text))]))
			return err
		})), rest.WithRetries(3)).Portal("p")

		_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", contentOf(50)))

		require.ErrorIs(t, err, rest.ErrBadResponse)
		require.Equal(t, []string{"disk.folder.uploadfile", "upload.json", "upload.json"}, methods, "the address is not asked for again")
		require.Equal(t, []string{"", string(contentOf(50)), string(contentOf(50))}, bodies)
	})
}

// The token was valid for the first step, and not for the second: both are made again, once.
func TestUploadWithATokenThatExpires(t *testing.T) {
	t.Parallel()
	for name, always := range map[string]bool{"once": false, "always": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			u := newUploads(t)
			take := u.take
			u.take = func(w http.ResponseWriter, r *http.Request) {
				if n++; n == 1 || always {
					says(401, `{"error":"expired_token"}`)(w, r)
					return
				}
				take(w, r)
			}
			_, err := u.client(t).Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", contentOf(50)))
			require.Len(t, u.requests(), 4)
			if always {
				require.ErrorIs(t, err, rest.ErrExpiredToken)
				return
			}
			require.NoError(t, err)
		})
	}
}

// Both requests count for the portal's limit, and neither address nor token gets into the log.
func TestUploadCountsAndLogs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tr := light(newTransport(t,
			`{"result":{"field":"file","uploadUrl":"/rest/upload.json?auth=s3cr3t-in-the-address&token=s3cr3t-token"}}`), drain)
		client := newHosts(t, on(tr), rest.WithRateLimit(1, 1),
			rest.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))).Portal("p")
		began := time.Now()
		for range 2 {
			_, err := client.Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", nil))
			require.NoError(t, err)
		}
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Contains(t, log.String(), "method=upload")
		require.NotContains(t, log.String(), "s3cr3t")

		_, err := client.With(rest.Timeout(time.Millisecond)).Upload(t.Context(), "disk.folder.uploadfile", nil, fileOf("a", nil))
		require.ErrorIs(t, err, rest.ErrQueryLimit)
		_, again := rest.Retryable(err)
		require.True(t, again)
	})
}

// The context ends while the file is on its way.
func TestCancelWithinAnUpload(t *testing.T) {
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
func TestMoveWithinAnUpload(t *testing.T) {
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
