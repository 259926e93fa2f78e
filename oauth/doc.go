// Package oauth keeps an application's access to Bitrix24 portals: it proves that an installation is real, stores it, hands
// out access tokens, and renews them once for all callers and all replicas.
//
//	portals, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: secret}, store)
//	if err != nil {
//		return err
//	}
//	api, err := rest.NewPortals(portals)          // calls with the stored tokens
//	h, err := webhook.NewHandler(portals, mux)    // verifies every delivery, stores installations
//
//	// the page on which the application is installed
//	page, err := event.ParseRequest(r)
//	installation, err := portals.Install(r.Context(), page.Auth)
//
//	// once an uninstall was verified
//	err = portals.Forget(ctx, d.MemberID())
//
// # Guarantees
//
// An installation is stored only after the OAuth server confirmed it, and what is stored is that server's answer. A forged
// ONAPPINSTALL changes nothing. Every other delivery needs the application token that is stored for its portal. An empty
// token authenticates nothing.
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
// What proves an installation is a token of the portal, which every user of the application has. This package cannot tell
// its administrator from others: an installation page must be guarded by the portal's own rights.
//
// Everything here is safe for concurrent use. The zero [MemoryStore] is ready; the zero [Portals] is not usable. Nothing
// here prints a secret.
//
// # Errors
//
//	[ErrNotFound]         the portal is not known
//	[ErrReauthorize]      its tokens are void; install or authorise again
//	[ErrCredentials]      client id and secret are refused, or the application is not installed at the OAuth server
//	[ErrPayment]          a subscription has ended; try again in hours
//	[ErrTemporary]        the OAuth server is out of order; try again
//	[ErrStore]            the store is out of order; try again
//	[ErrUnverified]       an installation is not confirmed; also an event.ErrForbidden
//	[ErrHostNotAllowed]   an OAuth server is not on the allow list
//	[ErrEndpoint]         an address is malformed, or not https
//	[ErrConflict]         from a [Store] only
//	[ErrShutdown]         after [Portals.Shutdown]
//
// All but the first and the last two come inside an [*Error], which has the OAuth server's code and status. A renewal that
// was refused for good is not asked for again for a minute.
package oauth
