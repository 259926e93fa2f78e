// Package rest calls REST methods of Bitrix24 portals, with an application's tokens or through an incoming webhook.
//
//	portals, err := oauth.NewPortals(cfg, store) // or any other Credentials
//	if err != nil {
//		return err
//	}
//	api, err := rest.NewClients(portals) // one for the process: its clients share the limits
//	if err != nil {
//		return err
//	}
//	deal, err := rest.Call[Deal](ctx, api.Portal(memberID), "crm.deal.get", map[string]any{"id": 42})
//	if errors.Is(err, rest.ErrAccessDenied) {
//		…
//	}
//	err = api.Portal(memberID).As(portals.Acting(d)).Call(ctx, …) // as the user who acted
//
// Portals allow few requests a second, so requests are what to save: a [Batch] makes 50 calls in one, [All] reads lists, and a
// [Coalescer] joins the calls of goroutines that know nothing of each other. [NewWebhook] makes a client for an incoming webhook.
//
// # Parameters
//
// Parameters are a map[string]any, a struct, an [Ordered], url.Values, or a pointer to one of
// these. Values nest as they like: structs in maps, maps in structs, lists of either. They go out
// as a form, which is text:
//
//	string, numbers      their text; NaN and the infinities are refused
//	bool                 1 or 0 in a map; in a struct its tag says int (1 or 0) or yn (Y or N)
//	time.Time            RFC 3339 with the offset, in whole seconds; the zero time is ""
//	[]byte               base64, as file fields want it: []any{"a.txt", content}
//	json.Number          its text
//	json.RawMessage      what the JSON describes, in its order
//	slice, array         name[0], name[1] and so on
//	map                  name[key], sorted by key; keys are texts or integers
//	struct               name[field], in the order of the fields
//	Ordered              name[key], in its order; so is any type with its method All
//	Ref                  a reference to the result of an earlier command of the batch
//	File                 its name and its content as base64, read while it is sent; see NewFile
//	TextMarshaler        its text (encoding); a json.Marshaler what its JSON describes
//	pointer, interface   what they lead to
//	nil, empty lists     nothing at all: neither nil, a nil pointer, an empty slice, map or struct
//
// A form cannot carry null or an empty list, so those leave a field as it is. Clear a field by the
// empty text "". Methods that keep a flag as Y or N want "Y" or "N" in a map: PHP reads 1 as a
// text.
//
// The name of a struct field is that in its url tag, or else in its b24 or json tag, or else its
// own; an embedded struct counts as its fields. "-" leaves a field out. Options of the url tag are
// omitempty, int and yn for a bool, unix for a time, and comma, space or semicolon for a list that
// is one text; a tag layout:"2006-01-02" gives a time another layout. A field that is neither nil
// nor omitted is sent: the empty text of a struct clears the field on the portal.
//
// Methods that take their arguments by position need an [Ordered], or a struct, whose fields are in
// that order. A slice does too: []any{8017, 3157} goes out as 0=8017&1=3157.
//
// A call is refused with [ErrBadCall] if its parameters hold a type that prints itself by a method
// Format. Secrets do: convert them to a string if the portal is to have them. So it is for
// channels, functions, complex numbers, arrays of bytes, structs without an exported field, and
// values that hold themselves or nest deeper than 64 levels. The parameters auth and access_token
// are refused too. The error names types and fields, no values.
//
// # Guarantees
//
// Every type here but [Batch] and [Command] is safe for concurrent use. A [Client] is a few words, and so is a [Coalescer] of
// [Clients.Coalescer]: make one where it is needed, keep none. The zero values of [Clients], [Client], [Coalescer] and [Limiter]
// are not usable; that of [Batch] is empty.
//
// A call is one HTTP POST with a form body ([Client.Call3]: with JSON). The access token travels in that body, as its last
// parameter, never in an address or a header, and only to an https endpoint. [Client.Upload] and [Client.Download] are the
// exception: the portal hands out addresses with a token in them, which are used on the portal's own host only. No more than
// [MaxResponseBytes] of an answer are read. A redirect is followed once, to the same path on a host that the credentials vouch for
// (see [Mover]), and otherwise not at all.
//
// Requests stay within what portals in the cloud allow, for each portal: a burst of 50, then 2 a second. Another plan sets
// [WithRateLimit], a portal on premise [WithoutRateLimit], several clients in a process share a [Limiter] by [WithLimiter].
// Calls leave in the order in which they came. They never wait past their context: if it leaves no time for the wait, the call
// fails at once. One that leaves gives its place back. Several processes behind one address share what the portal allows: give
// each its part of the rate and of the burst.
//
// What a failed call is worth is read in one way, for a [Client], a [Batch] and a [Coalescer]:
//
//	QUERY_LIMIT_EXCEEDED           did not run; all calls of the portal pause for 1 to 16 s and keep
//	                               their order
//	OPERATION_TIME_LIMIT           did not run; the method pauses for as long as the portal said, ten
//	                               minutes at most, and is tried once more
//	429 with anything else         did not run; this call comes again after Retry-After, or after
//	                               1, 2, 4, 8 s, for 30 s in all
//	503 without a portal's code    the same; without a Retry-After it may have run
//	CONNECTION_ERROR               did not run: the portal could not reach the OAuth server
//	no connection, no TLS session  did not run
//	500 to 504 and 200 that cannot be read, a connection that broke
//	                               may have run
//	all other codes                see [Error.NotRun]
//
// A call that did not run, for a reason that passes, is repeated up to [DefaultRetries] times with growing pauses. One that may
// have run is repeated only if that does no harm: reads by their names, and what [Idempotent] declares. [Retryable] tells a queue
// what it may repeat later; every error of a call that surely did not run has a method NotRun() bool that returns true.
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
//	ErrQueryLimit          the limit of requests; with context.DeadlineExceeded if nothing was
//	                       sent, for lack of time to wait
//	ErrOperationTimeLimit  the method is blocked for the time that it took; the same holds
//	ErrWrongAuthType       an incoming webhook cannot call the method, as all event methods
//	ErrBadResponse           an answer that is not the JSON that the portal's methods send: a page of
//	                       a front end, foreign JSON, an empty or cut-off body
//	ErrMoved               a redirect that was not followed: the portal was renamed, or http was
//	                       used for https
//	ErrTooLarge            an answer of more than MaxResponseBytes
//	ErrBadResult           the method ran, and its result does not fit the Go type
//	ErrNotRun              a command of a batch that was not sent, or halted before it
//	ErrBadCall             the method's name, its parameters or the result's type cannot do;
//	                       nothing was sent
//	ErrNotFound            the method says that the object does not exist; the Code stays the
//	                       portal's
//	ErrBadEndpoint         the portal's address is not usable, or not https; nothing was sent
//	context errors         the context ended, or the time limit of the HTTP client
//	net errors             the connection failed; errors.As finds *net.OpError and its kind
//	others                 errors of Credentials, such as oauth.ErrReauthorize, wrapped
package rest
