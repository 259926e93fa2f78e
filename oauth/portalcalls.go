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
	"github.com/b24events/b24events/internal/values"
)

// portalTries is how often a portal that does not respond is asked.
const portalTries = 3

// isAdministrator asks a portal whether the user of a token is an administrator.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/users/user-admin.html
func (p *Portals) isAdministrator(ctx context.Context, info tokenInfo) (bool, error) {
	result, err := p.callPortal(ctx, "user.admin", info.clientEndpoint, info.access)
	if err != nil {
		return false, err
	}
	return values.Truthy(result), nil
}

// fetchPayment asks a portal how an application is paid for, with the stored token. The response
// replaces what an event says about that.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/app-info.html
func (p *Portals) fetchPayment(ctx context.Context, in Installation, e event.AppPayment) (event.AppPayment, error) {
	result, err := p.callPortal(ctx, "app.info", in.ClientEndpoint, in.AccessToken)
	var refused *Error
	if errors.As(err, &refused) && strings.EqualFold(refused.Code, "expired_token") {
		if in, err = p.renew(ctx, p.appKey(in.MemberID), in.AccessToken); err == nil {
			result, err = p.callPortal(ctx, "app.info", in.ClientEndpoint, in.AccessToken)
		}
	}
	if err != nil {
		return event.AppPayment{}, err
	}
	object, _ := result.(map[string]any)
	info := jsonObject(object)
	if info.text("STATUS") == "" {
		return event.AppPayment{}, &Error{Op: "app.info", Kind: ErrTemporary, Detail: "the portal does not say how the application is paid for"}
	}
	e.Status, e.PaymentExpired, e.Days = info.text("STATUS"), values.Truthy(info["PAYMENT_EXPIRED"]), integer(info["DAYS"])
	if code := info.text("CODE"); code != "" {
		e.Code = code
	}
	if version := integer(info["VERSION"]); version != 0 {
		e.Version = strconv.FormatInt(version, 10)
	}
	return e, nil
}

// profileUser asks a portal for the user of a token.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/users/profile.html
func (p *Portals) profileUser(ctx context.Context, endpoint string, access event.Secret) (userID int64, err error) {
	result, err := p.callPortal(ctx, "profile", endpoint, access)
	if err != nil {
		return 0, err
	}
	object, _ := result.(map[string]any)
	return integer(object["ID"]), nil
}

// callPortal calls a method of a portal. It returns [ErrUnverified], with the portal's code, if the
// portal refuses the token, and [ErrTemporary] if the portal does not respond as it should.
func (p *Portals) callPortal(ctx context.Context, method, endpoint string, access event.Secret) (any, error) {
	at, err := p.client.hosts.checkPortal(endpoint)
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
		result, err = p.callPortalOnce(ctx, method, at, access)
		var e *Error
		if !errors.As(err, &e) {
			return result, err
		}
		if e.Code != "" && !isTransient(e) {
			return nil, &Error{Op: method, Kind: ErrUnverified, Code: e.Code, Status: e.Status, Detail: "the portal refuses the token"}
		}
		err = &Error{
			Op: method, Kind: ErrTemporary, Code: e.Code, Status: e.Status,
			Detail: "the portal does not respond as it should", Err: e.Err,
		}
	}
	return nil, err
}

// portalTimeout limits one request to a portal, and portalLimit all tries together, because the
// sender of a webhook waits for them.
const (
	portalTimeout = 8 * time.Second
	portalLimit   = 14 * time.Second
)

func (p *Portals) callPortalOnce(ctx context.Context, method string, at address, access event.Secret) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, portalTimeout)
	defer cancel()
	return p.client.callMethod(ctx, method, at, access)
}

// isTransient reports whether a portal's refusal says nothing about the token.
func isTransient(e *Error) bool {
	switch strings.ToUpper(e.Code) {
	case "QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "OVERLOAD_LIMIT", "CONNECTION_ERROR", "INTERNAL_SERVER_ERROR",
		"PORTAL_DELETED", "ERROR_CORE", "ERROR_UNEXPECTED_ANSWER":
		return true
	default:
		return e.Status >= http.StatusInternalServerError
	}
}
