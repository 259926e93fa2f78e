package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// An outgoing webhook: "when a deal changes, do something".
func Example() {
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(_ context.Context, d *event.Delivery, deal event.CRMEntity) error {
		_, err := fmt.Fprintf(os.Stdout, "deal %d of %s changed\n", deal.ID, d.MemberID())
		return err
	})

	const applicationToken = "0123456789abcdef0123456789abcdef" // os.Getenv("B24_TOKEN") in a program
	h, err := webhook.NewHandler(webhook.Tokens(applicationToken), mux)
	if err != nil {
		panic(err)
	}
	router := http.NewServeMux()
	router.Handle("/bitrix24", h)

	// What the portal does:
	w := httptest.NewRecorder()
	router.ServeHTTP(w, request(body("ONCRMDEALUPDATE", fields{"data[FIELDS][ID]": "42"})))
	if err := h.Shutdown(context.Background()); err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, "answered", w.Code)
	// Output:
	// deal 42 of a223c6b3710f85df22e9377d6c4f7553 changed
	// answered 200
}

// The server stops first, so that nothing new arrives; then the Handler finishes what it accepted.
func ExampleHandler_Shutdown() {
	slow := event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		_, err := fmt.Fprintln(os.Stdout, "processed", d.Name)
		return err
	})
	h, err := webhook.NewHandler(webhook.Tokens(token), slow, webhook.WithOnDropped(func(d *event.Delivery, err error) {
		_, _ = fmt.Fprintln(os.Stdout, "lost", d.Name, err) // keep it for a replay
	}))
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(h) // an http.Server in a program
	answered := send(server.URL, dealUpdate(1))

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = errors.Join(server.Config.Shutdown(ctx), h.Shutdown(ctx))
	_, _ = fmt.Fprintln(os.Stdout, "answered", answered, "and stopped:", err)
	// Output:
	// processed ONCRMDEALUPDATE
	// answered 200 and stopped: <nil>
}

// A thousand changes of one deal cost a few calls of the handler.
func ExampleWithCoalescing() {
	started, release := make(chan struct{}, 1000), make(chan struct{})
	h, err := webhook.NewHandler(webhook.Tokens(token), event.HandlerFunc(func(context.Context, *event.Delivery) error {
		started <- struct{}{}
		<-release
		return nil
	}), webhook.WithCoalescing(event.OnCrmDealUpdate))
	if err != nil {
		panic(err)
	}
	post(h, dealUpdate(42))
	<-started
	for range 999 {
		post(h, dealUpdate(42))
	}
	close(release)
	if err := h.Shutdown(context.Background()); err != nil {
		panic(err)
	}
	s := h.Stats()
	_, _ = fmt.Fprintln(os.Stdout, s.Accepted, "accepted,", s.Handled, "handled")
	// Output: 1000 accepted, 2 handled
}

// A path parameter of the router reaches the handler. It is copied while the request lasts.
func ExampleWithContext() {
	type tenant struct{}
	h, err := webhook.NewHandler(webhook.Tokens(token), event.HandlerFunc(func(ctx context.Context, d *event.Delivery) error {
		_, err := fmt.Fprintln(os.Stdout, ctx.Value(tenant{}), "got", d.Name)
		return err
	}), webhook.WithContext(func(ctx context.Context, r *http.Request) context.Context {
		return context.WithValue(ctx, tenant{}, r.PathValue("tenant"))
	}))
	if err != nil {
		panic(err)
	}
	router := http.NewServeMux()
	router.Handle("/bitrix24/{tenant}", h)
	server := httptest.NewServer(router)
	defer server.Close()
	send(server.URL+"/bitrix24/acme", dealUpdate(1))
	if err := h.Shutdown(context.Background()); err != nil {
		panic(err)
	}
	// Output: acme got ONCRMDEALUPDATE
}

