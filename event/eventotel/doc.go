// Package eventotel connects the packages of this module to OpenTelemetry: traces that follow an
// event from its request to the token renewal of a call, and metrics under stable names.
//
//	tel, err := eventotel.New()
//	portals, err := oauth.NewPortals(app, store, tel.OAuth()...)
//	clients, err := rest.NewClients(portals, tel.REST()...)
//	mux.Use(tel.Middleware())
//	hook, err := webhook.NewHandler(portals, mux, tel.Webhook()...)
//	http.Handle("/bitrix24", tel.Receive(hook))
//	stop, err := tel.Watch(eventotel.Sources{Webhook: hook.Stats, REST: clients.Stats, OAuth: portals.Stats})
//
// Without options it uses the global providers of OpenTelemetry.
//
// # Spans
//
//	bitrix24 receive                 one request; also a rejected one
//	└── bitrix24 queue               from the request to the start of the handler
//
//	bitrix24 handle ONCRMDEALADD     one attempt, a trace of its own, linked to the queue span
//	└── bitrix24 call crm.deal.get   one call with its waits and retries
//	    └── bitrix24 refresh         a renewal of the token
//
//	bitrix24 poll                    the requests of one turn for an offline queue
//	└── bitrix24 call batch
//
// An attempt is a trace of its own, because a delivery may wait for hours and be tried several
// times. Its link leads to the span that brought the delivery: the queue span for the first
// attempt, the receive span for later ones, and the poll span for a record of an offline queue. The
// link survives a webhook.Store. If nothing is known of that span, for example because an older
// version of the program stored the delivery, the attempt has no link and the attribute
// bitrix24.unlinked. A handler that is called within a span of the program itself is a child of it.
//
// Calls that a rest.Coalescer joins are one span. It is a child of the first caller's span and
// linked to those of the others.
//
// Nothing is read from the requests of Bitrix24, which carry no trace. If a middleware in front of
// [Telemetry.Receive] has started a span, the receive span is its child.
//
// # What spans and metrics hold
//
// Spans have the event's label, the portal's member ID, the attempt, the outcome, the method, the
// portal's host, statuses and error codes. No span has a payload, a token, the path of an address
// or the text of an error. Metrics have labels from fixed or bounded sets only, and never a portal.
// docs/metrics.md lists the names.
package eventotel
