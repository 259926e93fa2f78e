package oauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// finish serves the last page of an installation, behind a middleware that protects pages from
// being framed.
func finish(t *testing.T, p *oauth.Portals, query string, text func(string) oauth.FinishText) *httptest.ResponseRecorder {
	t.Helper()
	h, err := oauth.PageHandler(func(context.Context, event.Auth) (oauth.Installation, error) {
		return oauth.Installation{MemberID: member}, nil
	}, p.FinishInstall(text))
	require.NoError(t, err)
	strict := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		h.ServeHTTP(w, r)
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/?DOMAIN=p.bitrix24.com&APP_SID=1&"+query,
		strings.NewReader("AUTH_ID=a&member_id="+member))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	rec := open(t, strict, r)
	require.Equal(t, http.StatusOK, rec.Code)
	return rec
}

// TestFinishPolicy: the page has one inline script, and the policy names its hash.
func TestFinishPolicy(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	rec := finish(t, p, "LANG=en", nil)
	inline := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(rec.Body.String(), -1)
	require.Len(t, inline, 1)
	sum := sha256.Sum256([]byte(inline[0][1]))
	require.Contains(t, p.FinishPolicy(), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	require.Equal(t, []string{p.FinishPolicy()}, rec.Header().Values("Content-Security-Policy"), "in place of the middleware's")
	require.Empty(t, rec.Header().Values("X-Frame-Options"))
	require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
	require.NotRegexp(t, `(?i)\son[a-z]+=|style=|<style`, rec.Body.String(), "the policy would block it")
	require.Contains(t, rec.Body.String(), "BX24.installFinish()")
	require.Contains(t, rec.Body.String(), `<script src="https://api.bitrix24.com/api/v1/"></script>`)
}

// TestScriptURL: the page and its policy follow the address of the script.
func TestScriptURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		address, origin, in string // in is the address as the page has it
		plain               []string
		err                 bool
	}{
		"the platform's":       {address: oauth.DefaultScriptURL, origin: "https://api.bitrix24.com", in: oauth.DefaultScriptURL},
		"a mirror":             {address: "https://Mirror.example:8443/bx24.js?v=1&w=2", origin: "https://mirror.example:8443", in: "https://mirror.example:8443/bx24.js?v=1&amp;w=2"},
		"loopback":             {address: "http://127.0.0.1:8024/api/v1/", origin: "http://127.0.0.1:8024", in: "http://127.0.0.1:8024/api/v1/", plain: []string{}},
		"a host named":         {address: "http://box.example/js", origin: "http://box.example", in: "http://box.example/js", plain: []string{"box.example"}},
		"quotes are escaped":   {address: `https://a.example/'"><script>`, origin: "https://a.example", in: "https://a.example/%27%22%3E%3Cscript%3E"},
		"http, no permission":  {address: "http://127.0.0.1:8024/api/v1/", err: true},
		"http, another host":   {address: "http://box.example/js", plain: []string{"other.example"}, err: true},
		"empty":                {err: true},
		"relative":             {address: "/api/v1/", err: true},
		"no scheme":            {address: "//api.bitrix24.com/api/v1/", err: true},
		"another scheme":       {address: "javascript:alert(1)", err: true},
		"data":                 {address: "data:text/javascript,alert(1)", err: true},
		"a user":               {address: "https://api.bitrix24.com@evil.example/", err: true},
		"a fragment":           {address: "https://a.example/#", err: true},
		"no host":              {address: "https:///api/v1/", err: true},
		"IPv6":                 {address: "https://[::1]/api/v1/", err: true},
		"a policy of its own":  {address: "https://a.example;script-src *", err: true},
		"another source":       {address: "https://a.example,b.example/", err: true},
		"a quote in the host":  {address: "https://a'unsafe-inline'.example/", err: true},
		"a wildcard":           {address: "https://*.example/", err: true},
		"an underscore":        {address: "https://a_b.example/", err: true},
		"a line break":         {address: "https://a.example/\n", err: true},
		"no port":              {address: "https://a.example:/", err: true},
		"a port out of range":  {address: "https://a.example:99999/", err: true},
		"longer than 512 byte": {address: "https://a.example/" + strings.Repeat("x", 512), err: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := []oauth.Option{oauth.WithScriptURL(c.address), silent()}
			if c.plain != nil { // whatever the order of the options
				opts = append(opts, oauth.WithInsecureHTTP(c.plain...))
			}
			p, err := oauth.NewPortals(oauth.Config{ClientID: "app", ClientSecret: "secret"}, oauth.NewMemoryStore(), opts...)
			if c.err {
				require.ErrorIs(t, err, oauth.ErrConfig)
				require.NotContains(t, err.Error(), "example")
				return
			}
			require.NoError(t, err)
			rec := finish(t, p, "", nil)
			require.Contains(t, rec.Body.String(), `<script src="`+c.in+`"></script>`)
			require.Equal(t, 2, strings.Count(rec.Body.String(), "<script"))
			policy := rec.Header().Get("Content-Security-Policy")
			require.Regexp(t, `^script-src `+regexp.QuoteMeta(c.origin)+` 'sha256-[\w+/=]+'; object-src 'none'; base-uri 'none'$`, policy)
			require.Equal(t, policy, p.FinishPolicy())
		})
	}
	require.Equal(t, oauth.DefaultScriptURL, application(t, "app", "secret").ScriptURL())
}

func TestFinishText(t *testing.T) {
	t.Parallel()
	p := application(t, "app", "secret")
	require.Contains(t, finish(t, p, "LANG=de", nil).Body.String(), "The installation is being finished.")
	require.Contains(t, finish(t, p, "LANG=ru", nil).Body.String(), `<html lang="ru">`)
	require.Contains(t, finish(t, p, "", nil).Body.String(), `<html lang="en">`)

	var asked []string
	own := func(lang string) oauth.FinishText {
		asked = append(asked, lang)
		return oauth.FinishText{Lang: lang, Title: "<b>", Working: "</p><script>evil()</script>", Failed: `"&'`}
	}
	body := finish(t, p, "LANG=pt-BR", own).Body.String()
	require.NotContains(t, body, "<script>evil")
	require.NotContains(t, body, "<b>")
	finish(t, p, "LANG="+strings.Repeat("x", 100), own)
	finish(t, p, "LANG=%22%3E%3Cscript%3E", own)
	finish(t, p, "LANG[]=en", own)
	require.Equal(t, []string{"pt-BR", "", "", ""}, asked)
}
