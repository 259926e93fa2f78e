package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

const formType = "application/x-www-form-urlencoded"

// contactAdd is a delivery as portals send it, tokens replaced.
const contactAdd = "event=ONCRMCONTACTADD&event_handler_id=58&data%5BFIELDS%5D%5BID%5D=134806&ts=1727018926" +
	"&auth%5Baccess_token%5D=access-secret-1&auth%5Bexpires%5D=1727022526&auth%5Bexpires_in%5D=3600" +
	"&auth%5Bscope%5D=crm%2Cplacement%2Cuser_brief&auth%5Bdomain%5D=p.bitrix24.com" +
	"&auth%5Bserver_endpoint%5D=https%3A%2F%2Foauth.bitrix.info%2Frest%2F&auth%5Bstatus%5D=L" +
	"&auth%5Bclient_endpoint%5D=https%3A%2F%2Fp.bitrix24.com%2Frest%2F&auth%5Bmember_id%5D=m1" +
	"&auth%5Buser_id%5D=1&auth%5Bapplication_token%5D=application-secret-1"

func TestParseForm(t *testing.T) {
	t.Parallel()
	d, err := event.Parse(formType, []byte(contactAdd))
	require.NoError(t, err)
	require.Equal(t, event.KindEvent, d.Kind)
	require.Equal(t, "ONCRMCONTACTADD", d.Name)
	require.EqualValues(t, 58, d.HandlerID)
	require.Equal(t, time.Date(2024, 9, 22, 15, 28, 46, 0, time.UTC), d.Time)
	require.Empty(t, d.Source)
	require.Equal(t, event.Auth{
		AccessToken: "access-secret-1", ApplicationToken: "application-secret-1",
		Expires: time.Unix(1727022526, 0).UTC(), Scope: "crm,placement,user_brief",
		Domain: "p.bitrix24.com", MemberID: "m1", ServerEndpoint: "https://oauth.bitrix.info/rest/",
		ClientEndpoint: "https://p.bitrix24.com/rest/", Status: "L", UserID: 1,
	}, d.Auth)
	require.Equal(t, map[string]any{"FIELDS": map[string]any{"ID": "134806"}}, d.Data.Value())
	require.JSONEq(t, `{"FIELDS":{"ID":"134806"}}`, string(d.Data.JSON()))
	require.Equal(t, event.Entity{Kind: "crm.contact", ID: "134806"}, d.Entity())
}

