package oauth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/timing"
)

// Claim is an installation that the OAuth server has confirmed, before it is stored. The function
// of [WithInstallPolicy] decides on it.
type Claim struct {
	MemberID string // the portal
	UserID   int64  // whose tokens they are; 0 if the OAuth server does not say
	Known    bool   // an installation is stored, which this one would replace

	administrator func(ctx context.Context) (bool, error)
}

// Administrator asks the portal, by the method user.admin with the token of the claim, whether its
// user may manage the settings of applications. It returns [ErrUnverified] when the portal refuses
// the token, and [ErrTemporary] when the portal does not respond as it should.
func (c *Claim) Administrator(ctx context.Context) (bool, error) { return c.administrator(ctx) }

// AdministratorsOnly is the default of [WithInstallPolicy]: it allows a claim whose user is an
// administrator.
func AdministratorsOnly(ctx context.Context, c *Claim) error {
	admin, err := c.Administrator(ctx)
	if err != nil {
		return err
	}
	if !admin {
		return &Error{Op: opInstall, Kind: ErrUnverified, Detail: "its user is no administrator; see WithInstallPolicy"}
	}
	return nil
}

// AnyUser is a policy for [WithInstallPolicy] that allows everybody. Every user of a portal who
// opens the application can then make their own tokens those of the application, and pick its
// application token.
func AnyUser(context.Context, *Claim) error { return nil }

// WithInstallPolicy decides whose tokens may become an application's own. allow is called for each
// installation that the OAuth server has confirmed, before it is stored or replaces a stored one.
// An error refuses it, as an [ErrUnverified]; one that is an [ErrTemporary] says that allow could
// not tell. The default is [AdministratorsOnly].
func WithInstallPolicy(allow func(ctx context.Context, c *Claim) error) Option {
	return func(cfg *config) error {
		if allow == nil {
			return errors.New("oauth: WithInstallPolicy: the function is nil; AnyUser allows everybody")
		}
		cfg.policy = allow
		return nil
	}
}

// allow asks the policy about a confirmed claim.
func (p *Portals) allow(ctx context.Context, a answer, claim event.Auth, known bool) error {
	c := &Claim{
		MemberID: claim.MemberID, UserID: a.userID, Known: known,
		administrator: func(ctx context.Context) (bool, error) { return p.administrator(ctx, a) },
	}
	err := p.policy(ctx, c)
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: opInstall, Kind: ErrUnverified, Detail: "the install policy refuses it", Err: err}
}

// portalTries is how often a portal is asked that does not respond.
const portalTries = 3

// administrator asks a portal whether the user of a token is an administrator.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/users/user-admin.html
func (p *Portals) administrator(ctx context.Context, a answer) (bool, error) {
	result, err := p.askPortal(ctx, "user.admin", a.clientEndpoint, a.access)
	if err != nil {
		return false, err
	}
	return truthy(result), nil
}

// payment asks a portal how an application is paid for, with the stored token, and writes it over
// what an event says of that.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/app-info.html
func (p *Portals) payment(ctx context.Context, in Installation, e event.AppPayment) (event.AppPayment, error) {
	result, err := p.askPortal(ctx, "app.info", in.ClientEndpoint, in.AccessToken)
	var refused *Error
	if errors.As(err, &refused) && strings.EqualFold(refused.Code, "expired_token") {
		if in, err = p.renew(ctx, p.appKey(in.MemberID), in.AccessToken); err == nil {
			result, err = p.askPortal(ctx, "app.info", in.ClientEndpoint, in.AccessToken)
		}
	}
	if err != nil {
		return event.AppPayment{}, err
	}
	object, _ := result.(map[string]any)
	said := facts(object)
	if said.text("STATUS") == "" {
		return event.AppPayment{}, &Error{Op: "app.info", Kind: ErrTemporary, Detail: "the portal does not say how the application is paid for"}
	}
	e.Status, e.PaymentExpired, e.Days = said.text("STATUS"), truthy(said["PAYMENT_EXPIRED"]), integer(said["DAYS"])
	if code := said.text("CODE"); code != "" {
		e.Code = code
	}
	if version := integer(said["VERSION"]); version != 0 {
		e.Version = strconv.FormatInt(version, 10)
	}
	return e, nil
}

// profile asks a portal for the user of a token.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/users/profile.html
func (p *Portals) profile(ctx context.Context, endpoint string, access event.Secret) (userID int64, err error) {
	result, err := p.askPortal(ctx, "profile", endpoint, access)
	if err != nil {
		return 0, err
	}
	object, _ := result.(map[string]any)
	return integer(object["ID"]), nil
}

// askPortal calls a method of a portal. It returns [ErrUnverified] when the portal refuses the
// token, with the portal's code, and [ErrTemporary] when it does not respond as it should.
func (p *Portals) askPortal(ctx context.Context, method, endpoint string, access event.Secret) (any, error) {
	at, err := p.server.hosts.portal(endpoint)
	if err != nil {
		return nil, err
	}
	at.path += method
	ctx, cancel := context.WithTimeout(ctx, portalLimit)
	defer cancel()
	var result any
	for try := range portalTries {
		if timing.Sleep(ctx, pauseBefore(2*try)) != nil && try > 0 {
			break
		}
		result, err = p.askOnce(ctx, method, at, access)
		var e *Error
		if !errors.As(err, &e) {
			return result, err
		}
		if e.Code != "" && !passes(e) {
			return nil, &Error{Op: method, Kind: ErrUnverified, Code: e.Code, Status: e.Status, Detail: "the portal refuses the token"}
		}
		err = &Error{Op: method, Kind: ErrTemporary, Code: e.Code, Status: e.Status, Detail: "the portal does not respond as it should", Err: e.Err}
	}
	return nil, err
}

// portalTimeout bounds one request to a portal, and portalLimit all tries: somebody waits for them
// at the other end of a webhook.
const (
	portalTimeout = 8 * time.Second
	portalLimit   = 14 * time.Second
)

func (p *Portals) askOnce(ctx context.Context, method string, at address, access event.Secret) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, portalTimeout)
	defer cancel()
	return p.server.ask(ctx, method, at, access)
}

// passes reports whether a portal's refusal says nothing about the token.
func passes(e *Error) bool {
	switch strings.ToUpper(e.Code) {
	case "QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "OVERLOAD_LIMIT", "CONNECTION_ERROR", "INTERNAL_SERVER_ERROR",
		"PORTAL_DELETED", "ERROR_CORE", "ERROR_UNEXPECTED_ANSWER":
		return true
	default:
		return e.Status >= http.StatusInternalServerError
	}
}

// truthy reads a yes of PHP.
func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v == "1" || strings.EqualFold(v, "y") || strings.EqualFold(v, "true")
	default:
		return false
	}
}
