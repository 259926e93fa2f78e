package oauthtest

import (
	"errors"
	"sync"

	"github.com/b24events/b24events/oauth"
)

const (
	racers = 16
	races  = 5
)

// race runs compete in many goroutines at once, each with a number. It returns the numbers of those
// that won. Those that lose get ErrConflict.
func (k kit) race(compete func(n int64) error) []int64 {
	k.Helper()
	var (
		mu      sync.Mutex
		winners []int64
		wg      sync.WaitGroup
		start   = make(chan struct{})
	)
	for n := range int64(racers) {
		wg.Go(func() {
			<-start
			err := compete(n)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				winners = append(winners, n)
			} else if !errors.Is(err, oauth.ErrConflict) {
				k.Errorf("a loser: want ErrConflict, got %v", err)
			}
		})
	}
	close(start)
	wg.Wait()
	return winners
}

// oneWinner lets many goroutines replace the version old at once. It checks that one wins, and that
// its installation is stored.
func (k kit) oneWinner(stores []oauth.Store, old oauth.Version) oauth.Version {
	k.Helper()
	var versions [racers]oauth.Version
	var entries [racers]oauth.Installation
	for n := range entries {
		entries[n] = installation(k.T, int64(n))
	}
	winners := k.race(func(n int64) (err error) {
		versions[n], err = stores[n%int64(len(stores))].Swap(k.Context(), portal, old, entries[n])
		return err
	})
	if len(winners) != 1 {
		k.Fatalf("%d of %d replaced one version, want 1", len(winners), racers)
	}
	n := winners[0]
	k.holds(portal, versions[n], entries[n])
	return versions[n]
}

func testCreateRace(k kit) {
	for range races {
		k.remove(portal, k.oneWinner([]oauth.Store{k.Store}, ""))
	}
}

func testReplaceRace(k kit) {
	version := k.create(portal, installation(k.T, 0))
	for range races {
		version = k.oneWinner([]oauth.Store{k.Store}, version)
	}
}

// testDeleteRace lets half of the goroutines delete what the others replace. A Delete of what is
// already deleted does not count as a win.
func testDeleteRace(k kit) {
	for range races {
		old := k.create(portal, installation(k.T, 0))
		in := installation(k.T, 1)
		winners := k.race(func(n int64) error {
			if n%2 == 0 {
				return k.Delete(k.Context(), portal, old)
			}
			_, err := k.Swap(k.Context(), portal, old, in)
			return err
		})
		found, version, err := k.Load(k.Context(), portal)
		replaced := 0
		for _, n := range winners {
			replaced += int(n % 2)
		}
		switch {
		case errors.Is(err, oauth.ErrNotFound):
			if replaced > 0 {
				k.Fatal("an installation was both replaced and deleted by its old version")
			}
		case err != nil:
			k.Fatalf("Load: unexpected error: %v", err)
		case replaced != 1 || len(winners) != 1:
			k.Fatalf("it was replaced %d times and deleted %d times by one version", replaced, len(winners)-replaced)
		default:
			if d := difference(in, found); d != "" {
				k.Errorf("Load returned another %s than was stored", d)
			}
			k.remove(portal, version)
		}
	}
}

func testLostUpdates(k kit) { k.count([]oauth.Store{k.Store}) }

// count lets many goroutines increment a counter in one installation, like renewals by many
// processes.
func (k kit) count(stores []oauth.Store) {
	k.Helper()
	const each = 5
	in := installation(k.T, 1)
	in.UserID = 0
	k.create(portal, in)
	var wg sync.WaitGroup
	for n := range racers {
		wg.Go(func() {
			store := stores[n%len(stores)]
			for done := 0; done < each; {
				found, version, err := store.Load(k.Context(), portal)
				if err == nil {
					found.UserID++
					_, err = store.Swap(k.Context(), portal, version, found)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, oauth.ErrConflict):
					k.Errorf("unexpected error: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	found, _, err := k.Load(k.Context(), portal)
	if err != nil {
		k.Fatalf("Load: unexpected error: %v", err)
	}
	if found.UserID != racers*each {
		k.Errorf("%d updates reported success, but %d are stored", racers*each, found.UserID)
	}
}
