package rest

import (
	"errors"
	"strings"
)

// hook is an incoming webhook. It stands behind a pointer, where fmt does not print it.
type hook struct {
	endpoint string
	host     string
	secret   string
}

// NewWebhook returns a client that calls through an incoming webhook, whose URL is a secret such as
// https://example.bitrix24.com/rest/1/s3cr3t/. The client never prints it, and neither do its errors.
//
// A webhook acts as the user who made it, with the permissions it was given. It cannot call the event methods: the portal answers
// [ErrWrongAuthType]. Of a renamed portal it says [ErrMoved], and follows nowhere. The client has no member identifier.
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
	return &Client{portals: p}, nil
}

func (p *Clients) newHook(webhookURL string) (*hook, error) {
	u, err := p.base(strings.TrimSpace(webhookURL))
	switch {
	case err == nil:
	case strings.HasPrefix(webhookURL, "http://"):
		return nil, errors.New("rest: NewWebhook: the URL must be https; for development there is WithInsecureHTTP")
	default:
		return nil, errWebhookURL
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 3 || u.RawPath != "" {
		return nil, errWebhookURL
	}
	shape := parts[len(parts)-3:]
	if shape[0] == "api" {
		return nil, errWebhook3
	}
	if shape[0] != "rest" || !consists(shape[1], digits) || !consists(shape[2], digits+letters+"_-") {
		return nil, errWebhookURL
	}
	return &hook{endpoint: u.String(), host: strings.ToLower(u.Host), secret: shape[2]}, nil
}

const (
	errWebhookURL hookError = "rest: NewWebhook: the URL must be that of the portal, such as https://example.bitrix24.com/rest/1/CODE/, " +
		"without a method at its end"
	errWebhook3 hookError = "rest: NewWebhook: the URL is one of REST 3.0; leave out api/ from it, and call methods of REST 3.0 by Call3"
	digits                = "0123456789"
	letters               = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// hookError is an error without the URL in it.
type hookError string

func (e hookError) Error() string { return string(e) }

// consists reports whether s is not empty and holds only bytes of set.
func consists(s, set string) bool { return s != "" && strings.IndexFunc(s, notIn(set)) < 0 }

func notIn(set string) func(rune) bool {
	return func(r rune) bool { return !strings.ContainsRune(set, r) }
}

// explain adds to an error what the portal does not say.
func (p *Clients) explain(e *Error) {
	if p.hook == nil || !e.Is(ErrWrongAuthType) {
		return
	}
	e.Hint = "this method needs an application's token; an incoming webhook cannot call it"
	if strings.HasPrefix(strings.ToLower(e.Method), "event") {
		e.Hint = "event methods need an application's token; an incoming webhook cannot call them"
	}
}
