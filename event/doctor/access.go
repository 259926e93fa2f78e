package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/values"
	"github.com/b24events/b24events/oauth"
)

// checkAccess finds out whether the application is installed and may call the portal. What fails
// here makes most other checks pointless.
func (e *exam) checkAccess(ctx context.Context) {
	e.checkStored(ctx)
	err := e.readAppInfo(ctx)
	switch {
	case ctx.Err() != nil:
		e.dead = context.Cause(ctx)
		return
	case err != nil:
		e.dead = err
		e.explain(err)
	case e.info.webhook:
		e.dead = errIncomingWebhook
		e.fail(checkToken, IncomingWebhook, "The calls are made with an incoming webhook, which cannot manage events (WRONG_AUTH_TYPE).",
			"Create a local application in the portal and use its tokens, or create an outgoing webhook, which needs no bindings.")
	case !e.info.installed:
		e.fail(checkInstallation, NotFinished, "The installation is not finished (app.info: INSTALLED is false). Until then the portal "+
			"sends no events, although event.bind succeeds and event.get lists the bindings.",
			"Call BX24.installFinish() on the installation page, once, as an administrator. Or set the application to have no user "+
				"interface (script only) and install it again.")
	case !e.found(checkInstallation):
		e.ok(checkInstallation, "app.info says that the installation is finished")
	}
	if err == nil && !e.info.webhook {
		e.checkSubscription()
		e.checkOwner(ctx)
		if !e.found(checkToken) {
			e.ok(checkToken, "the portal accepts it")
		}
	}
	for _, check := range []string{checkInstallation, checkToken, checkPortal, checkSubscription} {
		if !e.found(check) && (check != checkPortal || err != nil) {
			e.skip(check, "the portal was not asked, or did not say")
		}
	}
}

// checkResponses is the last check of the portal itself: until then it may stop responding.
func (e *exam) checkResponses(context.Context) {
	if !e.found(checkPortal) {
		e.ok(checkPortal, "it responds")
	}
}

// errIncomingWebhook is why no method for events can be called.
var errIncomingWebhook = errors.New("an incoming webhook cannot manage events")

// checkStored looks at the stored installation and at the client ID and secret.
func (e *exam) checkStored(ctx context.Context) {
	if e.portals == nil {
		e.skip(checkCredentials, "the OAuth server is not asked")
		return
	}
	err := e.timed(ctx, func(ctx context.Context) (err error) {
		e.stored, err = e.portals.Installation(ctx, e.memberID)
		return err
	})
	if errors.Is(err, errStopped) {
		e.skip(checkCredentials, "stopped")
		return
	}
	if err != nil {
		e.explain(err)
		why := "the stored installation is not known"
		if errors.Is(err, oauth.ErrNotFound) {
			why = "no installation is stored, so it is not known which OAuth server to ask"
		}
		e.skip(checkCredentials, why)
		return
	}
	e.known = true
	e.checkAppTokens(ctx)
	e.checkCredentials(ctx)
}

// checkAppTokens looks for the application tokens of the stored installation.
func (e *exam) checkAppTokens(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	tokens, err := e.portals.ApplicationTokens(ctx, e.memberID)
	e.appTokens = append(e.appTokens, tokens...)
	if err == nil && len(e.appTokens) == 0 && len(e.handlers) > 0 && !e.stored.InstalledAt.IsZero() {
		e.warn(checkInstallation, NoAppToken, "No application token is stored for the portal, so a handler that uses this store rejects "+
			"every delivery.", "Install the application again, so that ONAPPINSTALL brings the token, or add it with AddApplicationToken.")
	}
}

// checkCredentials asks the OAuth server of the stored installation about the client ID and secret.
func (e *exam) checkCredentials(ctx context.Context) {
	switch err := e.timed(ctx, func(ctx context.Context) error { return e.portals.CheckCredentials(ctx, e.memberID) }); {
	case err == nil:
		e.ok(checkCredentials, "the OAuth server does not refuse the client ID and secret")
	case errors.Is(err, errStopped):
		e.skip(checkCredentials, "stopped")
	case errors.Is(err, oauth.ErrTemporary):
		e.warn(checkCredentials, OAuthFailed, "The OAuth server "+e.noResponse(err), oauthCure)
	default:
		e.explain(err)
	}
	if !e.found(checkCredentials) {
		e.skip(checkCredentials, "the OAuth server was not asked, or did not say")
	}
}

