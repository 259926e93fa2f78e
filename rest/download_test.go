package rest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math"
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

const place = "download.json?auth=s3cr3t-in-the-address&token=disk%7Cs3cr3t-signature-of-a-download"

// sends makes a handler that sends a file as portals do.
func sends(disposition string, content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/pdf; charset=x")
		w.Header().Set("Content-Disposition", disposition)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		_, _ = w.Write(content)
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	content := contentOf(300_000)
	client, portal := clientOf(t, sends(`attachment; filename="otchet.pdf"; filename*=utf-8''%D0%BE%D1%82%D1%87%D1%91%D1%82.pdf`, content))

	for name, test := range map[string]struct{ address, path string }{
		"absolute": {portal.ClientEndpoint() + place, "/rest/download.json"},
		"relative": {"/bitrix/tools/disk/uf.php?attachedId=975&auth%5Bauth%5D=3edf7ca92&action=download&ncc=1", "/bitrix/tools/disk/uf.php"},
		"fragment": {portal.ClientEndpoint() + place + "#x", "/rest/download.json"},
	} {
		before := len(portal.requests())
		file, err := client.Download(t.Context(), test.address, 300_000)
		require.NoError(t, err, name)
		require.Equal(t, "отчёт.pdf", file.Name, name)
		require.Equal(t, "application/pdf", file.ContentType, name)
		require.EqualValues(t, 300_000, file.Size, name)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", file, file, file), "s3cr3t")
		got, err := io.ReadAll(file)
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(content, got), name)
		n, err := file.Read(make([]byte, 10))
		require.Zero(t, n)
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, file.Close())
		require.NoError(t, file.Close())
		_, err = file.Read(make([]byte, 10))
		require.Error(t, err)
		require.NotErrorIs(t, err, io.EOF)

		seen := portal.requests()[before:]
		require.Len(t, seen, 1, name)
		require.Equal(t, test.path, seen[0].path, name)
		require.Empty(t, seen[0].body, name)
		require.Equal(t, portal.URL()+"/", seen[0].header.Get("Referer"), name)
		require.Equal(t, "*/*", seen[0].header.Get("Accept"), name)
		require.Contains(t, seen[0].header.Get("User-Agent"), "b24events/", name)
		require.NotEmpty(t, seen[0].header.Get("Accept-Language"), name)
	}
}

func TestDownloadNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("я", 200)
	tests := map[string]struct{ disposition, want string }{
		"plain":               {`attachment; filename="a b.txt"`, "a b.txt"},
		"inline":              {`inline; filename=a.png`, "a.png"},
		"path":                {`attachment; filename="../../etc/passwd"`, "passwd"},
		"absolute":            {`attachment; filename="/etc/passwd"`, "passwd"},
		"Windows path":        {`attachment; filename*=utf-8''C%3A%5CWindows%5Csystem.ini`, "system.ini"},
		"drive":               {`attachment; filename="C:evil.txt"`, "C_evil.txt"},
		"stream":              {`attachment; filename="a.txt:evil"`, "a.txt_evil"},
		"dots":                {`attachment; filename=".."`, ""},
		"dot":                 {`attachment; filename="."`, ""},
		"dots later":          {`attachment; filename="a/.."`, "a"},
		"slash":               {`attachment; filename="/"`, ""},
		"space":               {`attachment; filename="  "`, ""},
		"spaces around":       {`attachment; filename=" a.txt. "`, "a.txt"},
		"controls":            {`attachment; filename*=utf-8''a%00b%0D%0Ac%1B%5B31m%E2%80%AEd.txt`, "abc[31md.txt"},
		"no UTF-8":            {`attachment; filename*=utf-8''a%FFb.txt`, "a_b.txt"},
		"encoded slash":       {`attachment; filename*=utf-8''..%2F..%2Fx`, "x"},
		"hidden":              {`attachment; filename=".bashrc"`, ".bashrc"},
		"long":                {`attachment; filename="` + strings.Repeat("a", 300) + `.txt"`, strings.Repeat("a", 251) + ".txt"},
		"long with runes":     {`attachment; filename="` + long + `.txt"`, strings.Repeat("я", 125) + ".txt"},
		"long extension":      {`attachment; filename="a.` + strings.Repeat("b", 300) + `"`, "a." + strings.Repeat("b", 253)},
		"without a name":      {`attachment`, ""},
		"not to be read":      {`attachment; filename="a`, ""},
		"twice":               {`attachment; filename=a; filename=b`, ""},
		"only the parameters": {`filename="a.txt"`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, sends(test.disposition, []byte("x")))
			file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 1)
			require.NoError(t, err)
			defer func() { _ = file.Close() }()
			require.Equal(t, test.want, file.Name)
		})
	}
}

