package event_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// TestParseForgives: if a field of the envelope has the wrong shape, the event and the other fields
// are still read, and so is what arrived.
func TestParseForgives(t *testing.T) {
	t.Parallel()
	const fired = 1727018926
	for name, tc := range map[string]struct {
		change func(fields map[string]string)
		extra  string // of what is not understood; "" for nothing
		check  func(t *testing.T, d *event.Delivery)
	}{
		"all as it should be": {func(map[string]string) {}, "", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.EqualValues(t, 5, d.HandlerID)
			require.Equal(t, time.Unix(fired, 0).UTC(), d.Time)
			require.Equal(t, event.Auth{
				AccessToken: "access", ApplicationToken: "app", Expires: time.Unix(fired+3600, 0).UTC(), Scope: "crm,task",
				Domain: "p.bitrix24.com", MemberID: "m1", ServerEndpoint: "https://o/rest/", ClientEndpoint: "https://p/rest/", Status: "L", UserID: 7,
			}, d.Auth)
		}},
		"user_id is text": {
			func(f map[string]string) { f["auth[user_id]"] = "robot" }, `{"auth":{"user_id":"robot"}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Auth.UserID) },
		},
		"expires is a date": {
			func(f map[string]string) { f["auth[expires]"] = "2025-01-01"; delete(f, "auth[expires_in]") }, `{"auth":{"expires":"2025-01-01"}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Auth.Expires) },
		},
		"expires is a date, expires_in is not": {
			func(f map[string]string) { f["auth[expires]"] = "2025-01-01" }, `{"auth":{"expires":"2025-01-01"}}`,
			func(t *testing.T, d *event.Delivery) {
				t.Helper()
				require.Equal(t, d.Time.Add(time.Hour), d.Auth.Expires)
			},
		},
		"expires_in is text": {
			func(f map[string]string) { f["auth[expires_in]"] = "an hour"; delete(f, "auth[expires]") }, `{"auth":{"expires_in":"an hour"}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Auth.Expires) },
		},
		"ts has a fraction": {
			func(f map[string]string) { f["ts"] = "1727018926.123" }, `{"ts":"1727018926.123"}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Time) },
		},
		"ts is text": {
			func(f map[string]string) { f["ts"] = "soon" }, `{"ts":"soon"}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Time) },
		},
		"ts beyond all years": {
			func(f map[string]string) { f["ts"] = "99999999999999" }, `{"ts":"99999999999999"}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Time) },
		},
		"ts is an array": {
			func(f map[string]string) { delete(f, "ts"); f["ts[a]"] = "1" }, `{"ts":{"a":"1"}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.Time) },
		},
		"event_handler_id is text": {
			func(f map[string]string) { f["event_handler_id"] = "a1b2" }, `{"event_handler_id":"a1b2"}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Zero(t, d.HandlerID) },
		},
		"two handler ids": {
			func(f map[string]string) { f["eventId"] = "6" }, `{"eventId":"6"}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.EqualValues(t, 5, d.HandlerID) },
		},
		"status is a list": {
			func(f map[string]string) { delete(f, "auth[status]"); f["auth[status][]"] = "L" }, `{"auth":{"status":["L"]}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Empty(t, d.Auth.Status) },
		},
		"domain is a list": {
			func(f map[string]string) { delete(f, "auth[domain]"); f["auth[domain][]"] = "d" }, `{"auth":{"domain":["d"]}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Empty(t, d.Auth.Domain) },
		},
		"application_token is a list": {
			func(f map[string]string) {
				delete(f, "auth[application_token]")
				f["auth[application_token][]"] = "app"
			},
			`{"auth":{"application_token":["app"]}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Empty(t, d.Auth.ApplicationToken) },
		},
		"unknown keys": {
			func(f map[string]string) { f["extra"] = "1"; f["auth[client_id]"] = "2" }, `{"auth":{"client_id":"2"},"extra":"1"}`, nil,
		},
		"keys in another case beside the exact ones": {
			func(f map[string]string) { f["EVENT"] = "ONY"; f["auth[MEMBER_ID]"] = "m2" }, `{"EVENT":"ONY","auth":{"MEMBER_ID":"m2"}}`,
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "m1", d.Auth.MemberID) },
		},
		"keys in another case": {
			func(f map[string]string) { delete(f, "auth[member_id]"); f["auth[MEMBER_ID]"] = "m2" }, "",
			func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "m2", d.Auth.MemberID) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fields := map[string]string{
				"event": "ONCRMDEALUPDATE", "event_handler_id": "5", "data[FIELDS][ID]": "42", "ts": "1727018926",
				"auth[access_token]": "access", "auth[application_token]": "app", "auth[expires]": "1727022526", "auth[expires_in]": "3600",
				"auth[scope]": "crm,task", "auth[domain]": "p.bitrix24.com", "auth[server_endpoint]": "https://o/rest/", "auth[status]": "L",
				"auth[client_endpoint]": "https://p/rest/", "auth[member_id]": "m1", "auth[user_id]": "7",
			}
			tc.change(fields)
			d, err := event.Parse(formType, []byte(formOf(fields)))
			require.NoError(t, err)
			require.Equal(t, "ONCRMDEALUPDATE", d.Name)
			require.Equal(t, event.Entity{Kind: "crm.deal", ID: "42"}, d.Entity())
			if tc.check != nil {
				tc.check(t, d)
			}
			if tc.extra == "" {
				require.True(t, d.Extra().IsZero(), string(d.Extra().JSON()))
			} else {
				require.JSONEq(t, tc.extra, string(d.Extra().JSON()))
			}
		})
	}
}

