package main

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/oauth"
)

// apiDoc returns the text of API.md.
func apiDoc(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("API.md")
	require.NoError(t, err)
	return string(doc)
}

// sectionOf returns the text below a heading of API.md, until the next one.
func sectionOf(t *testing.T, doc, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(doc, "\n"+heading+"\n")
	require.True(t, found, "API.md has no heading %q", heading)
	if end := strings.Index(rest, "\n#"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// firstColumn returns the names in backquotes in the first column of the tables of a section.
func firstColumn(section string) []string {
	var names []string
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			names = append(names, name[1])
		}
	}
	return names
}

// headings are the titles that API.md gives to the objects in answers.
func headings() map[reflect.Type]string {
	return map[reflect.Type]string{
		reflect.TypeFor[routeList]():      "Routes of the API",
		reflect.TypeFor[routeView]():      "Route",
		reflect.TypeFor[snapshot]():       "State",
		reflect.TypeFor[portalView]():     "Portal",
		reflect.TypeFor[portalLink]():     "Address of a portal",
		reflect.TypeFor[userView]():       "User",
		reflect.TypeFor[appView]():        "Application",
		reflect.TypeFor[bindingView]():    "Handler",
		reflect.TypeFor[botView]():        "Bot",
		reflect.TypeFor[webhookView]():    "Webhook",
		reflect.TypeFor[deliveryList]():   "Deliveries",
		reflect.TypeFor[deliveryView]():   "Delivery",
		reflect.TypeFor[deliveryDetail](): "Delivery with its content",
		reflect.TypeFor[rawBody]():        "Body of a delivery",
		reflect.TypeFor[resentMany]():     "Resent deliveries",
		reflect.TypeFor[queueView]():      "Offline queue",
		reflect.TypeFor[rowView]():        "Record of the offline queue",
		reflect.TypeFor[polledView]():     "Log of polled events",
		reflect.TypeFor[waitingView]():    "Polled event",
		reflect.TypeFor[callList]():       "Calls",
		reflect.TypeFor[callView]():       "Call",
		reflect.TypeFor[callDetail]():     "Call with its content",
		reflect.TypeFor[objectList]():     "Objects",
		reflect.TypeFor[kindView]():       "Kind of objects",
		reflect.TypeFor[objectView]():     "Object",
		reflect.TypeFor[objectDetail]():   "Object with its fields",
		reflect.TypeFor[faultView]():      "Planned fault",
		reflect.TypeFor[bucketView]():     "Bucket of requests",
		reflect.TypeFor[laneView]():       "Waiting deliveries",
		reflect.TypeFor[quirksView]():     "Quirks",
		reflect.TypeFor[eventInfo]():      "Event of the catalogue",
		reflect.TypeFor[waitResult]():     "Result of waiting",
		reflect.TypeFor[addedApp]():       "Added application",
		reflect.TypeFor[openedPage]():     "Opened page",
		reflect.TypeFor[openingForm]():    "Form of a page",
		reflect.TypeFor[grantView]():      "Tokens of a user",
		reflect.TypeFor[settingsView]():   "Settings",
		reflect.TypeFor[newToken]():       "New outgoing webhook",
		reflect.TypeFor[newURL]():         "New incoming webhook",
		reflect.TypeFor[changeResult]():   "Change of objects",
		reflect.TypeFor[raised]():         "Raised event",
		reflect.TypeFor[doneText]():       "Done",
		reflect.TypeFor[newID]():          "New user",
		reflect.TypeFor[newDomain]():      "New domain",
	}
}

