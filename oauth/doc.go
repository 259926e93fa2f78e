// Package oauth keeps an application's access to Bitrix24 portals: it proves that an installation is real, stores it, hands
// out access tokens, and renews them once for all callers and all replicas.
//
//	portals, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: secret}, store)
//	if err != nil {
//		return err
//	}
//	portals.Lifecycle(mux, oauth.Hooks{Installed: bindEvents, Uninstalled: deleteData})
//	api, err := rest.NewPortals(portals)          // calls with the stored tokens
//	h, err := webhook.NewHandler(portals, mux)    // verifies every delivery, stores installations
//	…
//	err = portals.KeepAlive(ctx)                  // in a goroutine, for portals where nothing happens for months
//	…
//	err = portals.Shutdown(ctx)                   // after all that uses it
//
// # Ways to get tokens
//
//	an install event     [Portals.Verify] confirms and stores it; webhook.Handler calls that
//	the install page     [PageHandler] with [Portals.Install]
//	authorization code   [Portals.Authorize], then [RedirectHandler] with [Portals.Exchange]
//	configuration        [Portals.Seed]
//
// They may come in any order and more than once: what came before is kept where the later one does not say otherwise.
//
// # Whose token
//
// A [Portals] gives rest.NewPortals the application's own token, which is that of whoever installed it. [Portals.Acting] gives
// the token of the user who caused an event, for an hour after it; [Portals.ActingOrApp] falls back to the application's.
// [Portals.User] gives the token of a user of whom [Portals.KeepUser] or [Portals.ExchangeUser] stored one.
//
// # Guarantees
//
// An installation is stored only after the OAuth server confirmed it, and what is stored is that server's answer; only
// [Portals.Seed] takes the configuration's word. A forged ONAPPINSTALL changes nothing. Every other delivery needs the
// application token that is stored for its portal. An empty token authenticates nothing.
//
// The client secret goes to hosts on the allow list and to no others: oauth.bitrix.info, oauth.bitrix24.tech and those of
// [WithHosts], over https, in the body of a POST. Redirects are not followed. A body that names another host causes no
// request at all.
//
// A refresh token works once. So one renewal runs for a portal at a time, in this process; it goes on when its callers
// leave; between processes [Store] decides by compare-and-swap, and the winner's tokens are adopted; and a refusal is
// believed only after the store was read again. Where the store fails, the new tokens are served from memory and written
// later, and [Portals.Shutdown] writes what is left. Until then other processes cannot see them.
//
// A portal's address changes only by what the OAuth server says. An access token goes to the stored address and not to one in an
// event, a page or a redirect: a renamed portal is followed once the OAuth server names the new address too.
//
// A hook of [Portals.Lifecycle] runs once for an event, as far as this process remembers. Where a portal's ONAPPUNINSTALL comes
// after its next installation, that one stays.
//
// What proves an installation is a token of the portal, which every user of the application has. This package cannot tell
// its administrator from others: an installation page must be guarded by the portal's own rights.
//
// Everything here is safe for concurrent use. The zero [MemoryStore] is ready; the zero [Portals] is not usable. Nothing
// here prints a secret.
//
// # Errors
//
//	ErrNotFound        the portal is not known
//	ErrReauthorize     its tokens are void; install or authorise again
//	ErrCredentials     client id and secret are refused, or the application is not installed at the OAuth server
//	ErrPayment         a subscription has ended; try again in hours
//	ErrTemporary       the OAuth server is out of order; try again
//	ErrStore           the store is out of order; try again
//	ErrUnverified      an installation, a user or a new address is not confirmed; also an event.ErrForbidden
//	ErrNoUserToken     an event carries no token of its user that works; from Acting
//	ErrRedirect        a redirect with a code was not begun in this session, or is malformed
//	ErrHostNotAllowed  an OAuth server is not on the allow list
//	ErrEndpoint        an address is malformed, or not https
//	ErrConflict        from a Store only
//	ErrShutdown        after Portals.Shutdown
//
// All but ErrConflict come inside an [*Error], which has the OAuth server's code and status, and tells by [Error.Permanent]
// whether waiting is of use. A renewal that was refused for good is not asked for again for a minute.
package oauth