// checkOwner asks the OAuth server whose the token is. It says nothing if the server does not.
func (e *exam) checkOwner(ctx context.Context) {
	if e.portals == nil || !e.known {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	owner, err := e.portals.Owner(ctx, e.memberID)
	if err != nil {
		return
	}
	if owner.ClientID != "" && owner.ClientID != e.portals.ClientID() {
		e.fail(checkToken, OtherApplication, "The access token belongs to another application.",
			"Use the tokens that this application got at its installation, or correct its client ID and secret.")
	}
	if owner.MemberID != "" && owner.MemberID != e.memberID {
		e.fail(checkToken, OtherPortal, "The access token belongs to another portal than the member ID says. Deliveries of that portal are "+
			"rejected, because no application token is stored for it.",
			"Correct the member ID, which is in every event of the portal (auth[member_id]), and store the tokens again.")
	}
}

// appInfo is the result of app.info, as far as it is needed.
type appInfo struct {
	webhook   bool // the call was that of an incoming webhook
	installed bool
	expired   bool
	days      int // until the paid or trial period ends; -1 if unknown
	status    string
}

// readAppInfo calls app.info and reads the result.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/app-info.html
func (e *exam) readAppInfo(ctx context.Context) error {
	result := make(object)
	if err := e.call(ctx, "app.info", nil, &result); err != nil {
		return err
	}
	_, hasInstalled := result["INSTALLED"]
	e.info = appInfo{
		webhook:   !hasInstalled && result.text("STATUS") == "" && result["SCOPE"] != nil,
		installed: result.flag("INSTALLED"), expired: result.flag("PAYMENT_EXPIRED"), days: -1, status: result.text("STATUS"),
	}
	if days, ok := result.number("DAYS"); ok {
		e.info.days = days
	}
	if !hasInstalled && !e.info.webhook {
		return errors.New("doctor: the response to app.info does not say whether the application is installed")
	}
	return nil
}

// fewDays is when a paid or trial period ends soon.
const fewDays = 3

// checkSubscription reads from app.info whether the application is paid for.
func (e *exam) checkSubscription() {
	switch {
	case e.info.expired:
		e.fail(checkSubscription, PaymentExpired, "The application's paid or trial period is over (PAYMENT_EXPIRED is Y). The portal drops "+
			"its events, also in the period of grace in which REST still works.", "Renew the subscription of the application or of the portal.")
	case e.info.days >= 0 && e.info.days <= fewDays && e.info.status != "L" && e.info.status != "F":
		e.warn(checkSubscription, PaymentEnds, "The application's paid or trial period ends within days. The portal then drops its events.",
			"Renew it in time.")
	default:
		e.ok(checkSubscription, "nothing is unpaid")
	}
}

// explain adds the line for an error that concerns every call. It adds no line twice, but a failure
// besides a warning.
func (e *exam) explain(err error) {
	c := e.diagnosis(err)
	for _, known := range e.checks {
		if known.Code == c.Code && known.Status == c.Status {
			return
		}
	}
	e.add(c)
}

const oauthCure = "Check the network, the DNS and the proxy of this machine. If the OAuth server has a fault, wait. Meanwhile no " +
	"token is renewed and no installation is verified."

// noResponse says that a server did not respond, or what was wrong with its response.
func (e *exam) noResponse(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "did not respond within " + rounded(e.timeout) + "."
	}
	return "gave no usable response: " + errorText(err)
}

// portalName names the portal in a sentence, with its host if that is known.
func (e *exam) portalName() string {
	if host := e.stored.Domain(); host != "" {
		return "The portal " + name(host)
	}
	return "The portal"
}

