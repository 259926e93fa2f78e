package eventtest_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestRequestBodies(t *testing.T) {
	t.Parallel()
	fired := eventtest.WithTime(time.Unix(1727018926, 0))
	for _, tt := range []struct {
		file    string
		event   eventtest.Event
		payload any
		opts    []eventtest.RequestOption
	}{
		{"user", event.OnCrmContactAdd, event.CRMEntity{ID: 134806}, []eventtest.RequestOption{
			eventtest.WithUser(1, "access"), eventtest.WithScope("crm", "placement", "user_brief"), eventtest.WithHandlerID(58),
			eventtest.WithToken("apptoken"),
		}},
		{"user_refresh", event.OnAppInstall, map[string]any{"VERSION": "1", "ACTIVE": "Y", "INSTALLED": "Y", "LANGUAGE_ID": "en"}, []eventtest.RequestOption{
			eventtest.WithUser(1, "access"), eventtest.WithRefreshToken("refresh"), eventtest.WithToken("apptoken"),
			eventtest.WithDomain("p.bitrix24.com"), eventtest.WithMember("0123456789abcdef0123456789abcdef"),
		}},
		{"no_user", event.OnCrmDealUpdate, map[string]any{"FIELDS": map[string]any{"ID": 21}}, []eventtest.RequestOption{
			eventtest.WithHandlerID(509), eventtest.WithToken("apptoken"),
		}},
		{"user_id_only", event.OnCrmDealUpdate, event.CRMEntity{ID: 21}, []eventtest.RequestOption{
			eventtest.WithUserID(5), eventtest.WithToken("apptoken"),
		}},
		{"outgoing_webhook", eventtest.Name("onCrmDealAdd"), event.CRMEntity{ID: 7}, []eventtest.RequestOption{
			eventtest.WithToken("hook token"), eventtest.WithEndpoints("https://p.ru/rest/", "https://oauth.bitrix24.tech/rest/"),
		}},
		{"direct", event.OnCrmDealAdd, event.CRMEntity{ID: 7}, []eventtest.RequestOption{eventtest.Direct(), eventtest.WithToken("apptoken")}},
		{"forged", event.OnCrmDealAdd, event.CRMEntity{ID: 7}, []eventtest.RequestOption{eventtest.WithoutAuth(), nil}},
		{"no_data", event.OnOfflineEvent, nil, []eventtest.RequestOption{eventtest.WithToken("apptoken")}},
		{"task", event.OnTaskAdd, map[string]any{"FIELDS_BEFORE": "undefined", "FIELDS_AFTER": map[string]any{"ID": 123}}, nil},
	} {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			body, err := eventtest.Body(tt.event, tt.payload, append(tt.opts, fired)...)
			require.NoError(t, err)
			path := filepath.Join("testdata", tt.file+".form")
			if *update {
				require.NoError(t, os.WriteFile(path, append(body, '\n'), 0o600))
			}
			want, err := os.ReadFile(path) //nolint:gosec // a name of the table
			require.NoError(t, err)
			require.Equal(t, string(want), string(body)+"\n")
		})
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealAdd, event.CRMEntity{ID: 5},
		eventtest.WithURL("https://example.com/hook?x=1"), eventtest.WithToken("apptoken"))
	require.NoError(t, err)
	require.Equal(t, "POST", r.Method)
	require.Equal(t, "https://example.com/hook?x=1", r.URL.String())
	d, err := event.ParseRequest(r)
	require.NoError(t, err)
	require.Equal(t, "ONCRMDEALADD", d.Name)
	require.Equal(t, event.Secret("apptoken"), d.Auth.ApplicationToken)
	require.Equal(t, eventtest.SampleMemberID, d.MemberID())
	require.WithinDuration(t, time.Now(), d.Time, 5*time.Second)
	e, err := event.OnCrmDealAdd.Decode(d)
	require.NoError(t, err)
	require.Equal(t, event.CRMEntity{ID: 5}, e)
}

func TestRequestFromGrant(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	g, err := c.app.Grant(1)
	require.NoError(t, err)
	body, err := eventtest.Body(event.OnAppTest, nil, eventtest.WithGrant(g))
	require.NoError(t, err)
	d := parse(t, event.Secret(body))
	require.Equal(t, p.MemberID(), d.MemberID())
	require.Equal(t, g.AccessToken, d.Auth.AccessToken)
	require.Equal(t, g.RefreshToken, d.Auth.RefreshToken)
	require.Equal(t, g.ApplicationToken, d.Auth.ApplicationToken)
	require.Equal(t, p.ServerEndpoint(), d.Auth.ServerEndpoint)
	require.Equal(t, p.ClientEndpoint(), d.Auth.ClientEndpoint)
	require.Equal(t, g.Scope, d.Auth.Scope)
}

func TestRequestRefuses(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]eventtest.RequestOption{
		"refresh token alone":     {eventtest.WithRefreshToken("x")},
		"user without token":      {eventtest.WithUser(1, "")},
		"token without user":      {eventtest.WithUser(0, "x")},
		"relative address":        {eventtest.WithURL("/x")},
		"address that is no URL":  {eventtest.WithURL("http://%zz/")},
		"address without scheme":  {eventtest.WithURL("example.com")},
		"address of another kind": {eventtest.WithURL("mailto:x@example.com")},
	} {
		_, err := eventtest.NewRequest(t.Context(), event.OnCrmDealAdd, nil, opts...)
		require.Error(t, err, name)
	}
	_, err := eventtest.Body(nil, nil)
	require.Error(t, err)
	_, err = eventtest.Body(eventtest.Name(" "), nil)
	require.Error(t, err)
	_, err = eventtest.Body(event.OnCrmDealAdd, make(chan int))
	require.Error(t, err)
}
