// Package rest calls REST methods of Bitrix24 portals with an application's tokens.
//
//	portals, err := oauth.NewPortals(cfg, store) // or any other Credentials
//	if err != nil {
//		return err
//	}
//	api, err := rest.NewPortals(portals)
//	if err != nil {
//		return err
//	}
//	deal, err := rest.Call[Deal](ctx, api.Portal(memberID), "crm.deal.get", map[string]any{"id": 42})
//	if errors.Is(err, rest.ErrAccessDenied) {
//		…
//	}
//
// # Guarantees
//
// Every type here is safe for concurrent use. A [Client] is two words: make one where it is needed, keep none. The zero values of
// [Portals] and [Client] are not usable.
//
// A call is one HTTP POST with a form body. The access token travels in that body, as its last parameter, never in an
// address or a header, and only to an https endpoint. Redirects are not followed. No more than [MaxAnswerBytes] of an answer
// are read.
//
// A call is repeated in one case only: the portal refused the token as expired, before it did anything. Then the token is
// renewed once and the call sent once more. Nothing else is retried, since a lost answer does not tell whether the method
// ran. A token that is refused as invalid_token is not renewed: the portal says so of tokens that were revoked, with the
// application removed or the user dismissed, and a renewal for each such call would look like an attack to the OAuth server.
//
// Calls end with their context. Tokens never appear in an error, in a log line, or in what fmt prints of these types.
//
// # Errors
//
//	[*Error]            the portal refused the call; errors.Is compares its code with the constants of [ErrorCode]
//	[ErrBadAnswer]      an answer that is not the JSON the portal's methods send: a proxy's page, an empty or cut-off body
//	[ErrMoved]          a redirect: the portal was renamed, or http was used for https
//	[ErrTooLarge]       an answer of more than [MaxAnswerBytes]
//	[ErrBadResult]      the method ran, and its result does not fit the Go type
//	[ErrBadCall]        the method's name or its parameters cannot be sent; nothing was
//	[ErrBadEndpoint]    the portal's address is not usable, or not https; nothing was sent
//	context errors      the context ended, or the time limit of the HTTP client
//	net errors          the connection failed; errors.As finds *net.OpError and its kind
//	others              errors of [Credentials], such as oauth.ErrReauthorize, wrapped
package rest
