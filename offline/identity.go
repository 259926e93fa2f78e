package offline

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"github.com/b24events/b24events/event"
)

// identity names a queue: of an application, on a portal, for a connector. It is part of the names
// of leases and folders, so that two queues never share one.
type identity struct {
	clientID  string
	memberID  string
	connector string
}

// clientID returns the ID of the application that c calls for. It is empty if c has no method
// ClientID() string. The clients of package rest have one.
func clientID(c event.Caller) string {
	if app, ok := c.(interface{ ClientID() string }); ok {
		return app.ClientID()
	}
	return ""
}

// memberID returns the portal that c calls. It is empty if c has no method MemberID() string.
func memberID(c event.Caller) string {
	if portal, ok := c.(interface{ MemberID() string }); ok {
		return portal.MemberID()
	}
	return ""
}

// identify returns the application and the portal that c calls for. Options may name them, too.
// They must not contradict c, because what they name becomes the proof of deliveries.
func identify(c event.Caller, wantClientID, wantMemberID string) (app, portal string, err error) {
	app, portal = clientID(c), memberID(c)
	switch {
	case app != "" && wantClientID != "" && app != wantClientID:
		return "", "", fmt.Errorf("%w: it calls for the application %q and not for %q", ErrIdentity, app, wantClientID)
	case portal != "" && wantMemberID != "" && portal != wantMemberID:
		return "", "", fmt.Errorf("%w: it calls the portal %q and not %q", ErrIdentity, portal, wantMemberID)
	}
	return cmp.Or(wantClientID, app), cmp.Or(wantMemberID, portal), nil
}

// leaseName returns the name of a consumer's lease.
func (id identity) leaseName() string {
	return "offline/consumer/" + url.PathEscape(id.clientID) + "/" + url.PathEscape(id.memberID) + "/" + url.PathEscape(id.connector)
}

// fleetPrefix returns the prefix of the names of a fleet's leases.
func (id identity) fleetPrefix() string {
	return "offline/fleet/" + url.PathEscape(id.clientID) + "/" + url.PathEscape(id.connector) + "/"
}

// folder returns the name of the queue's folder in a spool. It has an underscore, which the names
// of the first format (see oldFolder) never have.
func (id identity) folder() string {
	name := safeName(id.clientID) + "_" + safeName(id.memberID)
	if id.connector != "" {
		name += "_" + digest(id.connector)
	}
	return name
}

// oldFolder returns the name that the first format of the spool had for the queue of any
// application.
func (id identity) oldFolder() string {
	name := id.memberID
	if len(name) > maxSafeName || strings.ContainsFunc(name, func(c rune) bool { return !lowerOrDigit(c) }) {
		name = "x" + digest(name)
	}
	if id.connector != "" {
		name += "-" + digest(id.connector)
	}
	return name
}

// maxSafeName keeps folder names short enough for every file system.
const maxSafeName = 64

// safeName returns id if it is a harmless part of a file name, as the IDs of Bitrix24 are, and
// otherwise a name that no harmless ID has.
func safeName(id string) string {
	harmless := id != "" && len(id) <= maxSafeName && id[0] != '.' &&
		!strings.ContainsFunc(id, func(c rune) bool { return !lowerOrDigit(c) && c != '.' })
	if harmless {
		return id
	}
	return "x-" + digest(id)
}

func lowerOrDigit(c rune) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:16])
}
