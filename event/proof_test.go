package event_test

import (
	"encoding/json"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

const (
	proven   = "a223c6b3710f85df22e9377d6c4f7553"
	another  = "b223c6b3710f85df22e9377d6c4f7553"
	appToken = "0123456789abcdef0123456789abcdef"
)

func proof() event.Proof {
	return event.Proof{
		By: event.ProofInstallation, ClientID: "local.test", MemberID: proven,
		ClientEndpoint: "https://stored.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
	}
}

// sent parses an event whose auth block names the portal to be proven.
func sent(t *testing.T, name string, more ...string) *event.Delivery {
	t.Helper()
	v := url.Values{"event": {name}, "auth[member_id]": {proven}, "auth[application_token]": {appToken}}
	for pair := range slices.Chunk(more, 2) {
		v.Set(pair[0], pair[1])
	}
	d, err := event.Parse("", []byte(v.Encode()))
	require.NoError(t, err)
	return d
}

func TestProofReplacesTheClaim(t *testing.T) {
	t.Parallel()
	claim := []string{
		"auth[client_endpoint]", "http://169.254.169.254/", "auth[server_endpoint]", "http://evil.example/", "auth[domain]", "evil\nx",
		"auth[access_token]", "acting", "auth[user_id]", "7", "auth[scope]", "crm", "data[FIELDS][ID]", "1",
	}
	d := sent(t, "ONCRMDEALUPDATE", claim...)
	require.Empty(t, d.MemberID(), "nothing is proven yet")
	require.Equal(t, proven, d.ClaimedMemberID())
	require.False(t, d.ProvenFor("local.test"))

	d.SetProof(proof())
	require.Equal(t, proven, d.MemberID())
	require.Equal(t, event.Auth{
		AccessToken: "acting", ApplicationToken: appToken, UserID: 7, Scope: event.ScopeOf("crm"), MemberID: proven,
		Domain: "stored.bitrix24.com", ClientEndpoint: "https://stored.bitrix24.com/rest/", ServerEndpoint: "https://oauth.bitrix.info/rest/",
	}, d.Auth)
	require.Contains(t, d.LogValue().String(), "member_id="+proven)

	d = sent(t, "ONCRMDEALUPDATE", claim...)
	d.SetProof(event.Proof{By: event.ProofWebhook})
	require.Empty(t, d.MemberID())
	require.Equal(t, event.Auth{AccessToken: "acting", ApplicationToken: appToken, UserID: 7, Scope: event.ScopeOf("crm")}, d.Auth)
	doc, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(doc), `"member_id":""`, "what is not proven is not printed as if it were")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "x", slog.Any("delivery", d))
	require.NotContains(t, log.String(), "evil")
	require.NotContains(t, log.String(), proven)
}

func TestProvenFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		p    event.Proof
		want bool
	}{
		"installation":           {event.Proof{By: event.ProofInstallation, ClientID: "app", MemberID: proven}, true},
		"tokens":                 {event.Proof{By: event.ProofTokens, ClientID: "app", MemberID: proven}, true},
		"call":                   {event.Proof{By: event.ProofCall, ClientID: "app", MemberID: proven}, true},
		"another application":    {event.Proof{By: event.ProofInstallation, ClientID: "other", MemberID: proven}, false},
		"no application":         {event.Proof{By: event.ProofInstallation, MemberID: proven}, false},
		"no portal":              {event.Proof{By: event.ProofInstallation, ClientID: "app"}, false},
		"fixed token":            {event.Proof{By: event.ProofWebhook, ClientID: "app", MemberID: proven}, false},
		"nobody checked":         {event.Proof{By: event.ProofInsecure, ClientID: "app", MemberID: proven}, false},
		"a kind of somebody's":   {event.Proof{By: "mtls", ClientID: "app", MemberID: proven}, false},
		"nothing":                {event.Proof{}, false},
		"no kind, but a portal":  {event.Proof{ClientID: "app", MemberID: proven}, false},
		"another case of the ID": {event.Proof{By: event.ProofInstallation, ClientID: "APP", MemberID: proven}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sent(t, "ONCRMDEALUPDATE")
			d.SetProof(test.p)
			require.Equal(t, test.want, d.ProvenFor("app"))
			require.False(t, d.ProvenFor(""))
		})
	}
}

