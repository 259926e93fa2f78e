// Package webhook turns a Go web application into a receiver of Bitrix24 events: an http.Handler for any router that verifies each
// delivery, queues it, answers at once and then runs the handlers of an [event.Mux].
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
// [Tokens] is for outgoing webhooks. Applications pass the Portals of package oauth, or [Installations] over a table of their own; [Any] joins several.
//
// # Answers
//
//	accepted, whether or not somebody handles the event   200, empty
//	GET, HEAD                                             204, nothing is dispatched
//	another method                                        405
//	the body took longer than the read timeout            408
//	neither a form nor JSON                               415
//	too many bytes, too many keys, too deep               413
//	not well-formed, or well-formed but not an event      400
//	not authentic, unknown portal                         403, the same for both
//	verifier could not tell, queue full, shutting down    503, and the event is lost
//	handler failed, with WithSync only                    500
//
// Bitrix24 repeats nothing, whatever it is told, and calls slow handlers less often. So a status is for people who
// read logs; what matters is to answer fast, and that is why the work is queued.
//
// # Guarantees
//
// No delivery reaches a handler before the [Verifier] accepted it. No input, and no panic in a verifier, a handler or a callback, takes the process
// down. No token appears in a log line or an error text of this package.
//
// Every accepted delivery is processed, or counted and reported: to the function of [WithOnDropped], with the reason, and to the
// log. The queue is in memory. A process that is killed loses what it held; where that matters use [WithQueue] with a durable
// queue, or the offline queue of package offline.
//
// Deliveries about one object of one portal are handled one at a time, in the order of their arrival; others at the same time, up to the number of
// workers. While a delivery waits for another attempt, the later ones about its object wait too, and nothing else does. Deliveries that are about no
// object have no order.
//
// A handler's context ends with the handler timeout or when Shutdown gives up waiting, and not with the request. It has the request's
// values: those that a router takes back when the request is over must not be used.
//
// A handler that fails is tried again after about 1, 4, 16 and 64 seconds, or when its [event.Retry] says, but within an hour. Errors made by
// [event.Drop], payloads of the wrong shape and panics are final.
//
// A [Handler] is safe for concurrent use. The zero Handler is not usable. It has no goroutines while there is nothing to handle.
//
// # Errors
//
//	ErrConfig      NewHandler: arguments or options that make no sense
//	ErrQueueFull   to WithOnDropped: no room within the enqueue timeout
//	ErrShutdown    to WithOnDropped: refused or cut off by Shutdown; cause of a handler's context
//	ErrTimeout     cause of a handler's context that ran out of time
//	*ShutdownError Shutdown: deliveries were left; matches ErrShutdown
//
// Source: https://apidocs.bitrix24.com/api-reference/events/index.html
package webhook