func formOf(fields map[string]string) string {
	var pairs []string
	for name, value := range fields {
		pairs = append(pairs, name+"="+value)
	}
	return strings.Join(pairs, "&")
}

// TestAuthThatIsNoObject: the event is not lost, and no verifier accepts it.
func TestAuthThatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"event=ONX&auth=yes", "event=ONX&auth=", "event=ONX"} {
		d, err := event.Parse(formType, []byte(body))
		require.NoError(t, err)
		require.Equal(t, event.Auth{}, d.Auth)
	}
	d, err := event.Parse(formType, []byte("event=ONX&auth=yes"))
	require.NoError(t, err)
	require.JSONEq(t, `{"auth":"yes"}`, string(d.Extra().JSON()))
}

func TestParseRecordForgives(t *testing.T) {
	t.Parallel()
	d, err := event.ParseRecord(json.RawMessage(`{"ID":"x","TIMESTAMP_X":"soon","EVENT_NAME":"ONTASKADD","EVENT_DATA":{"FIELDS_AFTER":{"ID":7}},
		"EVENT_ADDITIONAL":{"user_id":"robot","more":1},"MESSAGE_ID":["m"],"PROCESS_ID":"p","NEW":true}`))
	require.NoError(t, err)
	require.Equal(t, "ONTASKADD", d.Name)
	require.Zero(t, d.ID)
	require.Zero(t, d.Time)
	require.Zero(t, d.Auth.UserID)
	require.Empty(t, d.MessageID)
	require.Equal(t, "p", d.ProcessID)
	require.Equal(t, event.Entity{Kind: "tasks.task", ID: "7"}, d.Entity())
	require.JSONEq(t, `{"ID":"x","TIMESTAMP_X":"soon","EVENT_ADDITIONAL":{"user_id":"robot","more":1},"MESSAGE_ID":["m"],"NEW":true}`,
		string(d.Extra().JSON()))

	d, err = event.ParseRecord(json.RawMessage(`{"ID":"1","EVENT_NAME":"ONTASKADD","EVENT_DATA":false,"EVENT_ADDITIONAL":{"user_id":3},"MESSAGE_ID":"m"}`))
	require.NoError(t, err)
	require.True(t, d.Extra().IsZero())
}

// TestExtraSurvivesTheProof: also if the data changes, and then without the claims that are
// replaced.
func TestExtraSurvivesTheProof(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"event=ONIMBOTMESSAGEADD&odd=1&auth[client_id]=app&auth[member_id]=m1&auth[access_token]=an-access-token&data[PARAMS][MESSAGE]=hi",
		"event=ONIMBOTMESSAGEADD&odd=1&auth[client_id]=app&auth[member_id]=m1&auth[access_token]=an-access-token&data[PARAMS][MESSAGE]=hi" +
			"&data[BOT][7][client_endpoint]=https://evil.example/rest/",
	} {
		d, err := event.Parse(formType, []byte(body))
		require.NoError(t, err)
		d.SetProof(proof())
		d.SetProof(proof())
		require.JSONEq(t, `{"odd":"1","auth":{"client_id":"app"}}`, string(d.Extra().JSON()))
		require.Equal(t, "hi", d.Data.Get("PARAMS", "MESSAGE").Text())
		require.Equal(t, "ONIMBOTMESSAGEADD", d.Name)
		require.EqualValues(t, "an-access-token", d.Auth.AccessToken)
		require.NotContains(t, string(d.Data.JSON()), "evil")
	}
}

