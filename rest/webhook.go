package rest

import (
	"strings"
)

// hook is an incoming webhook. It is kept behind a pointer, so that fmt does not print it.
type hook struct {
	endpoint string
	host     string
	secret   string
}

// NewWebhook returns a client that calls through an incoming webhook. Its URL is a secret, for
// example https://example.bitrix24.com/rest/1/s3cr3t/. The client and its errors never print it. An
// error matches [ErrConfig].
//
// A webhook acts as the user who made it, with the permissions that it was given. It cannot call
// the event methods: the portal returns [ErrWrongAuthType]. If the portal was renamed, calls return
// [ErrMoved] and are not redirected. The client has no member identifier. The URL must be https,
// unless [WithInsecureHTTP] allows its host.
//
// Source: https://apidocs.bitrix24.com/local-integrations/local-webhooks.html
func NewWebhook(webhookURL string, opts ...Option) (*Client, error) {
	p, err := newClients(opts, true)
	if err != nil {
		return nil, err
	}
	p.hook, err = p.newHook(webhookURL)
	if err != nil {
		return nil, err
	}
	return &Client{clients: p}, nil
}

func (cs *Clients) newHook(webhookURL string) (*hook, error) {
	u, err := cs.parseEndpoint(strings.TrimSpace(webhookURL))
	switch {
	case err == nil:
	case strings.HasPrefix(webhookURL, "http://"):
		return nil, misconfigured("NewWebhook: the URL must be https; for development, use WithInsecureHTTP")
	default:
		return nil, errWebhookURL()
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 3 || u.RawPath != "" {
		return nil, errWebhookURL()
	}
	shape := parts[len(parts)-3:]
	if shape[0] == "api" {
		return nil, errWebhook3()
	}
	if shape[0] != "rest" || !consists(shape[1], digits) || !consists(shape[2], digits+letters+"_-") {
		return nil, errWebhookURL()
	}
	return &hook{endpoint: u.String(), host: strings.ToLower(u.Host), secret: shape[2]}, nil
}

// The errors of [NewWebhook] do not hold the URL, which is a secret.

func errWebhookURL() error {
	return misconfigured("NewWebhook: the URL must be that of the portal, such as https://example.bitrix24.com/rest/1/CODE/, " +
		"without a method at its end")
}

func errWebhook3() error {
	return misconfigured("NewWebhook: the URL is one of REST 3.0; leave out api/ from it, and call methods of REST 3.0 by Call3")
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// consists reports whether s is not empty and holds only bytes of set.
func consists(s, set string) bool { return s != "" && strings.IndexFunc(s, notIn(set)) < 0 }

func notIn(set string) func(rune) bool {
	return func(r rune) bool { return !strings.ContainsRune(set, r) }
}

// explain adds a hint to an error if the portal does not say enough.
func (cs *Clients) explain(e *Error) {
	if cs.hook == nil || !e.Is(ErrWrongAuthType) {
		return
	}
	e.Hint = "this method needs an application's token; an incoming webhook cannot call it"
	if strings.HasPrefix(strings.ToLower(e.Method), "event") {
		e.Hint = "event methods need an application's token; an incoming webhook cannot call them"
	}
}
