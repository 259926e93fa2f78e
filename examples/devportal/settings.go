package main

import (
	"context"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// setting is one of the copied settings.
type setting struct{ name, value string }

// settingsView is the settings that make a program an application of this portal.
type settingsView struct {
	Settings         string `json:"settings"`                    // lines for a shell
	ApplicationToken string `json:"application_token,omitempty"` // signs the portal's deliveries to it
}

// settings returns the settings that make a program this application. They hold its secret and,
// once its installation has begun, new tokens of the administrator.
func (pg *page) settings(_ context.Context, id string, _ noInput) (settingsView, error) {
	a, err := pg.app(id)
	if err != nil {
		return settingsView{}, err
	}
	pg.mu.Lock()
	at := pg.addresses[a.ClientID()]
	pg.mu.Unlock()
	list := pg.appSettings(a.ClientID(), string(a.ClientSecret()), at)
	if a.Registered() {
		g, err := a.Grant(eventtest.AdminID)
		if err != nil {
			return settingsView{}, err
		}
		list = append(list,
			setting{"B24_MEMBER_ID", g.MemberID},
			setting{"B24_CLIENT_ENDPOINT", g.ClientEndpoint},
			setting{"B24_SERVER_ENDPOINT", g.ServerEndpoint},
			setting{"B24_ACCESS_TOKEN", string(g.AccessToken)},
			setting{"B24_REFRESH_TOKEN", string(g.RefreshToken)},
		)
	}
	return settingsView{exportLines(list), string(a.ApplicationToken())}, nil
}

// proposedSettings returns the settings of an application that is not added yet, so that the
// program can start first.
func (pg *page) proposedSettings(_ context.Context, _ string, in appForm) (settingsView, error) {
	if err := in.check(); err != nil {
		return settingsView{}, err
	}
	at := appAddresses{in.Handler, in.InstallPage, in.Page}
	return settingsView{Settings: exportLines(pg.appSettings(in.ClientID, in.ClientSecret, at))}, nil
}

// appSettings returns the settings that do not change with an installation. API.md says what each
// of them means.
func (pg *page) appSettings(clientID, clientSecret string, at appAddresses) []setting {
	list := []setting{
		{"B24_CLIENT_ID", clientID},
		{"B24_CLIENT_SECRET", clientSecret},
		{"B24_OAUTH_HOSTS", pg.portal.OAuthHost()},
		{"B24_INSECURE_HTTP", "1"},
	}
	for _, s := range []setting{{"PUBLIC_URL", at.handler}, {"INSTALL_PAGE_URL", at.installPage}, {"PAGE_URL", at.page}} {
		if s.value != "" {
			list = append(list, s)
		}
	}
	if at.installPage != "" || at.page != "" {
		list = append(list, setting{"B24_JS_URL", pg.portal.URL() + scriptPath})
	}
	return list
}

// exportLines returns settings as lines for a POSIX shell.
func exportLines(list []setting) string {
	var text strings.Builder
	for _, s := range list {
		text.WriteString("export " + s.name + "=" + shellQuoted(s.value) + "\n")
	}
	return text.String()
}

// shellQuoted returns text as one word of a POSIX shell.
func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
