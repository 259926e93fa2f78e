package event

import (
	"net/url"
	"strings"
)

// ProofKind says how the origin of a delivery was established.
type ProofKind string

// The kinds of a [Proof], and what each one proves. The zero kind proves nothing.
const (
	// ProofInstallation means that the delivery carries an application token that is stored for its
	// portal. It proves the application and the portal. It does not prove which user of the portal
	// sent the delivery, nor that Bitrix24 did: anyone who opens a page of the application can read
	// its application token.
	ProofInstallation ProofKind = "installation"
	// ProofTokens means that the OAuth server confirmed the token pair that the delivery carries.
	// It proves the application, the portal, and that the sender had a user's tokens.
	ProofTokens ProofKind = "tokens"
	// ProofWebhook means that the delivery carries the fixed token of an outgoing webhook. It proves
	// that the sender knows the token, but no application.
	ProofWebhook ProofKind = "webhook"
	// ProofCall means that the delivery is part of the response to an authorized call, such as a
	// record of the offline queue. It proves the application and the portal.
	ProofCall ProofKind = "call"
	// ProofInsecure means that nothing was checked. The portal is the one that the sender names.
	ProofInsecure ProofKind = "insecure"
)

// Proof says how the origin of a delivery was established. The receiver makes it: a
// webhook.Verifier for a posted event, the offline consumer for a record. None of it comes from the
// sender, except the portal of a [ProofInsecure], and that of a [ProofWebhook] whose token is not
// bound to a portal.
type Proof struct {
	By       ProofKind
	ClientID string // the application; empty if no application is proven
	MemberID string // the portal
	// ClientEndpoint and ServerEndpoint are the addresses that are stored for the portal. They are
	// empty if none are.
	ClientEndpoint string
	ServerEndpoint string
}

// SetProof records how the origin of d was established, and replaces what the sender claimed.
// MemberID, ClientEndpoint, ServerEndpoint and Domain of [Delivery.Auth] become those of p, or
// empty. The same addresses in auth blocks inside d.Data, such as data.bot.auth, become those of p
// or are removed, and application tokens there become that of d.Auth, so that no payload names
// another one. Only the code that verified the delivery calls SetProof, after
// [Delivery.Contradicts] and before it passes d on.
func (d *Delivery) SetProof(p Proof) {
	d.Proof = p
	d.Auth.MemberID = p.MemberID
	d.Auth.ClientEndpoint, d.Auth.ServerEndpoint = p.ClientEndpoint, p.ServerEndpoint
	d.Auth.Domain = hostOf(p.ClientEndpoint)
	d.replaceInnerAuth()
}

// hostOf returns the host of an address, with its port, or an empty string. Every delivery needs
// it, and almost all addresses are plain.
func hostOf(address string) string {
	if rest, ok := strings.CutPrefix(address, "https://"); ok && plainAddress(rest) {
		host, _, _ := strings.Cut(rest, "/")
		return host
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// plainAddress reports whether a host and path hold only characters that stand for themselves in a
// URL.
func plainAddress(rest string) bool {
	for _, c := range []byte(rest) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '/' {
			return false
		}
	}
	return true
}

// MemberID returns the proven portal, or an empty string for a delivery without a [Proof], whose
// Auth.MemberID is only the sender's claim. Domains of portals change; the member ID does not.
func (d *Delivery) MemberID() string { return d.Proof.MemberID }

// ClaimedMemberID returns the portal that the sender names, for a verifier that has to look it up.
// It proves nothing. Events of bots of the second version name their portal only inside data.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/index.html
func (d *Delivery) ClaimedMemberID() string {
	if d.Auth.MemberID != "" {
		return d.Auth.MemberID
	}
	return strings.TrimSpace(d.Data.Get("bot", "auth", "member_id").Text())
}

// ProvenFor reports whether d is proven to belong to an application on d.MemberID(). The fixed
// token of an outgoing webhook proves no application. Code that acts on the stored installation of
// a portal checks this first.
func (d *Delivery) ProvenFor(clientID string) bool {
	switch d.Proof.By {
	case ProofInstallation, ProofTokens, ProofCall:
		return clientID != "" && d.Proof.ClientID == clientID && d.Proof.MemberID != ""
	default:
		return false
	}
}