// TestKeyIsOfTheProvenIdentity: applications and portals never share a key, even for equal
// deliveries.
func TestKeyIsOfTheProvenIdentity(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, p := range map[string]event.Proof{
		"first":  {By: event.ProofInstallation, ClientID: "app.1", MemberID: proven},
		"second": {By: event.ProofInstallation, ClientID: "app.2", MemberID: proven},
		"third":  {By: event.ProofInstallation, ClientID: "app.1", MemberID: another},
		"hook":   {By: event.ProofWebhook, MemberID: proven},
		"nobody": {By: event.ProofWebhook},
	} {
		d := sent(t, "ONCRMDEALUPDATE", "data[FIELDS][ID]", "1")
		d.SetProof(p)
		again := sent(t, "ONCRMDEALUPDATE", "data[FIELDS][ID]", "1", "auth[domain]", "renamed.bitrix24.com")
		again.SetProof(p)
		require.Equal(t, d.Key(), again.Key())
		require.Empty(t, seen[d.Key()], name)
		seen[d.Key()] = name
	}
}

// TestInnerAuthBlocks: an auth block inside data agrees with the proof, or the delivery is a
// forgery.
func TestInnerAuthBlocks(t *testing.T) {
	t.Parallel()
	const portal = "names another portal"
	for name, test := range map[string]struct {
		event string
		more  []string
		want  string // empty: no contradiction
	}{
		"nothing":                           {event: "ONCRMDEALUPDATE"},
		"v2, the same":                      {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id]", proven, "data[bot][auth][application_token]", appToken}, ""},
		"v2, empty":                         {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id]", "", "data[bot][auth][application_token]", ""}, ""},
		"v2, another portal":                {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id]", another}, portal},
		"v2, in upper case":                 {"ONIMBOTV2MESSAGEADD", []string{"data[BOT][Auth][MEMBER_ID]", another}, portal},
		"v2, odd letters":                   {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][application_to\u212Aen]", "x"}, ""},
		"anywhere, odd letters":             {"ONANYTHING", []string{"data[x][acce\u017F\u017F_to\u212Aen]", "t", "data[x][member_id]", another}, portal},
		"v2, a list":                        {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id][]", proven}, portal},
		"v2, with white space":              {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id]", proven + " "}, portal},
		"v2, another token":                 {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][application_token]", appToken[1:]}, ""},
		"v2, beside the bot's ID":           {"ONIMBOTV2DELETE", []string{"data[bot][member_id]", another}, portal},
		"v1, the second bot":                {"ONIMBOTMESSAGEADD", []string{"data[BOT][1][member_id]", proven, "data[BOT][2][member_id]", another}, portal},
		"v1, under AUTH":                    {"ONIMBOTMESSAGEADD", []string{"data[BOT][1][member_id]", proven, "data[BOT][1][AUTH][member_id]", another}, portal},
		"v1, a token under AUTH":            {"ONIMBOTJOINCHAT", []string{"data[BOT][1][AUTH][application_token]", "x"}, ""},
		"v1, a command":                     {"ONIMCOMMANDADD", []string{"data[COMMAND][9][AUTH][member_id]", another}, portal},
		"v1, a command's token":             {"ONIMCOMMANDADD", []string{"data[COMMAND][9][application_token]", "x"}, ""},
		"two keys that differ in case":      {"ONIMBOTV2MESSAGEADD", []string{"data[bot][auth][member_id]", proven, "data[Bot][auth][member_id]", another}, portal},
		"anywhere, with a token":            {"ONANYTHING", []string{"data[x][y][access_token]", "t", "data[x][y][member_id]", another}, portal},
		"at the top, with a token":          {"ONAPPUSERREADY", []string{"data[refresh_token]", "t", "data[member_id]", another}, portal},
		"under the key auth":                {"ONANYTHING", []string{"data[x][auth][member_id]", another}, portal},
		"a member that is no portal's":      {"ONANYTHING", []string{"data[member_id]", "17"}, ""},
		"a bot that is not the messenger's": {"ONANYTHING", []string{"data[bot][member_id]", "17"}, ""},
		"a token alone":                     {"ONCRMTIMELINEITEMACTION", []string{"data[access_token]", "t"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sent(t, test.event, test.more...)
			before := string(d.Data.JSON())
			err := d.Contradicts(proof())
			if test.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, event.ErrForbidden)
				require.NotErrorIs(t, err, event.ErrUnknownPortal)
				require.ErrorContains(t, err, test.want)
				require.NotContains(t, err.Error(), another)
			}
			require.NoError(t, d.Contradicts(event.Proof{By: event.ProofInsecure}))
			require.Equal(t, before, string(d.Data.JSON()))
		})
	}
}

