package b24events_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"expvar"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/offline"
	"github.com/b24events/b24events/rest"
	"github.com/b24events/b24events/webhook"
	"github.com/b24events/b24events/webhook/webhooktest"
)

// TestGuideCodeIsTested: every Go block of the guides stands, letter by letter, in a file that is
// compiled, and the tests beside that file run each function and type of it.
func TestGuideCodeIsTested(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"recipes", "migrating"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("docs", page+".md")) //nolint:gosec // of this repository
			require.NoError(t, err)
			code, err := os.ReadFile(page + "_example_test.go") //nolint:gosec // the same
			require.NoError(t, err)
			tests, err := os.ReadFile(page + "_test.go") //nolint:gosec // the same
			require.NoError(t, err)
			blocks := goBlocks.FindAllStringSubmatch(string(text), -1)
			require.NotEmpty(t, blocks)
			var all strings.Builder
			for _, b := range blocks {
				require.Contains(t, string(code), "\n"+strings.TrimSpace(b[1])+"\n", "copy the block of docs/%s.md from %s_example_test.go", page, page)
				all.WriteString(b[1])
			}
			file, err := parser.ParseFile(token.NewFileSet(), page+"_example_test.go", code, parser.SkipObjectResolution)
			require.NoError(t, err)
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Recv != nil {
					continue
				}
				require.Contains(t, all.String(), "func "+f.Name.Name+"(", "docs/%s.md does not show it", page)
				require.True(t, strings.HasPrefix(f.Name.Name, "Test") || strings.Contains(string(tests), f.Name.Name+"("), "no test runs %s", f.Name.Name)
			}
		})
	}
}

// TestGuideContents: the recipes are many, and the tables of contents lead to headings.
func TestGuideContents(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("docs", "recipes.md"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, strings.Count(string(text), "\n### "), 30)
	require.GreaterOrEqual(t, len(goBlocks.FindAllStringIndex(string(text), -1)), 20)
	for _, page := range []string{"recipes", "migrating"} {
		text, err := os.ReadFile(filepath.Join("docs", page+".md")) //nolint:gosec // of this repository
		require.NoError(t, err)
		anchors := make(map[string]bool)
		for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(string(text), -1) {
			words := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
			anchors[strings.ReplaceAll(words, " ", "-")] = true
		}
		for _, link := range regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(string(text), -1) {
			require.True(t, anchors[link[1]], "docs/%s.md has no heading #%s", page, link[1])
		}
	}
}

// stand is an application that is installed on a portal.
type stand struct {
	*eventtest.Portal

	app     *eventtest.Application
	store   *oauth.MemoryStore
	portals *oauth.Portals
	api     *rest.Clients
	client  *rest.Client
	mux     *event.Mux
	events  *webhook.Handler
	url     string
}

// newStand installs an application whose handlers register adds.
func newStand(t *testing.T, spec eventtest.App, register func(*stand)) *stand {
	t.Helper()
	s := &stand{Portal: eventtest.NewPortal(t), store: oauth.NewMemoryStore(), mux: event.NewMux()}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.events.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	s.url = server.URL + "/bitrix24"
	spec.HandlerURL = s.url
	var err error
	s.app, err = s.AddApp(spec)
	require.NoError(t, err)
	s.portals, err = oauth.NewPortals(oauth.Config{ClientID: s.app.ClientID(), ClientSecret: s.app.ClientSecret()}, s.store,
		oauth.WithHosts(s.OAuthHost()), oauth.WithInsecureHTTP())
	require.NoError(t, err)
	s.api, err = rest.NewClients(s.portals, rest.WithInsecureHTTP(), rest.WithoutRateLimit())
	require.NoError(t, err)
	s.client = s.api.Portal(s.MemberID())
	register(s)
	if !s.mux.Handles("ONAPPINSTALL") {
		s.portals.Lifecycle(s.mux, oauth.Hooks{Installed: func(ctx context.Context, in oauth.Installation, _ event.AppInstall) error {
			return event.NewAPI(s.api.Portal(in.MemberID)).Reconcile(ctx, s.mux.Bindings(s.url))
		}})
	}
	s.events, err = webhook.NewHandler(s.portals, s.mux)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.events.Shutdown(context.WithoutCancel(t.Context())) })
	require.NoError(t, s.app.Install(t.Context()))
	s.settle(t)
	return s
}

