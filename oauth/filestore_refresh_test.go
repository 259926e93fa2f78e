package oauth_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// renewed is the report of a process after a round: hashes of the tokens that its goroutines ended
// with, and their errors.
type renewed struct {
	Access  []string `json:"access"`  // of each goroutine
	Stored  string   `json:"stored"`  // of the installation as this process sees it
	Refused int      `json:"refused"` // times that the portal answered expired_token
	Errors  []string `json:"errors"`
	Dead    bool     `json:"dead"` // one of the errors says that the application must be authorized again
}

func hashed(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// callPortal makes a REST call and returns the error code in the response.
func callPortal(ctx context.Context, client *http.Client, endpoint, token string) (string, error) {
	form := url.Values{"auth": {token}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"app.info", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var response struct {
		Error string `json:"error"`
	}
	err = json.NewDecoder(resp.Body).Decode(&response)
	return response.Error, err
}

// renewJob works like a program in each round: it calls the portal in many goroutines, and renews a
// token that the portal refuses.
func renewJob(t *testing.T, j job) {
	t.Helper()
	portals, err := oauth.NewPortals(oauth.Config{ClientID: j.ClientID, ClientSecret: event.Secret(j.ClientSecret)}, j.store(t),
		oauth.WithHosts(j.OAuthHost), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	client := &http.Client{Timeout: time.Minute}
	report(t, "ready")
	orders := bufio.NewScanner(os.Stdin)
	for {
		memberID, ok := order(orders)
		if !ok {
			break
		}
		var (
			result renewed
			mu     sync.Mutex
			wg     sync.WaitGroup
		)
		for range 4 {
			wg.Go(func() {
				token, refused, err := workOnce(t.Context(), portals, client, memberID)
				mu.Lock()
				defer mu.Unlock()
				result.Refused += refused
				if err != nil {
					result.Errors = append(result.Errors, err.Error())
					result.Dead = result.Dead || errors.Is(err, oauth.ErrReauthorize)
					return
				}
				result.Access = append(result.Access, hashed(token))
			})
		}
		wg.Wait()
		in, err := portals.Installation(t.Context(), memberID)
		require.NoError(t, err)
		result.Stored = hashed(string(in.AccessToken) + string(in.RefreshToken))
		doc, err := json.Marshal(result)
		require.NoError(t, err)
		report(t, string(doc))
	}
	require.NoError(t, portals.Shutdown(t.Context()))
}

// workOnce calls the portal until it accepts the token, and returns the token.
func workOnce(ctx context.Context, portals *oauth.Portals, client *http.Client, memberID string) (token string, refused int, err error) {
	endpoint, token, err := portals.Access(ctx, memberID)
	for err == nil {
		var code string
		code, err = callPortal(ctx, client, endpoint, token)
		if err != nil || code == "" {
			return token, refused, err
		}
		if code != "expired_token" || refused == 3 {
			return "", refused, errors.New("the portal answered " + code)
		}
		refused++
		endpoint, token, err = portals.Renew(ctx, memberID, token)
	}
	return "", refused, err
}

// TestProcessesShareOneRenewal has processes that share a file store. Their token expires for all
// of them at once, and a refresh token works once. All of them must go on with the pair of the
// process that renewed first.
func TestProcessesShareOneRenewal(t *testing.T) {
	t.Parallel()
	for name, encrypted := range map[string]bool{"plain": false, "encrypted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			j := job{
				Work: "renew", Dir: t.TempDir(), Encrypted: encrypted,
				OAuthHost: w.OAuthHost(), ClientID: w.app.ClientID(), ClientSecret: string(w.app.ClientSecret()),
			}
			store := j.store(t)
			before := installationOf(w.grant(t))
			_, err := store.Swap(t.Context(), w.key, "", before)
			require.NoError(t, err)
			var list []*process
			for range processes {
				list = append(list, start(t, j))
			}
			refusedRenewals := 0
			const rounds = 5
			for range rounds {
				w.ResetRecords()
				w.ExpireAccessTokens()
				for _, p := range list {
					p.say(t, w.MemberID())
				}
				results := make([]renewed, len(list))
				for i, p := range list {
					line := p.line(t)
					require.NoError(t, json.Unmarshal([]byte(line), &results[i]), line)
				}
				after := load(t, store, w.MemberID())
				require.NotEqual(t, before.AccessToken, after.AccessToken)
				require.NotEqual(t, before.RefreshToken, after.RefreshToken)
				refused := 0
				for _, r := range results {
					require.False(t, r.Dead, "a process wants to be authorized again: %v", r.Errors)
					require.Empty(t, r.Errors)
					require.Len(t, r.Access, 4)
					for _, access := range r.Access {
						require.Equal(t, hashed(string(after.AccessToken)), access)
					}
					require.Equal(t, hashed(string(after.AccessToken)+string(after.RefreshToken)), r.Stored)
					refused += r.Refused
				}
				require.GreaterOrEqual(t, refused, 1)
				won := 0
				for _, call := range w.OAuthCalls() {
					if call.Status == http.StatusOK {
						won++
					}
				}
				require.Equal(t, 1, won, "one renewal succeeds")
				refusedRenewals += w.renewals() - won
				before = after
			}
			t.Logf("%d renewals were refused because another process came first", refusedRenewals)
			require.Positive(t, refusedRenewals, "the processes did not meet, so nothing was tested")

			// The refresh token of the last winner works.
			w.ExpireAccessTokens()
			_, _, err = w.portals(t, store).Renew(t.Context(), w.MemberID(), string(before.AccessToken))
			require.NoError(t, err)
		})
	}
}
