package event_test

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

// storedForms are deliveries of every kind, by the name of their golden file.
func storedForms(tb testing.TB) map[string]*event.Delivery {
	tb.Helper()
	parse := func(body string) *event.Delivery {
		d, err := event.Parse(formType, []byte(body))
		require.NoError(tb, err)
		return d
	}
	proof := event.Proof{
		By: event.ProofInstallation, ClientID: "local.1", MemberID: "a223c6b3710f85df22e9377d6c4f7553",
		ClientEndpoint: "https://acme.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
	}
	deal := parse("event=ONCRMDEALUPDATE&event_handler_id=95&data[FIELDS][ID]=7&ts=1765368003" +
		"&auth[domain]=acme.bitrix24.com&auth[client_endpoint]=https%3A%2F%2Facme.bitrix24.com%2Frest%2F" +
		"&auth[access_token]=access&auth[refresh_token]=refresh&auth[application_token]=application&auth[expires_in]=3600" +
		"&auth[scope]=crm%2Ctask&auth[member_id]=a223c6b3710f85df22e9377d6c4f7553&auth[user_id]=1&auth[status]=L")
	deal.Source = event.SourceOnline
	deal.SetProof(proof)
	bot := parse("event=ONIMBOTMESSAGEADD&data[BOT][7][AUTH][access_token]=bot&data[BOT][7][AUTH][domain]=evil.example" +
		"&data[BOT][7][AUTH][member_id]=a223c6b3710f85df22e9377d6c4f7553&data[PARAMS][MESSAGE]=%FF%00%D0%9F&auth[access_token]=a")
	bot.SetProof(proof)
	record, err := event.ParseRecord(json.RawMessage(`{"ID":"12","TIMESTAMP_X":"2025-12-10T15:00:03+03:00","EVENT_NAME":"ONTASKADD",` +
		`"EVENT_DATA":{"FIELDS_AFTER":{"ID":8017,"X":1.50,"Y":true,"N":false,"Z":null,"L":[]}},"EVENT_ADDITIONAL":{"user_id":1,"more":2},` +
		`"MESSAGE_ID":"182c725fd7969ecbfb0695b95a7f1acd","PROCESS_ID":"p","UNKNOWN":{"a":[1,"2"]}}`))
	require.NoError(tb, err)
	made := &event.Delivery{Kind: event.KindEvent, Name: "ONMYEVENT", Time: time.Date(2025, 1, 2, 3, 4, 5, 6, time.UTC)}
	made.Data, err = event.NewData(map[string]any{"a": []int{1, 2}})
	require.NoError(tb, err)
	return map[string]*event.Delivery{
		"deal":    deal,
		"bot":     bot,
		"extra":   parse("event=ONX&extra=1&auth[client_id]=2&auth[user_id]=robot&ts=later&data[x][]=1&data[x][]=2&data[y][7]=z"),
		"record":  record,
		"page":    parse("AUTH_ID=a&REFRESH_ID=r&DOMAIN=acme.bitrix24.com&member_id=m&APPLICATION_TOKEN=t"),
		"handler": parse("workflow_id=1&document_id[]=crm&document_id[]=DEAL_42&auth[member_id]=m"),
		"made":    made,
		"empty":   {},
	}
}

// requireSame checks that nothing of a delivery differs.
func requireSame(tb testing.TB, want, got *event.Delivery) {
	tb.Helper()
	type envelope struct {
		kind                 event.Kind
		source               event.Source
		name, message, batch string
		handler, id          int64
		fired                time.Time
		auth                 event.Auth
		proof                event.Proof
	}
	of := func(d *event.Delivery) envelope {
		return envelope{d.Kind, d.Source, d.Name, d.MessageID, d.ProcessID, d.HandlerID, d.ID, d.Time, d.Auth, d.Proof}
	}
	require.Equal(tb, of(want), of(got))
	require.Equal(tb, want.Data.Value(), got.Data.Value())
	require.Equal(tb, want.Extra().Value(), got.Extra().Value())
	require.Equal(tb, string(want.Data.JSON()), string(got.Data.JSON()), "order and types")
	require.Equal(tb, string(want.Extra().JSON()), string(got.Extra().JSON()))
	require.Equal(tb, want.Key(), got.Key())
	require.Equal(tb, want.Entity(), got.Entity())
}

func TestStoredDeliveries(t *testing.T) {
	t.Parallel()
	for name, d := range storedForms(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := d.AppendStored(nil)
			got, err := event.ParseStored(doc)
			require.NoError(t, err)
			requireSame(t, d, got)
			require.Equal(t, doc, got.AppendStored(nil))
			require.Equal(t, append([]byte("before"), doc...), d.AppendStored([]byte("before")))
			clear(doc)
			requireSame(t, d, got)
		})
	}
}

