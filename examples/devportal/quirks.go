package main

import (
	"context"
	"net/http"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// quirksView is the JSON of eventtest.Quirks. In a request, missing fields keep their value.
type quirksView struct {
	NoUser             bool    `json:"no_user"`
	NoData             bool    `json:"no_data"`
	NoExtendedOffline  bool    `json:"no_extended_offline"`
	NoConnectors       bool    `json:"no_connectors"`
	Box                bool    `json:"box"`
	HonourMinTimeout   bool    `json:"honour_min_timeout"`
	RacingReservations bool    `json:"racing_reservations"`
	RacingBinds        bool    `json:"racing_binds"`
	SlowHandlers       float64 `json:"slow_handlers_s"` // a handler that takes longer is slow
	DeliveryJitter     float64 `json:"delivery_jitter_s"`
	OfflineLag         float64 `json:"offline_lag_s"`
	InstallDelay       float64 `json:"install_delay_s"`
	NoInstallEvent     bool    `json:"no_install_event"`
	NoUninstallEvent   bool    `json:"no_uninstall_event"`
	UserReady          int     `json:"user_ready"` // 0 never, 1 before ONAPPINSTALL, 2 after it
	WholeBotAuth       bool    `json:"whole_bot_auth"`
	TokenLifetime      float64 `json:"token_lifetime_s"`
	RatePerSecond      float64 `json:"rate_per_second"`
	RateBurst          int     `json:"rate_burst"`
	OperatingLimit     float64 `json:"operating_limit_s"`
	Latency            float64 `json:"latency_ms"`
	OAuthLatency       float64 `json:"oauth_latency_ms"`
}

// quirksOf converts the portal's quirks to JSON.
func quirksOf(q eventtest.Quirks) quirksView {
	return quirksView{
		NoUser: q.NoUser, NoData: q.NoData, NoExtendedOffline: q.NoExtendedOffline, NoConnectors: q.NoConnectors, Box: q.Box,
		HonourMinTimeout: q.HonourMinTimeout, RacingReservations: q.RacingReservations, RacingBinds: q.RacingBinds,
		SlowHandlers: q.SlowHandlers.Seconds(), DeliveryJitter: q.DeliveryJitter.Seconds(), OfflineLag: q.OfflineLag.Seconds(),
		InstallDelay: q.InstallDelay.Seconds(), NoInstallEvent: q.NoInstallEvent, NoUninstallEvent: q.NoUninstallEvent,
		UserReady: int(q.UserReady), WholeBotAuth: q.WholeBotAuth,
		TokenLifetime: q.TokenLifetime.Seconds(), RatePerSecond: q.RatePerSecond, RateBurst: q.RateBurst,
		OperatingLimit: q.OperatingLimit.Seconds(), Latency: float64(q.Latency) / float64(time.Millisecond),
		OAuthLatency: float64(q.OAuthLatency) / float64(time.Millisecond),
	}
}

// set copies the view to the portal's quirks.
func (v quirksView) set(q *eventtest.Quirks) {
	q.NoUser, q.NoData, q.NoInstallEvent, q.NoUninstallEvent = v.NoUser, v.NoData, v.NoInstallEvent, v.NoUninstallEvent
	q.UserReady, q.WholeBotAuth, q.OAuthLatency = eventtest.UserReady(v.UserReady), v.WholeBotAuth, seconds(v.OAuthLatency/1000)
	q.NoExtendedOffline, q.NoConnectors, q.Box, q.HonourMinTimeout = v.NoExtendedOffline, v.NoConnectors, v.Box, v.HonourMinTimeout
	q.RacingReservations, q.RacingBinds = v.RacingReservations, v.RacingBinds
	q.SlowHandlers, q.DeliveryJitter = seconds(v.SlowHandlers), seconds(v.DeliveryJitter)
	q.OfflineLag, q.InstallDelay, q.TokenLifetime = seconds(v.OfflineLag), seconds(v.InstallDelay), seconds(v.TokenLifetime)
	q.RatePerSecond, q.RateBurst = v.RatePerSecond, v.RateBurst
	q.OperatingLimit, q.Latency = seconds(v.OperatingLimit), seconds(v.Latency/1000)
}

// maxDuration limits the durations in quirks and in changes of the clock.
const maxDuration = 400 * 24 * time.Hour

// maxSkew limits how far the portal's clock can be ahead.
const maxSkew = 10 * 366 * 24 * time.Hour

func seconds(n float64) time.Duration {
	return time.Duration(min(max(n, -1), maxDuration.Seconds()) * float64(time.Second))
}

// serveQuirks changes the quirks in the request.
func (pg *page) serveQuirks(w http.ResponseWriter, r *http.Request) {
	pg.quirksTurn.Lock() // between reading the quirks and changing them
	defer pg.quirksTurn.Unlock()
	view := quirksOf(pg.portal.Quirks())
	if err := readJSON(w, r, &view); err != nil {
		writeError(w, err)
		return
	}
	if max(view.Latency, view.OAuthLatency) > maxLatency.Seconds()*1000 {
		writeError(w, badRequest("the portal can be slow by at most a minute; its requests end after that"))
		return
	}
	if err := pg.portal.ChangeQuirks(view.set); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, quirksOf(pg.portal.Quirks()))
}

// maxLatency limits how slow the portal can be. The platform ends requests after a minute.
const maxLatency = time.Minute

func (pg *page) expireTokens(context.Context, string, noInput) (doneText, error) {
	pg.portal.ExpireAccessTokens()
	return doneText{"every access token has expired"}, nil
}

// advance moves the portal's clock forward.
func (pg *page) advance(_ context.Context, _ string, in struct {
	By string `json:"by"`
},
) (doneText, error) {
	by, err := time.ParseDuration(in.By)
	if err != nil || by <= 0 || by > maxDuration {
		return doneText{}, badRequest("the clock goes forward by a duration like 90s, 1h or 720h, at most 400 days")
	}
	if time.Until(pg.portal.Now())+by > maxSkew {
		return doneText{}, badRequest("the portal's clock is ten years ahead at most; restart the program for the present time")
	}
	pg.portal.Advance(by)
	return doneText{"the portal's clock went forward by " + in.By}, nil
}
