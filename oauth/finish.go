package oauth

import (
	"bytes"
	"errors"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/plainhttp"
)

// FinishText is what the page of [Portals.FinishInstall] says in one language.
type FinishText struct {
	Lang    string // language of the texts, such as en
	Title   string
	Working string // shown until the portal closes the page
	Failed  string // shown instead if the portal's script does not run, for example because it is blocked
}

// defaultFinishText returns the text for a portal's language: Russian for the languages of portals
// whose users mostly read it, and else English.
func defaultFinishText(lang string) FinishText {
	switch strings.ToLower(lang) {
	case "ru", "kz", "by":
		return FinishText{
			Lang: "ru", Title: "Установка", Working: "Установка завершается. Эта страница закроется сама.",
			Failed: "Не удалось завершить установку: скрипт Битрикс24 не ответил. " +
				"Откройте приложение на портале ещё раз; если не поможет, отключите блокировщик скриптов.",
		}
	default:
		return FinishText{
			Lang: "en", Title: "Installation", Working: "The installation is being finished. This page closes by itself.",
			Failed: "The installation could not be finished, because the script of Bitrix24 did not respond. " +
				"Open the application on the portal again; if that does not help, turn off what blocks scripts.",
		}
	}
}

// DefaultScriptURL is the address of the platform's script BX24 for pages. [WithScriptURL] sets
// another one.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/installation-finish.html
const DefaultScriptURL = "https://api.bitrix24.com/api/v1/"

// script is the address of the platform's script, for a page and its Content-Security-Policy.
type script struct {
	url    string
	origin string // as a policy names it
}

// maxScript bounds the address of the script, in bytes.
const maxScript = 512

// parseScript reads the address of the platform's script. The origin becomes a part of a policy, so
// its host has letters, digits, hyphens and dots only. Errors do not repeat the address.
func parseScript(raw string, plain plainhttp.Hosts) (script, error) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxScript || u.Opaque != "" || (u.Scheme != "https" && u.Scheme != "http") {
		return script{}, errors.New("the address of BX24 must be absolute, https or http, and of 512 bytes at most")
	}
	host, port, err := splitHost(strings.ToLower(u.Host))
	switch {
	case err != nil || strings.ContainsAny(host, "[]_"):
		return script{}, errors.New("the address of BX24 must have a plain host name or an IPv4 address, as policies of pages name them")
	case u.User != nil || strings.Contains(raw, "#"):
		return script{}, errors.New("the address of BX24 must have no user information and no fragment")
	case u.Scheme == "http" && !plain.Allows(host, port):
		return script{}, errors.New("the address of BX24 is http, and its host is not allowed by WithInsecureHTTP (B24_INSECURE_HTTP=1)")
	}
	u.Host = host
	if port != "" {
		u.Host = net.JoinHostPort(host, port)
	}
	return script{url: u.String(), origin: u.Scheme + "://" + u.Host}, nil
}

// ScriptURL returns the address from which pages load the platform's script BX24:
// [DefaultScriptURL], or that of [WithScriptURL]. It is for pages of your own.
func (p *Portals) ScriptURL() string { return p.script.url }

// FinishPolicy returns the Content-Security-Policy of the page of [Portals.FinishInstall]. It
// allows the platform's script by its origin, and the page's own by its hash. FinishInstall sends
// it in place of one that a middleware has set before. If something behind the program adds another
// policy, that one must allow the same two scripts.
func (p *Portals) FinishPolicy() string {
	return "script-src " + p.script.origin + " '" + finishHash + "'; object-src 'none'; base-uri 'none'"
}

// finishHash is the hash of finishScript in a policy.
const finishHash = "sha256-tRTeNtP49Lc6WITjqwSDjZMGl8BO3mZN5VJYVH5Dhmo="

// finishScript calls BX24.installFinish.
const finishScript = `(function () {
  var done = false;
  function fail() {
    if (done) { return; }
    document.getElementById("working").hidden = true;
    document.getElementById("failed").hidden = false;
  }
  if (!window.BX24) { fail(); return; }
  setTimeout(fail, 20000);
  BX24.init(function () { done = true; BX24.installFinish(); });
})();`

const finishPage = `<!DOCTYPE html>
<html lang="{{.Lang}}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<script src="{{.Script}}"></script>
</head>
<body>
<p id="working">{{.Working}}</p>
<p id="failed" role="alert" hidden>{{.Failed}}</p>
<noscript><p>{{.Failed}}</p></noscript>
<script>` + finishScript + `</script>
</body>
</html>
`

// FinishInstall returns a function that serves the last page of an installation, for [PageHandler]
// with [Portals.Install]. The page loads the platform's script from [Portals.ScriptURL] and calls
// BX24.installFinish. Without that call an application with pages counts as not installed, and gets
// no events.
//
// text returns the texts for the language of the portal, such as en, de or ru; nil means texts of
// this package in English and Russian. The language is the browser's claim, of up to 8 letters; it
// may be empty. The page escapes the texts.
//
// The page works under a strict Content-Security-Policy; see [Portals.FinishPolicy]. It removes an
// X-Frame-Options header that a middleware has set before, because the portal shows the page in a
// frame.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/installation-finish.html
func (p *Portals) FinishInstall(
	text func(lang string) FinishText,
) func(w http.ResponseWriter, r *http.Request, page *event.Delivery, access Installation) {
	if text == nil {
		text = defaultFinishText
	}
	page := template.Must(template.New("finish").Parse(finishPage))
	return func(w http.ResponseWriter, _ *http.Request, d *event.Delivery, _ Installation) {
		var body bytes.Buffer
		data := struct {
			FinishText

			Script string
		}{text(languageOf(d)), p.script.url}
		if err := page.Execute(&body, data); err != nil { // never: the template has texts only
			plainStatus(w, http.StatusInternalServerError)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", p.FinishPolicy())
		header.Set("X-Content-Type-Options", "nosniff")
		header.Del("X-Frame-Options")
		_, _ = w.Write(body.Bytes())
	}
}

// maxLanguage bounds the name of a language, in bytes.
const maxLanguage = 8

// languageOf returns the language that the browser claims for the portal, or nothing if it does not
// look like one.
func languageOf(page *event.Delivery) string {
	lang := page.Data.Get("LANG").Text()
	if len(lang) > maxLanguage {
		return ""
	}
	for _, c := range []byte(lang) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return ""
		}
	}
	return lang
}
