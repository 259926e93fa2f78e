package eventtest_test

import (
	"encoding/base64"
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// requestCase is a request, and PHP code for the values that http_build_query encodes to the same
// body.
type requestCase struct {
	file    string // below testdata, without the ending
	event   eventtest.Event
	payload any
	opts    []eventtest.RequestOption
	php     string
}

// fired is the time of the requests in the table.
const fired = 1727018926

// requestCases covers every variant of the auth block, and how http_build_query encodes values.
func requestCases() []requestCase {
	const (
		addresses = `'domain' => 'some-domain.bitrix24.com', 'client_endpoint' => 'https://some-domain.bitrix24.com/rest/',
			'server_endpoint' => 'https://oauth.bitrix.info/rest/', 'member_id' => 'a223c6b3710f85df22e9377d6c4f7553',`
		noUser = `'ts' => 1727018926, 'auth' => [` + addresses + ` 'application_token' => 'apptoken']`
	)
	token := eventtest.WithToken("apptoken")
	return []requestCase{
		{
			"user", event.OnCrmContactAdd,
			event.CRMEntity{ID: 134806},
			[]eventtest.RequestOption{
				eventtest.WithUser(1, "access"), eventtest.WithScope("crm", "placement", "user_brief"), eventtest.WithHandlerID(58), token,
			},
			`['event' => 'ONCRMCONTACTADD', 'event_handler_id' => 58, 'data' => ['FIELDS' => ['ID' => 134806]], 'ts' => 1727018926,
				'auth' => ['access_token' => 'access', 'expires' => 1727022526, 'expires_in' => 3600, 'scope' => 'crm,placement,user_brief',
					'domain' => 'some-domain.bitrix24.com', 'server_endpoint' => 'https://oauth.bitrix.info/rest/', 'status' => 'L',
					'client_endpoint' => 'https://some-domain.bitrix24.com/rest/', 'member_id' => 'a223c6b3710f85df22e9377d6c4f7553',
					'user_id' => 1, 'application_token' => 'apptoken']]`,
		},
		{
			"user_refresh", event.OnAppInstall,
			map[string]any{"VERSION": "1", "ACTIVE": "Y", "INSTALLED": "Y", "LANGUAGE_ID": "en"},
			[]eventtest.RequestOption{
				eventtest.WithUser(1, "access"), eventtest.WithRefreshToken("refresh"), token,
				eventtest.WithDomain("p.bitrix24.com"), eventtest.WithMember("0123456789abcdef0123456789abcdef"),
			},
			`['event' => 'ONAPPINSTALL', 'data' => ['ACTIVE' => 'Y', 'INSTALLED' => 'Y', 'LANGUAGE_ID' => 'en', 'VERSION' => 1],
				'ts' => 1727018926, 'auth' => ['access_token' => 'access', 'expires' => 1727022526, 'expires_in' => 3600, 'scope' => '',
					'domain' => 'p.bitrix24.com', 'server_endpoint' => 'https://oauth.bitrix.info/rest/', 'status' => 'L',
					'client_endpoint' => 'https://p.bitrix24.com/rest/', 'member_id' => '0123456789abcdef0123456789abcdef',
					'user_id' => 1, 'refresh_token' => 'refresh', 'application_token' => 'apptoken']]`,
		},
		{
			"no_user", event.OnCrmDealUpdate,
			map[string]any{"FIELDS": map[string]any{"ID": 21}},
			[]eventtest.RequestOption{eventtest.WithHandlerID(509), token},
			`['event' => 'ONCRMDEALUPDATE', 'event_handler_id' => 509, 'data' => ['FIELDS' => ['ID' => 21]], ` + noUser + `]`,
		},
		{
			"user_id_only", event.OnCrmDealUpdate,
			event.CRMEntity{ID: 21},
			[]eventtest.RequestOption{eventtest.WithUserID(5), token},
			`['event' => 'ONCRMDEALUPDATE', 'data' => ['FIELDS' => ['ID' => 21]], 'ts' => 1727018926, 'auth' => [` + addresses + `
				'user_id' => 5, 'application_token' => 'apptoken']]`,
		},
		{
			"no_tokens", event.OnAppUninstall,
			map[string]any{"CLEAN": true, "LANGUAGE_ID": "en"},
			[]eventtest.RequestOption{eventtest.WithHandlerID(1), token},
			`['event' => 'ONAPPUNINSTALL', 'event_handler_id' => 1, 'data' => ['CLEAN' => 1, 'LANGUAGE_ID' => 'en'], ` + noUser + `]`,
		},
		{
			"outgoing_webhook", eventtest.Name("onCrmDealAdd"),
			event.CRMEntity{ID: 7},
			[]eventtest.RequestOption{
				eventtest.WithToken("hook token"), eventtest.WithEndpoints("https://p.ru/rest/", "https://oauth.bitrix24.tech/rest/"),
			},
			`['event' => 'ONCRMDEALADD', 'data' => ['FIELDS' => ['ID' => 7]], 'ts' => 1727018926, 'auth' => [
				'domain' => 'some-domain.bitrix24.com', 'client_endpoint' => 'https://p.ru/rest/',
				'server_endpoint' => 'https://oauth.bitrix24.tech/rest/', 'member_id' => 'a223c6b3710f85df22e9377d6c4f7553',
				'application_token' => 'hook token']]`,
		},
		{
			"direct", event.OnCrmDealAdd,
			event.CRMEntity{ID: 7},
			[]eventtest.RequestOption{eventtest.Direct(), token},
			`['event' => 'ONCRMDEALADD', 'data' => ['FIELDS' => ['ID' => 7]], 'ts' => 1727018926, 'auth' => [
				'domain' => 'some-domain.bitrix24.com', 'member_id' => 'a223c6b3710f85df22e9377d6c4f7553', 'application_token' => 'apptoken']]`,
		},
		{
			"forged", event.OnCrmDealAdd,
			event.CRMEntity{ID: 7},
			[]eventtest.RequestOption{eventtest.WithoutAuth(), nil},
			`['event' => 'ONCRMDEALADD', 'data' => ['FIELDS' => ['ID' => 7]], 'ts' => 1727018926, 'auth' => []]`,
		},
		{
			"no_data", event.OnOfflineEvent, nil,
			[]eventtest.RequestOption{token},
			`['event' => 'ONOFFLINEEVENT', 'data' => null, ` + noUser + `]`,
		},
		{
			"task", event.OnTaskAdd,
			map[string]any{"FIELDS_BEFORE": "undefined", "FIELDS_AFTER": map[string]any{"ID": 123}},
			[]eventtest.RequestOption{token},
			`['event' => 'ONTASKADD', 'data' => ['FIELDS_AFTER' => ['ID' => 123], 'FIELDS_BEFORE' => 'undefined'], ` + noUser + `]`,
		},
		{
			"values", eventtest.Name("onMyEvent"),
			map[string]any{
				"yes": true, "no": false, "nothing": nil, "list": []any{"a", nil, "c"}, "nested": []any{[]int{1, 2}, map[string]any{"k": "v"}},
				"emptyList": []any{}, "emptyMap": map[string]any{}, "onlyNothing": map[string]any{"x": nil}, "empty": "",
				"int": -3, "big": int64(9007199254740993), "raw": json.RawMessage(`{"z":true,"a":[100.0,1.50,-0.0]}`),
				"floats": []float64{1.5, 1e-7, 1.25e-5, 1e13, 0.0001, 1e21, 1.0 / 3, 2.5e100, 123456789012345.678, -1e-300},
				"number": json.Number("18446744073709551615"),
			},
			[]eventtest.RequestOption{token},
			`['event' => 'ONMYEVENT', 'data' => ['big' => 9007199254740993, 'empty' => '', 'emptyList' => [], 'emptyMap' => [],
				'floats' => [1.5, 1e-7, 1.25e-5, 1e13, 0.0001, 1e21, 1.0 / 3, 2.5e100, 123456789012345.678, -1e-300], 'int' => -3,
				'list' => ['a', null, 'c'], 'nested' => [[1, 2], ['k' => 'v']], 'no' => false,
				'nothing' => null, 'number' => 18446744073709551615, 'onlyNothing' => ['x' => null],
				'raw' => ['z' => true, 'a' => [100.0, 1.50, -0.0]], 'yes' => true], ` + noUser + `]`,
		},
		{
			"escapes", eventtest.Name("onMyEvent"),
			map[string]any{
				"a b": "space and + plus", "k[x]": "brackets", "list,": "1,2;3", "tilde~": "~-_.", "quotes": `"'<>&=?#/\%` + "\n\t\x00",
				"ключ": "значение", "emoji": "😀 日本", "7": "seven", "@!$*()": "@!$*()",
			},
			[]eventtest.RequestOption{token},
			`['event' => 'ONMYEVENT', 'data' => ['7' => 'seven', '@!$*()' => '@!$*()', 'a b' => 'space and + plus', 'emoji' => '😀 日本',
				'k[x]' => 'brackets', 'list,' => '1,2;3', 'quotes' => "\"'<>&=?#/\\%\n\t\0", 'tilde~' => '~-_.', 'ключ' => 'значение'],
				` + noUser + `]`,
		},
	}
}

func (c requestCase) body(t *testing.T) string {
	t.Helper()
	body, err := eventtest.Body(c.event, c.payload, append(c.opts, eventtest.WithTime(time.Unix(fired, 0)))...)
	require.NoError(t, err)
	return string(body)
}

func TestRequestBodies(t *testing.T) {
	t.Parallel()
	for _, tt := range requestCases() {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			body := tt.body(t)
			path := filepath.Join("testdata", tt.file+".form")
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(body+"\n"), 0o600))
			}
			want, err := os.ReadFile(path) //nolint:gosec // a name of the table
			require.NoError(t, err)
			require.Equal(t, string(want), body+"\n")
		})
	}
}

