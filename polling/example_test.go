package polling_test

import (
	"context"
	"fmt"
	"os"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/polling"
	"github.com/b24events/b24events/rest"
)

// connect starts a portal with an application, and returns a client with the administrator's token.
func connect(ctx context.Context) (*eventtest.Portal, *rest.Client, error) {
	portal, err := eventtest.New() //nolint:contextcheck // the portal lives until it is closed
	if err != nil {
		return nil, nil, err
	}
	app, err := portal.AddApp(eventtest.App{Scope: []string{"imbot", "im"}})
	if err == nil {
		err = app.Install(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	g, err := app.Grant(eventtest.AdminID)
	if err != nil {
		return nil, nil, err
	}
	clients, err := rest.NewClients(credentials{g.ClientEndpoint, string(g.AccessToken), app.ClientID()}, rest.WithInsecureHTTP())
	if err != nil {
		return nil, nil, err
	}
	return portal, clients.Portal(portal.MemberID()), nil
}

// A bot that answers, without a public URL. A program calls Run instead of Drain.
func ExampleNewBot() {
	ctx := context.Background()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.Close() //nolint:errcheck // an example

	// To register a bot again returns the same one. Its mode is fetch unless it is said otherwise.
	var registered struct {
		Bot event.ChatBot `json:"bot"`
	}
	err = api.Call(ctx, "imbot.v2.Bot.register", map[string]any{
		"fields": map[string]any{"code": "echo", "properties": map[string]any{"name": "Echo"}},
	}, &registered)
	if err != nil {
		fmt.Println(err)
		return
	}

	mux := event.NewMux()
	event.On(mux, event.OnImBotV2MessageAdd, func(ctx context.Context, _ *event.Delivery, e event.BotV2Message) error {
		fmt.Printf("user %d says: %s\n", e.User.ID, e.Message.Text)
		return api.Call(ctx, "imbot.v2.Chat.Message.send", map[string]any{
			"botId": e.Bot.ID, "dialogId": e.Chat.DialogID, "fields": map[string]any{"message": "You said: " + e.Message.Text},
		}, nil)
	})

	dir, err := os.MkdirTemp("", "echo-bot")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an example
	offsets, err := polling.NewFileStore(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	bot, err := polling.NewBot(api, registered.Bot.ID, mux, offsets)
	if err != nil {
		fmt.Println(err)
		return
	}

	// While the program is down, a user writes to the bot.
	_, _ = portal.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": registered.Bot.ID, "MESSAGE": "Hello"}, eventtest.AdminID)
	if err := bot.Drain(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println("handled:", bot.Stats().Handled)
	// Output:
	// user 1 says: Hello
	// handled: 1
}

// The messages of a user, without a bot.
func ExampleNewUser() {
	ctx := context.Background()
	portal, api, err := connect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer portal.Close() //nolint:errcheck // an example

	mux := event.NewMux()
	event.On(mux, event.OnImV2MessageAdd, func(_ context.Context, _ *event.Delivery, e event.IMV2Message) error {
		fmt.Printf("%s writes: %s\n", e.User.Name, e.Message.Text)
		return nil
	})
	user, err := polling.NewUser(api, eventtest.AdminID, mux, polling.NewMemoryStore())
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := user.Drain(ctx); err != nil { // it subscribes; nothing is logged before that
		fmt.Println(err)
		return
	}
	colleague := portal.AddUser(eventtest.User{Name: "Anna"})
	_, _ = portal.Add(eventtest.ChatMessage, map[string]any{"DIALOG_ID": eventtest.AdminID, "MESSAGE": "Lunch?"}, colleague)
	if err := user.Drain(ctx); err != nil {
		fmt.Println(err)
	}
	if err := user.Unsubscribe(ctx); err != nil { // for good
		fmt.Println(err)
	}
	// Output:
	// Anna writes: Lunch?
}