// diagnosis says what an error means that concerns every call.
func (e *exam) diagnosis(err error) Check {
	failed := func(name string, code Code, cause, cure string) Check {
		return Check{Name: name, Status: Failed, Code: code, Cause: cause, Cure: cure}
	}
	const install = "Install the application again, as an administrator, and use the tokens that the installation brings."
	switch code, description := codeOf(err); {
	case errors.Is(err, oauth.ErrNotFound):
		return failed(checkInstallation, NotStored, "No installation of this portal is stored for the application.",
			"Install the application on the portal while the handler runs, so that ONAPPINSTALL is received and stored. Check the member ID.")
	case errors.Is(err, oauth.ErrCredentials):
		return failed(checkCredentials, WrongCredentials, "The OAuth server refuses the client ID and secret, or says that the application is "+
			"not installed.", "Copy both from the settings of the application on the portal, or from the vendor's account. Install the application.")
	case errors.Is(err, oauth.ErrReauthorize) && e.known && e.stored.RefreshToken == "":
		return failed(checkToken, TokenExpired, "The access token has expired, and there is no refresh token to renew it.",
			"Take a new access token, or examine the installation that the application itself stores, which has a refresh token.")
	case errors.Is(err, oauth.ErrReauthorize), refusedRefresh(err), code == "INVALID_TOKEN", code == "NO_AUTH_FOUND",
		code == "INVALID_CREDENTIALS":
		return failed(checkToken, TokenRefused, "The token is refused: it was revoked, was never issued, or its refresh token was used "+
			"elsewhere.", install+" Let only one store hold the tokens: a refresh token works once.")
	case code == "EXPIRED_TOKEN":
		return failed(checkToken, TokenExpired, "The access token has expired, and the caller has not renewed it.",
			"Renew it with the refresh token, which package oauth does by itself.")
	case errors.Is(err, oauth.ErrPayment), code == "PAYMENT_REQUIRED":
		return failed(checkSubscription, PaymentExpired, "A subscription has ended: that of the portal, or that of the application.", "Renew it.")
	case code == "ACCESS_DENIED" && mentions(description, "commercial", "subscription"):
		return failed(checkSubscription, PlanWithoutAPI, "The portal's plan has no REST: "+name(description),
			"Change the plan, or renew the subscription.")
	case code == "APPLICATION_NOT_FOUND":
		return failed(checkInstallation, AppRemoved, "The portal does not have the application, or it is switched off.", install)
	case code == "AUTHORIZATION_ERROR", code == "ACCESS_DENIED":
		return failed(checkToken, UserDismissed, "The portal does not authorize the user of the token, who was perhaps dismissed.",
			"Install the application again as another administrator.")
	case code == "USER_ACCESS_ERROR":
		return failed(checkToken, NoUserAccess, "The user of the token may not use the application.",
			"Give the user access to the application in its settings on the portal.")
	case code == "WRONG_AUTH_TYPE":
		return failed(checkToken, IncomingWebhook, "The calls are not made with an application's token.", "Use the tokens of an application.")
	case errors.Is(err, oauth.ErrEncryptionKey):
		return failed(checkToken, StoreEncrypted, "The stored installation is encrypted with a key that was not given.",
			"Open the store with the key of the application (WithEncryptionKey).")
	case errors.Is(err, oauth.ErrStore):
		return failed(checkToken, StoreFailed, "The store of installations does not work: "+storeText(err),
			"Repair it. A store of files needs free space, and this program must run as the user of the application.")
	case errors.Is(err, oauth.ErrHostNotAllowed), errors.Is(err, oauth.ErrEndpoint):
		return failed(checkPortal, AddressRefused, "A stored address is not allowed: "+errorText(err),
			"Correct the address. A server of your own needs WithHosts, and http needs WithInsecureHTTP.")
	case code == "PORTAL_DELETED":
		return failed(checkPortal, PortalClosed, "The portal was deleted, or is closed for the time being.", "Ask its administrator.")
	case code == "QUERY_LIMIT_EXCEEDED", code == "OPERATION_TIME_LIMIT", code == "OVERLOAD_LIMIT":
		return failed(checkPortal, PortalBlocks, "The portal refuses calls because there were too many ("+name(code)+").",
			"Find out what calls so often, and try again in ten minutes.")
	case failedRenewal(err):
		return failed(checkToken, OAuthFailed, "The access token has expired, and the OAuth server, which renews it, "+e.noResponse(err),
			oauthCure)
	default:
		return failed(checkPortal, PortalFailed, e.portalName()+" "+e.noResponse(err), "Check its address, and the network, the DNS, the "+
			"proxy and the clock of this machine. If it is in maintenance or gets too many requests (status 429 or 5xx), wait.")
	}
}