// TestRequestBodiesLikePHP compares bodies with those that the installed PHP encodes.
//
// PROTOCOL 4.3, 4.4: byte for byte.
func TestRequestBodiesLikePHP(t *testing.T) {
	t.Parallel()
	cases := requestCases()
	values := make([]string, len(cases))
	for i, c := range cases {
		values[i] = c.php
	}
	for i, want := range buildQueries(t, values) {
		require.Equal(t, want, cases[i].body(t), cases[i].file)
	}
}

// TestRequestFromSamples builds a request for every event of the catalogue from its sample.
func TestRequestFromSamples(t *testing.T) {
	t.Parallel()
	var php, bodies []string
	for _, s := range readSamples(t) {
		r, err := eventtest.NewRequest(t.Context(), eventtest.Name(s.name), s.payload, eventtest.WithToken("apptoken"),
			eventtest.WithUser(1, "access"), eventtest.WithRefreshToken("refresh"), eventtest.WithTime(time.Unix(fired, 0)))
		require.NoError(t, err, s.file)
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err, s.file)
		require.Equal(t, dataPairs(s.form), dataPairs(string(body)), s.file)
		d := parse(t, event.Secret(body))
		require.Equal(t, s.name, d.Name, s.file)
		require.Equal(t, event.Secret("apptoken"), d.Auth.ApplicationToken, s.file)
		_, known := event.Lookup(d.Name)
		require.True(t, known, s.file)
		bodies = append(bodies, strings.Join(dataPairs(string(body)), "&"))
		php = append(php, `['data' => json_decode(base64_decode('`+base64.StdEncoding.EncodeToString(s.data)+`'), true)]`)
	}
	require.Greater(t, len(bodies), 200)
	if !havePHP(t) {
		return // only the fixtures can be compared
	}
	for i, want := range buildQueries(t, php) {
		require.Equal(t, want, bodies[i], php[i])
	}
}

