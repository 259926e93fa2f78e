package eventtest_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event/eventtest"
)

// TestBatchDoesNotExplode sends batches of a few hundred bytes whose references double with each
// item.
func TestBatchDoesNotExplode(t *testing.T) {
	t.Parallel()
	ten := strings.Repeat("$result[c%[1]d][item][title]", 10)
	for name, tt := range map[string]struct{ first, step string }{
		"texts":  {"title=" + strings.Repeat("x", 100), "title=" + ten},
		"arrays": {"ufCrmA[]=x", "ufCrmA=$result[c%[1]d][item]&ufCrmB=$result[c%[1]d][item]&ufCrmC=$result[c%[1]d][item]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := newPortal(t)
			fields := func(text string) string {
				parts := strings.Split(text, "&")
				for i, part := range parts {
					key, value, _ := strings.Cut(part, "=")
					open, rest, _ := strings.Cut(key, "[")
					if rest != "" {
						rest = "[" + rest
					}
					parts[i] = "fields[" + open + "]" + rest + "=" + value
				}
				return "crm.item.add?entityTypeId=2&" + strings.Join(parts, "&")
			}
			cmd := obj{"c00": fields(tt.first)}
			previous := "c00"
			for i := 1; i < 50; i++ {
				key := fmt.Sprintf("c%02d", i)
				cmd[key] = fields(strings.ReplaceAll(tt.step, "c%[1]d", previous))
				previous = key
			}
			a := c.ok("batch", obj{"cmd": cmd})
			require.Less(t, len(a.Raw), 256<<20)
			require.Contains(t, a.Raw, "INTERNAL_SERVER_ERROR", "what is too much is refused")
			c.ok("profile", nil)
		})
	}
}

// TestManyFields sends an object with as many fields as fit.
func TestManyFields(t *testing.T) {
	t.Parallel()
	_, c := newPortal(t)
	var fields strings.Builder
	for i := range 150_000 {
		fields.WriteString(`,"UF_CRM_` + strconv.Itoa(i) + `":1`)
	}
	start := time.Now()
	a := send(t, http.MethodPost, c.p.ClientEndpoint()+"crm.deal.add", "application/json",
		`{"auth":"`+c.token+`","fields":{"TITLE":"x"`+fields.String()+`}}`)
	require.Equal(t, http.StatusOK, a.Status)
	require.Less(t, time.Since(start), 20*time.Second)
}

// TestRecordsAreBounded fills the records with large calls.
func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	p, c := newPortal(t)
	large := strings.Repeat("x", 1<<19)
	for range 150 {
		require.Equal(t, "ERROR_METHOD_NOT_FOUND", c.call("no.such.method", obj{"x": large}).Error)
	}
	kept := 0
	for _, call := range p.Calls() {
		kept += len(call.Params.JSON())
	}
	require.LessOrEqual(t, kept, 64<<20)
	require.Equal(t, 150, p.CallCount("no.such.method"))
	require.Greater(t, kept, 32<<20, "and much of it is there")
}

func TestCredentialsOfItemsAreNotRecorded(t *testing.T) {
	t.Parallel()
	p, c := newPortal(t)
	c.ok("batch", obj{"cmd": obj{"a": "profile?auth=" + c.token + "&x=1", "b": "profile?x=2&access%5Ftoken=" + c.token, "c": "profile"}})
	for _, call := range p.Calls() {
		require.NotContains(t, string(call.Params.JSON()), c.token, call.Method)
	}
	batch := p.Calls()[3].Params
	require.Equal(t, "profile?x=1", batch.Get("cmd", "a").Text())
	require.Equal(t, "profile?x=2", batch.Get("cmd", "b").Text())
}

func TestSecretsOfPathsAreNotRecorded(t *testing.T) {
	t.Parallel()
	p, _ := newPortal(t)
	hook, err := p.AddIncomingWebhook(eventtest.AdminID)
	require.NoError(t, err)
	parts := strings.Split(strings.TrimSuffix(string(hook), "/"), "/")
	secret := parts[len(parts)-1]
	for _, path := range []string{"", "crm/deal.add", "x/y/z"} {
		require.Equal(t, "ERROR_METHOD_NOT_FOUND", send(t, http.MethodGet, string(hook)+path, "", "").Error)
	}
	require.NotContains(t, fmt.Sprintf("%+v %v", p.Calls(), p.CallCounts()), secret)
}