// settle waits until all deliveries were made and handled.
func (s *stand) settle(t *testing.T) {
	t.Helper()
	require.NoError(t, s.Wait(t.Context()))
	require.NoError(t, s.events.Idle(t.Context()))
	require.NoError(t, s.Wait(t.Context())) // what the handlers caused
	require.NoError(t, s.events.Idle(t.Context()))
}

const recipeToken = "0123456789abcdef0123456789abcdef"

// postDeal posts an update of a deal as an outgoing webhook does.
func postDeal(t *testing.T, h http.Handler, id int64) int {
	t.Helper()
	r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealUpdate, event.CRMEntity{ID: id},
		eventtest.WithToken(recipeToken), eventtest.WithTime(time.Unix(1_790_000_000, 0)))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestRecipeCheck(t *testing.T) {
	t.Parallel()
	var probes int
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		event.On(s.mux, event.OnAppTest, func(context.Context, *event.Delivery, event.AppTest) error { probes++; return nil })
	})
	require.NoError(t, check(t.Context(), s.client, s.mux, s.url))
	s.settle(t)
	require.Equal(t, 1, probes)
	_, err := event.NewAPI(s.client).UnbindAll(t.Context())
	require.NoError(t, err)
	require.ErrorContains(t, check(t.Context(), s.client, s.mux, s.url), "ONAPPTEST")
	s.Once("app.info", eventtest.Raw(http.StatusOK, "application/json", `{"result":{"INSTALLED":false}}`))
	require.ErrorContains(t, check(t.Context(), s.client, s.mux, s.url), "installFinish")
	s.app.RevokeTokens()
	require.True(t, mustReinstall(check(t.Context(), s.client, s.mux, s.url)))
	require.False(t, mustReinstall(context.DeadlineExceeded))
}

// memoryLedger is a ledger for the test.
type memoryLedger struct{ sync.Map }

func (m *memoryLedger) Seen(_ context.Context, key string) (bool, error) {
	_, ok := m.Load(key)
	return ok, nil
}

func (m *memoryLedger) Mark(_ context.Context, key string) error { m.Store(key, true); return nil }

func TestRecipeOnce(t *testing.T) {
	t.Parallel()
	mux := event.NewMux()
	mux.Use(once(new(memoryLedger)))
	var runs, failures int
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error {
		if runs++; runs == 1 {
			failures++
			return event.Retry(errors.New("busy"), time.Millisecond)
		}
		return nil
	})
	h, err := newQueued(webhook.Tokens(recipeToken), mux, nil)
	require.NoError(t, err)
	for range 5 {
		require.Equal(t, http.StatusOK, postDeal(t, h, 7))
	}
	require.NoError(t, h.Idle(t.Context()))
	require.Equal(t, 2, runs, "a failure, then once")
	require.Equal(t, 1, failures)
	require.NoError(t, tooSlow(h))
	require.NoError(t, h.Shutdown(t.Context()))
}

func TestRecipeCoalesced(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 100), make(chan struct{})
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error {
		began <- struct{}{}
		<-release
		return nil
	})
	h, err := newCoalesced(webhook.Tokens(recipeToken), mux)
	require.NoError(t, err)
	postDeal(t, h, 7)
	<-began
	for range 50 {
		postDeal(t, h, 7)
	}
	close(release)
	require.NoError(t, h.Shutdown(t.Context()))
	require.EqualValues(t, 2, h.Stats().Handled)
}

