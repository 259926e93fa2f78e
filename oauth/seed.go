package oauth

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
)

// Seed stores tokens that came from configuration, for programs that no install event reaches, such
// as one that reads the offline queue of a single portal. It needs MemberID, ClientEndpoint and an
// access or a refresh token. An empty ServerEndpoint means https://oauth.bitrix.info/rest/. Zero
// Expires means that only the portal knows when the token expires. Space around values is ignored.
//
// If anything is stored for the portal, Seed keeps that, because the first renewal uses a seed up.
// created reports whether the seed was stored. To seed again, [Portals.Forget] the portal first.
// Seed asks nothing of the OAuth server.
//
// It returns [ErrEndpoint] or [ErrHostNotAllowed] if an address breaks the rules, [ErrConfig] if
// something is missing, and [ErrStore].
func (p *Portals) Seed(ctx context.Context, in Installation) (created bool, err error) {
	in, err = p.seed(in)
	if err != nil {
		return false, err
	}
	key := p.appKey(in.MemberID)
	_, err = p.load(ctx, key)
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, ErrNotFound) {
		return false, err
	}
	_, err = p.store.Swap(ctx, key, "", in)
	switch {
	case errors.Is(err, ErrConflict):
		return false, nil // another process was first
	case err != nil:
		return false, &Error{Op: opSeed, Kind: ErrStore, Err: err}
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "bitrix24 installation stored from configuration", slog.String(keyMemberID, in.MemberID))
	return true, nil
}

// seed checks an installation from configuration and completes it.
func (p *Portals) seed(in Installation) (Installation, error) {
	for _, s := range []*string{&in.MemberID, &in.ClientEndpoint, &in.ServerEndpoint} {
		*s = strings.TrimSpace(*s)
	}
	for _, s := range []*event.Secret{&in.AccessToken, &in.RefreshToken, &in.ApplicationToken, &in.PreviousApplicationToken} {
		*s = event.Secret(strings.TrimSpace(string(*s)))
	}
	switch {
	case !validMemberID(in.MemberID):
		return Installation{}, configError(opSeed, "the member ID is missing or malformed")
	case in.AccessToken == "" && in.RefreshToken == "":
		return Installation{}, configError(opSeed, "there is neither an access nor a refresh token")
	}
	portal, err := p.client.hosts.checkPortal(in.ClientEndpoint)
	if err != nil {
		return Installation{}, err
	}
	if in.ServerEndpoint == "" {
		in.ServerEndpoint = officialEndpoint
	}
	server, err := p.client.hosts.checkServer(in.ServerEndpoint)
	if err != nil {
		return Installation{}, err
	}
	in.ClientEndpoint, in.ServerEndpoint = portal.String(), server.String()
	in.Scope = slices.Clone(in.Scope)
	in.UpdatedAt = time.Now().UTC()
	return in, nil
}