// element returns the type of the elements of lists, and t itself if it is no list.
func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// TestAnswersAreDocumented holds API.md to the answers of the API: each object in any answer has a
// section that lists its fields and no others, and the table of routes names the answer's section.
func TestAnswersAreDocumented(t *testing.T) {
	t.Parallel()
	doc, titles, seen := apiDoc(t), headings(), map[reflect.Type]bool{}
	var document func(object reflect.Type)
	document = func(object reflect.Type) {
		object = element(object)
		if object.PkgPath() != reflect.TypeFor[page]().PkgPath() || object.Kind() != reflect.Struct || seen[object] {
			return
		}
		seen[object] = true
		if object.NumField() == 0 {
			return
		}
		require.Contains(t, titles, object, "give the object a heading in API.md")
		var want []string
		for _, f := range fieldsOf(object) {
			want = append(want, f.name)
		}
		section := sectionOf(t, doc, "### "+titles[object])
		got := firstColumn(section)
		for base, title := range titles { // a section may build on another
			if strings.Contains(section, "The fields of a ["+strings.ToLower(title)+"]") {
				for _, f := range fieldsOf(base) {
					got = append(got, f.name)
				}
			}
		}
		require.ElementsMatch(t, want, got, "API.md, %s", titles[object])
		for _, f := range reflect.VisibleFields(object) {
			if f.IsExported() && !f.Anonymous {
				document(f.Type)
			}
		}
	}
	for _, r := range new(page).api() {
		document(r.answer)
		row := regexp.MustCompile(`(?m)^\| ` + "`" + regexp.QuoteMeta(r.method+" "+strings.TrimSuffix(r.path, "{$}")) + "`" + ` \|.*$`).FindString(doc)
		cells := strings.Split(row, "|")
		require.Len(t, cells, 6, r.path)
		want := ""
		if title := titles[element(r.answer)]; title != "" {
			want = "[" + title + "](#" + strings.ReplaceAll(strings.ToLower(title), " ", "-") + ")"
		}
		if r.answer.Kind() == reflect.Slice {
			want = "list of: " + want
		}
		require.Equal(t, want, strings.TrimSpace(cells[4]), r.path)
	}
	for object, title := range titles {
		require.True(t, seen[object], "no answer has %s", title)
	}
}

// TestFieldsAreDocumented holds the table of fields in API.md to the bodies of requests.
func TestFieldsAreDocumented(t *testing.T) {
	t.Parallel()
	names := firstColumn(sectionOf(t, apiDoc(t), "### Fields"))
	taken := map[string]bool{}
	for _, r := range new(page).api() {
		if r.body == reflect.TypeFor[quirksView]() {
			continue // has a section of its own
		}
		for _, f := range fieldsOf(r.body) {
			taken[f.name] = true
			require.Contains(t, names, f.name, r.path)
		}
	}
	for _, name := range names {
		require.True(t, taken[name], "no request has %s", name)
	}
}

// TestCopiedSettingsAreKnown holds each copied setting to those that oauth.FromEnv or a program of
// examples/ reads, and to API.md, which says what it means.
func TestCopiedSettingsAreKnown(t *testing.T) {
	t.Parallel()
	var known []string
	_, _, err := oauth.FromEnv(func(name string) string {
		known = append(known, name)
		switch {
		case strings.HasSuffix(name, "_URL"):
			return "https://example.com/"
		case name == "B24_OAUTH_HOSTS":
			return "127.0.0.1"
		default:
			return "1"
		}
	})
	require.NoError(t, err)
	require.Contains(t, known, "B24_INSECURE_HTTP")
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile("`([A-Z][A-Z0-9_]+)`").FindAllStringSubmatch(string(readme), -1) {
		known = append(known, name[1])
	}
	documented := firstColumn(sectionOf(t, apiDoc(t), "### Copied settings"))

	p := start(t, nil)
	sink := newSink(t)
	p.post("/api/apps", `{"client_id":"api","client_secret":"it's","handler":"`+sink.URL+`"}`)
	p.post("/api/apps", `{"client_id":"paged","handler":"`+sink.URL+`","install_page":"`+sink.URL+`/install","page":"`+sink.URL+`/page"}`)
	copied := map[string]bool{}
	for _, id := range []string{"api", "paged"} {
		for line := range strings.Lines(settingsText(t, p.post("/api/apps/"+id+"/settings", ""))) {
			name, _, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
			copied[name] = true
			require.Contains(t, known, name, "nothing reads it")
			require.Contains(t, documented, name, "API.md does not say what it means")
		}
	}
	for _, name := range documented {
		require.True(t, copied[name], "%s is documented, but not copied", name)
	}

	proposed := p.post("/api/settings", `{"client_id":"later","client_secret":"it's","page":"http://127.0.0.1:9/page"}`)
	require.NotContains(t, proposed, "application_token")
	require.Equal(t, "export B24_CLIENT_ID='later'\nexport B24_CLIENT_SECRET='it'\\''s'\nexport B24_OAUTH_HOSTS='"+p.state("").Portal.OAuthHost+
		"'\nexport B24_INSECURE_HTTP='1'\nexport PAGE_URL='http://127.0.0.1:9/page'\nexport B24_JS_URL='"+p.page+scriptPath+"'\n",
		settingsText(t, proposed))
	require.Len(t, p.state("").Apps, 2, "nothing was added")
	p.refuse("/api/settings", `{"page":"page"}`, 400)
}

// settingsText returns the lines for a shell.
func settingsText(t *testing.T, result map[string]any) string {
	t.Helper()
	text, ok := result["settings"].(string)
	require.True(t, ok)
	return text
}