func TestRecipeDeal(t *testing.T) {
	t.Parallel()
	saved := make(map[string]Deal)
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		onDeal(s.mux, s.api, func(_ context.Context, portal string, d Deal) error { saved[portal] = d; return nil })
	})
	id, err := s.Add(eventtest.Deal, map[string]any{"TITLE": "Boats", "OPPORTUNITY": "12.50", "CLOSED": "N", "CLOSEDATE": "2026-11-30T03:00:00+03:00"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, s.Update(eventtest.Deal, id, map[string]any{"STAGE_ID": "WON", "CLOSED": "Y"}, eventtest.AdminID))
	s.settle(t)
	d := saved[s.MemberID()]
	require.True(t, d.CloseDate.Equal(time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)))
	d.CloseDate = time.Time{}
	require.Equal(t, Deal{ID: id, Title: "Boats", Opportunity: 12.5, Closed: true, StageID: "WON"}, d)
	require.Equal(t, []string{"STAGE_ID", "UF_NEW", "UF_OLD"}, changedFields(
		map[string]any{"ID": "1", "STAGE_ID": "NEW", "UF_OLD": "x"}, map[string]any{"ID": "1", "STAGE_ID": "WON", "UF_NEW": "y"}))

	var titles []string
	for range 3 {
		_, err := s.Add(eventtest.Deal, map[string]any{"TITLE": "More"}, eventtest.AdminID)
		require.NoError(t, err)
	}
	require.NoError(t, readDeals(t.Context(), s.client, uint64(id), func(d Deal) error { //nolint:gosec // a small ID
		titles = append(titles, d.Title)
		return nil
	}))
	require.Len(t, titles, 3, "without the one before")

	photo := strings.NewReader("what a camera saw")
	require.NoError(t, attach(t.Context(), s.client, id, "UF_CRM_PHOTO", "a.jpg", photo, photo.Size()))
	deal, ok := s.Object(eventtest.Deal, id)
	require.True(t, ok)
	require.Contains(t, mustJSON(t, deal["UF_CRM_PHOTO"]), "a.jpg")
}

// TestRecipeCompare: a copy that missed a new deal, a change and a deletion catches up.
func TestRecipeCompare(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(*stand) {})
	changed := make(map[int64]time.Time)
	var ids []int64
	for _, title := range []string{"same", "changed", "deleted", "new"} {
		id, err := s.Add(eventtest.Deal, map[string]any{"TITLE": title}, eventtest.AdminID)
		require.NoError(t, err)
		ids = append(ids, id)
		deal, err := event.FetchByID[struct {
			Changed time.Time `b24:"DATE_MODIFY"`
		}](t.Context(), s.client, event.OnCrmDealUpdate, id)
		require.NoError(t, err)
		require.False(t, deal.Changed.IsZero())
		changed[id] = deal.Changed
	}
	changed[ids[1]] = changed[ids[1]].Add(-time.Minute)
	require.NoError(t, s.Delete(eventtest.Deal, ids[2], eventtest.AdminID))
	delete(changed, ids[3])

	var read, removed []int64
	note := func(list *[]int64) func(context.Context, int64) error {
		return func(_ context.Context, id int64) error { *list = append(*list, id); return nil }
	}
	require.NoError(t, compare(t.Context(), s.client, changed, note(&read), note(&removed)))
	require.Equal(t, []int64{ids[1], ids[3]}, read)
	require.Equal(t, []int64{ids[2]}, removed)

	failed := errors.New("the table is locked")
	fail := func(context.Context, int64) error { return failed }
	require.ErrorIs(t, compare(t.Context(), s.client, changed, fail, fail), failed)
	require.ErrorIs(t, compare(t.Context(), s.client, changed, note(&read), fail), failed)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

func TestRecipeLoop(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		event.On(s.mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, _ event.CRMEntity) error {
			return prioritize(ctx, s.client, d)
		})
	})
	id, err := s.Add(eventtest.Deal, map[string]any{"TITLE": "Ship", "OPPORTUNITY": 2_000_000}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, s.Update(eventtest.Deal, id, map[string]any{"TITLE": "Ships"}, eventtest.AdminID))
	s.settle(t)
	s.settle(t)
	require.Equal(t, 1, s.CallCount("crm.deal.update"))
	require.EqualValues(t, 3, s.events.Stats().Accepted, "the installation, a person's change, and our own")
}

func TestRecipeActing(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"task"}}, func(s *stand) {
		event.On(s.mux, event.OnTaskAdd, func(ctx context.Context, d *event.Delivery, e event.Task) error {
			return renameAs(ctx, s.api, s.portals, d, e.ID, "seen")
		})
	})
	clerk := s.AddUser(eventtest.User{Name: "Clerk"})
	for _, user := range []int64{clerk, 0} {
		_, err := s.Add(eventtest.Task, map[string]any{"TITLE": "new", "RESPONSIBLE_ID": clerk, "CREATED_BY": clerk}, user)
		require.NoError(t, err)
		s.settle(t)
	}
	var users []int64
	for _, call := range s.Calls() {
		if call.Method == "tasks.task.update" {
			users = append(users, call.UserID)
		}
	}
	require.Equal(t, []int64{clerk, eventtest.AdminID}, users)
}