func TestExtraIsRedacted(t *testing.T) {
	t.Parallel()
	d, err := event.Parse(formType, []byte("event=ONX&auth[access_token]=planted-access&note=planted-access&auth[refresh_token][]=planted-refresh"))
	require.NoError(t, err)
	require.Contains(t, string(d.Extra().JSON()), "planted-access")
	text := fmt.Sprintf("%v %+v", d.Extra(), d.Extra())
	require.NotContains(t, text, "planted")
	require.Contains(t, text, "note")
}

// TestUnknownKeysOfAuthAreRedacted: an undocumented key may be a secret. Extra returns it as it
// arrived.
func TestUnknownKeysOfAuthAreRedacted(t *testing.T) {
	t.Parallel()
	const planted = "planted-0123456789"
	for name, body := range map[string]string{
		"form":              "event=ONX&auth[grant]=" + planted,
		"second block":      "event=ONX&auth[member_id]=m&AUTH[grant]=" + planted,
		"nested":            "event=ONX&auth[grant][a][]=" + planted,
		"look-alike letter": "event=ONX&auth[access_to%E2%84%AAen]=" + planted,
		"JSON":              `{"event":"ONX","auth":{"grant":"` + planted + `"}}`,
		"offline record":    `{"EVENT_NAME":"ONX","auth":{"grant":"` + planted + `"}}`,
		"no event":          "workflow_id=1&auth[grant]=" + planted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse("", []byte(body))
			require.NoError(t, err)
			require.Contains(t, string(d.Extra().JSON())+string(d.Data.JSON()), planted)
			stored, err := event.ParseStored(d.AppendStored(nil))
			require.NoError(t, err)
			for _, d := range []*event.Delivery{d, stored} {
				doc, err := json.Marshal(d)
				require.NoError(t, err)
				require.NotContains(t, string(doc), planted)
				require.NotContains(t, fmt.Sprintf("%v %+v %#v %v", d, *d, d.Extra(), d.Data), planted)
				require.NotContains(t, d.Redact("failed for "+planted), planted)
			}
		})
	}
}

func TestExtraOfOtherKinds(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"hello=world", "AUTH_ID=1&x=y", "workflow_id=1&auth=2"} {
		d, err := event.Parse(formType, []byte(body))
		require.NoError(t, err)
		require.True(t, d.Extra().IsZero(), "Data has it all")
	}
	require.True(t, new(event.Delivery).Extra().IsZero())
}

// TestBracketsInJSON: brackets do not nest there, but such keys are not lost.
func TestBracketsInJSON(t *testing.T) {
	t.Parallel()
	d, err := event.Parse("application/json", []byte(`{"event":"ONX","data[FIELDS][ID]":1,"auth[member_id]":"m1"}`))
	require.NoError(t, err)
	require.True(t, d.Data.IsZero())
	require.Empty(t, d.Auth.MemberID)
	require.JSONEq(t, `{"data[FIELDS][ID]":1,"auth[member_id]":"m1"}`, string(d.Extra().JSON()))
}

func TestScope(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		scope event.Scope
		want  []string
	}{
		"commas":           {"crm,task", []string{"crm", "task"}},
		"commas and space": {"crm, task", []string{"crm", "task"}},
		"spaces":           {"crm task", []string{"crm", "task"}},
		"one":              {"crm", []string{"crm"}},
		"made":             {event.ScopeOf("crm", "task"), []string{"crm", "task"}},
		"none":             {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, tc.scope.List())
			for _, permission := range tc.want {
				require.True(t, tc.scope.Has(permission))
				require.True(t, tc.scope.Has(strings.ToUpper(permission)))
			}
			require.False(t, tc.scope.Has("cr"))
			require.False(t, tc.scope.Has(""))
		})
	}
}

const robotCall = "document_id[0]=crm&document_id[1]=CCrmDocumentDeal&document_id[2]=DEAL_42&auth[member_id]=m1&auth[domain]=p.bitrix24.com"

