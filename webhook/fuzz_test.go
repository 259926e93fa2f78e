package webhook_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// FuzzServeHTTP: for any body, the response is one of the table and never a 5xx, only authentic
// events are accepted, and the response quotes nothing of the request.
func FuzzServeHTTP(f *testing.F) {
	for _, seed := range []string{
		"", "event=", "event", "=", "&&&", "%", "event=ONCRMDEALADD", dealUpdate(7), body("ONAPPINSTALL", nil),
		body("ONCRMDYNAMICITEMADD_147", fields{"data[FIELDS][ID]": "1", "data[FIELDS][ENTITY_TYPE_ID]": "147"}),
		body("ONTASKUPDATE", fields{"data[FIELDS_BEFORE][ID]": "undefined", "data[FIELDS_AFTER][ID]": "3"}),
		body("ONIMBOTMESSAGEADD", fields{"data[BOT][1][access_token]": "x", "data[PARAMS][MESSAGE]": "hi"}),
		"auth[application_token]=" + token + "&event=ONCRMDEALADD&data[BOT=1",
		"auth[application_token]=" + token + "&event=ONCRMDEALADD&data" + strings.Repeat("[x]", 200) + "=1",
		"DOMAIN=p.bitrix24.com&AUTH_ID=x&member_id=y", "workflow_id=1&code=c",
		`{"event":"ONCRMDEALADD","data":{"FIELDS":{"ID":"7"}},"auth":{"application_token":"` + token + `"}}`,
		`{"EVENT_NAME":"ONCRMDEALADD","auth":[]}`, `[`, `{"event":{}}`, strings.Repeat("[", 1000),
	} {
		f.Add("POST", form, seed)
		f.Add("POST", "application/json", seed)
		f.Add("GET", "", seed)
	}
	f.Add("DELETE", "text/plain; charset=\xff", dealUpdate(7))

	mux := event.NewMux()
	event.On(mux, event.OnCrmDealAdd, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	event.On(mux, event.OnCrmDealUpdate, func(context.Context, *event.Delivery, event.CRMEntity) error { return nil })
	h := newHandler(f, mux, webhook.WithCoalescing(event.OnCrmDealUpdate), webhook.WithMaxBodyBytes(64<<10))
	f.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			f.Error(err)
		}
		if s := h.Stats(); s.Accepted != s.Handled+s.Unhandled+s.Failed+s.Coalesced || s.Lost != 0 {
			f.Errorf("accounts do not balance: %+v", s)
		}
	})
	allowed := []int{200, 204, 400, 403, 405, 413, 415}
	f.Fuzz(func(t *testing.T, method, contentType, content string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(content))
		r.Method = method
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !slices.Contains(allowed, w.Code) {
			t.Fatalf("status %d", w.Code)
		}
		if w.Code == http.StatusOK && !strings.Contains(readable(content), token) {
			t.Fatal("accepted without a token")
		}
		if n := w.Body.Len(); n > 32 {
			t.Fatalf("answer of %d bytes", n)
		}
	})
}

// readable undoes what may hide a token in a body: percent signs and backslashes.
func readable(content string) string {
	if strings.ContainsAny(content, `%\`) {
		return token
	}
	return content
}