// TestRecipeActingLater: what a user did is not done with other rights when its delivery is handled
// late, or without its token.
func TestRecipeActingLater(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opts []webhook.Option
		late bool // the token has expired on the portal
		err  error
	}{
		"tokens are kept":        {opts: []webhook.Option{webhook.WithEncryptionKey(make([]byte, 32))}},
		"kept, and expired":      {opts: []webhook.Option{webhook.WithEncryptionKey(make([]byte, 32))}, late: true, err: oauth.ErrUserTokenExpired},
		"tokens are not kept":    {err: oauth.ErrNoUserToken},
		"not kept, and too late": {late: true, err: oauth.ErrNoUserToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var outcome error
			s := newStand(t, eventtest.App{Scope: []string{"task"}}, func(*stand) {})
			clerk := s.AddUser(eventtest.User{Name: "Clerk"})
			id, err := s.Add(eventtest.Task, map[string]any{"TITLE": "new", "RESPONSIBLE_ID": clerk, "CREATED_BY": clerk}, clerk)
			require.NoError(t, err)
			g, err := s.app.Grant(clerk)
			require.NoError(t, err)
			if c.late {
				s.ExpireAccessTokens()
			}
			mux := event.NewMux()
			event.On(mux, event.OnTaskAdd, func(ctx context.Context, d *event.Delivery, e event.Task) error {
				outcome = renameAs(ctx, s.api, s.portals, d, e.ID, "seen")
				return outcome
			})
			store, err := webhooktest.NewMemoryStore()
			require.NoError(t, err)
			h, err := webhook.NewHandler(s.portals, mux, append(c.opts, webhook.WithStore(store))...)
			require.NoError(t, err)
			r, err := eventtest.NewRequest(t.Context(), event.OnTaskAdd, event.Task{ID: id}, eventtest.WithGrant(g))
			require.NoError(t, err)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, http.StatusOK, w.Code)
			require.NoError(t, h.Idle(t.Context()))
			require.NoError(t, h.Shutdown(t.Context()))
			require.ErrorIs(t, outcome, c.err)
			depth, err := store.Depth(t.Context())
			require.NoError(t, err)
			task, ok := s.Object(eventtest.Task, id)
			require.True(t, ok)
			if c.err == nil {
				require.Equal(t, "seen", task["TITLE"])
				require.Zero(t, depth.Parked)
				return
			}
			require.Equal(t, "new", task["TITLE"])
			require.EqualValues(t, 1, depth.Parked, "it waits for a decision")
		})
	}
}