// TestStoredVersion1 reads files that version 1 of the format wrote. They must stay readable.
func TestStoredVersion1(t *testing.T) {
	t.Parallel()
	for name, d := range storedForms(t) {
		file := filepath.Join("testdata", "stored", name+".v1")
		if *update {
			require.NoError(t, os.WriteFile(file, d.AppendStored(nil), 0o600))
		}
		doc, err := os.ReadFile(file) //nolint:gosec // a golden file
		require.NoError(t, err)
		got, err := event.ParseStored(doc)
		require.NoError(t, err)
		requireSame(t, d, got)
	}
}

func TestStoredRefusals(t *testing.T) {
	t.Parallel()
	d := storedForms(t)["deal"]
	doc := d.AppendStored(nil)
	changed := func(at int, b byte) []byte {
		c := append([]byte(nil), doc...)
		c[at] = b
		return c
	}
	redacted, err := d.MarshalJSON()
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		doc  []byte
		says string
	}{
		"nothing":       {nil, "does not begin as one"},
		"JSON":          {redacted, "does not begin as one"},
		"a form":        {[]byte("event=ONCRMDEALADD"), "does not begin as one"},
		"a newer one":   {changed(4, 2), "has version 2"},
		"just a head":   {doc[:5], "cut short"},
		"one bit":       {changed(40, doc[40]^1), "damaged"},
		"a wrong sum":   {changed(len(doc)-1, doc[len(doc)-1]^1), "damaged"},
		"a part":        {doc[:len(doc)/2], "damaged"},
		"more than one": {append(append([]byte(nil), doc...), doc...), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := event.ParseStored(tc.doc)
			require.ErrorIs(t, err, event.ErrStored)
			require.ErrorContains(t, err, tc.says)
			require.Nil(t, got)
		})
	}
}

func TestDeliveriesDoNotComeBackFromJSON(t *testing.T) {
	t.Parallel()
	type job struct {
		Attempt  int            `json:"attempt"`
		Delivery event.Delivery `json:"delivery"`
	}
	d := storedForms(t)["deal"]
	doc, err := json.Marshal(job{1, *d})
	require.NoError(t, err)
	var back job
	require.ErrorIs(t, json.Unmarshal(doc, &back), event.ErrStored)
	inClear, err := d.MarshalUnredacted()
	require.NoError(t, err)
	for _, foreign := range [][]byte{inClear, []byte(`{}`), []byte(`{"event":"ONCRMDEALADD"}`), []byte(`"x"`)} {
		var got event.Delivery
		require.ErrorIs(t, json.Unmarshal(foreign, &got), event.ErrStored)
		require.Empty(t, got.Name)
	}
	require.NoError(t, json.Unmarshal([]byte(`{"attempt":1,"delivery":null}`), &back), "null changes nothing")
}

// FuzzStored reads any fields between a valid head and a valid checksum.
func FuzzStored(f *testing.F) {
	const head, sum = "b24d\x01", 4
	for _, d := range storedForms(f) {
		doc := d.AppendStored(nil)
		f.Add(doc[len(head) : len(doc)-sum])
	}
	f.Fuzz(func(t *testing.T, fields []byte) {
		doc := append([]byte(head), fields...)
		doc = binary.LittleEndian.AppendUint32(doc, crc32.Checksum(doc, crc32.MakeTable(crc32.Castagnoli)))
		d, err := event.ParseStored(doc)
		if err != nil {
			require.ErrorIs(t, err, event.ErrStored)
			return
		}
		again := d.AppendStored(nil)
		got, err := event.ParseStored(again)
		require.NoError(t, err)
		requireSame(t, d, got)
	})
}

// FuzzStoredBody stores posted bodies.
func FuzzStoredBody(f *testing.F) {
	f.Add(formType, "event=ONX&data[a][]=1&data[a][]=2&extra=%FF&auth[member_id]=m&auth[x]=y")
	f.Add("application/json", `{"event":"ONX","data":{"a":[1,2.50,null,true,"x"]},"more":{"b":{}},"auth":{"user_id":"x"}}`)
	f.Add("application/json", `{"EVENT_NAME":"ONX","EVENT_DATA":false,"ID":7,"EVENT_ADDITIONAL":{"user_id":1}}`)
	f.Add(formType, strings.Repeat("data[][]&", 40)+"event=x")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		d, err := event.Parse(contentType, []byte(body))
		if err != nil {
			return
		}
		d.SetProof(event.Proof{By: event.ProofWebhook, MemberID: d.ClaimedMemberID(), ClientEndpoint: "https://acme.bitrix24.com/rest/"})
		got, err := event.ParseStored(d.AppendStored(nil))
		require.NoError(t, err)
		requireSame(t, d, got)
	})
}
