package b24events_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/oauth"
)

func TestMigrateHandler(t *testing.T) {
	t.Parallel()
	busy := errors.New("the database is down")
	var before []int
	old := oldEvents(recipeToken, func(_ context.Context, deal int) error {
		if before = append(before, deal); len(before) == 1 {
			return busy
		}
		return nil
	})
	var after []int64
	h, err := newEvents(recipeToken, func(_ context.Context, deal int64) error {
		if after = append(after, deal); len(after) == 1 {
			return event.Retry(busy, time.Millisecond)
		}
		return nil
	})
	require.NoError(t, err)
	const noID = "event=ONCRMDEALUPDATE&data[FIELDS][ID]=x&auth[application_token]=" + recipeToken
	for _, body := range []string{strings.Replace(noID, "=x&", "=7&", 1), noID} {
		postForm(t, old, body)
		require.Equal(t, http.StatusOK, postForm(t, h, body))
	}
	require.NoError(t, h.Shutdown(t.Context()))
	require.Equal(t, []int{7, 0}, before, "the failure was not repeated, and a deal 0 came")
	require.Equal(t, []int64{7, 7}, after)
	require.Equal(t, http.StatusOK, postForm(t, oldEvents("", func(context.Context, int) error { return nil }), "event=ONCRMDEALADD"),
		"with an empty setting the old code lets everybody in")
	_, err = newEvents("", nil)
	require.Error(t, err)
}

func TestMigrateDecode(t *testing.T) {
	t.Parallel()
	const body = "event=ONIMCONNECTORMESSAGEADD&data[MESSAGES][0][chat][id]=6026&data[MESSAGES][0][message][text]=Hi&data[MESSAGES][1][message][text]=there"
	_, err := oldDecode([]byte(body))
	require.Error(t, err)
	mux := event.NewMux()
	var got lineMessage
	onLine(mux, func(m lineMessage) error { got = m; return nil })
	d, err := event.Parse("application/x-www-form-urlencoded", []byte(body))
	require.NoError(t, err)
	require.NoError(t, mux.HandleEvent(t.Context(), d))
	require.Len(t, got.Messages, 2)
	require.Equal(t, 6026, got.Messages[0].ChatID)
	require.Equal(t, "there", got.Messages[1].Text)
}

func TestMigrateBindings(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(s *stand) {
		event.On(s.mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	})
	const oldHandler, other = "https://old.example.com/handler.php", "https://other.example.com/events"
	require.NoError(t, oldBind(t.Context(), s.client, oldHandler, "ONCRMDEALADD", "ONCRMLEADADD"))
	require.NoError(t, oldBind(t.Context(), s.client, other, "ONCRMDEALADD"))
	s.ResetRecords()
	require.NoError(t, newBind(t.Context(), s.client, s.mux, s.url, oldHandler))
	require.LessOrEqual(t, s.Requests().REST, 2)
	var handlers []string
	for _, b := range s.Bindings() {
		if b.Event == "ONCRMDEALADD" || b.Event == "ONCRMLEADADD" {
			handlers = append(handlers, b.Handler)
		}
	}
	require.ElementsMatch(t, []string{s.url, other}, handlers)
}

func TestMigrateTokens(t *testing.T) {
	t.Parallel()
	store := oauth.NewMemoryStore()
	portals, err := oauth.NewPortals(oauth.Config{ClientID: "local.1", ClientSecret: "secret"}, store)
	require.NoError(t, err)
	rows := []row{{installedOn, "example.bitrix24.com", "access", "refresh", hookToken}, {"", "broken.bitrix24.com", "a", "r", "t"}}
	require.ErrorIs(t, adopt(t.Context(), portals, rows), oauth.ErrConfig)
	require.NoError(t, adopt(t.Context(), portals, rows[:1]))
	endpoint, token, err := portals.Access(t.Context(), installedOn)
	require.NoError(t, err)
	require.Equal(t, "https://example.bitrix24.com/rest/ access", endpoint+" "+token)
	_, err = portals.Verify(t.Context(), &event.Delivery{
		Kind: event.KindEvent, Name: "ONCRMDEALADD", Auth: event.Auth{MemberID: installedOn, ApplicationToken: hookToken},
	})
	require.NoError(t, err, "events of portals from the old table pass at once")
}

func TestMigrateCalls(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(*stand) {})
	id, err := s.Add(eventtest.Deal, map[string]any{"TITLE": "Boats"}, eventtest.AdminID)
	require.NoError(t, err)
	endpoint, token, err := s.portals.Access(t.Context(), s.MemberID())
	require.NoError(t, err)
	title, err := oldTitle(t.Context(), endpoint, token, int(id))
	require.NoError(t, err)
	require.Equal(t, "Boats", title)
	title, err = newTitle(t.Context(), s.api, s.MemberID(), id)
	require.NoError(t, err)
	require.Equal(t, "Boats", title)

	s.ExpireAccessTokens()
	title, err = oldTitle(t.Context(), endpoint, token, int(id))
	require.NoError(t, err, "the old code does not see the refusal")
	require.Empty(t, title)
	title, err = newTitle(t.Context(), s.api, s.MemberID(), id)
	require.NoError(t, err)
	require.Equal(t, "Boats", title)
	title, err = newTitle(t.Context(), s.api, s.MemberID(), 404)
	require.NoError(t, err)
	require.Empty(t, title)
}

func TestMigratePoll(t *testing.T) {
	t.Parallel()
	s := newStand(t, eventtest.App{Scope: []string{"crm"}}, func(*stand) {})
	mux := event.NewMux()
	handled := make(chan int64, 10)
	attempts := 0
	event.On(mux, event.OnCrmDealAdd, func(_ context.Context, _ *event.Delivery, e event.CRMEntity) error {
		if attempts++; attempts == 1 {
			return event.Retry(errors.New("busy"), time.Millisecond)
		}
		handled <- e.ID
		return nil
	})
	require.NoError(t, event.NewAPI(s.client).Reconcile(t.Context(), mux.OfflineBindings("")))
	for range 2 {
		_, err := s.Add(eventtest.Deal, nil, eventtest.AdminID)
		require.NoError(t, err)
	}
	require.Error(t, oldPoll(t.Context(), s.client, func(string, json.RawMessage) error { return errors.New("busy") }))
	require.Empty(t, s.OfflineRows(), "the old code lost both")

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- newPoll(ctx, s.client, mux) }()
	id, err := s.Add(eventtest.Deal, nil, eventtest.AdminID)
	require.NoError(t, err)
	require.Equal(t, id, <-handled)
	require.Eventually(t, func() bool { return len(s.OfflineRows()) == 0 }, 30*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}

// TestMigrateTests: the request that a test makes in place of curl.
func TestMigrateTests(t *testing.T) {
	t.Parallel()
	h, err := newEvents(recipeToken, func(context.Context, int64) error { return nil })
	require.NoError(t, err)
	r, err := eventtest.NewRequest(t.Context(), event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken(recipeToken))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.NoError(t, h.Shutdown(t.Context()))
}
