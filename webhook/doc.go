// Package webhook turns a Go web application into a receiver of Bitrix24 events: an http.Handler
// for any router that verifies each delivery, queues it, responds at once and then runs the
// handlers of an [event.Mux].
//
// # Start
//
//	mux := event.NewMux()
//	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
//		return syncDeal(ctx, d.MemberID(), e.ID)
//	})
//	h, err := webhook.NewHandler(webhook.Tokens(os.Getenv("B24_TOKEN")), mux)
//	if err != nil {
//		return err
//	}
//	http.Handle("/bitrix24", h)
//	…
//	err = errors.Join(server.Shutdown(ctx), h.Shutdown(ctx)) // in this order
//
// [Tokens] is for an outgoing webhook. Applications pass the Portals of package oauth, or
// [Installations] over a table of their own. [TokensOf] is for the outgoing webhooks of several
// portals, and [Any] joins verifiers.
//
// # What a proof is worth
//
// A [Verifier] returns an [event.Proof], and the handler finds it in d.Proof. d.MemberID() is the
// portal that it proves, and d.ProvenFor(clientID) reports whether it proves an application.
//
//	kind          verifier                      application  portal             does not prove
//	installation  oauth.Portals, Installations  yes          yes                the user; that Bitrix24 sent it
//	tokens        oauth.Portals, at install     yes          yes                the application token that came along
//	webhook       TokensOf                      no           yes                the user; that Bitrix24 sent it
//	webhook       Tokens                        no           the first one      which portal that is; the rest as above
//	call          package offline               yes          yes                nothing: the portal returned it to a call
//	insecure      InsecureNoVerify              no           no                 anything
//
// Bitrix24 signs nothing. The application token is the same for all users of a portal, and the
// platform gives it to every application page. Everybody who opens a page of the application can
// read it in the browser, and can then post any event of that portal. So it proves the portal, and
// nothing about the sender. This has two consequences:
//
//   - An event is a hint to look, not a fact. Read the object with a call before you act on it.
//   - Package oauth confirms an installation, an update and a removal with a call before it changes
//     anything. Do the same when you use [Installations] and keep tokens yourself.
//
// The token of an outgoing webhook is shown to the administrators who can edit the webhook. It
// proves no application, so the Handler refuses events of applications (ONAPP*, ONOFFLINEEVENT)
// with it. If a portal has the application too, the token counts only if [TokensOf] names that
// portal.
//
// In d.Auth, MemberID, ClientEndpoint, ServerEndpoint and Domain are those of the proof, or empty.
// So are the addresses and application tokens in the auth blocks that bots get inside d.Data. If an
// auth block names another portal than the proven one, the delivery is refused as forged.
// AccessToken, RefreshToken, Scope, Status and UserID remain what the sender claims.
//
// [SourceFilter] is an additional check, of the address that a request comes from.
//
// # Responses
//
//	accepted, whether or not a handler takes the event    200, empty
//	GET, HEAD                                             204, nothing is dispatched
//	another method                                        405
//	the body took longer than the read timeout            408
//	neither a form nor JSON                               415
//	too many bytes, too many keys, too deep               413
//	not well-formed, or well-formed but not an event      400
//	the connection ended within the body                  400, and the event is lost
//	not authentic, unknown portal                         403, the same for both
//	verifier could not decide, queue full, shutting down,
//	too much being read and verified                      503, and the event is lost
//	handler failed, with WithSync only                    500
//
// With [WithActivities], calls of automation rules and workflow activities are treated like events.
// Application pages need a handler of their own, oauth.PageHandler; the log says so when one is
// posted here.
//
// A middleware may read the body first. If its call of ParseForm or FormValue left a form in
// r.PostForm, the Handler parses that instead. If it read the body in another way, the response is
// 400, and the log says so.
//
// Bitrix24 never retries, whatever the status, and calls slow handlers less often. So the status
// only helps people who read logs. What matters is a fast response, and that is why the work is
// queued. The log line of a 403 says what there is to do, as a [Refusal].
//
// # Guarantees
//
// No delivery reaches a handler before the [Verifier] accepted it. No input crashes the process or
// stops the Handler, and no code of the program does that panics or calls runtime.Goexit. No token
// appears in a log line or an error text of this package. Requests of strangers take no more memory
// than [WithMaxInFlightBytes] allows, and large requests do not keep small ones out.
//
// Every accepted delivery is processed, or else counted and reported, to the function of
// [WithOnDropped], with the reason, and to the log. Without a store the queue is in memory, and a
// process that is killed loses it. [WithStore] keeps deliveries across crashes.
//
// # Which queue
//
//	                     WithSync  memory  WithStore    WithStore       WithQueue
//	                                       sqlitestore  pg-, natsstore
//	200 when             handled   queued  on the disk  in the server   stored by your queue
//	processes            any       any     one          several         your queue's
//	lost in a crash      running   all     nothing      nothing         your queue's
//	order per object     no        yes     yes          yes             your queue's
//	retries, fairness    no        yes     yes          yes             your queue's
//	tokens for handlers  yes       yes     with a key   with a key      yes
//
// Packages sqlitestore, pgstore and natsstore are modules of their own. Their documentation says
// what a loss of power means for each. With a store a delivery is handled at least once: if a
// process dies while it handles a delivery, the delivery is handled again, in its place in the
// order of its object. A delivery is parked if its process died five times while it was handled, or
// if it is out of attempts; see [Archive].
//
// # Order
//
// Deliveries about one object of one portal are handled one at a time, in the order of their
// arrival, even if they had to wait for room. While a delivery waits for another attempt, the later
// ones about its object wait too, and nothing else does. Deliveries that are about no object have
// no order. The portal is the one that the proof names. [WithCoalescing] merges neighbors in that
// order, and moves no delivery past another.
//
// Application events (ONAPP*) of a portal are handled one at a time, beside its other events and
// not behind them. So a storm of events does not delay an uninstallation.
//
// The file docs/dispatch.md of the module shows the states of a delivery and who calls whom.
//
// # Fairness
//
// Portals take turns, one delivery each. A portal has a backlog if as many of its objects wait as
// may be handled at a time. Such portals get a quarter of the workers, and what the others leave.
// One portal gets at most three quarters of the workers ([WithPortalWorkers]) and three quarters of
// the queue ([WithQueueSize]). So the backlog of a portal delays its own deliveries only. Portals
// whose handlers take five seconds and more share half of the workers until they become faster. A
// handler that has run for so long no longer counts as a worker. So hanging handlers delay their
// own portal, and others for a few seconds at most.
//
// If a handler finds that a portal has removed the application, it calls [event.ReportRemoval].
// Package oauth does so after it has confirmed an uninstallation. The Handler then drops what waits
// for that portal, because it could only fail. These deliveries are counted in [Stats] and go to
// the function of [WithOnDropped] with [ErrRemoved].
//
// # Handlers
//
// A handler's context ends with the handler timeout or when Shutdown stops waiting, and not with
// the request. It has no values of the request, because routers reuse the memory of those.
// [WithContext] copies what a handler needs. event.AttemptOf(ctx) returns the number of the
// attempt, and how many deliveries were coalesced into this one. The context of a [Verifier] has
// the request's values, because verification happens within the request.
//
// If a handler fails, it is called again after about 1, 4, 16 and 64 seconds, or after the wait of
// its [event.Retry], which is an hour at most. These errors are final: those made by [event.Drop],
// payloads of the wrong shape, errors that are permanent (a portal without the application), and
// panics.
//
// A [Handler] is safe for concurrent use. The zero Handler is not usable. Without a store it has no
// goroutines a few seconds after it became idle. Tests wait for the effects of an event with
// [Handler.Idle].
//
// # Log
//
// WARN and ERROR go to slog.Default unless [WithLogger] sets a logger: refusals and retries are
// WARN, lost events, failed ones and panics are ERROR. Lines about a verified delivery have the
// attributes event, member_id, event_id, which is [event.Delivery.Key], and entity, the object that
// the event is about, such as "crm.deal 42". A refusal with the reason forbidden has a [Refusal]:
//
//	unknown_token    the portal, or the list of fixed tokens, does not have the token
//	unknown_portal   no installation of the portal is stored
//	other_portal     the token is right, and belongs to another portal than the delivery names
//	no_token         the delivery has no application token
//	unbound_token    a fixed token is right, and has to be bound to its portal: [TokensOf]
//	of_application   a fixed token is right, and the event is for an application's installation
//	unproven         the verifier has a reason of its own, which is the error of the line
//
// # Errors
//
//	ErrConfig      NewHandler, NewSourceFilter: invalid arguments or options
//	ErrQueueFull   to WithOnDropped: no room within the enqueue timeout
//	ErrRemoved     to WithOnDropped: the portal has removed the application
//	ErrBusy        in the log: no room to read and verify within the enqueue timeout
//	ErrShutdown    to WithOnDropped: refused or cut off by Shutdown; cause of a handler's context
//	ErrTimeout     cause of a handler's context that ran out of time
//	ErrNotStored   to WithOnDropped, and from Health: the store failed or took too long
//	ErrLeaseLost   cause of a handler's context: another process works the partition of the store
//	ErrSettled     from a Transactor: another process settled the record first
//	*ShutdownError Shutdown: deliveries were left; matches ErrShutdown
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
package webhook
