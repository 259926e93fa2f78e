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
func finish(t *testing.T, query string, text func(string) oauth.FinishText) *httptest.ResponseRecorder {
	t.Helper()
	h, err := oauth.PageHandler(func(context.Context, event.Auth) (oauth.Installation, error) {
		return oauth.Installation{MemberID: member}, nil
	}, oauth.FinishInstall(text))
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
	rec := finish(t, "LANG=en", nil)
	inline := regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(rec.Body.String(), -1)
	require.Len(t, inline, 1)
	sum := sha256.Sum256([]byte(inline[0][1]))
	require.Contains(t, oauth.FinishPolicy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	require.Equal(t, []string{oauth.FinishPolicy}, rec.Header().Values("Content-Security-Policy"), "in place of the middleware's")
	require.Empty(t, rec.Header().Values("X-Frame-Options"))
	require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
	require.NotRegexp(t, `(?i)\son[a-z]+=|style=|<style`, rec.Body.String(), "the policy would block it")
	require.Contains(t, rec.Body.String(), "BX24.installFinish()")
	require.Contains(t, rec.Body.String(), `<script src="https://api.bitrix24.com/api/v1/"></script>`)
}

func TestFinishText(t *testing.T) {
	t.Parallel()
	require.Contains(t, finish(t, "LANG=de", nil).Body.String(), "The installation is being finished.")
	require.Contains(t, finish(t, "LANG=ru", nil).Body.String(), `<html lang="ru">`)
	require.Contains(t, finish(t, "", nil).Body.String(), `<html lang="en">`)

	var asked []string
	own := func(lang string) oauth.FinishText {
		asked = append(asked, lang)
		return oauth.FinishText{Lang: lang, Title: "<b>", Working: "</p><script>evil()</script>", Failed: `"&'`}
	}
	body := finish(t, "LANG=pt-BR", own).Body.String()
	require.NotContains(t, body, "<script>evil")
	require.NotContains(t, body, "<b>")
	finish(t, "LANG="+strings.Repeat("x", 100), own)
	finish(t, "LANG=%22%3E%3Cscript%3E", own)
	finish(t, "LANG[]=en", own)
	require.Equal(t, []string{"pt-BR", "", "", ""}, asked)
}
