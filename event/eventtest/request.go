package eventtest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// Event is something that names an event: a descriptor of package event, or a [Name].
type Event interface{ Name() string }

// Name is the wire name of an event without a descriptor.
type Name string

// Name returns the wire name in upper case.
func (n Name) Name() string { return upperName(string(n)) }

// Defaults of [NewRequest].
const (
	SampleMemberID = "a223c6b3710f85df22e9377d6c4f7553"
	SampleDomain   = "some-domain.bitrix24.com"
)

// RequestOption changes a request of [NewRequest], which skips nil options. An option with an
// argument that makes no sense returns [ErrConfig].
type RequestOption func(*request) error

// request is what the options of NewRequest fill in.
type request struct {
	url       string
	handlerID int64
	fired     time.Time
	auth      authBlock
	noAuth    bool
	noTime    bool
}

// NewRequest builds the POST that a portal sends for an event: the form body of PHP's
// http_build_query with event, event_handler_id, data, ts and auth, in the platform's order. Pass
// it to an http.Handler or send it with an http.Client.
//
// e is a descriptor, for example event.OnCrmDealAdd, or a [Name]. payload is a payload struct,
// nested maps, an [event.Data], or nil for no data. A struct's flags become 1 and 0, and its zero
// fields are left out. If you need the platform's Y and N, as in ONAPPINSTALL, pass a map.
//
// Without options the auth block is that of a change without a user: addresses, member ID and an
// empty application token, so use [WithToken]. NewRequest returns [ErrConfig] if e has no name or
// an option makes no sense, and an error if the payload cannot be encoded.
func NewRequest(ctx context.Context, e Event, payload any, opts ...RequestOption) (*http.Request, error) {
	r, body, err := build(e, payload, opts)
	if err != nil {
		return nil, err
	}
	return postForm(ctx, r.url, body)
}

// Body returns the body of the request that [NewRequest] builds. Its errors are those of
// NewRequest.
func Body(e Event, payload any, opts ...RequestOption) ([]byte, error) {
	_, body, err := build(e, payload, opts)
	return []byte(body), err
}

func build(e Event, payload any, opts []RequestOption) (*request, string, error) {
	r := &request{
		url:   "http://127.0.0.1/",
		fired: time.Now(),
		auth: authBlock{
			domain: SampleDomain, memberID: SampleMemberID, serverEndpoint: "https://oauth.bitrix.info/rest/",
			status: "L", expiresIn: time.Hour,
		},
	}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(r); err != nil {
			return nil, "", err
		}
	}
	if e == nil || e.Name() == "" {
		return nil, "", misconfigured("a request needs the name of an event")
	}
	if r.auth.accessToken == "" && r.auth.refreshToken != "" {
		return nil, "", misconfigured("WithRefreshToken needs WithUser; a refresh token never comes alone")
	}
	data, err := treeOf(payload)
	if err != nil {
		return nil, "", err
	}
	if r.auth.clientEndpoint == "" {
		r.auth.clientEndpoint = "https://" + r.auth.domain + "/rest/"
	}
	r.auth.expires = r.fired.Add(r.auth.expiresIn)
	auth := r.auth.value()
	if r.noAuth {
		auth = phpform.Map()
	}
	return r, encodeSections(upperName(e.Name()), r.handlerID, data, r.ts(), auth), nil
}

// ts returns the section ts, or null to leave it out.
func (r *request) ts() phpform.Value {
	if r.noTime {
		return null()
	}
	return phpform.Int(r.fired.Unix())
}

// WithURL sets the URL. The default is http://127.0.0.1/.
func WithURL(url string) RequestOption {
	return func(r *request) error {
		r.url = url
		return checkURL(url, false)
	}
}

// WithToken sets the application token, which proves that the portal sent the delivery.
func WithToken(applicationToken event.Secret) RequestOption {
	return func(r *request) error {
		r.auth.applicationToken = string(applicationToken)
		return nil
	}
}

// WithMember sets the portal's member_id; the default is [SampleMemberID].
func WithMember(memberID string) RequestOption {
	return func(r *request) error {
		r.auth.memberID = memberID
		return nil
	}
}

