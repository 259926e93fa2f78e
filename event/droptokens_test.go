package event_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestDropTokens(t *testing.T) {
	t.Parallel()
	const planted = "plantedtokenplantedtoken"
	for name, body := range map[string]string{
		"the auth section": "event=ONCRMDEALADD&data[FIELDS][ID]=7&auth[member_id]=m&auth[user_id]=3&auth[expires_in]=3600" +
			"&auth[access_token]=" + planted + "&auth[refresh_token]=" + planted + "&auth[application_token]=" + planted,
		"a bot of the first version": "event=ONIMBOTMESSAGEADD&data[FIELDS][ID]=7&data[BOT][7][AUTH][access_token]=" + planted + "&data[BOT][7][AUTH][user_id]=3" +
			"&data[BOT][7][access_token]=" + planted + "&data[PARAMS][MESSAGE]=hello&auth[member_id]=m&auth[user_id]=3",
		"a bot of the second version": "event=ONIMBOTV2MESSAGEADD&data[FIELDS][ID]=7&data[bot][auth][access_token]=" + planted + "&data[bot][auth][REFRESH_TOKEN]=" + planted +
			"&data[bot][auth][application_token]=" + planted + "&data[bot][id]=5&auth[member_id]=m&auth[user_id]=3",
		"below an array":  "event=ONX&data[FIELDS][ID]=7&data[a][b][c][access_token][]=" + planted + "&auth[member_id]=m&auth[user_id]=3",
		"beside the auth": "event=ONX&data[FIELDS][ID]=7&other[access_token]=" + planted + "&other[kept]=1&auth[member_id]=m&auth[user_id]=3",
		"at the top":      "event=ONX&data[FIELDS][ID]=7&access_token=" + planted + "&auth[member_id]=m&auth[user_id]=3",
		"twice in the auth section": "event=ONX&data[FIELDS][ID]=7&auth[access_token]=1234567890123456&AUTH[access_token]=" + planted +
			"&auth[member_id]=m&auth[user_id]=3",
		"within the auth section": "event=ONX&data[FIELDS][ID]=7&auth[more][access_token]=" + planted + "&auth[member_id]=m&auth[user_id]=3",
		"unknown case":            "event=ONX&data[FIELDS][ID]=7&auth[member_id]=m&auth[user_id]=3&AUTH[Application_Token]=" + planted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := event.Parse(formType, []byte(body))
			require.NoError(t, err)
			before := d.Size()
			d.DropTokens()
			stored := d.AppendStored(nil)
			require.NotContains(t, string(stored), planted)
			require.LessOrEqual(t, d.Size(), before+64)
			require.Equal(t, event.Auth{MemberID: "m", UserID: 3}, d.Auth)
			require.Equal(t, "7", d.Data.Get("FIELDS", "ID").Text(), "the rest of the data stays")
			if name == "beside the auth" {
				require.JSONEq(t, `{"other":{"kept":"1"}}`, string(d.Extra().JSON()))
			}
			read, err := event.ParseStored(stored)
			require.NoError(t, err)
			requireSame(t, d, read)
			read.DropTokens()
			require.Equal(t, stored, read.AppendStored(nil), "dropping them again changes nothing")
		})
	}
}

func TestDropTokensOfRecords(t *testing.T) {
	t.Parallel()
	for name, d := range storedForms(t) {
		size := d.Size()
		d.DropTokens()
		require.LessOrEqual(t, d.Size(), size+64, name)
		require.Empty(t, d.Auth.AccessToken, name)
		require.True(t, d.Auth.Expires.Equal(time.Time{}), name)
		require.NotContains(t, string(d.AppendStored(nil)), "refresh", name)
	}
}
