package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

// For an event that the catalogue does not have, define your own payload type.
func ExampleDefine() {
	type Paid struct {
		OrderID int64   `b24:"ORDER.ID"`
		Sum     float64 `b24:"SUM"`
		Full    bool    `b24:"FULL"`
	}
	onPaid := event.Define[Paid]("onBillingPaid")

	mux := event.NewMux()
	event.On(mux, onPaid, func(_ context.Context, d *event.Delivery, p Paid) error {
		fmt.Println(d.Name, p.OrderID, p.Sum, p.Full)
		return nil
	})

	// A handler of package webhook does this with every request.
	d, err := event.Parse("application/x-www-form-urlencoded",
		[]byte("event=ONBILLINGPAID&data[ORDER][ID]=7&data[SUM]=12.50&data[FULL]=Y&ts=1727018926&auth[member_id]=m1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := mux.HandleEvent(context.Background(), d); err != nil {
		fmt.Println(err)
	}
	// Output: ONBILLINGPAID 7 12.5 true
}

// Unhandled receives every event without a handler, with its raw data.
func ExampleMux_Unhandled() {
	mux := event.NewMux()
	mux.Unhandled(event.HandlerFunc(func(_ context.Context, d *event.Delivery) error {
		fmt.Println(d.Name, d.Data.Get("FIELDS", "ID").Text(), d.Data)
		return nil
	}))
	d, err := event.Parse("application/x-www-form-urlencoded", []byte("event=ONSOMETHINGNEW&data[FIELDS][ID]=7&data[access_token]=s3cret"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := mux.HandleEvent(context.Background(), d); err != nil {
		fmt.Println(err)
	}
	// Output: ONSOMETHINGNEW 7 {"FIELDS":{"ID":"7"},"access_token":"[redacted]"}
}

// The event of one smart process has its ID in the name, which is known only at run time.
func ExampleOnCrmDynamicItemUpdateOf() {
	invoices := event.OnCrmDynamicItemUpdateOf(31)
	fmt.Println(invoices.Name(), invoices.Info().Fetch[0].Name)
	// Output: ONCRMDYNAMICITEMUPDATE_31 crm.item.get
}

// What the mux handles is what an application has to bind.
func ExampleMux_Bindings() {
	nothing := func(context.Context, *event.Delivery, event.CRMEntity) error { return nil }
	mux := event.NewMux()
	event.On(mux, event.OnCrmDealAdd, nothing)
	event.On(mux, event.OnCrmDealUpdate, nothing)
	for _, b := range mux.Bindings("https://example.com/bitrix24") {
		fmt.Println(b)
	}
	// Output:
	// ONCRMDEALADD https://example.com/bitrix24
	// ONCRMDEALUPDATE https://example.com/bitrix24
}

// A deal can be deleted before the handler of its change reads it.
func ExampleFetch() {
	portal, err := eventtest.New()
	if err != nil {
		panic(err)
	}
	defer func() { _ = portal.Close() }()
	api := administrator(portal) // in life: a rest.Client, or rest.Coalescer

	mux := event.NewMux()
	event.On(mux, event.OnCrmDealUpdate, func(ctx context.Context, d *event.Delivery, e event.CRMEntity) error {
		deal, err := event.Fetch[struct{ Title string }](ctx, api, d)
		switch {
		case errors.Is(err, event.ErrGone):
			fmt.Println("deal", e.ID, "is no more")
			return nil // its deletion is an event of its own
		case err != nil:
			return err // tried again
		}
		fmt.Println("deal", e.ID, "is", deal.Title)
		return nil
	})

	id, err := portal.Add(eventtest.Deal, map[string]any{"TITLE": "Boats"}, eventtest.AdminID)
	if err != nil {
		panic(err)
	}
	update := &event.Delivery{Name: event.OnCrmDealUpdate.Name()}
	if update.Data, err = event.NewData(event.CRMEntity{ID: id}); err != nil {
		panic(err)
	}
	fmt.Println(mux.HandleEvent(context.Background(), update))
	if err := portal.Delete(eventtest.Deal, id, eventtest.AdminID); err != nil {
		panic(err)
	}
	fmt.Println(mux.HandleEvent(context.Background(), update))
	// Output:
	// deal 1 is Boats
	// <nil>
	// deal 1 is no more
	// <nil>
}

// administrator returns a caller with the token of a portal's administrator.
func administrator(portal *eventtest.Portal) event.Caller {
	app, err := portal.AddApp(eventtest.App{Scope: []string{"crm"}})
	if err != nil {
		panic(err)
	}
	if err := app.Install(context.Background()); err != nil {
		panic(err)
	}
	grant, err := app.Grant(eventtest.AdminID)
	if err != nil {
		panic(err)
	}
	portals, err := rest.NewClients(granted{grant}, rest.WithInsecureHTTP())
	if err != nil {
		panic(err)
	}
	return portals.Portal(portal.MemberID())
}

// otherClient is what another SDK offers: methods by name, with a map of parameters.
type otherClient interface {
	Call(ctx context.Context, method string, params map[string]any) (result json.RawMessage, err error)
}

// otherError is that SDK's error of a portal.
type otherError struct{ Code, Text string }

func (e *otherError) Error() string { return e.Code + ": " + e.Text }

// adapter makes it an event.Caller.
type adapter struct{ client otherClient }

func (a adapter) Call(ctx context.Context, method string, params, result any) error {
	fields := make(map[string]any)
	switch p := params.(type) {
	case map[string]any:
		fields = p
	case event.Params: // these methods want an order: hand it on if the other SDK can keep one
		for _, arg := range p {
			fields[arg.Name] = arg.Value
		}
	}
	raw, err := a.client.Call(ctx, method, fields)
	if err != nil {
		return adaptedError{err}
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(raw, result)
}

// adaptedError has the methods that this package and package offline look for.
type adaptedError struct{ error }

func (e adaptedError) Unwrap() error { return e.error }

func (e adaptedError) ErrorCode() string {
	var refusal *otherError
	if errors.As(e.error, &refusal) {
		return refusal.Code
	}
	return ""
}

func (e adaptedError) ErrorDescription() string {
	var refusal *otherError
	if errors.As(e.error, &refusal) {
		return refusal.Text
	}
	return ""
}

// NotRun is true only if the call certainly did nothing. When in doubt, it is false.
func (e adaptedError) NotRun() bool {
	return e.ErrorCode() == "QUERY_LIMIT_EXCEEDED" || e.ErrorCode() == "expired_token"
}

// fakeOther is the other SDK of this example.
type fakeOther struct{}

func (fakeOther) Call(_ context.Context, method string, _ map[string]any) (json.RawMessage, error) {
	if method == "events" {
		return json.RawMessage(`["ONCRMDEALADD","ONCRMDEALUPDATE"]`), nil
	}
	return nil, &otherError{"ERROR_METHOD_NOT_FOUND", "Method not found!"}
}

// Any REST client that calls methods by name works behind an adapter of a few lines.
func ExampleCaller() {
	var caller event.Caller = adapter{fakeOther{}}
	var names []string
	if err := caller.Call(context.Background(), "events", nil, &names); err != nil {
		panic(err)
	}
	fmt.Println(len(names), "events")

	err := caller.Call(context.Background(), "no.such.method", nil, nil)
	var refusal event.CallError
	fmt.Println(errors.As(err, &refusal), refusal.ErrorCode())
	// Output:
	// 2 events
	// true ERROR_METHOD_NOT_FOUND
}
