// Package rest calls REST methods of Bitrix24 portals, with an application's tokens or through an
// incoming webhook.
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
// [NewWebhook] makes a client for an incoming webhook.
//
// Portals allow only a few requests a second. There are three ways to save requests:
//
//   - A [Batch] sends 50 calls with one request. Later calls can use the results of earlier ones.
//   - [All] reads whole lists, and with [ByID] up to 50 pages with one request.
//   - A [Coalescer] joins independent calls that goroutines make at the same time.
//
// [Client.Upload], [Client.Download] and [File] move files without holding them in memory.
// [Client.Call3] calls REST 3.0.
//
// # Parameters
//
// Parameters are a map[string]any, a struct, an [Ordered], url.Values, or a pointer to one of
// these. Values may nest: structs in maps, maps in structs, lists of either. Parameters are sent as
// a form, which is text:
//
//	string, numbers      their text; NaN and the infinities are refused
//	bool                 1 or 0 in a map; in a struct its tag says int (1 or 0) or yn (Y or N)
//	time.Time            RFC 3339 with the offset, in whole seconds; the zero time is ""
//	[]byte               base64, as file fields expect: []any{"a.txt", content}
//	json.Number          its text
//	json.RawMessage      the values that the JSON describes, in its order
//	slice, array         name[0], name[1] and so on
//	map                  name[key], sorted by key; keys are strings or integers
//	struct               name[field], in the order of the fields
//	Ordered              name[key], in its order; so is any type with its method All
//	Ref                  a reference to the result of an earlier command of the batch
//	File                 its name, and its content as base64, read while it is sent; see NewFile
//	TextMarshaler        its text (encoding)
//	json.Marshaler       the values that its JSON describes
//	pointer, interface   the value that they lead to
//	nil, empty lists     nothing: nil, a nil pointer, an empty slice, map or struct are not sent
//
// A form cannot carry null or an empty list, so these leave a field as it is. To clear a field,
// send the empty text "". If a method keeps a flag as Y or N, put "Y" or "N" into a map: PHP reads
// 1 as a text.
//
// The name of a struct field comes from its url tag, or else from its b24 or json tag, or else from
// the field itself. An embedded struct counts as its fields. "-" leaves a field out. The url tag
// has these options:
//
//	omitempty                  leave out a zero value
//	int, yn                    how a bool is sent: 1 or 0, Y or N
//	unix                       a time as Unix seconds
//	comma, space, semicolon    a list as one text
//
// A tag layout:"2006-01-02" gives a time another layout. A field that is neither nil nor omitted is
// sent, so the empty text of a struct clears the field on the portal.
//
// Methods that take their arguments by position need an [Ordered], or a struct with its fields in
// that order. A slice works too: []any{8017, 3157} is sent as 0=8017&1=3157.
//
// A call is refused with [ErrBadCall] if its parameters hold
//
//   - a type with a method Format, because it prints itself in its own way, as secrets do; to send
//     a secret, convert it to a string
//   - a channel, a function, a complex number, an array of bytes, or a struct without an exported
//     field
//   - a value that holds itself, or that nests deeper than 64 levels
//   - the parameter auth or access_token
//
// The error names types and fields, never values.
//
// # Guarantees
//
// All types except [Batch], [Command] and [Download] are safe for concurrent use. A [Client], and a
// [Coalescer] of [Clients.Coalescer], is a few words: make one when you need it, there is no reason
// to keep it. The zero values of [Clients], [Client], [Coalescer] and [Limiter] are not usable; the
// zero [Batch] is empty.
//
// A call is one HTTP POST with a form body; [Client.Call3] sends JSON. The access token is sent in
// that body, as its last parameter. It is never sent in an address or a header, and only to an
// https endpoint. [Client.Upload] and [Client.Download] are the exception: the portal returns
// addresses with a token in them, and these are used only on the portal's own host. At most
// [MaxResponseBytes] of a response are read. A redirect is followed once, and only to the same path
// on a host that the credentials confirm (see [Mover]).
//
// Requests stay within what portals in the cloud allow, for each portal: a burst of 50, then 2 a
// second. [WithRateLimit] sets the limits of another plan, [WithoutRateLimit] is for portals on
// premise, and [WithLimiter] shares one [Limiter] between several clients of a process. Calls leave
// in the order in which they came. A call never waits past its context: if the context leaves no
// time for the wait, the call fails at once. A call that is canceled gives up its place. If several
// processes share one source address, they share what the portal allows, so give each its part of
// the rate and of the burst.
//
// A [Client], a [Batch] and a [Coalescer] treat failures in the same way:
//
//	QUERY_LIMIT_EXCEEDED           did not run; all calls to the portal pause for 1 to 16 s and keep
//	                               their order
//	OPERATION_TIME_LIMIT           did not run; the method pauses for as long as the portal says, ten
//	                               minutes at most, and the call is retried once
//	429 with any other body        did not run; the call is retried after Retry-After, or after
//	                               1, 2, 4, 8 s, for 30 s in all
//	503 without a portal's code    the same; but without Retry-After the call may have run
//	CONNECTION_ERROR               did not run: the portal could not reach the OAuth server
//	no connection, no TLS session  did not run
//	unreadable 200 and 500 to 504, may have run
//	broken connections
//	all other codes                see [Error.NotRun]
//
// If a call did not run for a temporary reason, it is retried up to [DefaultRetries] times with
// growing pauses. If a call may have run, it is retried only if that does no harm: if it is a read,
// which the method's name shows, or if [Idempotent] says so. [Retryable] tells a queue which calls
// to retry later. Every error of a call that surely did not run has a method NotRun() bool that
// returns true.
//
// If the portal rejects a token as expired, the token is renewed, once for each call. A token that
// is rejected as invalid_token is not renewed. The portal says so of revoked tokens, when the
// application was removed or the user dismissed, and a renewal for each such call would look like
// an attack to the OAuth server.
//
// Calls end with their context. Tokens and webhook URLs never appear in errors, in log lines, or in
// what fmt prints of these types.
//
// # Errors
//
//	*Error                 the portal refused the call; errors.Is compares its code with the
//	                       constants of ErrorCode
//	ErrQueryLimit          too many requests; it also matches context.DeadlineExceeded if nothing
//	                       was sent because there was no time to wait
//	ErrOperationTimeLimit  the method is blocked because it used up its time; it also matches
//	                       context.DeadlineExceeded if nothing was sent
//	ErrWrongAuthType       an incoming webhook cannot call the method, for example an event method
//	ErrBadResponse         the response is not the JSON that the portal's methods send, but a page
//	                       of a front end, foreign JSON, or an empty or cut-off body
//	ErrMoved               a redirect that was not followed: the portal was renamed, or http was
//	                       used for https
//	ErrTooLarge            the response is larger than MaxResponseBytes
//	ErrBadResult           the method ran, and its result does not fit the Go type
//	ErrNotRun              the command of a batch was not sent, or the batch stopped before it
//	ErrBadCall             the method's name, the parameters or the result type are not usable;
//	                       nothing was sent
//	ErrNotFound            the method says that the object does not exist; Code is still the
//	                       portal's code
//	ErrBadEndpoint         the portal's address is not usable, or not https; nothing was sent
//	ErrConfig              NewClients, NewWebhook, NewCoalescer, NewLimiter: arguments or options
//	                       that make no sense
//	context errors         the context ended, or the time limit of the HTTP client passed
//	net errors             the connection failed; errors.As finds *net.OpError and similar types
//	others                 errors of Credentials, such as oauth.ErrReauthorize, wrapped
package rest
