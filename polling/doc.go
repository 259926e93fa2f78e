// Package polling gets the events of chat bots and of messenger users from portals that do not post
// them: it asks for them with imbot.v2.Event.get and im.v2.Event.get. That is how bots of imbot.v2
// get their events unless they are registered with eventMode webhook, and the only way to get the
// events of a user. It needs no public URL.
//
//	mux := event.NewMux()
//	event.On(mux, event.OnImBotV2MessageAdd, func(ctx context.Context, d *event.Delivery, e event.BotV2Message) error {
//		return api.Call(ctx, "imbot.v2.Chat.Message.send", map[string]any{
//			"botId": e.Bot.ID, "dialogId": e.Chat.DialogID, "fields": map[string]any{"message": "You said: " + e.Message.Text},
//		}, nil)
//	})
//	store, err := polling.NewFileStore("/var/lib/mybot")
//	…
//	bot, err := polling.NewBot(api, botID, mux, store)
//	…
//	err = bot.Run(ctx)
//
// It is a package beside offline, because the two have little in common but the handlers. The
// offline queue is a set of changes that are reserved and cleared one by one. Here a portal keeps a
// log, and one number, the offset, acknowledges everything below it.
//
// # What it guarantees
//
// Each event is handled at least once. A [Consumer] keeps an offset in a [Store] after all events
// below it are done, and asks the portal with it after that, never with a newer one. A crash
// repeats events that were handled since, and loses none. Handlers should therefore tolerate an
// event that comes twice; [event.Delivery.ID] is the same then.
//
// The events of a chat are handled in order, one after the other, and chats beside each other. An
// event that fails is tried again, after a second at first, later after up to 30 seconds, or when
// [event.Retry] says. Meanwhile it holds up its chat and the offset, but not the other chats: the
// consumer goes on asking and handling, until 1000 events are in memory.
//
// # What happens to an event that fails for good
//
// A portal can neither skip an event nor put it aside, so one that blocked the offset would block
// the bot. After [WithMaxAttempts] attempts the consumer gives an event up: it calls
// [Hooks].Dropped, counts the event in [Stats].Failed, logs an error, and goes on. By default these
// are five attempts in about 15 seconds, so return [event.Retry] with a longer time, or allow more
// attempts, if your handlers need something that may be away for longer. The same
// happens, with counters of their own, if the handler drops the event with [event.Drop], and if an
// event cannot be read. The hook gets the event as the portal sent it, and the offset passes the
// event when the hook has returned nil. To lose nothing, store it there:
//
//	polling.WithHooks(polling.Hooks{Dropped: func(ctx context.Context, e polling.Event, err error) error {
//		return deadLetters.Put(ctx, e.ID, e.Raw(), err) // your own table
//	}})
//
// An event that no handler takes is counted in Stats.Unhandled and ignored. Bots get eight types of
// events, and most handle four.
//
// # What can be lost
//
// Portals keep events for 24 hours. What was not asked for by then is gone, so watch
// Stats.LastResponse. Only one application may poll a user: each acknowledges, and so deletes, the
// events for all. Events from before im.v2.Event.subscribe are not logged at all.
//
// A handler that never returns holds up the offset. After 1000 events the consumer asks for no
// more, and logs a warning every five minutes.
//
// Portals do not report that somebody has ended the subscription of a user: they just have no
// events. So the consumer subscribes again every 15 minutes, and checks that the token is still
// that of the user. Nor do they report that a bot was switched to eventMode webhook, and its events
// go to a URL. The consumer logs a warning when it starts, and within 15 minutes.
//
// # Pace
//
// After a response without more events the consumer waits for 5 seconds, and longer while none
// come, up to 30 seconds ([WithInterval]). While there are more events it waits for two seconds,
// which the documentation of Bitrix24 asks for. After an error that may pass it waits for a second
// at first, and a minute at most. Bitrix24 allows an application two requests a second of
// imbot.v2.* and im.v2.*, and answers 429 otherwise; the clients of package rest obey Retry-After.
//
// # Many bots
//
// Each bot has a [Consumer] of its own. One that has nothing to do costs one goroutine and about
// 10 kB, so a program can run thousands, for example of as many portals. With a [Leaser], each
// renews a lease of its own every few seconds.
//
// Bots of one portal should share a client of package rest, which keeps the portal's limits for all
// of them and for the calls of their handlers. An application may have 100 bots on a portal. Ten
// bots that get events all the time, or sixty that get none, use up two requests a second. If there
// are more, let them ask less often with [WithInterval].
//
// # One consumer for each bot
//
// Two consumers of one bot handle events twice. If several processes run, for example to replace
// one that dies, give them a [Leaser] ([WithLeaser]) and a [Store] that they share.
//
// # Errors
//
//	ErrConfig       arguments or options make no sense
//	ErrIdentity     the caller belongs to another application, portal or user
//	ErrBot          there is no such bot of this application
//	ErrScope        a scope is missing
//	ErrStore        a kept offset cannot be read
//	ErrBadResponse  the portal returned something else; the call is made again
//	ErrRunning      Run or Drain is under way
//	ErrStopped      cause of contexts after the grace period
//	ErrLeaseHeld    another process holds the lease
//	ErrLeaseLost    cause of contexts after a lease was lost
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/index.html
package polling