// dataPairs returns the pairs of the section data in a body, undecoded.
func dataPairs(body string) []string {
	pairs := []string{}
	for pair := range strings.SplitSeq(body, "&") {
		if strings.HasPrefix(pair, "data%5B") || strings.HasPrefix(pair, "data=") {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// sample is an event in event/testdata/events.
type sample struct {
	file, name, form string
	data             json.RawMessage
	payload          any
}

func readSamples(t *testing.T) []sample {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "testdata", "events", "*.form"))
	require.NoError(t, err)
	samples := make([]sample, len(files))
	for i, file := range files {
		form, err := os.ReadFile(file) //nolint:gosec // a file of the repository
		require.NoError(t, err)
		doc, err := os.ReadFile(strings.TrimSuffix(file, ".form") + ".json")
		require.NoError(t, err)
		var row struct {
			EventName string          `json:"EVENT_NAME"`
			EventData json.RawMessage `json:"EVENT_DATA"`
		}
		require.NoError(t, json.Unmarshal(doc, &row))
		s := sample{file: filepath.Base(file), name: row.EventName, form: string(form), data: row.EventData, payload: row.EventData}
		if string(row.EventData) == "false" { // how the queue shows missing data
			s.data, s.payload = json.RawMessage("null"), nil
		}
		samples[i] = s
	}
	return samples
}

func havePHP(t *testing.T) bool {
	t.Helper()
	_, err := exec.LookPath("php")
	// .ci/run also runs these tests under Wine, which has no PHP.
	if err != nil && os.Getenv("CI") != "" && runtime.GOOS != "windows" {
		t.Fatal("php is missing; .ci/run installs php-cli")
	}
	return err == nil
}

// buildQueries returns the output of http_build_query for values written in PHP. It skips the test
// if there is no PHP.
func buildQueries(t *testing.T, values []string) []string {
	t.Helper()
	if !havePHP(t) {
		t.Skip("install php-cli to compare with PHP itself")
	}
	var program strings.Builder
	program.WriteString("<?php\n")
	for _, value := range values {
		program.WriteString("echo base64_encode(http_build_query(" + value + ")), \"\\n\";\n")
	}
	cmd := exec.CommandContext(t.Context(), "php", "-n")
	cmd.Stdin = strings.NewReader(program.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	require.Len(t, lines, len(values), string(out))
	bodies := make([]string, len(lines))
	for i, line := range lines {
		body, err := base64.StdEncoding.DecodeString(line)
		require.NoError(t, err, line)
		bodies[i] = string(body)
	}
	return bodies
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
	require.Equal(t, eventtest.SampleMemberID, d.Auth.MemberID)
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
	require.Equal(t, p.MemberID(), d.Auth.MemberID)
	require.Equal(t, g.AccessToken, d.Auth.AccessToken)
	require.Equal(t, g.RefreshToken, d.Auth.RefreshToken)
	require.Equal(t, g.ApplicationToken, d.Auth.ApplicationToken)
	require.Equal(t, p.ServerEndpoint(), d.Auth.ServerEndpoint)
	require.Equal(t, p.ClientEndpoint(), d.Auth.ClientEndpoint)
	require.Equal(t, g.Scope, d.Auth.Scope.List())
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
		require.ErrorIs(t, err, eventtest.ErrConfig, name)
	}
	_, err := eventtest.Body(nil, nil)
	require.ErrorIs(t, err, eventtest.ErrConfig)
	_, err = eventtest.Body(eventtest.Name(" "), nil)
	require.ErrorIs(t, err, eventtest.ErrConfig)
	_, err = eventtest.Body(event.OnCrmDealAdd, make(chan int))
	require.Error(t, err)
}
