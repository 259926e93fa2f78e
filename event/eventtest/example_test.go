package eventtest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

func ExampleNew() {
	ctx := context.Background()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Name, d.Entity().ID)
	}))
	defer srv.Close()

	p, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close() //nolint:errcheck // the example ends here
	token, err := p.AddOutgoingWebhook(srv.URL, "ONCRMDEALADD", "ONCRMDEALDELETE")
	if err != nil {
		fmt.Println(err)
		return
	}
	id, _ := p.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	_ = p.Delete(eventtest.Deal, id, eventtest.AdminID)
	_ = p.Wait(ctx)
	fmt.Println("the token is", token)

	// Output:
	// ONCRMDEALADD 1
	// ONCRMDEALDELETE 1
	// the token is [redacted]
}

func ExampleNewRequest() {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil || string(d.Auth.ApplicationToken) != "the-token-of-the-webhook" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	for _, token := range []event.Secret{"the-token-of-the-webhook", "guess"} {
		r, err := eventtest.NewRequest(context.Background(), event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken(token))
		if err != nil {
			fmt.Println(err)
			return
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 200
	// 403
}

// Without sockets, at real addresses; in a testing/synctest bubble also without waiting.
func ExampleNetwork() {
	n := eventtest.NewNetwork()
	n.Handle("app.example.com", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Name, "of", d.Auth.Domain)
	}))
	p, err := eventtest.New(eventtest.WithNetwork(n), eventtest.WithHost("acme.bitrix24.com"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close() //nolint:errcheck // the example ends here
	app, err := p.AddApp(eventtest.App{HandlerURL: "https://app.example.com/bitrix24"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = app.Install(context.Background())
	_ = p.Wait(context.Background())
	resp, err := n.Client().Get(p.ClientEndpoint() + "event.get") //nolint:noctx // in memory
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close() //nolint:errcheck // in memory
	fmt.Println(resp.Status)

	// Output:
	// ONAPPINSTALL of acme.bitrix24.com
	// 401 Unauthorized
}

func ExamplePortal_Once() {
	p, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close() //nolint:errcheck // the example ends here
	p.Once("server.time", eventtest.HTML(http.StatusBadGateway), eventtest.ExpiredToken())
	p.Always(eventtest.AnyMethod, eventtest.Fail(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"))
	for range 4 {
		resp, err := http.Get(p.ClientEndpoint() + "server.time") //nolint:noctx // on loopback
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(resp.Status)
		_ = resp.Body.Close()
	}
	// Output:
	// 502 Bad Gateway
	// 401 Unauthorized
	// 503 Service Unavailable
	// 503 Service Unavailable
}

// A comment of the new task card is a message of the task's chat. This handler reads it.
func Example_taskComment() {
	ctx := context.Background()
	p, err := eventtest.New()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close() //nolint:errcheck // the example ends here
	hook, err := p.AddIncomingWebhook(eventtest.AdminID, "task", "im")
	if err != nil {
		fmt.Println(err)
		return
	}
	api, err := rest.NewWebhook(string(hook), rest.WithInsecureHTTP())
	if err != nil {
		fmt.Println(err)
		return
	}

	mux := event.NewMux()
	event.On(mux, event.OnTaskCommentAdd, func(ctx context.Context, _ *event.Delivery, e event.TaskComment) error {
		if e.MessageID == 0 {
			return nil // a comment of the old task card, which event.Fetch reads
		}
		var task struct {
			Task struct {
				ChatID int64 `json:"chatId"`
			} `json:"task"`
		}
		if err := api.Call(ctx, "tasks.task.get", map[string]any{"taskId": e.TaskID}, &task); err != nil {
			return err
		}
		var dialog struct {
			Messages []struct {
				ID   int64  `json:"id"`
				Text string `json:"text"`
			} `json:"messages"`
		}
		params := map[string]any{"DIALOG_ID": fmt.Sprintf("chat%d", task.Task.ChatID), "LIMIT": 50} // the newest 50
		if err := api.Call(ctx, "im.dialog.messages.get", params, &dialog); err != nil {
			return err
		}
		for _, m := range dialog.Messages {
			if m.ID == e.MessageID {
				fmt.Printf("task %d: %s\n", e.TaskID, m.Text)
			}
		}
		return nil
	})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := event.ParseRequest(r) // a handler on the internet verifies it; see package webhook
		if err == nil {
			err = mux.HandleEvent(ctx, d)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	defer srv.Close()

	if _, err := p.AddOutgoingWebhook(srv.URL, "ONTASKCOMMENTADD"); err != nil {
		fmt.Println(err)
		return
	}
	task, _ := p.Add(eventtest.Task, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
	_, _ = p.Add(eventtest.ChatMessage, map[string]any{"TASK_ID": task, "MESSAGE": "looks good"}, eventtest.AdminID)
	_ = p.Wait(ctx)

	// Output:
	// task 1: looks good
}
