package eventtest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/internal/phpform"
)

// Limits of the calls and of the attempts that are kept. The oldest are dropped first.
const (
	maxRecords     = 20_000
	maxRecordBytes = 64 << 20 // size of their texts
)

// Attempt is one attempted delivery.
type Attempt struct {
	ID        int64 // in the order of completion, from 1
	Event     string
	ClientID  string // of the application; empty for outgoing webhooks
	HandlerID int64  // ID of the binding; 0 for outgoing webhooks
	URL       string
	Body      event.Secret // as sent; it holds tokens
	Status    int          // of the response; 0 if there was none
	Duration  time.Duration
	Answer    event.Secret // the first 1,024 bytes of the response body, which may repeat tokens
	Err       error        // why there was no response
	Time      time.Time    // by the portal's clock
	ResendOf  int64        // ID of the attempt that it repeats, see [Portal.Resend]; usually 0
}

// OK reports whether the handler returned a status of 2xx.
func (a Attempt) OK() bool { return a.Err == nil && a.Status >= 200 && a.Status < 300 }

// EmptyCode is how records show the empty error code of the classic CRM methods.
const EmptyCode = "(empty)"

// NoMethod is how records show a path below /rest/ that is not the name of a method. Such a path
// may hold the secret of an incoming webhook.
const NoMethod = "(path)"

// Call is one executed REST method or request to the OAuth server.
type Call struct {
	ID        int64      // in the order of completion, from 1
	Method    string     // in lower case, or NoMethod; "oauth/token" and "oauth/app.info" at the OAuth server
	Params    event.Data // without credentials
	Status    int        // of the HTTP response; 200 for a failed item of a batch
	ErrorCode string     // empty after a success; EmptyCode if the error has an empty code
	ClientID  string     // of the calling application
	UserID    int64
	Batch     bool // an item of a batch
	Time      time.Time
	// Answer is the result or the error as JSON, which may hold tokens. It is kept on request only,
	// see [WithAnswers], and is empty if it is longer than 64 KiB or if a [Fault] broke or replaced
	// it.
	Answer     event.Secret
	AnswerSize int // bytes of the whole answer
}

// Requests counts HTTP requests since the portal was made.
type Requests struct {
	REST       int // to the portal's REST, including failed ones
	OAuth      int // to the OAuth server, about this portal or its applications
	Secrets    int // OAuth requests with a client_secret
	Codes      int // OAuth requests that trade an authorization code
	Refreshes  int // OAuth requests that trade a refresh token
	TokenInfos int // OAuth requests for app.info
	Deliveries int // from the portal to handlers
}

// countOAuth counts a request to the OAuth server, including failed ones.
func (r *Requests) countOAuth(name string, params phpform.Value) {
	get := func(key string) string {
		v, _ := params.Get(key)
		return v.Scalar()
	}
	r.OAuth++
	if get("client_secret") != "" {
		r.Secrets++
	}
	switch {
	case name == callAppInfo:
		r.TokenInfos++
	case get("grant_type") == "authorization_code":
		r.Codes++
	case get("grant_type") == "refresh_token":
		r.Refreshes++
	}
}

// records are the calls and deliveries that tests read back. Portal.mu guards them.
type records struct {
	attempts boundedList[Attempt]
	calls    boundedList[Call]
	oauth    boundedList[Call]
	counts   map[string]int
	requests Requests
}

// boundedList is a list of limited length and size.
type boundedList[T any] struct {
	list  []T
	sizes []int
	bytes int
}

// add adds a record. If the list is full, it drops the oldest tenth.
func (l *boundedList[T]) add(v T, size int) {
	l.list, l.sizes, l.bytes = append(l.list, v), append(l.sizes, size), l.bytes+size
	gone := 0
	for full := l.bytes > maxRecordBytes || len(l.list) > maxRecords; full && gone < len(l.list)-1; gone++ {
		if len(l.list)-gone <= maxRecords-maxRecords/10 && l.bytes <= maxRecordBytes-maxRecordBytes/10 {
			break
		}
		l.bytes -= l.sizes[gone]
	}
	if gone > 0 {
		l.list, l.sizes = slices.Clone(l.list[gone:]), slices.Clone(l.sizes[gone:])
	}
}

// recordAttemptLocked keeps an attempt and counts it.
func (p *Portal) recordAttemptLocked(a Attempt) {
	a.ID = p.nextIDLocked("attempt")
	p.records.requests.Deliveries++
	p.records.attempts.add(a, len(a.Event)+len(a.URL)+len(a.Body)+len(a.Answer))
	p.signalChangeLocked()
}

// recordCallLocked keeps a call and counts it. oauth means a request to the OAuth server.
func (p *Portal) recordCallLocked(c Call, oauth bool) {
	if p.records.counts == nil {
		p.records.counts = map[string]int{}
	}
	if !oauth && strings.Contains(c.Method, "/") {
		c.Method = NoMethod
	}
	if p.records.counts[c.Method] > 0 || len(p.records.counts) < maxRecords { // limited, because callers choose the names
		p.records.counts[c.Method]++
	}
	p.signalChangeLocked()
	c.ID = p.nextIDLocked("call")
	size := len(c.Method) + len(c.Params.JSON()) + len(c.Answer)
	if oauth {
		p.records.oauth.add(c, size)
		return
	}
	p.records.calls.add(c, size)
}

// Deliveries returns the attempts in the order of completion. Only the latest 20,000 are kept, of
// 64 MiB in all.
func (p *Portal) Deliveries() []Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.records.attempts.list)
}

// Calls returns the REST methods that were called, with the items of each batch before the batch
// itself. Only the latest 20,000 are kept, of 64 MiB in all.
func (p *Portal) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.records.calls.list)
}

// OAuthCalls returns the requests to the OAuth server: oauth/token and oauth/app.info. Only the
// latest 20,000 are kept, of 64 MiB in all.
func (p *Portal) OAuthCalls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.records.oauth.list)
}

// CallCount returns how often a method was called, alone and in batches, including failures. The
// names are those of [Call].
func (p *Portal) CallCount(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records.counts[lowerMethod(method)]
}

// CallCounts returns how often each method was called.
func (p *Portal) CallCounts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.records.counts)
}

// Requests returns how many HTTP requests went to and from the portal.
func (p *Portal) Requests() Requests {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.records.requests
}

// ResetRecords drops all calls, attempts and counters, so that a test counts from here.
func (p *Portal) ResetRecords() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = records{}
	p.signalChangeLocked()
}
