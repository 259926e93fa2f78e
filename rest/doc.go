// Package rest calls REST methods of Bitrix24 portals, with an application's tokens or through an incoming webhook.
//
//	portals, err := oauth.NewPortals(cfg, store) // or any other Credentials
//	if err != nil {
//		return err
//	}
//	api, err := rest.NewPortals(portals) // one for the process: its clients share the limits
//	if err != nil {
//		return err
//	}
//	deal, err := rest.Call[Deal](ctx, api.Portal(memberID), "crm.deal.get", map[string]any{"id": 42})
//	if errors.Is(err, rest.ErrAccessDenied) {
//		…
//	}
//
// Portals allow few requests a second, so requests are what to save: a [Batch] makes 50 calls in one, [All] reads lists, and a
// [Coalescer] joins the calls of goroutines that know nothing of each other. [NewWebhook] makes a client for an incoming webhook.
//
// # Guarantees
//
// Every type here but [Batch] and [Command] is safe for concurrent use. A [Client] is two words, and so is a [Coalescer] of
// [Portals.Coalescer]: make one where it is needed, keep none. The zero values of [Portals], [Client], [Coalescer] and [Limiter]
// are not usable; that of [Batch] is empty.
//
// A call is one HTTP POST with a form body. The access token travels in that body, as its last parameter, never in an
// address or a header, and only to an https endpoint. No more than [MaxAnswerBytes] of an answer are read. A redirect is
// followed once, to the same path on a host that the credentials vouch for (see [Mover]), and otherwise not at all.
//
// Requests stay within what portals in the cloud allow, for each portal: a burst of 50, then 2 a second. Another plan sets
// [WithRateLimit], a portal on premise [WithoutRateLimit], several clients in a process share a [Limiter] by [WithLimiter].
// Calls wait for their turn, and never past their context: where it leaves no time for the wait, the call fails at once.
//
// A call is repeated, up to [DefaultRetries] times and with growing pauses, where it surely did not run: the portal refused it for
// its limits (ErrQueryLimit, or 503 with a page), the portal could not reach the OAuth server (ErrConnection), or no connection
// was made. It is repeated once after a pause of the method for the time that it took (ErrOperationTimeLimit, or 429 with a
// page), which lasts as long as the portal said, and ten minutes at most. Where nobody knows whether the call ran, it is
// repeated only if that does no harm: reads by their names, and what [WithIdempotent] declares. [Retryable] tells a queue what
// it may repeat later.
//
// A token that the portal refuses as expired is renewed, once for a call. A token that is refused as invalid_token is not renewed:
// the portal says so of tokens that were revoked, with the application removed or the user dismissed, and a renewal for each such
// call would look like an attack to the OAuth server.
//
// Calls end with their context. Tokens, and the URL of a webhook, never appear in an error, in a log line, or in what fmt
// prints of these types.
//
// # Errors
//
//	*Error                 the portal refused the call; errors.Is compares its code with the constants of ErrorCode
//	ErrQueryLimit          the limit of requests; with context.DeadlineExceeded where nothing was sent, for lack of time to wait
//	ErrOperationTimeLimit  the method is blocked for the time that it took; the same holds
//	ErrWrongAuthType       an incoming webhook cannot call the method, as all event methods
//	ErrBadAnswer           an answer that is not the JSON the portal's methods send: a proxy's page, an empty or cut-off body
//	ErrMoved               a redirect that was not followed: the portal was renamed, or http was used for https
//	ErrTooLarge            an answer of more than MaxAnswerBytes
//	ErrBadResult           the method ran, and its result does not fit the Go type
//	ErrNotRun              a command of a batch that was not sent, or halted before it
//	ErrBadCall             the method's name or its parameters cannot be sent; nothing was
//	ErrBadEndpoint         the portal's address is not usable, or not https; nothing was sent
//	context errors         the context ended, or the time limit of the HTTP client
//	net errors             the connection failed; errors.As finds *net.OpError and its kind
//	others                 errors of Credentials, such as oauth.ErrReauthorize, wrapped
package rest
