package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
	"github.com/b24events/b24events/webhook"
)

// firedAt is a change of a deal of a portal at a time.
func firedAt(portal string, deal int, at int64) string {
	return body("ONCRMDEALUPDATE", fields{
		"auth[member_id]": portal, "data[FIELDS][ID]": strconv.Itoa(deal), "ts": strconv.FormatInt(at, 10),
	})
}

// TestRemoval: if a handler reports that a portal has removed the application, the deliveries that
// wait for that portal are dropped, counted and reported. No others are.
func TestRemoval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const removed = 1727019000
		var log lines
		var dropped drops
		rec := recorder{then: func(ctx context.Context, d *event.Delivery) error {
			switch d.Name {
			case "ONAPPINSTALL":
				return nil
			case "ONAPPUNINSTALL":
				event.ReportRemoval(ctx, d)
				return nil
			}
			<-time.After(time.Second)
			if id := d.Entity().ID; (id == "1" || id == "2") && event.AttemptOf(ctx).Number == 1 {
				return io.EOF // those of portal a run when the removal is reported
			}
			return nil
		}}
		h := newHandler(t, &rec, webhook.WithWorkers(8), dropped.option(),
			webhook.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		for deal := range 50 {
			require.Equal(t, http.StatusOK, post(h, firedAt("a", deal+1, removed-60)))
		}
		for deal := range 10 {
			post(h, firedAt("b", deal+1, removed-60))
		}
		post(h, firedAt("a", 100, removed+60)) // of a later installation
		synctest.Wait()
		post(h, body("ONAPPINSTALL", fields{"auth[member_id]": "a", "ts": strconv.Itoa(removed - 60)}))
		post(h, body("ONAPPUNINSTALL", fields{"auth[member_id]": "a", "ts": strconv.Itoa(removed)}))
		require.NoError(t, h.Idle(t.Context()))

		s := h.Stats()
		require.EqualValues(t, 63, s.Accepted)
		require.EqualValues(t, 46, s.Removed, "44 waited, and 2 of the 6 that ran failed")
		require.EqualValues(t, 2, s.Retried, "those of the other portal")
		require.EqualValues(t, 17, s.Handled, "4 that ran, 1 of later, 10 of the other portal, 2 of the application")
		require.Zero(t, s.Lost)
		balanced(t, s, 0)
		ids, errs := dropped.list()
		require.Len(t, ids, 46)
		failed := 0
		for i, err := range errs {
			require.ErrorIs(t, err, webhook.ErrRemoved)
			if id := ids[i]; id == "1" || id == "2" {
				failed++
				require.ErrorIs(t, err, io.EOF)
			}
		}
		require.Equal(t, 2, failed)
		require.Contains(t, rec.ids(), "100")
		require.Equal(t, 1, strings.Count(log.String(), "dropped=44"), "one line for all that waited")
		require.Equal(t, 2, strings.Count(log.String(), "handler failed, and the portal has removed the application"))
	})
}

// TestRemovalThatIsNotProven drops nothing.
func TestRemovalThatIsNotProven(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rec := recorder{then: func(ctx context.Context, d *event.Delivery) error {
			d = &event.Delivery{Name: "ONAPPUNINSTALL", Time: time.Now(), Auth: event.Auth{MemberID: d.MemberID()}}
			event.ReportRemoval(ctx, d)
			<-time.After(time.Second)
			return nil
		}}
		h := newHandler(t, &rec)
		for deal := range 50 {
			post(h, dealUpdate(deal+1))
		}
		require.NoError(t, h.Idle(t.Context()))
		require.EqualValues(t, 50, h.Stats().Handled)
	})
}