// A response that comes as a file is a file, even if its type is that of a response or a page.
func TestDownloadTellsFilesFromPages(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind, disposition, body string
		file                    bool
	}{
		"JSON file":              {"application/json", "attachment; filename=a.json", `{"error":"x"}`, true},
		"HTML file":              {"text/html", "attachment", `<html>`, true},
		"picture":                {"image/png", "", "png", true},
		"no type":                {"", "", "x", true},
		"odd type":               {"/;;", "", "x", true},
		"JSON":                   {"application/json; charset=utf-8", "", `{"result":true}`, false},
		"JSON of somebody":       {"application/json", "", `[]`, false},
		"other JSON":             {"application/problem+json", "", `{}`, false},
		"page":                   {"text/html; charset=utf-8", "", "<html>log in</html>", false},
		"page, odd parameters":   {"text/html; charset", "", "<html>", false},
		"page, odd separator":    {"Text/HTML, text/html", "", "<html>", false},
		"page, open quotes":      {`text/html;charset="utf-8`, "", "<html>", false},
		"JSON, odd parameters":   {"application/json;; a b", "", `{"result":true}`, false},
		"XHTML page":             {"application/xhtml+xml", "", "<html>", false},
		"page of endless length": {"text/html", "", strings.Repeat("x", 1<<20), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{test.kind}
				if test.disposition != "" {
					w.Header().Set("Content-Disposition", test.disposition)
				}
				_, _ = io.WriteString(w, test.body)
			})
			file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 100)
			if !test.file {
				require.ErrorIs(t, err, rest.ErrBadResponse)
				require.Nil(t, file)
				return
			}
			require.NoError(t, err)
			got, err := io.ReadAll(file)
			require.NoError(t, err)
			require.Equal(t, test.body, string(got))
			require.NoError(t, file.Close())
		})
	}
}

func TestDownloadsThatFail(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		response http.HandlerFunc
		want     rest.Error
	}{
		"expired": {
			says(401, `{"error":"expired_token","error_description":"The access token provided has expired"}`),
			rest.Error{
				Method: "download", Status: 401, Code: rest.ErrExpiredToken, Description: "The access token provided has expired",
				Hint: "the token in the address has expired: call the method again for a new address",
			},
		},
		"refused": {
			says(400, `{"error":"ERROR_CORE","error_description":"no s3cr3t-in-the-address disk|s3cr3t-signature-of-a-download"}`),
			rest.Error{Method: "download", Status: 400, Code: rest.ErrCore, Description: "no [redacted] [redacted]"},
		},
		"page 404":   {says(404, `<html>nginx</html>`), rest.Error{Method: "download", Status: 404, Code: rest.ErrBadResponse}},
		"huge page":  {says(404, strings.Repeat("x", 2<<20)), rest.Error{Method: "download", Status: 404, Code: rest.ErrBadResponse}},
		"no content": {says(204, ""), rest.Error{Method: "download", Status: 204, Code: rest.ErrBadResponse}},
		"a part":     {says(206, "abc"), rest.Error{Method: "download", Status: 206, Code: rest.ErrBadResponse}},
		"404 as a file": {
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Disposition", "attachment")
				says(404, "x")(w, r)
			},
			rest.Error{Method: "download", Status: 404, Code: rest.ErrBadResponse},
		},
		"too large": {
			sends("attachment", contentOf(101)),
			rest.Error{Method: "download", Status: 200, Code: rest.ErrTooLarge, Description: "the caller allows 100 bytes, and the file has 101"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, portal := clientOf(t, test.response)
			file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 100)
			require.Nil(t, file)
			var e *rest.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, test.want, public(e))
			requireNoSecrets(t, err)
			require.Len(t, portal.requests(), 1)
		})
	}
}

