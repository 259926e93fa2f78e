package eventtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// Placement is the place in the portal's interface that opens an application's page.
type Placement struct {
	Name    string // DEFAULT if empty
	Options any    // anything that encodes to JSON; nil for none
}

// Frame builds the POST that opens the application's page for a user, as a browser sends it. Until
// the application is installed, that is its installation page; see [Application.PageURL]. The
// errors are those of [Application.Grant].
func (a *Application) Frame(ctx context.Context, user int64, placement Placement) (*http.Request, error) {
	address := a.PageURL()
	if address == "" {
		return nil, errors.New("eventtest: the application has no address to open a page at; set its PageURL or HandlerURL")
	}
	options, err := treeOf(placement.Options)
	if err != nil {
		return nil, fmt.Errorf("eventtest: placement options: %w", err)
	}
	if options.Kind() == phpform.Null {
		options = phpform.Map()
	}
	if placement.Name == "" {
		placement.Name = "DEFAULT"
	}
	g, err := a.Grant(user)
	if err != nil {
		return nil, err
	}
	body := phpform.Encode(phpform.Map(
		text("AUTH_ID", string(g.AccessToken)),
		number("AUTH_EXPIRES", int64(a.p.Quirks().TokenLifetime/time.Second)),
		text("REFRESH_ID", string(g.RefreshToken)),
		text("SERVER_ENDPOINT", g.ServerEndpoint),
		text("APPLICATION_TOKEN", string(g.ApplicationToken)),
		text("APPLICATION_SCOPE", strings.Join(g.Scope, ",")),
		text("member_id", g.MemberID),
		text("status", g.Status),
		text("PLACEMENT", placement.Name),
		text("PLACEMENT_OPTIONS", string(appendJSON(nil, options))),
	))
	target, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("eventtest: the address of the page is not a URL")
	}
	protocol := "0"
	if a.p.cfg.network != nil {
		protocol = "1"
	}
	query := phpform.Encode(phpform.Map(
		text("DOMAIN", g.Domain), text("PROTOCOL", protocol), text("LANG", "en"), text("APP_SID", randomText(32, hexDigits)),
	))
	if target.RawQuery != "" {
		query = target.RawQuery + "&" + query
	}
	target.RawQuery = query
	return postForm(ctx, target.String(), body)
}

// OpenPage opens the application's page for a user, administrator or not, as the user's browser
// does: it sends the request that [Application.Frame] builds. It returns the status
// of the response. The errors are those of Frame, and one for a page that cannot be reached.
func (a *Application) OpenPage(ctx context.Context, user int64, placement Placement) (status int, err error) {
	r, err := a.Frame(ctx, user, placement)
	if err != nil {
		return 0, err
	}
	resp, err := a.p.client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("eventtest: opening the page: %w", withoutURL(err))
	}
	defer resp.Body.Close() //nolint:errcheck // only the status matters
	return resp.StatusCode, nil
}

// openInstallPage opens the installation page. A status of 400 or above is an error.
func (a *Application) openInstallPage(ctx context.Context, user int64) error {
	status, err := a.OpenPage(ctx, user, Placement{})
	if err == nil && status >= 400 {
		err = errors.New("eventtest: the installation page answered with status " + strconv.Itoa(status))
	}
	return err
}

// Redirected builds the GET that a user's browser makes to RedirectURL after the user has
// authorized the application at /oauth/authorize/. It carries a fresh authorization code of that
// user, and the state. If the state, the user or the portal are not those that the program began
// with, the request is a login CSRF. The errors are those of [Application.Grant], and one if the
// application has no RedirectURL.
func (a *Application) Redirected(ctx context.Context, user int64, state string) (*http.Request, error) {
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := a.checkUsableLocked(user); err != nil {
		return nil, err
	}
	target, err := p.redirectionLocked(a, user, state)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, errors.New("eventtest: RedirectURL is not a URL")
	}
	return r, nil
}
