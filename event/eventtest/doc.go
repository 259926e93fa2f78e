// Package eventtest provides a Bitrix24 portal for tests and programs. It runs in this process, on
// loopback or in memory. It has REST with event.*, event.offline.* and batch, an OAuth server, the
// queue server that posts events to handlers, the offline queue, and the objects whose changes
// raise events. It is to this SDK what net/http/httptest is to net/http.
//
//	func TestDeals(t *testing.T) {
//		srv := httptest.NewServer(handlerUnderTest)
//		defer srv.Close()
//
//		p := eventtest.NewPortal(t)
//		app, err := p.AddApp(eventtest.App{Scope: []string{"crm"}, HandlerURL: srv.URL})
//		require.NoError(t, err)
//		require.NoError(t, app.Install(t.Context())) // posts ONAPPINSTALL to srv
//		_, err = p.Add(eventtest.Deal, map[string]any{"TITLE": "Rocket"}, eventtest.AdminID)
//		require.NoError(t, err)
//		require.NoError(t, p.Wait(t.Context())) // every delivery was attempted
//		require.True(t, p.Deliveries()[0].OK())
//	}
//
// To test a handler without a portal, build a single request with [NewRequest]:
//
//	token := eventtest.WithToken("the-token-of-the-webhook")
//	r, err := eventtest.NewRequest(ctx, event.OnCrmDealAdd, event.CRMEntity{ID: 7}, token)
//
// or thousands, some twice and out of order, with a [Storm].
//
// # What it does
//
// The portal behaves like the platform's current builds, even if the platform's documentation
// differs. For example, event.bind has every check of the platform, in its order and with its
// texts. The offline queue merges records, errors delete newer records, and an empty list clears a
// whole batch. An application does not see its own changes. A refresh token is valid once. Each
// delivery is attempted once.
//
// By default some things are easier than on the platform. Deliveries to one handler URL keep their
// order. Records are in the offline queue when the call that caused them returns. Parallel
// reservations and bindings do not race. Slow handlers are called as often as quick ones, and
// nothing is limited. [Quirks] change all of this: the portal's plan, build, limits and load, even
// while it runs.
//
// REST calls, [Portal.Add], [Portal.Update], [Portal.Delete] and [Portal.Raise] change the portal.
// The events of a change are queued when it ends, and posted in the background. [Portal.Wait] waits
// for them.
//
// Things go wrong on demand, once or until [Portal.Heal]: see [Portal.Once], [Portal.Times],
// [Portal.Always], [Portal.ExpireAccessTokens], [Application.RevokeTokens], [Portal.Advance] and
// [Portal.Rename].
//
// A test can also do what an employee without rights can do. [Application.OpenPage] gives a page
// live tokens and the application token, and [NewRequest] builds every forgery from them
// ([WithGrant], [WithPortal], [WithToken], [Grant.Inner], [BotAuth], [WithoutTime]).
// [Application.Redirected] ends the code flow with any user's code and any state.
//
// On a [Network], portals, handlers and clients meet in memory, without a socket, at the addresses
// that they have in real life. A test can then run in a testing/synctest bubble, in which the hour
// until a token expires takes no time. Portals of one network share one OAuth server, as those of
// the cloud do. On sockets, use [WithOAuthServerOf] for that.
//
// A portal keeps at least the latest 20,000 pairs of tokens that deliveries brought, and as many of
// all others. Older ones fail with invalid_token.
//
// A Portal is safe for concurrent use. Its zero value is not usable. Printing a value of this
// package shows no tokens. To get them, read [Attempt.Body] and the fields of [Grant].
//
// # What it does not emulate
//
//	REST 3.0 (/rest/api/)            fails with 404 ERROR_METHOD_NOT_FOUND
//	responses in XML                 the suffix .xml is accepted, the response is JSON
//	https                            only by name, on a Network; on sockets incoming webhooks work over http, as if TLS ended in
//	                                 front of the portal
//	employees who open an            they get the installation page; the platform shows them a notice instead
//	  application too early
//	browser sessions                 no sessionauth; at /oauth/authorize/ the user is the administrator, who agrees
//	rights                           only administrator or not; every user sees and changes every
//	                                 object, except that sonet_group.get, log.blogpost.get and
//	                                 user.get leave out what the caller may not see
//	other methods                    there are batch, event.*, events, feature.get, method.get, scope, app.info, server.time,
//	                                 profile, user.admin/current/get; add/get/list/update/delete of crm.lead, deal, contact,
//	                                 company and item, and of tasks.task; task.commentitem.get and
//	                                 getlist, by position; sonet_group.get, log.blogpost.get;
//	                                 calendar.event.add/get/getbyid/update/delete;
//	                                 im.message.* and imbot.message.add/update/delete, im.dialog.messages.get,
//	                                 imbot.register/update/unregister, imbot.bot.list,
//	                                 imbot.command.register/update/unregister/answer,
//	                                 imbot.v2.Bot.register/get/update/unregister, imbot.v2.Event.get,
//	                                 imbot.v2.Command.register/update/unregister/list/answer,
//	                                 imbot.v2.Chat.Message.send and im.v2.Event.subscribe/get/unsubscribe
//	chats of more than two           users and bots write to each other only, and users to the chats of tasks
//	bots of incoming webhooks        every bot belongs to an application; an incoming webhook polls one that has a botToken
//	edited and deleted messages of   imbot.register ignores their handlers, as on the platform, also if EVENT_HANDLER gives them;
//	  bots of the types B and H      imbot.update and event.bind bind them
//	slash commands of buttons        commands are typed, in private chats; there are no keyboards and no im.message.command
//	the old and the new task card    a portal has both at once: comments of the old one are of the kind TaskComment, those of the
//	                                 new one are messages of the kind ChatMessage, and neither has the other's methods
//	polled events                    those for messages and reactions; for others use Application.RaiseForBot and
//	                                 Portal.RaiseForUser
//	fields                           any field is stored as sent, including dates, and none is computed; checks exist for tasks, and
//	                                 for the required fields of calendar entries, in any section; user.get filters by ID
//	response headers                 X-Bitrix-Rest-Application only, not the three with times
//	the cached token check           a token of a removed application fails immediately
//	ONIMBOTV2* subscriptions         imbot.v2.Bot.register and Application.AddBot subscribe, event.bind does not. Users cause those
//	                                 for messages, joining and deletion; for the others use Application.Raise
//	deliveries without OAuth server  robots and activities; use NewActivityRequest with Direct
//	order of rows with equal time    by ID; a database promises no order
//
// # Assumptions
//
// Some behaviour of the platform is not known. These are assumptions:
//
//   - The gaps between deliveries to slow handlers are those of [Lane].
//   - oauth/token fails with 400, and with 401 for invalid_client. The refresh tokens of a removed
//     application fail with invalid_client.
//   - app.info of the OAuth server returns client_id, user_id, scope, expires and install
//     (member_id, uri, domain, client_endpoint).
//   - Deliveries without a user carry the five keys domain, client_endpoint, server_endpoint,
//     member_id and application_token.
//   - A token obtained by a refresh starts a new chain of events. The token of a dismissed user can
//     be refreshed.
//   - A filter that the query builder of a reservation rejects is ERROR_ARGUMENT.
//   - A user who writes to a bot for the first time opens the chat (ONIMBOTJOINCHAT). Bots get no
//     events for messages of bots. An application that registers the code of its bot again gets the
//     same bot.
//   - Each bot of imbot.v2 has subscriptions of its own, which event.get lists. They are signed
//     with the application's token until the bot has a botToken.
//   - A message that calls a slash command raises ONIMCOMMANDADD and no ONIMBOTMESSAGEADD. A call
//     is a line that begins with a slash. If a line calls the same command again, the last one
//     counts.
//   - A message that calls commands of imbot.v2 raises an ONIMBOTV2COMMANDADD for each of them, and
//     no ONIMBOTV2MESSAGEADD. If the bot is not in the chat, the chat has the dialogId chat and a
//     number. imbot.v2.Command.answer needs that dialogId, and a message that calls the command.
//   - A bot that registers a command again gets the same command. The handler of ONIMCOMMANDADD
//     stays when the last command is gone.
//   - im.message.add to the chat of a task raises ONTASKCOMMENTADD, as a comment in the portal
//     does.
//   - im.dialog.messages.get returns the newest messages first, but the oldest first if FIRST_ID is
//     there. FIRST_ID 0 means from the beginning. Two users without messages have the chat 0.
//   - A process_id in an array is ERROR_ARGUMENT, as if it were missing.
//   - ONSUBSCRIPTIONRENEW, which has no page, needs no permission.
//   - Events of bots and users that wait to be polled share one sequence of IDs. A limit outside 1
//     to 1000 is taken for the nearest one, and nextOffset of a response without events is the
//     offset of the call. A deleted bot is not found, so its ONIMBOTV2DELETE is never polled. A
//     user's own messages and reactions are logged too.
//   - A change of a calendar entry that does not exist is an error.
//   - event.bind rejects ONAPPUSERREADY, and user.get lists the system user.
//   - user.get lists extranet users only to administrators in ADMIN_MODE, and never e-mail,
//     connector, replica and integrator users.
//   - log.blogpost.get filters by LOG_RIGHTS only if the parameter is there.
//
// # Errors
//
//	ErrConfig        an argument or an option makes no sense
//	ErrClosed        the portal was closed
//	ErrNotFound      no such user, event, kind or object
//	ErrInstalled     the application is already installed
//	ErrNotInstalled  the application is not installed
package eventtest
