package oauth

import (
	"bytes"
	"html/template"
	"net/http"
	"strings"

	"github.com/b24events/b24events/event"
)

// FinishText is what the page of [FinishInstall] says in one language.
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

// FinishPolicy is the Content-Security-Policy of the page of [FinishInstall]. It allows the
// platform's script, and the page's own by its hash. FinishInstall sends it in place of one that a
// middleware has set before. If something behind the program adds another policy, that one must
// allow the same two scripts.
const FinishPolicy = "script-src https://api.bitrix24.com " +
	"'sha256-tRTeNtP49Lc6WITjqwSDjZMGl8BO3mZN5VJYVH5Dhmo='; object-src 'none'; base-uri 'none'"

// finishScript calls BX24.installFinish. The hash in FinishPolicy is that of this text.
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
<script src="https://api.bitrix24.com/api/v1/"></script>
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
// with [Portals.Install]. The page loads the platform's script and calls BX24.installFinish.
// Without that call an application with pages counts as not installed, and gets no events.
//
// text returns the texts for the language of the portal, such as en, de or ru; nil means texts of
// this package in English and Russian. The language is the browser's claim, of up to 8 letters; it
// may be empty. The page escapes the texts.
//
// The page works under a strict Content-Security-Policy; see [FinishPolicy]. It removes an
// X-Frame-Options header that a middleware has set before, because the portal shows the page in a
// frame.
//
// Source: https://apidocs.bitrix24.com/settings/app-installation/installation-finish.html
func FinishInstall(
	text func(lang string) FinishText,
) func(w http.ResponseWriter, r *http.Request, page *event.Delivery, access Installation) {
	if text == nil {
		text = defaultFinishText
	}
	page := template.Must(template.New("finish").Parse(finishPage))
	return func(w http.ResponseWriter, _ *http.Request, d *event.Delivery, _ Installation) {
		var body bytes.Buffer
		if err := page.Execute(&body, text(languageOf(d))); err != nil { // never: the template has texts only
			plainStatus(w, http.StatusInternalServerError)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", FinishPolicy)
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
