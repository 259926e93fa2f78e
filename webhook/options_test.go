package webhook_test

import (
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
		"empty name":                {webhook.WithCoalescing("ONCRMDEALUPDATE", " ")},
		"nil callback":              {webhook.WithOnDropped(nil)},
		"nil queue":                 {webhook.WithQueue(nil)},
		"nil queue pointer":         {webhook.WithQueue(queue)},
		"sync and queue":            {webhook.WithSync(), stored},
		"sync and workers":          {webhook.WithSync(), webhook.WithWorkers(2)},
		"coalescing of messages":    {webhook.WithCoalescing("ONIMBOTV2MESSAGEADD")},
		"coalescing of sessions":    {webhook.WithCoalescing("ONSESSIONSTART")},
		"coalescing of signatures":  {webhook.WithCoalescing("ONSIGNB2EMEMBERSTATUSCHANGED")},
		"coalescing of buttons":     {webhook.WithCoalescing("ONCRMTIMELINEITEMACTION")},
		"coalescing of lifecycle":   {webhook.WithCoalescing("ONAPPINSTALL")},
		"coalescing without object": {webhook.WithCoalescing("ONEXTERNALCALLBACKSTART")},
		"coalescing of the unknown": {webhook.WithCoalescing("ONCRMDEALUPDAET")},
		"coalescing of a template":  {webhook.WithCoalescing("ONCRMDYNAMICITEMUPDATE_{TYPEID}")},
		"coalescing and sync":       {webhook.WithCoalescing("ONCRMDEALUPDATE"), webhook.WithSync()},
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
		webhook.WithCoalescing(),
		webhook.WithCoalescing("oncrmdynamicitemupdate_147"),
		webhook.WithOnDropped(func(*event.Delivery, error) {}),
	)
	require.Equal(t, http.StatusOK, post(h, dealUpdate(1)))
	shutdown(t, h)
}
