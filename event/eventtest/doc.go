// Package eventtest is a Bitrix24 portal for tests and programs, in this process, on loopback or in
// memory: REST with event.*, event.offline.* and batch, an OAuth server, the queue server that
// posts events to handlers, the offline queue, and the objects whose changes raise events. It is to
// this SDK what net/http/httptest is to net/http.
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
// A handler that needs no portal is tested with a single request, made by [NewRequest]:
//
//	r, err := eventtest.NewRequest(ctx, event.OnCrmDealAdd, event.CRMEntity{ID: 7}, eventtest.WithToken("secret"))
//
// and with thousands, some twice and out of order, by a [Storm].
//
// # What it does
//
// It keeps to what is known of the platform's current builds, also where the platform's own
// documentation says otherwise: the order and the texts of every check of event.bind, the offline
// queue that merges, errors that delete newer records, an empty list that clears a whole batch, own
// changes that are hidden, refresh tokens that die when used, one attempt for each delivery. Some
// things are kinder than the platform unless told otherwise: deliveries to one handler URL keep
// their order, records of the offline queue are there when the call that caused them returns,
// parallel reservations and bindings do not race, slow handlers are called as often as quick ones,
// and nothing is limited (see [Quirks]).
//
// Every change, by REST, by [Portal.Add] and its siblings, or by [Portal.Raise], is one hit; the
// events that it raises are queued at its end and posted in the background. [Portal.Wait] waits for
// them. Things go wrong on demand, once or until they are healed: [Portal.Once] and its siblings,
// [Portal.ExpireAccessTokens], [Application.RevokeTokens], [Portal.Advance], [Portal.Rename]. What
// an employee without rights can do is there too: [Application.OpenPage] brings a live pair and the
// application token, and [NewRequest] builds every forgery from them ([WithGrant], [WithPortal],
// [WithToken], [Grant.Inner], [BotAuth], [WithoutTime]); [Application.Redirected] is the end of the
// code flow with anybody's code and state. How the portal behaves otherwise, its plan, build,
// limits and load, are its [Quirks], which may change while it runs.
//
// On a [Network] portals, handlers and clients meet in memory, without a socket, at the addresses
// that they have in real life, so that a test may run in a testing/synctest bubble: an hour until a
// token expires takes no time. Portals of one network share one OAuth server, as those of the cloud
// do; on sockets [WithOAuthServerOf] makes them.
//
// A Portal is safe for concurrent use. Its zero value is not usable. Printing anything of this
// package shows no token; [Attempt.Body] and the fields of [Grant] give them on request.
//
// # What it does not emulate
//
//	REST 3.0 (/rest/api/)            answered 404 ERROR_METHOD_NOT_FOUND
//	answers in XML                   the suffix .xml is taken, the answer is JSON
//	https                            only by name, on a Network; on sockets incoming webhooks work over http, as if TLS ended in
//	                                 front of the portal
//	browser sessions                 no sessionauth; /oauth/authorize/ takes the user for the administrator, who agrees
//	rights                           only administrator or not; every user sees and changes every
//	                                 object, except that sonet_group.get, log.blogpost.get and
//	                                 user.get leave out what the caller may not see
//	other methods                    there are batch, event.*, events, feature.get, method.get, scope, app.info, server.time,
//	                                 profile, user.admin/current/get; add/get/list/update/delete of crm.lead, deal, contact,
//	                                 company and item, and of tasks.task; task.commentitem.get and
//	                                 getlist, by position; sonet_group.get, log.blogpost.get;
//	                                 calendar.event.add/get/getbyid/update/delete;
//	                                 im.message.* and imbot.message.add/update/delete, imbot.register/update/unregister,
//	                                 imbot.bot.list and imbot.v2.Bot.register/get/update/unregister
//	chats of more than two, slash    users and bots write to each other only; there are no bots of incoming webhooks
//	  commands
//	polling for events of bots       imbot.v2.Event.get is not there: a bot of imbot.v2 in fetch mode gets no events
//	fields                           any field is stored as it comes, dates included, and none is computed; checked are tasks, and
//	                                 that calendar entries have what is required, in whatever section; user.get filters by ID
//	headers of answers               X-Bitrix-Rest-Application only, not the three with times
//	the cached token check           a token of a removed application fails at once
//	ONIMBOTV2* subscriptions         event.bind makes none; imbot.v2.Bot.register does, and Application.AddBot. Users cause those
//	                                 for messages, joining and deletion; for the others use Application.Raise
//	deliveries past the OAuth server robots and activities; use NewRequest with Direct
//	order of rows with equal time    by ID, where a database promises nothing
//
// What is not known outside is chosen so: the gaps between deliveries to slow handlers, see [Lane];
// oauth/token fails with 400, and with 401 for invalid_client; app.info of the OAuth server answers
// client_id, user_id, scope, expires and install (member_id, uri, domain, client_endpoint);
// deliveries without a user carry the five keys domain, client_endpoint, server_endpoint, member_id
// and application_token; a token obtained by refresh starts a fresh chain of events, and that of a
// dismissed user can be refreshed; a filter that a reservation's query builder refuses is
// ERROR_ARGUMENT; a user who writes to a bot for the first time opens the chat (ONIMBOTJOINCHAT);
// bots are told nothing of what bots write; an application that registers the code of its bot again
// gets the same bot; a change of a calendar entry that is not there is an error; event.bind refuses
// ONAPPUSERREADY, and the system user is listed by user.get; user.get lists extranet users to
// administrators in ADMIN_MODE only, and never e-mail, connector, replica and integrator users;
// log.blogpost.get filters by LOG_RIGHTS only if it is there; each bot of imbot.v2 has
// subscriptions of its own, which event.get lists, signed with the application's token until the
// bot has a botToken; the refresh tokens of a removed application fail with invalid_client.
//
// # Errors
//
//	ErrClosed        the portal was closed
//	ErrNotFound      no such user, kind or object
//	ErrInstalled     the application is installed already
//	ErrNotInstalled  the application is not installed
package eventtest
