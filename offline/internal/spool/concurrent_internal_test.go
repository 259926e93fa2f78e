package spool

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Handlers conclude rows while other rows are appended, replayed and flushed.
func TestMarksDuringOtherCalls(t *testing.T) {
	t.Parallel()
	const batches, size = 30, 7
	dir := t.TempDir()
	j := openJournal(t, dir)
	left := make(chan Offset, batches*size)
	var handlers, others sync.WaitGroup
	stop := make(chan struct{})
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = j.Flush(t.Context())
			_ = j.Counts()
			_, _ = j.Failing()
			rows, _ := j.Replay(t.Context(), 3)
			for _, r := range rows {
				j.Ack(r.Offset)
			}
		}
	})
	for i := range batches {
		if err := j.Acquire(t.Context()); err != nil {
			t.Error(err)
		}
		offsets, err := j.Append(t.Context(), testRows(1, 2, 3, 4, 5, 6, 7), i%2 == 0)
		if err != nil {
			t.Error(err)
		}
		j.Release()
		handlers.Go(func() {
			for _, at := range offsets {
				switch at.row {
				case 0:
					j.Park(at)
				case 1:
					j.Nack(at)
				case 2:
					left <- at
				default:
					j.Ack(at)
				}
			}
		})
	}
	handlers.Wait()
	close(stop)
	others.Wait()
	for _, r := range replay(t, j) {
		j.Ack(r.Offset)
	}
	require.Equal(t, Counts{Pending: batches, Parked: batches}, j.Counts())
	flush(t, j)
	closeJournal(t, j)

	j = openJournal(t, dir)
	require.Equal(t, Counts{Pending: batches, Ready: batches, Parked: batches}, j.Counts())
	for _, n := range numbers(t, replay(t, j)) {
		require.Equal(t, 3, n)
	}
	for _, n := range numbers(t, parkedRows(t, j)) {
		require.Equal(t, 1, n)
	}
}

// Marks do not wait for a disk that is slow.
func TestMarksDoNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := false
	j := openWrapped(t, t.TempDir(), faultyOpener(func(op, _ string) error {
		if slow && op == "write" {
			slow = false
			close(entered)
			<-leave
		}
		return nil
	}))
	first := appendRows(t, j, 1, 2)
	slow = true
	var appending sync.WaitGroup
	appending.Go(func() {
		if _, err := j.Append(t.Context(), testRows(3), false); err != nil {
			t.Error(err)
		}
	})
	<-entered
	j.Ack(first[0])
	j.Park(first[1])
	require.Equal(t, Counts{Pending: 1, Parked: 1, Unsaved: 1}, j.Counts())
	since, _ := j.Failing()
	require.Zero(t, since)
	close(leave)
	appending.Wait()
	require.Equal(t, Counts{Pending: 1, Parked: 1}, j.Counts())
}
