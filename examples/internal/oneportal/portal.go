package oneportal

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/examples/internal/program"
	"github.com/b24events/b24events/oauth"
	"github.com/b24events/b24events/rest"
)

// Portal is the access to one portal, and the folder that keeps it.
type Portal struct {
	*program.Access

	MemberID string
	Log      *slog.Logger

	seed oauth.Installation // from the settings; it has no tokens if they name none
}

// Open returns the access that the settings describe. The first start stores the tokens of the
// settings. Later starts use the stored ones, because a refresh token works only once. Open makes
// no requests. A nil client means the default one.
func Open(ctx context.Context, v program.Values, log *slog.Logger, client *http.Client) (p *Portal, err error) {
	if id := v["member-id"]; id != "" && !program.ValidMemberID(id) {
		return nil, program.Usage("B24_MEMBER_ID is not a member_id, which has 32 letters and digits and is in every event of the portal")
	}
	access, err := program.Open(v, log, client)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			access.Close()
		}
	}()
	p = &Portal{Access: access, MemberID: v["member-id"], Log: log, seed: oauth.Installation{
		MemberID: v["member-id"], ClientEndpoint: v["client-endpoint"], ServerEndpoint: v["server-endpoint"],
		AccessToken: event.Secret(v["access-token"]), RefreshToken: event.Secret(v["refresh-token"]),
	}}
	if p.MemberID == "" {
		if p.MemberID, err = only(ctx, p.Store, p.Tokens.ClientID()); err != nil {
			return nil, err
		}
	}
	in, err := p.Tokens.Installation(ctx, p.MemberID)
	switch {
	case err == nil && p.seeded() && p.sameTokens(in) && !sameEndpoint(in.ClientEndpoint, p.seed.ClientEndpoint): // corrected since then
		return p, p.replace(ctx, in)
	case errors.Is(err, oauth.ErrNotFound) && !p.seeded():
		return nil, program.Usage("%s (B24_DATA) does not know the portal: set B24_MEMBER_ID, B24_CLIENT_ENDPOINT, B24_ACCESS_TOKEN and "+
			"B24_REFRESH_TOKEN for the first start", p.Data)
	case errors.Is(err, oauth.ErrNotFound):
		if _, err := p.Tokens.Seed(ctx, p.seed); err != nil {
			return nil, &program.UsageError{Err: err}
		}
	case err != nil:
		return nil, err
	}
	return p, nil
}

func (p *Portal) seeded() bool { return p.seed.AccessToken != "" || p.seed.RefreshToken != "" }

// only returns the single portal of the application in the store.
func only(ctx context.Context, store oauth.Store, clientID string) (string, error) {
	found := ""
	for key, err := range oauth.Keys(ctx, store, clientID) {
		switch {
		case err != nil:
			return "", err
		case key.UserID != 0:
		case found != "":
			return "", program.Usage("B24_DATA knows several portals; set B24_MEMBER_ID")
		default:
			found = key.MemberID
		}
	}
	if found == "" {
		return "", program.Usage("set B24_MEMBER_ID, and for the first start also B24_CLIENT_ENDPOINT, B24_ACCESS_TOKEN and B24_REFRESH_TOKEN")
	}
	return found, nil
}

// Client returns the client of the portal.
func (p *Portal) Client() *rest.Client { return p.API.Portal(p.MemberID) }

// Close writes tokens that could not be written earlier, and closes the store.
func (p *Portal) Close(ctx context.Context) error {
	defer p.Access.Close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return p.Tokens.Shutdown(last)
}

