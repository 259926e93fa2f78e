package webhook_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

func TestOptionsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	var queue *portalsQueue
	stored := webhook.WithQueue(&portalsQueue{})
	for name, opts := range map[string][]webhook.Option{
		"nil logger":                {webhook.WithLogger(nil)},
		"body limit 0":              {webhook.WithMaxBodyBytes(0)},
		"body limit below 0":        {webhook.WithMaxBodyBytes(-1)},
		"body limit of the moon":    {webhook.WithMaxBodyBytes(event.MaxBodyBytes + 1)},
		"nothing in flight":         {webhook.WithMaxInFlightBytes(0)},
		"less than nothing":         {webhook.WithMaxInFlightBytes(-1)},
		"too little in flight":      {webhook.WithMaxInFlightBytes(1<<20 - 1)},
		"less than one body":        {webhook.WithMaxBodyBytes(2 << 20), webhook.WithMaxInFlightBytes(1 << 20)},
		"less than one body, after": {webhook.WithMaxInFlightBytes(1 << 20), webhook.WithMaxBodyBytes(2 << 20)},
		"read timeout 0":            {webhook.WithReadTimeout(0)},
		"verify timeout 0":          {webhook.WithVerifyTimeout(0)},
		"handler timeout 0":         {webhook.WithHandlerTimeout(-time.Second)},
		"enqueue timeout below 0":   {webhook.WithEnqueueTimeout(-1)},
		"queue of 0":                {webhook.WithQueueSize(0)},
		"no workers":                {webhook.WithWorkers(0)},
		"no attempts":               {webhook.WithMaxAttempts(0)},
		"more for one portal":       {webhook.WithPortalWorkers(33)},
		"more for one, before":      {webhook.WithPortalWorkers(3), webhook.WithWorkers(2)},
		"none for one portal":       {webhook.WithPortalWorkers(0)},
		"nil context":               {webhook.WithContext(nil)},
		"coalescing of nothing":     {webhook.WithCoalescing()},
		"coalescing of nil":         {webhook.WithCoalescing(event.OnCrmDealUpdate, nil)},
		"coalescing of a nil one":   {webhook.WithCoalescing((*event.Descriptor[event.CRMEntity])(nil))},
		"coalescing of none":        {webhook.WithCoalescing(event.Descriptor[event.CRMEntity]{})},
		"nil callback":              {webhook.WithOnDropped(nil)},
		"nil queue":                 {webhook.WithQueue(nil)},
		"nil queue pointer":         {webhook.WithQueue(queue)},
		"sync and queue":            {webhook.WithSync(), stored},
		"sync and workers":          {webhook.WithSync(), webhook.WithWorkers(2)},
		"coalescing of messages":    {webhook.WithCoalescing(event.OnImBotV2MessageAdd)},
		"coalescing of sessions":    {webhook.WithCoalescing(event.OnSessionStart)},
		"coalescing of signatures":  {webhook.WithCoalescing(event.OnSignB2eMemberStatusChanged)},
		"coalescing of buttons":     {webhook.WithCoalescing(event.Define[event.Data]("ONCRMTIMELINEITEMACTION"))},
		"coalescing of lifecycle":   {webhook.WithCoalescing(event.OnAppInstall)},
		"coalescing without object": {webhook.WithCoalescing(event.Define[event.Data]("ONEXTERNALCALLBACKSTART"))},
		"coalescing of the unknown": {webhook.WithCoalescing(event.Define[event.CRMEntity]("ONCRMDEALUPDAET"))},
		"coalescing of a template":  {webhook.WithCoalescing(event.Define[event.CRMItem]("ONCRMDYNAMICITEMUPDATE_{TYPEID}"))},
		"coalescing and sync":       {webhook.WithCoalescing(event.OnCrmDealUpdate), webhook.WithSync()},
		"queue and size":            {stored, webhook.WithQueueSize(5)},
		"queue and attempts":        {stored, webhook.WithMaxAttempts(5)},
		"queue with no time":        {stored, webhook.WithEnqueueTimeout(0)},
		"good ones before":          {webhook.WithWorkers(2), nil, webhook.WithQueueSize(-2)},
		"good ones after a bad one": {webhook.WithQueueSize(-2), webhook.WithQueueSize(2)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := webhook.NewHandler(webhook.Tokens(token), nothing(), opts...)
			require.ErrorIs(t, err, webhook.ErrConfig)
			require.Nil(t, h)
		})
	}
}

type portalsQueue struct{ queueFunc }

func TestNilEventHandlers(t *testing.T) {
	t.Parallel()
	var mux *event.Mux
	var rec *recorder
	var f event.HandlerFunc
	for name, h := range map[string]event.Handler{"nil": nil, "mux": mux, "pointer": rec, "function": f} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := webhook.NewHandler(webhook.Tokens(token), h)
			require.ErrorIs(t, err, webhook.ErrConfig)
		})
	}
}

func TestOptionsThatMakeSense(t *testing.T) {
	t.Parallel()
	h := newHandler(t, nothing(), nil,
		webhook.WithLogger(slog.New(slog.DiscardHandler)),
		webhook.WithMaxBodyBytes(event.MaxBodyBytes),
		webhook.WithReadTimeout(time.Second),
		webhook.WithVerifyTimeout(time.Second),
		webhook.WithHandlerTimeout(time.Second),
		webhook.WithEnqueueTimeout(0),
		webhook.WithQueueSize(1),
		webhook.WithWorkers(1),
		webhook.WithMaxAttempts(1),
		webhook.WithPortalWorkers(1),
		webhook.WithContext(func(ctx context.Context, _ *http.Request) context.Context { return ctx }),
		webhook.WithCoalescing(event.OnCrmDynamicItemUpdateOf(147), event.OnCrmDealUpdate),
		webhook.WithCoalescing(event.Define[event.Data](" onCrmLeadUpdate ")),
		webhook.WithOnDropped(func(*event.Delivery, error) {}),
	)
	require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	shutdown(t, h)
}