// TestRecipePages opens the page as two employees, and does what its script does.
func TestRecipePages(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(*stand) {})
	routes := http.NewServeMux()
	require.NoError(t, pages(routes, s.portals, s.api))
	clerk := s.AddUser(eventtest.User{Name: "Clerk"})
	id, err := s.Add(eventtest.Deal, map[string]any{"TITLE": "Boats", "CLOSED": "N"}, clerk)
	require.NoError(t, err)
	open := func(change func(*http.Request)) *httptest.ResponseRecorder {
		r, err := s.app.Frame(t.Context(), clerk, eventtest.Placement{Name: "CRM_DEAL_DETAIL_TAB", Options: map[string]any{"ID": id}})
		require.NoError(t, err)
		r.URL.Path = "/deal"
		change(r)
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		return w
	}
	script := regexp.MustCompile(`(?s)const session = "([^"]+)", deal = JSON.parse\("(.+?)"\).ID;` +
		`.*fetch\("/deals/" \+ deal \+ "(/close)", \{\s*method: "(POST)",\s*headers: \{"(Authorization)": "(Bearer )" \+ session\},`)
	shown := script.FindStringSubmatch(open(func(*http.Request) {}).Body.String())
	require.NotNil(t, shown)
	options, err := strconv.Unquote(`"` + shown[2] + `"`) // a text of JavaScript
	require.NoError(t, err)
	require.JSONEq(t, `{"ID":`+strconv.FormatInt(id, 10)+`}`, options)
	send := func(session string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), shown[4], "/deals/"+strconv.FormatInt(id, 10)+shown[3], nil)
		r.Header.Set(shown[5], shown[6]+session)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	updates := func() (users []int64) {
		for _, call := range s.Calls() {
			if call.Method == "crm.deal.update" {
				users = append(users, call.UserID)
			}
		}
		return users
	}
	code, text := send(shown[1])
	require.Equal(t, http.StatusOK, code, text)
	require.Equal(t, []int64{clerk}, updates(), "as the user who opened the page")
	deal, ok := s.Object(eventtest.Deal, id)
	require.True(t, ok)
	require.Equal(t, "Y", deal["CLOSED"])
	s.ExpireAccessTokens()
	code, text = send(shown[1])
	require.Equal(t, http.StatusOK, code, "the user's tokens renew themselves: "+text)
	require.Equal(t, clerk, updates()[len(updates())-1])

	code, text = send("s1.forged.session")
	require.Equal(t, http.StatusUnauthorized, code, text)
	s.Once("crm.deal.update", eventtest.Fail(http.StatusForbidden, string(rest.ErrAccessDenied), ""))
	code, text = send(shown[1])
	require.Equal(t, http.StatusForbidden, code, text)
	s.Once("crm.deal.update", eventtest.Fail(http.StatusBadRequest, "ERROR_CORE", ""))
	code, text = send(shown[1])
	require.Equal(t, http.StatusBadGateway, code, text)
	require.NoError(t, s.portals.Forget(t.Context(), s.MemberID()))
	code, text = send(shown[1])
	require.Equal(t, http.StatusUnauthorized, code, text)
	require.Equal(t, http.StatusForbidden, open(func(*http.Request) {}).Code, "of no known portal")
	require.Equal(t, http.StatusMethodNotAllowed, open(func(r *http.Request) { r.Method = http.MethodGet }).Code)
}

func TestRecipeLater(t *testing.T) {
	t.Parallel()
	outcome, wait := event.OutcomeOf(later(&rest.Error{Code: rest.ErrQueryLimit}))
	require.Equal(t, event.OutcomeRetried, outcome)
	require.Positive(t, wait)
	outcome, _ = event.OutcomeOf(later(&rest.Error{Code: rest.ErrAccessDenied}))
	require.NotEqual(t, event.OutcomeRetried, outcome)
}

func TestRecipeReplicas(t *testing.T) {
	t.Parallel()
	store, err := webhooktest.NewMemoryStore(webhooktest.WithPartitions(4))
	require.NoError(t, err)
	leases := offline.NewMemoryLeaser()
	portals := application(t, oauth.NewMemoryStore(), "local.app", installedOn, hookToken)
	handled := make(chan int64, 20)
	var replicas []*webhook.Handler
	for range 2 {
		mux := event.NewMux()
		event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
			handled <- e.ID
			return nil
		})
		h, err := newReplica(portals, mux, store, leases)
		require.NoError(t, err)
		replicas = append(replicas, h)
	}
	got := make(map[int64]bool)
	for i := range 10 {
		body, err := eventtest.Body(event.OnCrmDealUpdate, event.CRMEntity{ID: int64(i + 1)}, eventtest.WithMember(installedOn), eventtest.WithToken(hookToken))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, postForm(t, replicas[i%2], string(body)))
	}
	for range 10 {
		got[<-handled] = true
	}
	require.Len(t, got, 10)
	for _, h := range replicas {
		require.NoError(t, h.Shutdown(t.Context()))
	}
}

func TestRecipeTokens(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tokens")
	old, fresh := make([]byte, oauth.EncryptionKeySize), make([]byte, oauth.EncryptionKeySize)
	old[0], fresh[0] = 1, 2
	store, err := openTokens(dir, old)
	require.NoError(t, err)
	key := oauth.Key{ClientID: "local.1", MemberID: installedOn}
	_, err = store.Swap(t.Context(), key, "", oauth.Installation{MemberID: installedOn, AccessToken: "s3cret"})
	require.NoError(t, err)
	require.NoError(t, store.Close())
	store, err = openTokens(dir, fresh, old)
	require.NoError(t, err)
	n, err := oauth.Reseal(t.Context(), store, "local.1")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, store.Close())
	store, err = openTokens(dir, fresh)
	require.NoError(t, err)
	in, _, err := store.Load(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, event.Secret("s3cret"), in.AccessToken)
	require.NoError(t, store.Close())
	_, err = openTokens(dir)
	require.ErrorIs(t, err, oauth.ErrConfig, "no key")
}