// Connect makes the first calls to the portal. It retries after errors of the network or the portal
// that may pass. If the stored tokens are refused and the settings have others, these replace them
// at once.
func (p *Portal) Connect(ctx context.Context, calls func(context.Context) error) error {
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := calls(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case void(err), refused(err):
			replaced, failure := p.reseed(ctx)
			switch {
			case failure != nil:
				return failure
			case replaced:
				continue
			case !passes(err):
				return err
			}
		case !passes(err):
			return err
		}
		p.logRetry(ctx, err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// logRetry logs what failed: the portal, or something on this machine.
func (p *Portal) logRetry(ctx context.Context, err error, wait time.Duration) {
	attrs := []slog.Attr{slog.String("error", err.Error()), slog.String("wait", wait.Round(time.Millisecond).String())}
	switch {
	case tooManyFiles(err):
		p.Log.LogAttrs(ctx, slog.LevelWarn, "this process may not open more files, trying again", attrs...)
	case errors.Is(err, oauth.ErrStore):
		p.Log.LogAttrs(ctx, slog.LevelWarn, "the store of the tokens in B24_DATA failed, trying again", attrs...)
	default:
		p.Log.LogAttrs(ctx, slog.LevelWarn, "the portal failed, trying again", attrs...)
	}
}

// tooManyFiles reports whether a limit of open files or connections is reached.
func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// reseed replaces the stored tokens with those of the settings, if they differ.
func (p *Portal) reseed(ctx context.Context) (bool, error) {
	in, err := p.Tokens.Installation(ctx, p.MemberID)
	if err != nil || !p.seeded() || p.sameTokens(in) {
		return false, err
	}
	p.Log.LogAttrs(ctx, slog.LevelWarn, "the stored tokens are void; using those of the settings")
	return true, p.replace(ctx, in)
}

// replace replaces the stored installation with that of the settings. If the process dies in the
// middle, the next start is a first start.
func (p *Portal) replace(ctx context.Context, in oauth.Installation) error {
	seed := p.seed
	seed.ClientEndpoint = cmp.Or(seed.ClientEndpoint, in.ClientEndpoint)
	seed.ServerEndpoint = cmp.Or(seed.ServerEndpoint, in.ServerEndpoint)
	if err := p.Tokens.Forget(ctx, p.MemberID); err != nil {
		return err
	}
	if _, err := p.Tokens.Seed(ctx, seed); err != nil {
		return &program.UsageError{Err: err}
	}
	return nil
}

// sameTokens reports whether the stored tokens are those of the settings.
func (p *Portal) sameTokens(in oauth.Installation) bool {
	return in.AccessToken == p.seed.AccessToken && in.RefreshToken == p.seed.RefreshToken
}

// sameEndpoint reports whether the settings name the stored address, or none.
func sameEndpoint(stored, given string) bool {
	return given == "" || strings.EqualFold(strings.TrimSuffix(stored, "/"), strings.TrimSuffix(given, "/"))
}

// Code returns the portal's error code in upper case, for an error of a call or of a call in a
// batch. It is empty for other errors.
func Code(err error) string {
	var refusal event.CallError
	if !errors.As(err, &refusal) {
		return ""
	}
	return strings.ToUpper(refusal.ErrorCode())
}

// void reports whether the tokens cannot be used any more.
func void(err error) bool {
	code := Code(err)
	return errors.Is(err, oauth.ErrReauthorize) || code == "INVALID_TOKEN" || code == "NO_AUTH_FOUND"
}

// refused reports whether the OAuth server refuses the stored tokens. That may pass if another
// process has renewed them, but new tokens in the settings need not wait for that.
func refused(err error) bool {
	var e *oauth.Error
	return errors.As(err, &e) && strings.EqualFold(e.Code, "invalid_grant")
}

// passes reports whether calls that failed may succeed later. An error that comes neither from the
// portal nor from the OAuth server comes from the network.
func passes(err error) bool {
	var (
		access  *oauth.Error
		refusal *rest.Error
	)
	if _, later := rest.Retryable(err); later {
		return true
	}
	if errors.As(err, &access) {
		return !access.Permanent()
	}
	switch Code(err) {
	case "QUERY_LIMIT_EXCEEDED", "OPERATION_TIME_LIMIT", "CONNECTION_ERROR", "OVERLOAD_LIMIT", "INTERNAL_SERVER_ERROR", "EXPIRED_TOKEN":
		return true
	case "":
		return !errors.As(err, new(*program.UsageError)) && !errors.Is(err, event.ErrMalformed)
	default:
		page := errors.Is(err, rest.ErrBadResponse) // the page of a proxy, or of a portal under maintenance
		return errors.As(err, &refusal) &&
			(refusal.Status >= http.StatusInternalServerError || (page && refusal.Status < http.StatusBadRequest))
	}
}
