package main

import (
	"context"
	"net/http"
	"time"

	"github.com/b24events/b24events/event/eventtest"
)

// quirksView is how the portal behaves. Where it is sent, what is left out stays as it is.
type quirksView struct {
	NoUser             bool    `json:"no_user"`
	NoData             bool    `json:"no_data"`
	NoExtendedOffline  bool    `json:"no_extended_offline"`
	NoConnectors       bool    `json:"no_connectors"`
	Box                bool    `json:"box"`
	HonourMinTimeout   bool    `json:"honour_min_timeout"`
	RacingReservations bool    `json:"racing_reservations"`
	RacingBinds        bool    `json:"racing_binds"`
	SlowHandlers       float64 `json:"slow_handlers_s"` // from which answer on a handler counts as slow
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

func quirksOf(m eventtest.Quirks) quirksView {
	return quirksView{
		NoUser: m.NoUser, NoData: m.NoData, NoExtendedOffline: m.NoExtendedOffline, NoConnectors: m.NoConnectors, Box: m.Box,
		HonourMinTimeout: m.HonourMinTimeout, RacingReservations: m.RacingReservations, RacingBinds: m.RacingBinds,
		SlowHandlers: m.SlowHandlers.Seconds(), DeliveryJitter: m.DeliveryJitter.Seconds(), OfflineLag: m.OfflineLag.Seconds(),
		InstallDelay: m.InstallDelay.Seconds(), NoInstallEvent: m.NoInstallEvent, NoUninstallEvent: m.NoUninstallEvent,
		UserReady: int(m.UserReady), WholeBotAuth: m.WholeBotAuth,
		TokenLifetime: m.TokenLifetime.Seconds(), RatePerSecond: m.RatePerSecond, RateBurst: m.RateBurst,
		OperatingLimit: m.OperatingLimit.Seconds(), Latency: float64(m.Latency) / float64(time.Millisecond),
		OAuthLatency: float64(m.OAuthLatency) / float64(time.Millisecond),
	}
}

// set makes a portal behave like that.
func (v quirksView) set(m *eventtest.Quirks) {
	m.NoUser, m.NoData, m.NoInstallEvent, m.NoUninstallEvent = v.NoUser, v.NoData, v.NoInstallEvent, v.NoUninstallEvent
	m.UserReady, m.WholeBotAuth, m.OAuthLatency = eventtest.UserReady(v.UserReady), v.WholeBotAuth, seconds(v.OAuthLatency/1000)
	m.NoExtendedOffline, m.NoConnectors, m.Box, m.HonourMinTimeout = v.NoExtendedOffline, v.NoConnectors, v.Box, v.HonourMinTimeout
	m.RacingReservations, m.RacingBinds = v.RacingReservations, v.RacingBinds
	m.SlowHandlers, m.DeliveryJitter = seconds(v.SlowHandlers), seconds(v.DeliveryJitter)
	m.OfflineLag, m.InstallDelay, m.TokenLifetime = seconds(v.OfflineLag), seconds(v.InstallDelay), seconds(v.TokenLifetime)
	m.RatePerSecond, m.RateBurst = v.RatePerSecond, v.RateBurst
	m.OperatingLimit, m.Latency = seconds(v.OperatingLimit), seconds(v.Latency/1000)
}

// longest is the longest duration that a quirk may name.
const longest = 400 * 24 * time.Hour

func seconds(n float64) time.Duration {
	return time.Duration(min(max(n, -1), longest.Seconds()) * float64(time.Second))
}

// serveQuirks changes the quirks that the request names.
func (d *desk) serveQuirks(w http.ResponseWriter, r *http.Request) {
	d.quirkTurn.Lock() // between reading the quirks and changing them
	defer d.quirkTurn.Unlock()
	view := quirksOf(d.portal.Quirks())
	if err := readJSON(w, r, &view); err != nil {
		writeError(w, err)
		return
	}
	if max(view.Latency, view.OAuthLatency) > maxLatency.Seconds()*1000 {
		writeError(w, refuse("the portal can be slow by a minute at most; its own requests end then"))
		return
	}
	if err := d.portal.ChangeQuirks(view.set); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, quirksOf(d.portal.Quirks()))
}

// maxLatency is how slow the portal can be made. The platform ends requests after a minute.
const maxLatency = time.Minute

func (d *desk) expireTokens(context.Context, string, nothing) (any, error) {
	d.portal.ExpireAccessTokens()
	return map[string]any{"text": "every access token has expired"}, nil
}

// advance moves the portal's clock.
func (d *desk) advance(_ context.Context, _ string, in struct {
	By string `json:"by"`
},
) (any, error) {
	by, err := time.ParseDuration(in.By)
	if err != nil || by <= 0 || by > longest {
		return nil, refuse("the clock goes forward by a duration such as 90s, 1h or 720h, 400 days at most")
	}
	d.portal.Advance(by)
	return map[string]any{"text": "the portal's clock went forward by " + in.By}, nil
}