func TestRecipeProxy(t *testing.T) {
	t.Parallel()
	h, err := newQueued(webhook.Tokens(recipeToken), event.NewMux(), nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the list is not fetched
	front, err := behindProxy(ctx, h)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, postDeal(t, front, 7), "without a list the filter lets everybody through")
	require.NoError(t, h.Shutdown(t.Context()))
}

func TestRecipeMixed(t *testing.T) {
	t.Parallel()
	portals := application(t, oauth.NewMemoryStore(), "local.app", installedOn, hookToken)
	h, err := newMixed(portals, eventtest.SampleMemberID, recipeToken, event.NewMux())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, postDeal(t, h, 7))
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONCRMDEALUPDATE", hookToken, "data[FIELDS][ID]", "1")))
	require.Equal(t, http.StatusForbidden, postForm(t, h, signed("ONCRMDEALUPDATE", recipeToken, "data[FIELDS][ID]", "1")))
	require.NoError(t, h.Shutdown(t.Context()))
}

func TestRecipeHook(t *testing.T) {
	t.Parallel()
	portal := eventtest.NewPortal(t)
	incoming, err := portal.AddIncomingWebhook(eventtest.AdminID, "crm")
	require.NoError(t, err)
	mux := event.NewMux()
	var saved Deal
	require.NoError(t, onHook(mux, string(incoming), func(d Deal) error { saved = d; return nil }, rest.WithInsecureHTTP()))
	h, err := newQueued(webhook.Tokens(recipeToken), mux, nil)
	require.NoError(t, err)
	id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Boats", "OPPORTUNITY": 5}, eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, postDeal(t, h, id))
	require.NoError(t, h.Shutdown(t.Context()))
	require.Equal(t, "Boats", saved.Title)
	require.Error(t, onHook(event.NewMux(), "no address", nil))
}

// memoryAccounts counts what a customer table was told.
type memoryAccounts struct{ opened, closed, erased int }

func (m *memoryAccounts) Open(context.Context, string) error  { m.opened++; return nil }
func (m *memoryAccounts) Close(context.Context, string) error { m.closed++; return nil }
func (m *memoryAccounts) Erase(context.Context, string) error { m.erased++; return nil }

func TestRecipeLifecycle(t *testing.T) {
	t.Parallel()
	var table memoryAccounts
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		event.On(s.mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
		lifecycle(s.portals, s.api, s.mux, s.url, &table)
	})
	require.Equal(t, memoryAccounts{opened: 1}, table)
	require.NoError(t, s.app.Update())
	s.settle(t)
	require.NoError(t, s.app.Uninstall(false))
	s.settle(t)
	require.Equal(t, memoryAccounts{opened: 1, closed: 1}, table)
	require.NoError(t, s.app.Install(t.Context()))
	s.settle(t)
	require.NoError(t, s.app.Uninstall(true))
	s.settle(t)
	require.Equal(t, memoryAccounts{opened: 2, closed: 1, erased: 1}, table)
	require.NoError(t, s.app.Install(t.Context()))
	s.settle(t)
	want := s.mux.Bindings(s.url)
	_, err := event.NewAPI(s.client).UnbindAll(t.Context())
	require.NoError(t, err)
	var logged strings.Builder
	log := slog.New(slog.NewTextHandler(&logged, nil))
	require.NoError(t, reconcileAll(t.Context(), log, s.portals, s.api, want))
	plan, err := event.NewAPI(s.client).Plan(t.Context(), want)
	require.NoError(t, err)
	require.Zero(t, plan.Changes())
	s.app.SetActive(false)
	require.NoError(t, reconcileAll(t.Context(), log, s.portals, s.api, want))
	require.Contains(t, logged.String(), "removed: 1")
}

