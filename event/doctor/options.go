package doctor

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/oauth"
)

// Error is a sentinel of this package; compare with errors.Is.
type Error string

// ErrConfig means that an argument or an option makes no sense. The text of the error says which.
const ErrConfig Error = "doctor: invalid configuration"

// Error returns the text of the sentinel.
func (e Error) Error() string { return string(e) }

func misconfigured(what string) error { return fmt.Errorf("%w: %s", ErrConfig, what) }

const (
	// DefaultTimeout is how long one request may take; see [WithTimeout].
	DefaultTimeout = 15 * time.Second
	// DefaultWait is how long the test event may take; see [WithRoundTrip].
	DefaultWait = 20 * time.Second
)

// Option adds something to an examination. An error matches [ErrConfig].
type Option func(*config) error

type config struct {
	portals   *oauth.Portals
	memberID  string
	appTokens []event.Secret
	timeout   time.Duration
	roundTrip bool
	arrivals  <-chan *event.Delivery
	wait      time.Duration
	probe     *http.Client
	received  *Received
}

// WithPortals also checks the stored installation of a portal, and asks the OAuth server about the
// client ID, the secret and the stored token.
func WithPortals(p *oauth.Portals, memberID string) Option {
	return func(c *config) error {
		if p == nil || memberID == "" {
			return misconfigured("WithPortals needs portals and a member ID")
		}
		c.portals, c.memberID = p, memberID
		return nil
	}
}

// WithApplicationTokens names application tokens that the handler accepts, besides those of the
// installation of [WithPortals]. The test event must carry one of them.
func WithApplicationTokens(tokens ...event.Secret) Option {
	return func(c *config) error {
		if slices.Contains(tokens, "") {
			return misconfigured("an application token is empty")
		}
		c.appTokens = append(c.appTokens, tokens...)
		return nil
	}
}

// WithRoundTrip requests a test event (event.test) and waits for its arrival. It uses the first
// wanted handler URL. If ONAPPTEST is not bound to it, the examination binds it, and unbinds it in
// the end. It does so also after its context has ended, and takes no longer for each of the two
// than the timeout of [WithTimeout].
//
// The handler sends what it receives to arrivals. It may send every delivery, verified or not; the
// examination finds its own by a random marker, and reads the channel only while it waits for that.
// At other times a sender must not block for ever. If arrivals is nil, the test event is only
// requested, and the handler's log shows whether it arrived. wait is how long it may take; 0 means
// [DefaultWait].
func WithRoundTrip(arrivals <-chan *event.Delivery, wait time.Duration) Option {
	return func(c *config) error {
		if wait < 0 {
			return misconfigured("the wait for the test event is negative")
		}
		c.roundTrip, c.arrivals, c.wait = true, arrivals, wait
		if wait == 0 {
			c.wait = DefaultWait
		}
		return nil
	}
}

// WithProbe sends a HEAD request and an empty POST request to each wanted handler URL from this
// machine, to see its status, its certificate, redirects and the time. A handler rejects the empty
// POST, because it holds no event. A nil client means one of this package's own. Redirects are not
// followed.
func WithProbe(client *http.Client) Option {
	return func(c *config) error {
		own := http.Client{}
		if client != nil {
			own = *client
		}
		own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		own.Jar = nil
		c.probe = &own
		return nil
	}
}

// WithTimeout sets how long one request may take. The default is [DefaultTimeout].
func WithTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return misconfigured("the timeout is not positive")
		}
		c.timeout = d
		return nil
	}
}

// Received is what the handler has seen so far. The numbers are those of webhook.Stats.
type Received struct {
	Since    time.Time         // when the counting began; zero if unknown
	Accepted uint64            // verified deliveries
	Dropped  uint64            // lost, for example because the queue was full
	Rejected map[string]uint64 // by reason
	Ack      time.Duration     // a high quantile of the time until the response; 0 if unknown
	Last     []Arrival         // some deliveries, in any order
}

// Arrival is one delivery that a handler has seen.
type Arrival struct {
	Event string
	Fired time.Time // Time of the delivery, by the portal's clock
	At    time.Time // when it arrived, by the clock of this machine
}

// WithReceived adds what the handler has seen, to find rejected, lost and late deliveries.
func WithReceived(r Received) Option {
	return func(c *config) error {
		c.received = &r
		return nil
	}
}
