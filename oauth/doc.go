// Package oauth keeps an application's access to Bitrix24 portals. It proves that an installation
// is real, stores it, hands out access tokens, and renews them once for all callers and all
// replicas.
//
//	portals, err := oauth.NewPortals(oauth.Config{ClientID: id, ClientSecret: secret}, store)
//	if err != nil {
//		return err
//	}
//	portals.Lifecycle(mux, oauth.Hooks{Installed: bindEvents, Uninstalled: deleteData, Removed: closeAccount})
//	api, err := rest.NewClients(portals)          // calls with the stored tokens
//	h, err := webhook.NewHandler(portals, mux)    // verifies every delivery, stores installations
//	…
//	err = portals.KeepAlive(ctx)                  // in a goroutine, for portals where nothing happens for months
//	…
//	err = portals.Shutdown(ctx)                   // after everything that uses it
//
// # Ways to get tokens
//
//	an install event     Portals.Verify confirms and stores it; webhook.Handler calls that
//	the install page     PageHandler with Portals.Install and Portals.FinishInstall
//	authorization code   States.Authorize, then RedirectHandler with Portals.Exchange
//	a system user        ONAPPUSERREADY, which Portals.Verify confirms and stores as that user's tokens
//	configuration        Portals.Seed
//
// They may come in any order and more than once. A later one keeps what it does not replace.
//
// # What proves what
//
//	proof                        shows                                      does not show
//	application token            the application and the portal             who sent it: everybody who opens a page of the application
//	                                                                        can read this token, so it removes and replaces nothing
//	token pair, confirmed at     the application, the portal and a user     that the user is an administrator
//	the OAuth server
//	user.admin at the portal,    that the user manages applications         anything about the application token that was sent with it
//	with a confirmed token
//	a refusal for good, by the   that the application was removed           who removed it, or whether to delete its data
//	portal or the OAuth server
//	sealed state                 that this browser began the authorization  anything about the user's rights
//	                             at this very portal
//	configuration (Seed)         nothing; it is taken as it is
//
// Therefore only a pair that the OAuth server confirmed, and whose user is an administrator,
// creates or replaces an installation; see [WithInstallPolicy]. A removal has an effect only after
// the stored tokens were refused. See [event.ProofKind] for the proof that a handler gets.
//
// # Whose token
//
// A [Portals] gives rest.NewClients the application's own token, which is that of whoever installed
// it. [Portals.Acting] gives the token of the user who caused an event, for an hour after the
// event. For events without a user, [Portals.ActingOrApp] gives the application's token.
// [Portals.User] gives the token of a user that [Portals.KeepUser] or [Portals.ExchangeUser]
// stored.
//
// # Pages
//
// [PageHandler] verifies the POST with which a portal opens a page of the application in a frame.
// [Portals.Sessions] protects the requests that the page sends afterwards. [Portals.FinishInstall]
// serves the last page of an installation. [WithScriptURL] sets another address of the platform's
// script.
//
// # At the start
//
// [ReconcileAll] gives all stored portals the bindings that the program wants, notices those that
// removed the application while the program was down, and refuses a wrong handler URL.
//
// # Guarantees
//
// Everything that is stored comes from responses of the OAuth server, except by [Portals.Seed]. No
// user without administrator rights changes an installation. Every delivery but an installation
// needs an application token that is stored for its portal; an empty one authenticates nothing. The
// token before the current one is accepted for an hour after a rotation; see [WithRotationWindow].
//
// Two applications never share a key: the client ID is part of every [Key], so they may share a
// [Store].
//
// The client secret goes only to hosts on the allow list: oauth.bitrix.info, oauth.bitrix24.tech
// and those of [WithHosts], over https, in the body of a POST. Redirects are not followed. A body
// that names another host causes no request at all. If unknown senders post installations, the
// secret is sent for them at most a few times a second, and genuine installations do not wait.
//
// A refresh token works once. One renewal runs for a portal at a time in this process, and goes on
// after its callers leave. Between processes the Store decides by compare-and-swap, and the others
// adopt the winner's tokens. A refusal is final only after the refused token has stayed in the
// store for three minutes. No stored refresh token, no code and no page is used up while a store
// that is a [Preparer] cannot write. If the store fails later, the new tokens are used, and
// renewed, from memory, and written as soon as the store works again; [Portals.Shutdown] writes or
// returns the rest. A token request that has begun goes on until the server responds or the HTTP
// client gives up, because the token may be used up already.
//
// Only the OAuth server can change a portal's address. An access token goes to the stored address,
// never to one in an event, a page or a redirect.
//
// A hook of [Portals.Lifecycle] runs once for an event, or for an installation that comes as page
// and as event, as far as this process remembers.
//
// Everything here is safe for concurrent use. The zero [MemoryStore] is ready; the zero [Portals]
// is not usable. Nothing here prints a secret.
//
// # Errors
//
//	ErrConfig          a constructor or an option got a value that it cannot use
//	ErrNotFound        the portal is not known
//	ErrReauthorize     its tokens are void; install or authorize again
//	ErrCredentials     the OAuth server refuses client ID and secret, or the application is not installed there
//	ErrPayment         a subscription has ended; try again in hours
//	ErrTemporary       the OAuth server or the portal does not respond as it should; try again
//	ErrBusy            too many unproven claims are being checked; try again
//	ErrStore           the store is unavailable; try again
//	ErrUnverified      an installation, a user or a new address is not confirmed; also an event.ErrForbidden
//	ErrNoUserToken     an event carries no token of its user; from UserCredentials
//	ErrUserTokenExpired
//	                   the token that an event carries has ended; from UserCredentials
//	ErrRedirect        a redirect with a code was not begun in this session, is another portal's, or is malformed
//	ErrHook            an installation page is stored, and Hooks.Installed failed; open the page again
//	ErrNoSession, ErrSession, ErrSessionExpired, ErrCrossOrigin
//	                   from Sessions: a request has no session, an invalid one, or is another site's
//	ErrHostNotAllowed  an OAuth server is not on the allow list
//	ErrEndpoint        an address is malformed, or not https
//	ErrUnreadable      a stored installation is damaged, foreign or of another version
//	ErrEncryptionKey   a stored installation is encrypted under a key that is not given
//	ErrConflict        from a Store only
//	ErrShutdown        after Portals.Shutdown
//
// All but ErrConflict come inside an [*Error], which has the server's code and status.
// [Error.Permanent] reports whether waiting is useless. After a failed renewal the OAuth server is
// not asked for that portal again for a second, then two, up to a minute.
package oauth