// WithDomain sets the portal's host, which client_endpoint is derived from; the default is
// [SampleDomain].
func WithDomain(domain string) RequestOption {
	return func(r *request) error {
		r.auth.domain = domain
		return nil
	}
}

// WithEndpoints sets client_endpoint and server_endpoint.
func WithEndpoints(client, server string) RequestOption {
	return func(r *request) error {
		r.auth.clientEndpoint, r.auth.serverEndpoint = client, server
		return nil
	}
}

// WithUser sets the user who made the change: the auth block gets the access token, its expiry,
// scope, status and user_id.
func WithUser(id int64, accessToken event.Secret) RequestOption {
	return func(r *request) error {
		if id <= 0 || accessToken == "" {
			return misconfigured("WithUser needs a user and an access token; leave it out for a change without a user")
		}
		r.auth.user, r.auth.accessToken = id, string(accessToken)
		return nil
	}
}

// WithUserID sets the user who made the change, without a token. No portal sends that. It is for
// programs that post records of the offline queue, which have a user and no tokens. 0 means no
// user.
func WithUserID(id int64) RequestOption {
	return func(r *request) error {
		r.auth.user = id
		return nil
	}
}

// WithRefreshToken adds a refresh token, as ONAPPINSTALL and a few other events carry. It needs
// [WithUser].
func WithRefreshToken(token event.Secret) RequestOption {
	return func(r *request) error {
		r.auth.refreshToken = string(token)
		return nil
	}
}

// WithScope sets the permissions of the access token.
func WithScope(scope ...string) RequestOption {
	return func(r *request) error {
		r.auth.scope = strings.Join(scope, ",")
		return nil
	}
}

// WithGrant fills the auth block from tokens of a [Portal], including the refresh token and the
// application token.
func WithGrant(g Grant) RequestOption {
	return func(r *request) error {
		r.auth.grant(g, r.auth.expiresIn)
		r.auth.domain, r.auth.memberID, r.auth.applicationToken = g.Domain, g.MemberID, string(g.ApplicationToken)
		r.auth.clientEndpoint, r.auth.serverEndpoint = g.ClientEndpoint, g.ServerEndpoint
		return nil
	}
}

// WithPortal fills the auth block from a [Portal] as [WithGrant] does, including the application
// token, but without the user and the user's tokens. ONAPPUNINSTALL has such a block, and everybody
// who has opened a page of the application can forge it.
func WithPortal(g Grant) RequestOption {
	return func(r *request) error {
		r.auth.domain, r.auth.memberID, r.auth.applicationToken = g.Domain, g.MemberID, string(g.ApplicationToken)
		r.auth.clientEndpoint, r.auth.serverEndpoint = g.ClientEndpoint, g.ServerEndpoint
		return nil
	}
}

// WithHandlerID sets event_handler_id. By default it is left out, as on old builds.
func WithHandlerID(id int64) RequestOption {
	return func(r *request) error {
		r.handlerID = id
		return nil
	}
}

// WithTime sets the time of the event; the default is now. The access token expires an hour later.
func WithTime(t time.Time) RequestOption {
	return func(r *request) error {
		r.fired = t
		return nil
	}
}

// WithoutTime leaves ts out. No portal does that.
func WithoutTime() RequestOption {
	return func(r *request) error {
		r.noTime = true
		return nil
	}
}

// BotAuth reduces the auth block to the one documented for bots of imbot.v2 in webhook mode: domain
// and application_token. The portal's member_id is in data.bot.auth; see [Grant.Inner].
func BotAuth() RequestOption {
	return func(r *request) error {
		r.auth.bot = true
		return nil
	}
}

// Direct reduces the auth block to that of calls that the portal makes without its OAuth server:
// domain, member_id and application_token.
func Direct() RequestOption {
	return func(r *request) error {
		r.auth.direct = true
		return nil
	}
}

// WithoutAuth leaves the auth block out, as in a forged request.
func WithoutAuth() RequestOption {
	return func(r *request) error {
		r.noAuth = true
		return nil
	}
}
