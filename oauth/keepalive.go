package oauth

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/timing"
)

const (
	// keepAliveAge is how long ago the last renewal must be. A refresh token ends after 180 days, so
	// this leaves a month of tries.
	keepAliveAge = 150 * 24 * time.Hour
	// sweepEvery is the pause between two sweeps.
	sweepEvery = 24 * time.Hour
	// sweepDelay is the longest wait before the first one, so that processes that start together do
	// not sweep together.
	sweepDelay = 10 * time.Minute
	// sweepPace is the pause after a renewal.
	sweepPace = 2 * time.Second
)

// KeepAlive keeps the tokens of portals alive on which nothing happens for months: a refresh token
// ends 180 days after it was issued. About once a day KeepAlive looks at every stored installation
// and user. It renews, slowly and one after the other, what was last renewed more than 150 days
// ago. [Portals.Renew] does the rest, because Bitrix24 may block applications that renew by the
// clock. Run KeepAlive in a goroutine, in one process or in each.
//
// It returns nil when ctx ends, and [ErrShutdown] after [Portals.Shutdown]. It logs everything
// else. A refused portal does not keep others from being renewed. A portal that must be installed
// again is not tried again.
//
// Source: https://apidocs.bitrix24.com/settings/oauth/auto-renewal.html
func (p *Portals) KeepAlive(ctx context.Context) error {
	s := &sweeper{portals: p, rejected: make(map[Key]event.Secret)}
	for pause := timing.Below(sweepDelay); timing.Sleep(ctx, pause) == nil; pause = sweepEvery + timing.Below(sweepEvery/24) {
		if err := s.sweep(ctx); err != nil {
			return err
		}
	}
	return nil
}

type sweeper struct {
	portals  *Portals
	rejected map[Key]event.Secret // refresh tokens that were refused for good
}

// sweep renews what is old. It returns an error only if nothing can be renewed any more.
func (s *sweeper) sweep(ctx context.Context) error {
	var renewed, failed int
	for key, err := range Keys(ctx, s.portals.store, s.portals.ClientID()) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.log(ctx, slog.LevelError, "bitrix24 installations could not be listed", key, err)
			break
		}
		tried, err := s.renew(ctx, key)
		switch {
		case errors.Is(err, ErrShutdown):
			return err
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failed++
			s.log(ctx, slog.LevelWarn, "bitrix24 access could not be kept alive", key, err)
		case tried:
			renewed++
		}
		if tried && timing.Sleep(ctx, sweepPace+timing.Below(sweepPace)) != nil {
			return nil
		}
	}
	s.portals.log.LogAttrs(ctx, slog.LevelDebug, "bitrix24 access kept alive",
		slog.Int(keyRenewed, renewed), slog.Int(keyFailed, failed))
	return nil
}

// renew renews what is stored under a key if it is old. It reports whether it tried.
func (s *sweeper) renew(ctx context.Context, key Key) (tried bool, err error) {
	r, err := s.portals.load(ctx, key)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, nil // forgotten in the meantime
	case err != nil:
		return false, err
	case r.in.RefreshToken == "" || time.Since(lastRenewed(r.in)) < keepAliveAge:
		return false, nil
	case s.rejected[key] == r.in.RefreshToken:
		return false, nil
	}
	_, err = s.portals.renew(ctx, key, r.in.AccessToken)
	var e *Error
	if errors.As(err, &e) && e.Permanent() {
		s.rejected[key] = r.in.RefreshToken
	}
	return true, err
}

// lastRenewed returns about when the tokens were renewed: access tokens live for an hour, or a day
// at most. Other changes of an installation do not count.
func lastRenewed(in Installation) time.Time {
	if !in.Expires.IsZero() {
		return in.Expires
	}
	return in.UpdatedAt
}

func (s *sweeper) log(ctx context.Context, level slog.Level, message string, key Key, err error) {
	s.portals.log.LogAttrs(ctx, level, message, //nolint:sloglint // the callers' messages are constants
		slog.String(keyMemberID, key.MemberID), slog.Int64(keyUserID, key.UserID), slog.String(keyError, errorText(err)))
}
