package redact_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/redact"
)

// odd is a token with characters that encodings change.
const odd = `t0k/en+=&"<é 'x\%2B|end`

func quoted(t *testing.T, s string) string {
	t.Helper()
	doc, err := json.Marshal(s)
	require.NoError(t, err)
	return string(doc[1 : len(doc)-1])
}

func TestRedact(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcdef", 5)
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":            {"", ""},
		"no secret":          {"a deal 100% done", "a deal 100% done"},
		"raw":                {"<" + odd + ">", "<[redacted]>"},
		"twice":              {odd + odd, "[redacted][redacted]"},
		"query":              {"?x=" + url.QueryEscape(odd) + "&y", "?x=[redacted]&y"},
		"query, lower case":  {strings.ToLower(url.QueryEscape("t0k/en+=&\"<é 'x\\%2b|end")), "[redacted]"},
		"path":               {"/" + url.PathEscape(odd) + "/", "/[redacted]/"},
		"JSON":               {`{"a":"` + quoted(t, odd) + `"}`, `{"a":"[redacted]"}`},
		"JSON by PHP":        {`t0k\/en+=&\"<\u00e9 'x\\%2B|end`, "[redacted]"},
		"HTML":               {html.EscapeString(odd), "[redacted]"},
		"Go":                 {fmt.Sprintf("%q", odd), `"[redacted]"`},
		"URL in JSON":        {quoted(t, "https://p/?a="+url.QueryEscape(odd)), "https://p/?a=[redacted]"},
		"JSON in JSON":       {quoted(t, quoted(t, odd)), "[redacted]"},
		"URL in URL":         {url.QueryEscape(url.QueryEscape(odd)), "[redacted]"},
		"part of it":         {"t0k/en+=", "t0k/en+="},
		"long":               {"a " + long + " b", "a [redacted] b"},
		"long, cut":          {"a " + long[:40], "a [redacted]"},
		"long, other end":    {"a " + long[:40] + "ZZ", "a [redacted]ZZ"},
		"overlapping":        {"abcabcabd", "abc[redacted]"},
		"one inside another": {"xx-inner-secret-yy", "[redacted]"},
		"the inner alone":    {"inner-secret", "[redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redact.New(odd, strings.ToLower(odd), long, "abcabd", "inner-secret", "xx-inner-secret-yy", "short", "")
			require.Equal(t, tc.want, s.Redact(tc.text))
			require.Equal(t, tc.want, s.Redact(s.Redact(tc.text)), "again")
		})
	}
}

// TestCredentials covers secrets that are not in the set.
func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"parameter":        {"Post \"https://p/rest/x?auth=0123456789&id=1\": EOF", "Post \"https://p/rest/x?auth=[redacted]&id=1\": EOF"},
		"nested parameter": {"data[BOT][7][access_token]=a%2Bb&x=1", "data[BOT][7][access_token]=[redacted]&x=1"},
		"escaped name":     {"data%5BBOT%5D%5B3%5D%5Baccess_token%5D=3cdb&x", "data%5BBOT%5D%5B3%5D%5Baccess_token%5D=[redacted]&x"},
		"member":           {`{"refresh_token": "a\"b","x":"y"}`, `{"refresh_token": "[redacted]","x":"y"}`},
		"escaped member":   {`"{\"client_secret\":\"abc\",\"x\":\"y\"}"`, `"{\"client_secret\":\"[redacted]\",\"x\":\"y\"}"`},
		"not closed":       {`{"TOKEN":"abc`, `{"TOKEN":"[redacted]`},
		"header":           {"Authorization: Bearer abcdefghij, next", "Authorization: Bearer [redacted], next"},
		"incoming webhook": {"https://p.example/rest/1/abcdef123456/crm.deal.get", "https://p.example/rest/1/[redacted]/crm.deal.get"},
		"REST 3.0 webhook": {"https://p.example/rest/api/1/abcdef123456/crm.deal.get", "https://p.example/rest/api/1/[redacted]/crm.deal.get"},
		"method":           {"https://p.example/rest/crm.deal.get?id=1", "https://p.example/rest/crm.deal.get?id=1"},
		"kind of token":    {`token_type=bearer&expires_in=3600 {"token_type":"bearer"}`, `token_type=bearer&expires_in=3600 {"token_type":"bearer"}`},
		"kind of access":   {"auth=user entity=1", "auth=user entity=1"},
		"flag":             {"secret=Y token=", "secret=Y token="},
		"words":            {"the token is void; a secret: none", "the token is void; a secret: none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, redact.New().Redact(tc.text))
			require.Equal(t, tc.want, redact.New().Redact(tc.want), "again")
		})
	}
}

func TestIsSecretKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{
		"access_token", "REFRESH_TOKEN", "application_token", "TOKEN", "botToken", "accesstoken", "ACCESSTOKEN", "event_token", "tokens", "token2",
		"AUTH_ID", "refresh_id", "sessid", "bitrix_sessid", "PHPSESSID", "Authorization", "Set-Cookie", "client_secret", "clientSecret", "password",
		"CONFIRM_PASSWORD", "userPassword", "api_key", "apiKey", "private-key", "credentials", "X-Bitrix-Csrf-Token", "token_id",
	} {
		require.True(t, redact.IsSecretKey(key), key)
	}
	for _, key := range []string{
		"", "ID", "auth", "AUTHOR_ID", "EXTERNAL_AUTH_ID", "token_type", "tokenType", "TOKEN_EXPIRES_IN", "password_policy", "PASSWORD_CHANGED_AT",
		"secretary", "SECRETARY_ID", "tokenizer", "key", "KEY_ID", "session_id", "SESSION", "access", "member_id", "CODE", "keyboard", "token_url",
	} {
		require.False(t, redact.IsSecretKey(key), key)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ doc, want string }{
		"nothing":     {`{"a":["b",1,true,null]}`, `{"a":["b",1,true,null]}`},
		"key":         {`{"access_token":"abc"}`, `{"access_token":"[redacted]"}`},
		"below a key": {`{"tokens":{"a":"abc","b":[1234,"x-y"]}}`, `{"tokens":{"a":"[redacted]","b":["[redacted]","[redacted]"]}}`},
		"unknown in auth": {
			`{"Auth":{"grant":"abcdefgh1","more":{"x":"abc"},"member_id":"m","user_id":"robot","expires":1},"x":"abcdefgh1","grant":"abc"}`,
			`{"Auth":{"grant":"[redacted]","more":{"x":"[redacted]"},"member_id":"m","user_id":"robot","expires":1},"x":"[redacted]","grant":"abc"}`,
		},
		"flags": {`{"secret":true,"IS_SECRET":"Y","token":null,"token2":""}`, `{"secret":true,"IS_SECRET":"Y","token":null,"token2":""}`},
		"elsewhere": {
			`{"m":"see ?a=abcdefgh%2Fij","abcdefgh/ij":1,"TOKEN":"abcdefgh/ij"}`,
			`{"m":"see ?a=[redacted]","[redacted]":1,"TOKEN":"[redacted]"}`,
		},
		"JSON in a text": {
			`{"PLACEMENT_OPTIONS":"{\"access_token\":\"nested0123\",\"n\":1.50}","m":"nested0123"}`,
			`{"PLACEMENT_OPTIONS":"{\"access_token\":\"[redacted]\",\"n\":1.50}","m":"[redacted]"}`,
		},
		"JSON in JSON in a text": {
			`{"a":"{\"b\":\"{\\\"token\\\":\\\"xyz\\\"}\"}"}`,
			`{"a":"{\"b\":\"{\\\"token\\\":\\\"[redacted]\\\"}\"}"}`,
		},
		"JSON without secrets stays as it is": {`{"a":"{ \"b\" : 1 }"}`, `{"a":"{ \"b\" : 1 }"}`},
		"not quite JSON":                      {`{"a":"{\"token\":\"xyz\""}`, `{"a":"{\"token\":\"[redacted]\""}`},
		"bearer":                              {`{"Authorization":"Bearer abcdefgh1","x":"abcdefgh1"}`, `{"Authorization":"[redacted]","x":"[redacted]"}`},
		"short secrets are no words":          {`{"password":"deal","x":"a deal"}`, `{"password":"[redacted]","x":"a deal"}`},
		"small numbers are no words":          {`{"token":"12345678","ID":"12345678"}`, `{"token":"[redacted]","ID":"12345678"}`},
		"what tasks send for nothing":         {`{"token":"undefined","x":"undefined"}`, `{"token":"undefined","x":"undefined"}`},
		"parameter auth":                      {`{"auth":"0123456789","x":"0123456789ab"}`, `{"auth":"[redacted]","x":"0123456789ab"}`},
		"section auth":                        {`{"auth":{"domain":"d.example"}}`, `{"auth":{"domain":"d.example"}}`},
		"a number that is a secret":           {`{"token":"1234567890123","x":1234567890123}`, `{"token":"[redacted]","x":"[redacted]"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := phpform.DecodeJSON([]byte(tc.doc), phpform.Limits{})
			require.NoError(t, err)
			s := redact.New()
			s.AddTree(v)
			require.Equal(t, tc.want, string(s.Tree(v).AppendJSON(nil)))
			require.Equal(t, tc.want, string(s.JSON([]byte(tc.doc))))
		})
	}
	require.Equal(t, `"[redacted]"`, string(redact.New().JSON([]byte(`{"token":`))))
}

func TestExcerpt(t *testing.T) {
	t.Parallel()
	s := redact.New("0123456789abcdefghijklmnopqrstuvwxyz")
	require.Equal(t, "see [redacted]", s.RedactExcerpt("see 0123456"))
	require.Equal(t, "see 0123456", s.Redact("see 0123456"))
	require.Equal(t, "see 01234", s.RedactExcerpt("see 01234"), "too little to be of use")
	require.Equal(t, "see [redacted]", s.RedactExcerpt("see %30%31%32%33%34%35"))
	require.Equal(t, "[redacted] z", s.RedactExcerpt("0123456789abcdefghijklmnopqrstuvwxyz z"))
}

// TestTooManySecrets covers a body with more secrets than a set holds, so that nothing of it is
// shown.
func TestTooManySecrets(t *testing.T) {
	t.Parallel()
	var doc strings.Builder
	doc.WriteString(`{"m":"secret-number-9999","n":"hello","i":7`)
	for i := range 10_000 {
		fmt.Fprintf(&doc, `,"token%d":"secret-number-%d"`, i, i)
	}
	doc.WriteString("}")
	v, err := phpform.DecodeJSON([]byte(doc.String()), phpform.Limits{Keys: 20_000})
	require.NoError(t, err)
	s := redact.New()
	s.AddTree(v)
	shown := string(s.Tree(v).AppendJSON(nil))
	require.NotContains(t, shown, "secret-number")
	require.Contains(t, shown, `"n":"hello","i":7`, "too short to hold one")
}

// TestHostileBodies would take hours if the work were not linear.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	a := strings.Repeat("a", 1<<20)
	var alike []string
	for i := range 250 {
		alike = append(alike, a[:4000+i]+"b")
	}
	for name, tc := range map[string]struct {
		secrets []string
		text    string
	}{
		"secrets that begin alike":       {alike, a},
		"short ones that begin alike":    {[]string{a[:7] + "b", a[:8] + "c", a[:30] + "d", a[:31] + "e"}, a},
		"equals signs":                   {nil, strings.Repeat("=", 1<<20)},
		"keys and equals signs":          {nil, strings.Repeat("token=", 1<<18)},
		"colons after quotes":            {nil, strings.Repeat(`"token":"`, 1<<17)},
		"colons after spaces":            {nil, strings.Repeat(`"token"      : `, 1<<16)},
		"backslashes":                    {nil, `"token":"` + strings.Repeat(`\`, 1<<20)},
		"backslashes before many quotes": {nil, strings.Repeat(`\\\\\\\\":`, 1<<17)},
		"percent signs":                  {[]string{"0123456789"}, strings.Repeat("%25", 1<<18)},
		"entities":                       {[]string{"0123456789"}, strings.Repeat("&amp;", 1<<18)},
		"hooks":                          {nil, strings.Repeat("/rest/1/", 1<<17)},
		"tags":                           {nil, strings.Repeat("<a", 1<<19)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			s := redact.New(tc.secrets...)
			s.Redact(tc.text)
			s.Plain(tc.text, 1000)
			s.JSON([]byte(tc.text))
			require.Less(t, time.Since(began), 20*time.Second, "a mebibyte takes well under a second")
		})
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ text, want string }{
		"plain":                {"an error", "an error"},
		"lines":                {" a\r\nlevel=ERROR\tmsg=forged\n", "a level=ERROR msg=forged"},
		"escape sequences":     {"\x1b]0;pwn\a\x1b[2Jx", "]0;pwn [2Jx"},
		"C1, DEL":              {"a\u009b31m\u007fb", "a 31m b"},
		"direction":            {"a\u202eb\u2066c\u200fd\u061ce", "a b c d e"},
		"line separators":      {"a\u2028b\u2029c\u0085d", "a b c d"},
		"not UTF-8":            {"a\xffb", "a\ufffdb"},
		"other scripts":        {"ошибка 错误 é", "ошибка 错误 é"},
		"cut":                  {"0123456789", "01234567…"},
		"cut before a space":   {"01234567 9", "01234567…"},
		"as long as it may be": {"01234567", "01234567"},
		"tags stay":            {"<b>1", "<b>1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 8
			if !strings.Contains(tc.text, "01234567") {
				limit = 100
			}
			require.Equal(t, tc.want, redact.Clean(tc.text, limit))
		})
	}
	require.Equal(t, "Fill Title 1 < 2", redact.Plain(`Fill <b class="x">Title</b> 1 < 2<script`, 100))
	require.Equal(t, `a b\u001b\u009b\u202e\u000a\xff\U000e0001é…`, redact.Escape("a b\x1b\u009b\u202e\n\xff\U000e0001éx", 10))
	require.Equal(t, "\ufffd", redact.Escape("\ufffd", 10))
	require.Equal(t, "crm.deal", redact.Word("crm.deal"))
	require.Equal(t, `"x level=ERROR"`, redact.Word("x\nlevel=ERROR"))
	require.Equal(t, `"a=b"`, redact.Word("a=b"))
	secrets := redact.New("0123456789abcdef")
	require.Equal(t, "bad token [redacted] x", secrets.Clean("bad\ntoken 0123456789abcdef\x1b x", 100))
	require.Equal(t, "bad…", secrets.Clean("bad 0123456789abcdef", 3))
	long := secrets.Clean(strings.Repeat(" ", 1<<20)+"x", 100)
	require.Empty(t, long)
}

func TestEscapeJSON(t *testing.T) {
	t.Parallel()
	const text = "a\u009b\u007f\u202e\u2028é😀\u200d\ufeff"
	doc := []byte(`{"k` + text + `":"` + text + `"}`)
	escaped := redact.EscapeJSON(doc)
	require.Equal(t, 2, bytes.Count(escaped, []byte(`a\u009b\u007f\u202e\u2028é😀`)))
	require.Equal(t, -1, bytes.IndexFunc(escaped, redact.IsControl))
	require.JSONEq(t, string(doc), string(escaped))
	plain := []byte(`{"a":"é"}`)
	require.Equal(t, plain, redact.EscapeJSON(plain))
}

func FuzzRedact(f *testing.F) {
	f.Add(odd, "before ", " after", uint8(0))
	f.Add("0123456789abcdef0123456789abcdef0123456789abcdef", "?auth=", "&x", uint8(1))
	f.Add("aaaaaaab", "aaaaaaa", "", uint8(2))
	f.Add(`"token":"\\"`, `\`, `"`, uint8(3))
	f.Fuzz(func(t *testing.T, secret, before, after string, how uint8) {
		secret = strings.TrimSpace(secret)
		if len(secret) < 6 || !utf8.ValidString(secret) || strings.Contains(redact.Mark, secret) { //nolint:gocritic // the order is meant
			t.Skip("not looked for")
		}
		if len(secret) < 60 && strings.ContainsAny(secret, `%\&`) {
			t.Skip("too short once it is decoded together with what it stands in")
		}
		encoded := secret
		switch how % 6 {
		case 1:
			encoded = url.QueryEscape(secret)
		case 2:
			encoded = url.PathEscape(secret)
		case 3:
			doc, err := json.Marshal(secret)
			require.NoError(t, err)
			encoded = string(doc[1 : len(doc)-1])
		case 4:
			encoded = html.EscapeString(secret)
		case 5:
			encoded = url.QueryEscape(url.QueryEscape(secret))
		}
		text := before + " " + encoded + " " + after
		s := redact.New(secret)
		got := s.Redact(text)
		if strings.Contains(strings.ReplaceAll(got, redact.Mark, "\x00"), secret) {
			t.Fatalf("%q holds %q", got, secret)
		}
		if how%6 != 0 && encoded != secret && strings.Contains(got, " "+encoded+" ") {
			t.Fatalf("%q holds %q", got, encoded)
		}
		line := s.Clean(text, 50)
		if utf8.RuneCountInString(line) > 51 || !utf8.ValidString(line) || strings.ContainsFunc(line, redact.IsControl) {
			t.Fatalf("%q is no line", line)
		}
		doc, err := json.Marshal(map[string]string{"m": text, "token": secret})
		require.NoError(t, err)
		if !json.Valid(s.JSON(doc)) || !json.Valid(redact.EscapeJSON(doc)) {
			t.Fatal("no JSON")
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	text := strings.Repeat("an ordinary sentence, 100% of it; ", 300)
	for name, secrets := range map[string][]string{"two": {strings.Repeat("0123456789abcdef", 4), strings.Repeat("fedcba", 6)}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				redact.New(secrets...).Redact(text)
			}
		})
	}
}