// TestQueryOfOtherBodies: the query is data. It makes no event and no identity.
func TestQueryOfOtherBodies(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target, body string
		kind         event.Kind
		data         string // JSON of what the query adds to the body's
		member       string
	}{
		"nothing":       {"/hook", robotCall, event.KindUnknown, `{}`, "m1"},
		"values":        {"/hook?deal_id=42&stage=WON", robotCall, event.KindUnknown, `{"deal_id":"42","stage":"WON"}`, "m1"},
		"an event":      {"/hook?event=ONCRMDEALUPDATE&deal_id=42", robotCall, event.KindUnknown, `{"event":"ONCRMDEALUPDATE","deal_id":"42"}`, "m1"},
		"a record":      {"/hook?EVENT_NAME=ONCRMDEALUPDATE", robotCall, event.KindUnknown, `{"EVENT_NAME":"ONCRMDEALUPDATE"}`, "m1"},
		"data":          {"/hook?data[x]=1", robotCall, event.KindUnknown, `{"data":{"x":"1"}}`, "m1"},
		"the body wins": {"/hook?document_id=7&DOCUMENT_ID=8", robotCall, event.KindUnknown, `{}`, "m1"},
		"auth":          {"/hook?auth[member_id]=evil&Auth=evil", robotCall, event.KindUnknown, `{}`, "m1"},
		"auth alone":    {"/hook?auth[member_id]=evil", "hello=world", event.KindUnknown, `{}`, ""},
		"a handler":     {"/hook?AUTH_ID=evil&workflow_id=2&x=1", "workflow_id=1&code=c", event.KindHandler, `{"AUTH_ID":"evil","x":"1"}`, ""},
		"a page":        {"/hook?DOMAIN=d&PROTOCOL=1&LANG=en&APP_SID=s&event=ONX&member_id=evil&x=1", "AUTH_ID=a", event.KindFrame, `{"DOMAIN":"d","PROTOCOL":"1","LANG":"en","APP_SID":"s"}`, ""},
		"a page alone":  {"/hook?AUTH_ID=evil&DOMAIN=d&APP_SID=s", "x=1", event.KindUnknown, `{"AUTH_ID":"evil","DOMAIN":"d","APP_SID":"s"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alone, err := event.Parse(formType, []byte(tc.body))
			require.NoError(t, err)
			d, err := event.ParseRequest(request(t, tc.target, formType, strings.NewReader(tc.body)))
			require.NoError(t, err)
			require.Equal(t, tc.kind, d.Kind)
			require.Empty(t, d.Name)
			require.Equal(t, tc.member, d.Auth.MemberID)
			require.Equal(t, alone.Auth.AccessToken, d.Auth.AccessToken)
			want, ok := alone.Data.Value().(map[string]any)
			require.True(t, ok)
			added := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(tc.data), &added))
			maps.Copy(want, added)
			require.Equal(t, want, d.Data.Value())
		})
	}
}

// TestBodyThatWasReadBefore: a middleware that calls r.FormValue consumes the body.
func TestBodyThatWasReadBefore(t *testing.T) {
	t.Parallel()
	read := func(t *testing.T, target, body string) *http.Request {
		t.Helper()
		r := request(t, target, formType, strings.NewReader(body))
		require.Empty(t, r.FormValue("_method"))
		return r
	}
	t.Run("event", func(t *testing.T) {
		t.Parallel()
		want, err := event.Parse(formType, []byte(contactAdd))
		require.NoError(t, err)
		d, err := event.ParseRequest(read(t, "/", contactAdd))
		require.NoError(t, err)
		require.Equal(t, want.Auth, d.Auth)
		require.Equal(t, want.Data.JSON(), d.Data.JSON())
		require.Equal(t, want.Time, d.Time)
	})
	t.Run("the query is none of it", func(t *testing.T) {
		t.Parallel()
		d, err := event.ParseRequest(read(t, "/?event=ONY&x=1", robotCall))
		require.NoError(t, err)
		require.Equal(t, event.KindUnknown, d.Kind)
		require.Equal(t, "1", d.Data.Get("x").Text())
		require.Equal(t, "DEAL_42", d.Data.Get("document_id", "2").Text())
	})
	t.Run("read as something else", func(t *testing.T) {
		t.Parallel()
		r := request(t, "/", formType, strings.NewReader(contactAdd))
		r.Body = http.NoBody
		_, err := event.ParseRequest(r)
		require.ErrorIs(t, err, event.ErrMalformed)
		require.ErrorContains(t, err, "read it before")
	})
}