// TestInnerApplicationTokens: the application token that a handler reads in a payload is the proven
// one. Samples of the documentation show another in old events of bots.
func TestInnerApplicationTokens(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ event, key string }{
		"v2":        {"ONIMBOTV2MESSAGEADD", "data[bot][auth][application_token]"},
		"v1":        {"ONIMBOTMESSAGEADD", "data[BOT][1][application_token]"},
		"v1, AUTH":  {"ONIMBOTJOINCHAT", "data[BOT][1][AUTH][application_token]"},
		"a command": {"ONIMCOMMANDADD", "data[COMMAND][9][application_token]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sent(t, test.event, test.key, "made-up", "auth[application_token]", appToken)
			require.NoError(t, d.Contradicts(proof()))
			d.SetProof(proof())
			require.NotContains(t, string(d.Data.JSON()), "made-up")
			require.Contains(t, string(d.Data.JSON()), appToken)
		})
	}
}

// TestInnerAddressesAreProven: a handler reads the stored address in a payload, or none.
func TestInnerAddressesAreProven(t *testing.T) {
	t.Parallel()
	evil := func(block string) []string {
		return []string{
			block + "[client_endpoint]", "https://evil.example/rest/", block + "[SERVER_ENDPOINT]", "https://evil.example/", block + "[domain]", "evil.example",
			block + "[access_token]", "bot-token", block + "[member_id]", proven, block + "[user_id]", "5",
		}
	}
	type addresses struct{ client, server, domain, member, token string }
	of := func(a event.BotAuth) addresses {
		return addresses{a.ClientEndpoint, a.ServerEndpoint, a.Domain, a.MemberID, string(a.AccessToken)}
	}
	stored := addresses{"https://stored.bitrix24.com/rest/", "https://oauth.bitrix.info/rest/", "stored.bitrix24.com", proven, "bot-token"}
	for name, test := range map[string]struct {
		event string
		more  []string
		read  func(t *testing.T, d *event.Delivery) event.BotAuth
	}{
		"v2": {"ONIMBOTV2MESSAGEADD", evil("data[bot][auth]"), func(t *testing.T, d *event.Delivery) event.BotAuth {
			t.Helper()
			var p event.BotV2Message
			require.NoError(t, d.Data.Decode(&p))
			return p.Bot.Auth
		}},
		"v1": {"ONIMBOTMESSAGEADD", evil("data[BOT][571]"), func(t *testing.T, d *event.Delivery) event.BotAuth {
			t.Helper()
			var p event.BotMessage
			require.NoError(t, d.Data.Decode(&p))
			return p.Bots["571"].BotAuth
		}},
		"v1, AUTH": {"ONIMBOTMESSAGEADD", evil("data[BOT][571][AUTH]"), func(t *testing.T, d *event.Delivery) event.BotAuth {
			t.Helper()
			var p event.BotMessage
			require.NoError(t, d.Data.Decode(&p))
			return p.Bots["571"].BotAuth
		}},
		"command": {"ONIMCOMMANDADD", evil("data[COMMAND][9]"), func(t *testing.T, d *event.Delivery) event.BotAuth {
			t.Helper()
			var p event.BotCommand
			require.NoError(t, d.Data.Decode(&p))
			return p.Commands["9"].BotAuth
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sent(t, test.event, test.more...)
			require.NoError(t, d.Contradicts(proof()))
			d.SetProof(proof())
			require.Equal(t, stored, of(test.read(t, d)))
			require.NotContains(t, string(d.Data.JSON()), "evil")

			d = sent(t, test.event, test.more...)
			d.SetProof(event.Proof{By: event.ProofInstallation, ClientID: "app", MemberID: proven})
			require.Equal(t, addresses{member: proven, token: "bot-token"}, of(test.read(t, d)))
			require.NotContains(t, string(d.Data.JSON()), "evil")
			require.NotContains(t, string(d.Data.JSON()), "domain")

			d = sent(t, test.event, test.more...)
			d.SetProof(event.Proof{By: event.ProofInsecure, MemberID: proven})
			require.NotContains(t, string(d.Data.JSON()), "evil")
		})
	}
}