func TestRecipeBot(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"imbot"}}, func(s *stand) { echoBot(s.mux, s.api) })
	bot, err := s.app.AddBot(eventtest.Bot{Code: "echo"})
	require.NoError(t, err)
	eve := s.AddUser(eventtest.User{Name: "Eve"})
	_, err = s.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": bot, "MESSAGE": "hello"}, eve)
	require.NoError(t, err)
	s.settle(t)
	var said []string
	for _, call := range s.Calls() {
		if call.Method == "imbot.message.add" && call.ErrorCode == "" {
			said = append(said, call.Params.Get("MESSAGE").Text())
		}
	}
	require.Equal(t, []string{"You wrote: hello"}, said)
}

func TestRecipeComment(t *testing.T) {
	t.Parallel()
	var got [][3]int64
	keep := func(card int64) func(context.Context, string, int64, int64) error {
		return func(_ context.Context, _ string, task, id int64) error {
			got = append(got, [3]int64{card, task, id})
			return nil
		}
	}
	mux := event.NewMux()
	onComment(mux, keep(1), keep(2))
	for _, body := range []string{
		"event=ONTASKCOMMENTADD&data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=3157&data[FIELDS_AFTER][TASK_ID]=8017",
		"event=ONTASKCOMMENTADD&data[FIELDS_BEFORE]=undefined&data[FIELDS_AFTER][ID]=0&data[FIELDS_AFTER][MESSAGE_ID]=48760&data[FIELDS_AFTER][TASK_ID]=2536",
	} {
		d, err := event.Parse("", []byte(body))
		require.NoError(t, err)
		require.NoError(t, mux.HandleEvent(t.Context(), d))
	}
	require.Equal(t, [][3]int64{{1, 8017, 3157}, {2, 2536, 48760}}, got)
}

func TestRecipeItem(t *testing.T) {
	t.Parallel()
	const process = 31 // invoices
	var got []string
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		onItem(s.mux, s.api, process, func(title, stage string) error { got = append(got, title+" "+stage); return nil })
	})
	id, err := s.Add(eventtest.SmartProcess(process), map[string]any{"title": "Invoice"}, eventtest.AdminID)
	require.NoError(t, err)
	require.NoError(t, s.Update(eventtest.SmartProcess(process), id, map[string]any{"stageId": "DT31:P"}, eventtest.AdminID))
	s.settle(t)
	require.Equal(t, []string{"Invoice DT31:P"}, got)
}

// memoryJobs is a job queue for the test.
type memoryJobs struct {
	keys     []string
	payloads [][]byte
}

func (m *memoryJobs) Insert(_ context.Context, key string, payload []byte) error {
	m.keys, m.payloads = append(m.keys, key), append(m.payloads, payload)
	return nil
}

func TestRecipeHandOver(t *testing.T) {
	t.Parallel()
	var queue memoryJobs
	var deals []int64
	mux := event.NewMux()
	fail := errors.New("busy")
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		deals = append(deals, e.ID)
		switch e.ID {
		case 2:
			return fail
		case 3:
			return event.Drop(fail)
		default:
			return nil
		}
	})
	h, err := webhook.NewHandler(webhook.Tokens(recipeToken), mux, webhook.WithQueue(handOver{&queue}))
	require.NoError(t, err)
	for id := range int64(3) {
		require.Equal(t, http.StatusOK, postDeal(t, h, id+1))
	}
	require.NoError(t, h.Shutdown(t.Context()))
	require.Empty(t, deals, "the queue's workers handle them")
	var again []bool
	for _, payload := range queue.payloads {
		retry, _ := runJob(t.Context(), mux, payload)
		again = append(again, retry)
	}
	require.Equal(t, []int64{1, 2, 3}, deals)
	require.Equal(t, []bool{false, true, false}, again)
	require.Equal(t, eventtest.SampleMemberID+" {crm.deal 1}", queue.keys[0])
	_, err = runJob(t.Context(), mux, []byte("damaged"))
	require.ErrorIs(t, err, event.ErrStored)
}