// A test posts an event, waits until it was handled, and looks at what the handler did.
func ExampleHandler_Idle() {
	var deals []string
	h, err := webhook.NewHandler(webhook.Tokens(token), event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		deals = append(deals, d.Entity().ID)
		return nil
	}))
	if err != nil {
		panic(err)
	}
	post(h, dealUpdate(42))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // t.Context() in a test
	defer cancel()
	if err := h.Idle(ctx); err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, deals)
	// Output: [42]
}

// installations keeps application tokens in a table of the program's own.
type installations map[string]event.Secret

func (t installations) ApplicationTokens(_ context.Context, memberID string) ([]event.Secret, error) {
	if token, ok := t[memberID]; ok {
		return []event.Secret{token}, nil
	}
	return nil, nil
}

func ExampleInstallations() {
	table := installations{"portal-a": "token-a", "portal-b": "token-b"}
	v := webhook.Installations("local.5f6e7d8c9b0a1.23456789", table)
	from := func(member string, token event.Secret) {
		d := &event.Delivery{Auth: event.Auth{MemberID: member, ApplicationToken: token}}
		proof, err := v.Verify(context.Background(), d)
		_, _ = fmt.Fprintf(os.Stdout, "%q %q %v\n", proof.By, proof.MemberID, err)
	}
	from("portal-a", "token-a")
	from("portal-a", "token-b")
	from("portal-c", "token-c")
	// Output:
	// "installation" "portal-a" <nil>
	// "" "" event: delivery not authenticated
	// "" "" event: delivery not authenticated: unknown portal
}

func ExampleTokens() {
	_, err := webhook.NewHandler(webhook.Tokens(os.Getenv("B24_TOKEN_THAT_NOBODY_SET")), event.NewMux())
	_, _ = fmt.Fprintln(os.Stdout, errors.Is(err, webhook.ErrConfig))
	// Output: true
}

// Outgoing webhooks of two portals, and an application. Each token speaks for its own portal.
func ExampleTokensOf() {
	const shop, office = "a223c6b3710f85df22e9377d6c4f7553", "b8f3a9d0c1e24f6a9b7c5d3e1f2a4b6c"
	v := webhook.Any(
		webhook.TokensOf(shop, "0123456789abcdef0123456789abcdef"),
		webhook.TokensOf(office, "fedcba9876543210fedcba9876543210"),
		webhook.Installations("local.5f6e7d8c9b0a1.23456789", installations{office: "9f86d081884c7d659a2feaa0c55ad015"}),
	)
	from := func(member string, token event.Secret) {
		d := &event.Delivery{Name: "ONCRMDEALUPDATE", Auth: event.Auth{MemberID: member, ApplicationToken: token}}
		proof, err := v.Verify(context.Background(), d)
		_, _ = fmt.Fprintf(os.Stdout, "%q %v\n", proof.By, errors.Is(err, event.ErrForbidden))
	}
	from(shop, "0123456789abcdef0123456789abcdef")
	from(office, "fedcba9876543210fedcba9876543210")
	from(office, "9f86d081884c7d659a2feaa0c55ad015")
	from(office, "0123456789abcdef0123456789abcdef") // the token of the other portal
	// Output:
	// "webhook" false
	// "webhook" false
	// "installation" false
	// "" true
}

// Only the platform's queue servers reach the handler, through a reverse proxy on the same machine.
func ExampleSourceFilter() {
	ctx, stop := context.WithCancel(context.Background()) // signal.NotifyContext in a program
	defer stop()
	h, err := webhook.NewHandler(webhook.Tokens(os.Getenv("B24_TOKEN")), event.NewMux())
	if err != nil {
		panic(err)
	}
	filter, err := webhook.NewSourceFilter(webhook.WithTrustedProxies("X-Forwarded-For", "127.0.0.1", "::1"))
	if err != nil {
		panic(err)
	}
	go func() { _ = filter.Run(ctx) }() // keeps the list fresh until ctx ends
	http.Handle("POST /bitrix24", filter.Wrap(h))
}