func TestParseEnvelopeVariants(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		contentType, body string
		check             func(*testing.T, *event.Delivery)
	}{
		"charset parameter": {"application/x-www-form-urlencoded; charset=UTF-8", "event=ONX", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.Equal(t, "ONX", d.Name)
		}},
		"upper-case media type": {"Application/X-WWW-Form-URLEncoded", "event=ONX", nil},
		"no content type, form": {"", "event=ONX", nil},
		"no content type, JSON": {"", ` {"event":"onx"}`, func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.Equal(t, "ONX", d.Name)
		}},
		"JSON suffix":     {"application/vnd.b24+json", `{"event":"ONX"}`, nil},
		"mixed-case name": {formType, "event=onCrmDealAdd", func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "ONCRMDEALADD", d.Name) }},
		"only a name": {formType, "event=ONX", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.True(t, d.Data.IsZero())
			require.Zero(t, d.Time)
		}},
		"eventId for handler": {formType, "event=ONX&eventId=7", func(t *testing.T, d *event.Delivery) { t.Helper(); require.EqualValues(t, 7, d.HandlerID) }},
		"scalar data":         {formType, "event=ONIMCONNECTORLINEDELETE&data=107", func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "107", d.Data.Text()) }},
		"numbers in JSON": {"application/json", `{"event":"ONX","event_handler_id":7,"ts":1727018926,"data":{"FIELDS":{"ID":21}},"auth":{"user_id":3,"expires_in":60}}`, func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.EqualValues(t, 7, d.HandlerID)
			require.EqualValues(t, 3, d.Auth.UserID)
			require.Equal(t, d.Time.Add(time.Minute), d.Auth.Expires, "expires_in counts from ts")
			require.Equal(t, map[string]any{"FIELDS": map[string]any{"ID": json.Number("21")}}, d.Data.Value())
		}},
		"empty sections": {"application/json", `{"event":"ONX","data":[],"auth":false,"ts":"","event_handler_id":null}`, func(t *testing.T, d *event.Delivery) { t.Helper(); require.True(t, d.Data.IsZero()) }},
		"scope with space": {formType, "event=ONX&auth[scope]=imconnector,+imopenlines", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.Equal(t, []string{"imconnector", "imopenlines"}, d.Auth.Scope.List())
		}},
		"scope as list": {formType, "event=ONX&auth[scope][0]=crm&auth[scope][1]=task", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.Equal(t, []string{"crm", "task"}, d.Auth.Scope.List())
		}},
		"bare brackets":    {formType, "event=ONX&data[a][b]=1", func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "1", d.Data.Get("A", "B").Text()) }},
		"order irrelevant": {formType, "auth[member_id]=m&data[x]=1&event=ONX", func(t *testing.T, d *event.Delivery) { t.Helper(); require.Equal(t, "m", d.Auth.MemberID) }},
		"absurd expires_in": {formType, "event=ONX&ts=1727018926&auth[expires_in]=999999999999", func(t *testing.T, d *event.Delivery) {
			t.Helper()
			require.Equal(t, d.Time.Add(366*24*time.Hour), d.Auth.Expires)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse(tc.contentType, []byte(tc.body))
			require.NoError(t, err)
			require.Equal(t, event.KindEvent, d.Kind)
			if tc.check != nil {
				tc.check(t, d)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	deep := "event=ONX&data" + strings.Repeat("[a]", 5000) + "=1"
	for name, tc := range map[string]struct {
		contentType, body string
		want              error
	}{
		"empty":               {formType, "", event.ErrMalformed},
		"only separators":     {formType, "&&&", event.ErrMalformed},
		"empty JSON":          {"application/json", "", event.ErrMalformed},
		"JSON scalar":         {"application/json", "7", event.ErrMalformed},
		"JSON cut short":      {"application/json", `{"event":"ONX"`, event.ErrMalformed},
		"JSON with a tail":    {"application/json", `{"event":"ONX"}{}`, event.ErrMalformed},
		"empty name":          {formType, "event=&data[x]=1", event.ErrMalformed},
		"name is an array":    {formType, "event[a]=1", event.ErrMalformed},
		"name with a newline": {formType, "event=ON%0AX", event.ErrMalformed},
		"name too long":       {formType, "event=" + strings.Repeat("A", 256), event.ErrMalformed},
		"too deep":            {formType, deep, event.ErrTooLarge},
		"too deep in JSON":    {"application/json", `{"event":"ONX","data":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", event.ErrTooLarge},
		"too many keys":       {formType, "event=ONX" + strings.Repeat("&a[]=1", 200_000), event.ErrTooLarge},
		"multipart":           {"multipart/form-data; boundary=x", "event=ONX", event.ErrContentType},
		"text":                {"text/plain", "event=ONX", event.ErrContentType},
		"nonsense type":       {";;;", "event=ONX", event.ErrContentType},
		"offline name":        {"application/json", `{"EVENT_NAME":7}`, event.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := event.Parse(tc.contentType, []byte(tc.body))
			require.ErrorIs(t, err, tc.want)
			require.Less(t, len(err.Error()), 200)
		})
	}
}

func TestParseTellsKindsApart(t *testing.T) {
	t.Parallel()
	frame := "DOMAIN=p.bitrix24.com&PROTOCOL=1&LANG=en&APP_SID=sid&AUTH_ID=frame-access&AUTH_EXPIRES=3600&REFRESH_ID=frame-refresh" +
		"&SERVER_ENDPOINT=https%3A%2F%2Foauth.bitrix.info%2Frest%2F&APPLICATION_TOKEN=frame-app&APPLICATION_SCOPE=crm,task" +
		"&member_id=m1&status=L&PLACEMENT=DEFAULT&PLACEMENT_OPTIONS=%7B%22any%22%3A%22x%22%7D"
	robot := "workflow_id=5f.1&code=my_robot&document_id[0]=crm&document_id[1]=CCrmDocumentDeal&document_id[2]=DEAL_21" +
		"&event_token=robot-secret&properties[a]=1&ts=1727018926&auth[access_token]=robot-access&auth[member_id]=m1&auth[application_token]=robot-app"
	for name, tc := range map[string]struct {
		body string
		kind event.Kind
		auth event.Auth
	}{
		"application page": {frame, event.KindFrame, event.Auth{
			AccessToken: "frame-access", RefreshToken: "frame-refresh", ApplicationToken: "frame-app", Scope: "crm,task",
			Domain: "p.bitrix24.com", MemberID: "m1", ServerEndpoint: "https://oauth.bitrix.info/rest/", Status: "L",
		}},
		"automation rule":              {robot, event.KindHandler, event.Auth{AccessToken: "robot-access", ApplicationToken: "robot-app", MemberID: "m1"}},
		"activity without workflow_id": {"code=x&document_id[]=crm", event.KindHandler, event.Auth{}},
		"anything else":                {"hello=world", event.KindUnknown, event.Auth{}},
		"an event wins":                {"event=ONX&AUTH_ID=1&workflow_id=2", event.KindEvent, event.Auth{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse(formType, []byte(tc.body))
			require.NoError(t, err)
			require.Equal(t, tc.kind, d.Kind)
			require.Equal(t, tc.auth, d.Auth)
			if d.Kind != event.KindEvent {
				require.Empty(t, d.Name)
				require.Equal(t, strings.Count(tc.body, "="), countLeaves(d.Data.Value()), "the whole body is kept")
			}
		})
	}
}

func countLeaves(v any) int {
	n := 0
	switch x := v.(type) {
	case map[string]any:
		for _, e := range x {
			n += countLeaves(e)
		}
	case []any:
		for _, e := range x {
			n += countLeaves(e)
		}
	default:
		n = 1
	}
	return n
}

func TestParseRecord(t *testing.T) {
	t.Parallel()
	const moment = "2026-05-11T10:00:00+03:00"
	for name, tc := range map[string]struct {
		record string
		want   func(*testing.T, *event.Delivery)
	}{
		"as portals send it": {
			`{"ID":"12","TIMESTAMP_X":"` + moment + `","EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":{"FIELDS":{"ID":7405}},"EVENT_ADDITIONAL":{"user_id":3},"MESSAGE_ID":"182c725fd7969ecbfb0695b95a7f1acd","PROCESS_ID":"p1"}`,
			func(t *testing.T, d *event.Delivery) {
				t.Helper()
				require.EqualValues(t, 12, d.ID)
				require.Equal(t, "182c725fd7969ecbfb0695b95a7f1acd", d.MessageID)
				require.Equal(t, "p1", d.ProcessID)
				require.EqualValues(t, 3, d.Auth.UserID)
				require.Equal(t, time.Date(2026, 5, 11, 7, 0, 0, 0, time.UTC), d.Time)
				require.Equal(t, event.Entity{Kind: "crm.deal", ID: "7405"}, d.Entity())
			},
		},
		"as the documentation shows it": {
			`{"ID":12,"TIMESTAMP_X":"` + moment + `","EVENT_NAME":"ONCRMDEALUPDATE","EVENT_DATA":false,"EVENT_ADDITIONAL":false,"MESSAGE_ID":"1"}`,
			func(t *testing.T, d *event.Delivery) {
				t.Helper()
				require.True(t, d.Data.IsZero())
				require.Equal(t, "1", d.MessageID)
			},
		},
		"null data, user as text": {
			`{"ID":1,"EVENT_NAME":"ontaskadd","EVENT_DATA":null,"EVENT_ADDITIONAL":{"user_id":"9"}}`,
			func(t *testing.T, d *event.Delivery) {
				t.Helper()
				require.Equal(t, "ONTASKADD", d.Name)
				require.EqualValues(t, 9, d.Auth.UserID)
				require.Zero(t, d.Time)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.ParseRecord([]byte(tc.record))
			require.NoError(t, err)
			require.Equal(t, event.SourceOffline, d.Source)
			tc.want(t, d)
			same, err := event.Parse("application/json", []byte(tc.record))
			require.NoError(t, err)
			require.Equal(t, d, same, "Parse takes a record too")
		})
	}
	_, err := event.ParseRecord([]byte(`{"ID":1}`))
	require.ErrorIs(t, err, event.ErrMalformed)
	_, err = event.ParseRecord([]byte(`[`))
	require.ErrorIs(t, err, event.ErrMalformed)
}

func request(t *testing.T, target, contentType string, body io.Reader) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, body)
	r.Header.Set("Content-Type", contentType)
	return r
}

func TestParseRequest(t *testing.T) {
	t.Parallel()
	t.Run("event", func(t *testing.T) {
		t.Parallel()
		d, err := event.ParseRequest(request(t, "/?DOMAIN=evil.example&event=ONY", formType, strings.NewReader("event=ONX&data[a]=1")))
		require.NoError(t, err)
		require.Equal(t, "ONX", d.Name)
		require.Equal(t, map[string]any{"a": "1"}, d.Data.Value(), "the query is no part of an event")
	})
	t.Run("application page with half of its fields in the query", func(t *testing.T) {
		t.Parallel()
		d, err := event.ParseRequest(request(t, "/?DOMAIN=p.bitrix24.com&APP_SID=s&member_id=other", formType, strings.NewReader("AUTH_ID=a&member_id=m1")))
		require.NoError(t, err)
		require.Equal(t, event.KindFrame, d.Kind)
		require.Equal(t, "p.bitrix24.com", d.Auth.Domain)
		require.Equal(t, "m1", d.Auth.MemberID, "the body wins")
	})
	t.Run("no body", func(t *testing.T) {
		t.Parallel()
		r := request(t, "/", formType, nil)
		r.Body = nil
		_, err := event.ParseRequest(r)
		require.ErrorIs(t, err, event.ErrMalformed)
	})
	t.Run("limit of MaxBytesReader", func(t *testing.T) {
		t.Parallel()
		r := request(t, "/", formType, strings.NewReader("event="+strings.Repeat("a", 100)))
		r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 50)
		_, err := event.ParseRequest(r)
		var mbe *http.MaxBytesError
		require.ErrorAs(t, err, &mbe)
	})
	t.Run("limit of its own", func(t *testing.T) {
		t.Parallel()
		_, err := event.ParseRequest(request(t, "/", formType, strings.NewReader("event="+strings.Repeat("a", event.MaxBodyBytes))))
		require.ErrorIs(t, err, event.ErrTooLarge)
	})
	t.Run("content type is judged before the body is read", func(t *testing.T) {
		t.Parallel()
		_, err := event.ParseRequest(request(t, "/", "text/html", failingReader{}))
		require.ErrorIs(t, err, event.ErrContentType)
	})
	t.Run("body that breaks off", func(t *testing.T) {
		t.Parallel()
		_, err := event.ParseRequest(request(t, "/", formType, failingReader{}))
		require.ErrorIs(t, err, errBroken)
	})
	t.Run("hostile query", func(t *testing.T) {
		t.Parallel()
		_, err := event.ParseRequest(request(t, "/?a"+strings.Repeat("[b]", 3000)+"=1", formType, strings.NewReader("AUTH_ID=a")))
		require.ErrorIs(t, err, event.ErrTooLarge)
	})
}

var errBroken = errors.New("connection lost")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }

func TestKey(t *testing.T) {
	t.Parallel()
	base := "event=ONCRMDEALUPDATE&ts=1727018926&event_handler_id=5&data[FIELDS][ID]=21&auth[member_id]=m1"
	key := delivery(t, base).Key()
	require.Len(t, key, 32)
	require.Equal(t, key, delivery(t, base+"&auth[access_token]=whatever").Key(), "tokens differ from call to call")
	for name, other := range map[string]string{
		"name":    strings.Replace(base, "UPDATE", "ADD", 1),
		"time":    strings.Replace(base, "926", "927", 1),
		"handler": strings.Replace(base, "_id=5", "_id=6", 1),
		"data":    strings.Replace(base, "=21", "=22", 1),
		"portal":  strings.Replace(base, "=m1", "=m2", 1),
	} {
		require.NotEqual(t, key, delivery(t, other).Key(), name)
	}
}

// TestNothingPrintsSecrets plants a secret in every place of a body and looks for it in everything
// that prints.
func TestNothingPrintsSecrets(t *testing.T) {
	t.Parallel()
	form := url.Values{
		"event": {"ONIMBOTMESSAGEADD"}, "ts": {"1727018926"},
		"data[BOT][7][access_token]": {"planted-bot-access"}, "data[BOT][7][AUTH][refresh_token]": {"planted-bot-refresh"},
		"data[BOT][7][application_token]": {"planted-bot-app"}, "data[PARAMS][MESSAGE]": {"echo of planted-access in a text"},
		"auth[access_token]": {"planted-access"}, "auth[refresh_token]": {"planted-refresh"},
		"auth[application_token]": {"planted-app"}, "auth[member_id]": {"m1"},
	}
	d := delivery(t, form.Encode())
	var payload event.BotMessage
	require.NoError(t, d.Data.Decode(&payload))
	require.Equal(t, event.Secret("planted-bot-access"), payload.Bots["7"].AccessToken)
	frame := delivery(t, "AUTH_ID=planted-auth-id&REFRESH_ID=planted-refresh-id&APPLICATION_TOKEN=planted-app&DOMAIN=p")
	for _, v := range []any{d, *d, d.Auth, &d.Auth, d.Data, payload, &payload, frame, frame.Auth, frame.Data, d.Auth.AccessToken} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			// The echo in a chat message is a known secret only to the delivery as a whole.
			require.NotContains(t, strings.ReplaceAll(fmt.Sprintf(verb, v), "echo of planted-access", ""), "planted", "%s of %T", verb, v)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		require.NotContains(t, strings.ReplaceAll(string(text), "echo of planted-access", ""), "planted", "JSON of %T", v)
	}
	text, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(text), `"m1"`)
	require.NotContains(t, string(text), "planted", "the delivery knows its tokens, also where a message in data or payload repeats them")
	inClear, err := d.MarshalUnredacted()
	require.NoError(t, err)
	for _, secret := range []string{"planted-bot-access", "planted-bot-refresh", "planted-bot-app"} {
		require.Equal(t, 2, strings.Count(string(inClear), `"`+secret+`"`), "once in data, once in the payload")
	}
}

// TestRedactionKeepsTheJSON covers a token that seems to stand in the text of a payload only
// because an escape ends in its first letter.
func TestRedactionKeepsTheJSON(t *testing.T) {
	t.Parallel()
	d := delivery(t, "event=ONIMBOTMESSAGEADD&data[PARAMS][MESSAGE]=%0Aabcdefgh&auth[access_token]=nabcdefgh")
	text, err := json.Marshal(d)
	require.NoError(t, err)
	var got struct {
		Payload event.BotMessage `json:"payload"`
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.Equal(t, "\nabcdefgh", got.Payload.Params.Message)
}

func FuzzParse(f *testing.F) {
	f.Add(formType, contactAdd)
	f.Add("", "event=ONTASKADD&data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=1")
	f.Add("application/json", `{"event":"ONCRMDEALADD","data":{"FIELDS":{"ID":"7"}},"auth":{"member_id":"m"}}`)
	f.Add("application/json", `{"EVENT_NAME":"ONCRMDEALADD","EVENT_DATA":{"FIELDS":{"ID":7}}}`)
	f.Add(formType, "AUTH_ID=a&DOMAIN=d&member_id=m")
	f.Add(formType, "workflow_id=1&document_id[]=crm&auth[member_id]=m")
	f.Add(formType, "event=ONIMBOTMESSAGEADD&data[BOT][7][AUTH][access_token]=t&data[PARAMS][MESSAGE]=hi")
	f.Add(formType, "data[BOT=1&event=x")
	f.Add(formType, "event=ONIMBOTMESSAGEADD&data[PARAMS][MESSAGE]=%0Aabcdefgh+nabcdefgh&auth[access_token]=nabcdefgh")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		d, err := event.Parse(contentType, []byte(body))
		if err != nil {
			if !errors.Is(err, event.ErrMalformed) && !errors.Is(err, event.ErrTooLarge) && !errors.Is(err, event.ErrContentType) {
				t.Fatalf("unclassed error %v", err)
			}
			return
		}
		if most := int64(2*len(body) + 512); d.Size() > most {
			t.Fatalf("it holds %d bytes, more than %d", d.Size(), most)
		}
		_, _, _ = d.FetchCall()
		_ = d.Key()
		_ = d.Entity()
		if info, ok := event.Lookup(d.Name); ok {
			if _, err := info.Payload(d); err != nil && !errors.Is(err, event.ErrMalformed) {
				t.Fatalf("unclassed payload error %v", err)
			}
		}
		if !json.Valid(d.Extra().JSON()) {
			t.Fatal("extra is no JSON")
		}
		proven, _ := event.Parse(contentType, []byte(body))
		proven.SetProof(event.Proof{By: event.ProofInstallation, MemberID: "m", ClientEndpoint: "https://p.bitrix24.com/rest/"})
		if most := int64(2*len(body) + 512); proven.Size() > most {
			t.Fatalf("it holds %d bytes, more than %d", proven.Size(), most)
		}
		if !bytes.Equal(proven.Extra().JSON(), d.Extra().JSON()) {
			t.Fatal("the proof changes what is extra")
		}
		for _, marshal := range []func() ([]byte, error){d.MarshalJSON, d.MarshalUnredacted} {
			text, err := marshal()
			if err != nil || !json.Valid(text) {
				t.Fatalf("no JSON: %v", err)
			}
		}
		for _, secret := range []event.Secret{d.Auth.AccessToken, d.Auth.RefreshToken, d.Auth.ApplicationToken} {
			if len(secret) >= 16 && strings.Contains(fmt.Sprintf("%+v", d), string(secret)) && !strings.Contains(d.Name+d.Auth.MemberID, string(secret)) {
				t.Fatal("a token was printed")
			}
		}
	})
}