func TestRecipeMetrics(t *testing.T) {
	t.Parallel()
	portals := application(t, oauth.NewMemoryStore(), "local.app", installedOn, hookToken)
	api, err := rest.NewClients(portals)
	require.NoError(t, err)
	mux := event.NewMux()
	var names []string
	mux.Use(timed(func(name string, _ time.Duration, _ error) { names = append(names, name) }))
	fanned := 0
	count := event.HandlerFunc(func(context.Context, *event.Delivery) error { fanned++; return nil })
	fanOut(mux, count, count)
	mux.Unhandled(count)
	h, err := webhook.NewHandler(portals, mux, webhook.WithSync())
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONCRMDEALADD", hookToken, "data[FIELDS][ID]", "1")))
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONMADEUP", hookToken)))
	require.Equal(t, []string{"ONCRMDEALADD", "other"}, names)
	require.Equal(t, 3, fanned)
	var vars expvar.Map
	publish(&vars, h, api)
	require.Contains(t, vars.String(), `"accepted":2`)
	require.NotContains(t, vars.String(), installedOn)

	var quiet silence
	now := time.Now()
	require.Zero(t, quiet.Look(h, now))
	require.Equal(t, time.Hour, quiet.Look(h, now.Add(time.Hour)))
	require.Equal(t, http.StatusOK, postForm(t, h, signed("ONCRMDEALADD", hookToken, "data[FIELDS][ID]", "2")))
	require.Zero(t, quiet.Look(h, now.Add(2*time.Hour)))
}

func TestRecipeWatched(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(*stand) {})
	consumer, err := watched(s.client, event.NewMux(), func(string, string) { t.Error("no reason for an alarm") })
	require.NoError(t, err)
	require.NoError(t, consumer.Drain(t.Context()))
}

func TestRecipeParked(t *testing.T) {
	t.Parallel()
	store, err := webhooktest.NewMemoryStore()
	require.NoError(t, err)
	var mu sync.Mutex
	broken, fixed := true, 0
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			panic("a bug")
		}
		fixed++
		return nil
	})
	h, err := newQueued(webhook.Tokens(recipeToken), mux, store)
	require.NoError(t, err)
	for id := range int64(3) {
		require.Equal(t, http.StatusOK, postDeal(t, h, id+1))
	}
	require.NoError(t, h.Idle(t.Context()))
	mu.Lock()
	broken = false
	mu.Unlock()
	n, err := replayParked(t.Context(), store)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return fixed == 3
	}, 30*time.Second, time.Millisecond)
	require.NoError(t, h.Shutdown(t.Context()))
}

func TestRecipeScopes(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"task"}}, func(*stand) {})
	_, err := event.FetchByID[Deal](t.Context(), s.client, event.OnCrmDealUpdate, 1)
	scopes, ok := missing(err)
	require.True(t, ok)
	require.Equal(t, "crm", scopes)
	_, ok = missing(s.client.Call(t.Context(), "crm.deal.get", map[string]any{"id": 1}, nil))
	require.True(t, ok)
	_, ok = missing(context.Canceled)
	require.False(t, ok)
}

// TestRecipeBox calls an OAuth server with a certificate that only the given authority signed.
func TestRecipeBox(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	cfg := oauth.Config{ClientID: "local.1", ClientSecret: "secret"}
	portals, api, err := newBox(cfg, oauth.NewMemoryStore(), authority, server.Listener.Addr().String())
	require.NoError(t, err)
	in := oauth.Installation{MemberID: installedOn, ClientEndpoint: server.URL + "/rest/", ServerEndpoint: server.URL + "/rest/", AccessToken: "access"}
	_, err = portals.Seed(t.Context(), in)
	require.NoError(t, err)
	err = api.Portal(installedOn).With(rest.Retries(0)).Call(t.Context(), "server.time", nil, nil)
	require.ErrorIs(t, err, rest.ErrBadResponse, "TLS works, and the page is no portal's")

	plain, err := oauth.NewPortals(cfg, oauth.NewMemoryStore(), oauth.WithHosts(server.Listener.Addr().String()))
	require.NoError(t, err)
	_, err = plain.Seed(t.Context(), in)
	require.NoError(t, err)
	clients, err := rest.NewClients(plain)
	require.NoError(t, err)
	err = clients.Portal(installedOn).With(rest.Retries(0)).Call(t.Context(), "server.time", nil, nil)
	var refused *tls.CertificateVerificationError
	require.ErrorAs(t, err, &refused)
	_, _, err = newBox(cfg, oauth.NewMemoryStore(), []byte("no certificate"))
	require.Error(t, err)
}