// The bound holds also if the portal does not say how much comes, and after decompression.
func TestDownloadIsBounded(t *testing.T) {
	t.Parallel()
	stream := func(w http.ResponseWriter, _ *http.Request) {
		for range 40 {
			_, _ = w.Write(contentOf(1000))
			_ = http.NewResponseController(w).Flush()
		}
	}
	packed := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 40_000))
		_ = z.Close()
	}
	for name, response := range map[string]http.HandlerFunc{"stream": stream, "packed": packed} {
		for allowed, complete := range map[int64]bool{1: false, 39_999: false, 40_000: true, 1 << 62: true, math.MaxInt64: true} {
			t.Run(name+strconv.FormatInt(allowed, 10), func(t *testing.T) {
				t.Parallel()
				client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "application/zip")
					response(w, r)
				})
				file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, allowed)
				require.NoError(t, err)
				defer func() { _ = file.Close() }()
				require.EqualValues(t, -1, file.Size)
				n, err := io.Copy(io.Discard, struct{ io.Reader }{file})
				require.Equal(t, min(allowed, 40_000), n)
				if complete {
					require.NoError(t, err)
					return
				}
				require.ErrorIs(t, err, rest.ErrTooLarge)
				n2, again := file.Read(make([]byte, 1))
				require.Zero(t, n2)
				require.Equal(t, err, again)
			})
		}
	}
}

func TestDownloadsFromForeignAddresses(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, sends("attachment", nil))
	for name, address := range map[string]string{
		"host":            "http://evil.example/rest/" + place,
		"cdn":             "https://cdn.bitrix24.com/b1/main/s3cr3t.png",
		"port":            "http://127.0.0.1:1/rest/" + place,
		"scheme":          strings.Replace(portal.ClientEndpoint(), "http:", "https:", 1) + place,
		"userinfo":        "http://s3cr3t@" + portal.Domain() + "/rest/" + place,
		"relative":        "//evil.example/s3cr3t",
		"file":            "file:///s3cr3t",
		"control":         portal.ClientEndpoint() + "s3cr3t\x7f",
		"long":            portal.ClientEndpoint() + strings.Repeat("s3cr3t", 3000),
		"not a URL":       "http://[s3cr3t",
		"scheme, no host": "http:s3cr3t",
	} {
		file, err := client.With(rest.Retries(3)).Download(t.Context(), address, 100)
		require.Nil(t, file, name)
		require.ErrorIs(t, err, rest.ErrBadCall, name)
		require.EqualError(t, err, "rest: download: invalid call: the address does not lead to the portal's own host by https", name)
		requireNoSecrets(t, err)
	}
	_, err := client.Download(t.Context(), "/x", 0)
	require.ErrorIs(t, err, rest.ErrBadCall)
	_, err = client.With(rest.Retries(-1)).Download(t.Context(), "/x", 1)
	require.ErrorIs(t, err, rest.ErrBadCall)
	require.Empty(t, portal.requests())
}