// TestProofLeavesTheRestOfTheData: only addresses in auth blocks change.
func TestProofLeavesTheRestOfTheData(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{
		"a domain of the program's own":  {"data[domain]", "shop.example", "data[member_id]", "17"},
		"a custom event with a bot":      {"data[bot][domain]", "shop.example"},
		"an endpoint without a token":    {"data[x][client_endpoint]", "https://shop.example/"},
		"a token with a domain":          {"data[access_token]", "t", "data[domain]", "shop.example"},
		"a list":                         {"data[x][0]", "a", "data[x][1]", "b"},
		"what stands beside a bot block": {"data[user][domain]", "shop.example", "data[bot][auth]", "text"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := sent(t, "ONANYTHING", more...)
			before := string(d.Data.JSON())
			d.SetProof(proof())
			require.Equal(t, before, string(d.Data.JSON()))
		})
	}
	// Other kinds of bodies keep everything in Data, the auth block too.
	d, err := event.Parse("", []byte("workflow_id=1&code=c&event_token=e&auth[domain]=evil.example&auth[member_id]="+proven+"&properties[domain]=mine"))
	require.NoError(t, err)
	require.Equal(t, event.KindHandler, d.Kind)
	require.NoError(t, d.Contradicts(proof()))
	require.ErrorIs(t, d.Contradicts(event.Proof{By: event.ProofInstallation, MemberID: another}), event.ErrForbidden)
	d.SetProof(proof())
	require.Equal(t, "stored.bitrix24.com", d.Data.Get("auth", "domain").Text())
	require.Equal(t, "mine", d.Data.Get("properties", "domain").Text())
}

// TestEveryDocumentedAuthBlockIsFound: after the proof no sample of the documentation names the
// address that was sent.
func TestEveryDocumentedAuthBlockIsFound(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "events", "*.form"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	blocks := 0
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // one of ours
		require.NoError(t, err)
		d, err := event.Parse("", content)
		require.NoError(t, err)
		data := string(d.Data.JSON())
		if strings.Contains(data, `_endpoint"`) {
			blocks++
		}
		p := proof()
		p.MemberID = d.ClaimedMemberID()
		if filepath.Base(file) != "ONIMBOTMESSAGEADD.form" { // its author cut the outer token, and not the inner one
			require.NoError(t, d.Contradicts(p), file)
		}
		p.MemberID += "x"
		if strings.Contains(data, `"member_id":`) {
			require.ErrorIs(t, d.Contradicts(p), event.ErrForbidden, file)
		}
		d.SetProof(proof())
		require.NotContains(t, string(d.Data.JSON()), "some-domain.bitrix24.com/rest", file)
		require.Equal(t, strings.Count(data, `_endpoint"`), strings.Count(string(d.Data.JSON()), `_endpoint"`), file)
	}
	require.GreaterOrEqual(t, blocks, 15)
}

func TestClaimedMemberID(t *testing.T) {
	t.Parallel()
	d := sent(t, "ONIMBOTV2MESSAGEADD", "data[bot][auth][member_id]", another)
	require.Equal(t, proven, d.ClaimedMemberID(), "the outer block goes first")
	d = sent(t, "ONIMBOTV2MESSAGEADD", "auth[member_id]", "", "data[bot][auth][member_id]", another)
	require.Equal(t, another, d.ClaimedMemberID())
	require.Empty(t, new(event.Delivery).ClaimedMemberID())
}

// TestProvenDomain: the domain is the host of the address, as package url reads it.
func TestProvenDomain(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "https://", "https:///rest/", "https://acme.bitrix24.com", "https://acme.bitrix24.com/rest/", "https://acme.bitrix24.com:8443/rest/",
		"https://Acme.example/rest/", "https://a@b.example/rest/", "https://b.example?x=/", "https://b.example/%zz", "https://b.example#/rest/",
		"https://[::1]:80/rest/", "https://почта.рф/rest/", "https://a b/rest/", "http://127.0.0.1:8080/rest/", "https://a.example\\rest/", "acme.bitrix24.com/rest/",
	} {
		want := ""
		if u, err := url.Parse(address); err == nil {
			want = u.Host
		}
		d := sent(t, "ONCRMDEALADD")
		p := proof()
		p.ClientEndpoint = address
		d.SetProof(p)
		require.Equal(t, want, d.Auth.Domain, address)
	}
}

// TestUserReadyIsAnAuthBlock: the data of ONAPPUSERREADY is an auth block, even if it does not look
// like one.
func TestUserReadyIsAnAuthBlock(t *testing.T) {
	t.Parallel()
	proof := event.Proof{By: event.ProofInstallation, ClientID: "a", MemberID: "m", ClientEndpoint: "https://acme.bitrix24.com/rest/"}
	d := delivery(t, "event=ONAPPUSERREADY&data[refresh_token]=t&data[domain]=evil.example&auth[member_id]=m")
	require.NoError(t, d.Contradicts(proof))
	d.SetProof(proof)
	require.Equal(t, "acme.bitrix24.com", d.Data.Get("domain").Text())
	other := delivery(t, "event=ONAPPUSERREADY&data[refresh_token]=t&data[member_id]=other&auth[member_id]=m")
	require.ErrorIs(t, other.Contradicts(proof), event.ErrForbidden)
}