// storeText returns the text of an error of a store. For a file it leaves out the path, whose
// length could hide the rest.
func storeText(err error) string {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file.Op + ": " + errorText(file.Err)
	}
	return errorText(err)
}

// failedRenewal reports whether the OAuth server did not respond when a token was to be renewed. A
// caller that stops waiting for a renewal gets an error that only its text tells from that of a
// call.
func failedRenewal(err error) bool {
	return errors.Is(err, oauth.ErrTemporary) ||
		errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "oauth: renew: ")
}

// refusedRefresh reports whether the OAuth server refuses the refresh token. Package oauth does not
// call that final before minutes have passed.
func refusedRefresh(err error) bool {
	var e *oauth.Error
	return errors.As(err, &e) && strings.EqualFold(e.Code, "invalid_grant")
}

func mentions(text string, words ...string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// maxSkew is how far clocks may be apart. Nothing breaks by less.
const maxSkew = time.Minute

// checkClock compares the portal's clock with this machine's.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/server-time.html
func (e *exam) checkClock(ctx context.Context) {
	var text string
	before := time.Now()
	err := e.call(ctx, "server.time", nil, &text)
	after := time.Now()
	if err != nil {
		e.unknown(checkClock, "server.time", err)
		return
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		e.unknown(checkClock, "server.time", errors.New("the time is not understood"))
		return
	}
	switch { // the response has whole seconds
	case at.After(after):
		e.skew = at.Sub(after)
	case at.Add(time.Second).Before(before):
		e.skew = at.Add(time.Second).Sub(before)
	}
	if e.skew.Abs() > maxSkew {
		e.warn(checkClock, ClockSkew, "The clocks of this machine and of the portal are "+rounded(e.skew.Abs())+" apart. Ages of events and "+
			"of tokens look wrong.", "Synchronize this machine's clock (NTP). If it is right, tell the portal's administrator.")
		return
	}
	e.ok(checkClock, "this machine and the portal agree")
}

func rounded(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// object is a JSON object of a portal, whose scalars have any type. PHP writes an empty one as [].
type object map[string]any

// UnmarshalJSON accepts everything, because the calls report what is missing.
func (o *object) UnmarshalJSON(doc []byte) error {
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return err
	}
	*o, _ = v.(map[string]any)
	return nil
}

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// flag reads a boolean in any form of the platform.
func (o object) flag(key string) bool { return values.Truthy(o[key]) }

func (o object) number(key string) (int, bool) {
	const enough = 1_000_000 // days, of which a billion is no more than a million
	switch v := o[key].(type) {
	case float64:
		return int(min(max(v, -enough), enough)), true
	case string:
		var n float64
		if json.Unmarshal([]byte(v), &n) != nil {
			return 0, false
		}
		return int(min(max(n, -enough), enough)), true
	default:
		return 0, false
	}
}

// names is a list of texts. PHP writes a list with a gap as an object.
type names []string

// UnmarshalJSON keeps the texts, and leaves out everything else.
func (n *names) UnmarshalJSON(doc []byte) error {
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		return err
	}
	add := func(v any) {
		if s, ok := v.(string); ok {
			*n = append(*n, s)
		}
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			add(item)
		}
	case map[string]any:
		for _, item := range v {
			add(item)
		}
	}
	return nil
}