// Redirects are followed on the portal's own host only.
func TestDownloadRedirects(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		location string
		requests int
		ok       bool
	}{
		"own host":       {"/rest/final", 2, true},
		"with the host":  {"http://HOST/rest/final?x", 2, true},
		"in a circle":    {"/rest/" + place, 4, false},
		"other host":     {"http://evil.example/rest/final", 1, false},
		"other scheme":   {"https://HOST/rest/final", 1, false},
		"userinfo":       {"http://a@HOST/rest/final", 1, false},
		"scheme only":    {"javascript:alert(1)", 1, false},
		"no location":    {"", 1, false},
		"no own network": {"//evil.example/rest/final", 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var host string
			client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "final") {
					sends("attachment; filename=a", []byte("x"))(w, r)
					return
				}
				w.Header()["Location"] = []string{strings.ReplaceAll(test.location, "HOST", host)}
				w.WriteHeader(http.StatusFound)
			})
			host = portal.Domain()
			file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 100)
			require.Len(t, portal.requests(), test.requests)
			if !test.ok {
				require.ErrorIs(t, err, rest.ErrMoved)
				requireNoSecrets(t, err)
				require.NotContains(t, err.Error(), "evil")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "a", file.Name)
			require.NoError(t, file.Close())
		})
	}
}

func TestDownloadNamesTheMethod(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, says(400, `{"error":"ERROR_CORE"}`))
	hook, err := rest.NewWebhook(portal.ClientEndpoint()+"1/s3cr3tHook/", rest.WithInsecureHTTP())
	require.NoError(t, err)
	for name, test := range map[string]struct {
		client        *rest.Client
		address, want string
	}{
		"download":             {client, "/rest/" + place, "download"},
		"method":               {client, "/rest/crm.controller.item.getFile.json?auth=x", "crm.controller.item.getFile"},
		"page":                 {client, "/bitrix/tools/disk/uf.php?auth=x", "download"},
		"webhook":              {hook, "/rest/1/s3cr3tHook/download/?token=x", "download"},
		"webhook's method":     {hook, "/rest/1/s3cr3tHook/crm.item.getFile/?token=x", "crm.item.getFile"},
		"webhook's secret":     {hook, "/rest/1/s3cr3tHook?token=x", "download"},
		"application, webhook": {client, "/rest/1/s3cr3tHook?token=x", "download"},
	} {
		_, err := test.client.Download(t.Context(), test.address, 1)
		require.EqualError(t, err, "rest: "+test.want+": ERROR_CORE (status 400)", name)
	}
}

func TestDownloadIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := 0
		tr := newScript(t, func(sent) (int, string, error) {
			switch n++; n {
			case 1:
				return http.StatusServiceUnavailable, limited, nil
			case 2:
				return 0, "", io.ErrUnexpectedEOF
			case 3:
				return http.StatusBadGateway, "<html>", nil
			default:
				return http.StatusOK, "content", nil
			}
		})
		client := newHosts(t, on(tr)).Portal("p")
		file, err := client.Download(t.Context(), "/rest/"+place, 7)
		require.NoError(t, err)
		got, err := io.ReadAll(file)
		require.NoError(t, err)
		require.Equal(t, "content", string(got))
		require.NoError(t, file.Close())
		require.Equal(t, 4, n)

		n = 0
		_, err = client.With(rest.Retries(0)).Download(t.Context(), "/rest/"+place, 7)
		require.ErrorIs(t, err, rest.ErrQueryLimit)
	})
}

func TestDownloadThatBreaksOff(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Content-Disposition", "attachment")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	file, err := client.Download(t.Context(), portal.ClientEndpoint()+place, 100)
	require.NoError(t, err)
	got, err := io.ReadAll(file)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "rest: download: the connection closed before the response was complete")
	require.Equal(t, "half", string(got))
	require.NoError(t, file.Close())
}

// drip is a body that brings a byte after each pause, and ends.
type drip struct {
	pauses []time.Duration
	ctx    context.Context //nolint:containedctx // of the request to which it belongs
}

func (d *drip) Read(p []byte) (int, error) {
	if len(d.pauses) == 0 {
		return 0, io.EOF
	}
	pause := d.pauses[0]
	d.pauses = d.pauses[1:]
	if err := wait(d.ctx, pause); err != nil {
		return 0, err
	}
	p[0] = 'x'
	return 1, nil
}

func (*drip) Close() error { return nil }

// dripping is a transport whose responses are slow: their headers, and each byte after them.
func dripping(next http.RoundTripper, header time.Duration, pauses ...time.Duration) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		_ = resp.Body.Close()
		resp.Body, resp.ContentLength = &drip{pauses, r.Context()}, -1
		if err := wait(r.Context(), header); err != nil {
			return nil, err
		}
		return resp, nil
	})
}

func TestDownloadOutlastsTheTimeLimit(t *testing.T) {
	t.Parallel()
	download := func(t *testing.T, each, header time.Duration, pauses ...time.Duration) (string, error) {
		t.Helper()
		tr := dripping(newTransport(t, "x"), header, pauses...)
		file, err := newHosts(t, on(tr), rest.WithRetries(0)).Portal("p").With(rest.Timeout(time.Hour)).Download(t.Context(), "/rest/"+place, 100)
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }()
		var got []byte
		for buf := make([]byte, 1); ; {
			time.Sleep(each) //nolint:forbidigo // in a bubble
			n, err := file.Read(buf)
			got = append(got, buf[:n]...)
			if err == io.EOF { //nolint:errorlint // as readers return it
				return string(got), nil
			}
			if err != nil {
				return string(got), err
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		got, err := download(t, 0, time.Minute, time.Minute, time.Minute, time.Minute)
		require.NoError(t, err)
		require.Equal(t, "xxx", got)

		got, err = download(t, 10*time.Minute, 0, time.Minute, time.Minute)
		require.NoError(t, err, "the time of the reader does not count")
		require.Equal(t, "xx", got)

		began := time.Now()
		_, err = download(t, 0, 2*time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, rest.DefaultTimeout, time.Since(began))

		began = time.Now()
		got, err = download(t, 0, 0, time.Minute, 2*time.Minute, time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "rest: download: the time limit of the HTTP client passed")
		require.Equal(t, "x", got)
		require.Equal(t, time.Minute+rest.DefaultTimeout, time.Since(began))

		began = time.Now()
		_, err = download(t, 0, 0, slowly(100)...)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(began), "Timeout bounds the whole")
	})
}

func slowly(n int) []time.Duration {
	pauses := make([]time.Duration, n)
	for i := range pauses {
		pauses[i] = time.Minute
	}
	return pauses
}

func TestDownloadEndsWithTheContext(t *testing.T) {
	t.Parallel()
	client, portal := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	file, err := client.Download(ctx, portal.ClientEndpoint()+place, 100)
	require.NoError(t, err)
	_, err = io.ReadFull(file, make([]byte, 4))
	require.NoError(t, err)
	cancel()
	_, err = file.Read(make([]byte, 1))
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, file.Close())

	// Closing it ends it.
	file, err = client.Download(t.Context(), portal.ClientEndpoint()+place, 100)
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// An address from outside must not become a call with the secret of the webhook, which is a part of
// the endpoint.
func TestAddressesBelowAWebhook(t *testing.T) {
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

// A response that is not a file is not read to its end, which may be far.
func TestResponseInsteadOfAFile(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]string{"JSON": "application/json", "page": "text/html"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			tr := newTransport(t, "")
			endless := roundTrip(func(r *http.Request) (*http.Response, error) {
				response, err := tr.RoundTrip(r)
				if err == nil {
					_ = response.Body.Close()
					response.Header.Set("Content-Type", kind)
					response.Body = counted{io.NopCloser(spaces(strings.Repeat(" ", 64<<10))), &n}
				}
				return response, err
			})
			_, err := newHosts(t, on(endless), rest.WithRetries(0)).Portal(member).Download(t.Context(), "/rest/"+place, 100)
			require.ErrorIs(t, err, rest.ErrBadResponse)
			require.Less(t, n.Load(), int64(2<<20))
		})
	}
}

// The portal may quote the address at which the download began.
func TestEchoBehindARedirect(t *testing.T) {
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
