package eventtest

import (
	"cmp"
	"context"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"
)

// Storm describes a large number of deliveries as they arrive on a bad day: some twice, and some
// late, after newer ones. It has no state: the same description always makes the same requests,
// byte for byte. The zero value is a hundred changes of a hundred deals.
//
//	report, err := eventtest.Storm{Changes: 10_000, Objects: 500, Duplicates: 0.1, Reorder: 50}.Serve(ctx, handler)
type Storm struct {
	Seed   uint64  // different seeds make different storms
	Events []Event // drawn with equal probability; the default is ONCRMDEALUPDATE

	Objects    int     // number of objects that are changed, with the IDs from 1; the default is 100
	Changes    int     // number of changes, the first ones of each object once; the default is Objects
	Duplicates float64 // share of the changes that are delivered twice, from 0 to 1
	Reorder    int     // about how many deliveries may overtake one; 0 keeps the order, with duplicates in pairs

	// Start is the time of the first change. Each further change is a second later. The default is the
	// start of 2026.
	Start time.Time
	// Payload returns the data of an event about an object. The default knows the data of CRM objects,
	// tasks and calendar entries.
	Payload func(e Event, id int64) any
	Options []RequestOption // for each request: WithToken, WithURL and so on; WithTime has no effect
	Workers int             // number of requests at the same time; the default is 1
}

// maxStorm limits the changes of a storm, which are drawn before the first one is sent.
const maxStorm = 10_000_000

// Burst is one delivery of a [Storm].
type Burst struct {
	Event string
	ID    int64     // of the object
	Time  time.Time // of the change
	Again bool      // whether this is the second delivery of the change
}

// StormReport describes what a [Storm] sends.
type StormReport struct {
	Sent       int // deliveries
	Changes    int // deliveries that are not duplicates
	Duplicates int
	Overtaken  int             // deliveries that arrive after a later change of the same object
	Last       map[int64]Burst // the latest change of each object, by its time
	Answers    map[int]int     // how often each status was returned, 0 for no response; empty before the storm
}

// plan draws the deliveries in the order of their arrival. Its errors match ErrConfig.
func (s Storm) plan() ([]Burst, error) {
	s.Objects = cmp.Or(s.Objects, 100)
	s.Changes = cmp.Or(s.Changes, s.Objects)
	switch {
	case s.Objects < 0 || s.Changes < 0 || s.Reorder < 0 || s.Workers < 0:
		return nil, misconfigured("a number of the storm is negative")
	case s.Changes > maxStorm:
		return nil, misconfigured("a storm has at most %d changes; use several storms with different seeds", maxStorm)
	case !(s.Duplicates >= 0 && s.Duplicates <= 1):
		return nil, misconfigured("Storm.Duplicates must be a share from 0 to 1")
	}
	if len(s.Events) == 0 {
		s.Events = []Event{Name("ONCRMDEALUPDATE")}
	}
	for _, e := range s.Events {
		if e == nil || e.Name() == "" {
			return nil, misconfigured("a storm needs the names of its events")
		}
	}
	if s.Start.IsZero() {
		s.Start = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	rnd := rand.New(rand.NewPCG(s.Seed, 0)) //nolint:gosec // must be the same each time
	type arrival struct {
		burst Burst
		at    float64
	}
	var arrivals []arrival
	for i := range s.Changes {
		id := int64(i) + 1
		if i >= s.Objects {
			id = rnd.Int64N(int64(s.Objects)) + 1
		}
		b := Burst{
			Event: upperName(s.Events[rnd.IntN(len(s.Events))].Name()), ID: id, Time: s.Start.Add(time.Duration(i) * time.Second),
		}
		arrivals = append(arrivals, arrival{b, float64(i) + rnd.Float64()*float64(s.Reorder)})
		if rnd.Float64() < s.Duplicates {
			b.Again = true
			arrivals = append(arrivals, arrival{b, arrivals[len(arrivals)-1].at + rnd.Float64()*float64(s.Reorder)})
		}
	}
	slices.SortStableFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	bursts := make([]Burst, len(arrivals))
	for i, a := range arrivals {
		bursts[i] = a.burst
	}
	return bursts, nil
}

// Report returns what the storm would send, without sending it. It returns [ErrConfig] if the
// description makes no sense.
func (s Storm) Report() (StormReport, error) {
	bursts, err := s.plan()
	if err != nil {
		return StormReport{}, err
	}
	r := StormReport{Sent: len(bursts), Last: map[int64]Burst{}, Answers: map[int]int{}}
	for _, b := range bursts {
		if b.Again {
			r.Duplicates++
		} else {
			r.Changes++
		}
		last, seen := r.Last[b.ID]
		if seen && b.Time.Before(last.Time) {
			r.Overtaken++
			continue
		}
		b.Again = false
		r.Last[b.ID] = b
	}
	return r, nil
}

// Requests yields the requests in the order of their arrival. It ends with an error if a request
// cannot be built, [ErrConfig] if the description makes no sense, or that of the context.
func (s Storm) Requests(ctx context.Context) iter.Seq2[*http.Request, error] {
	return func(yield func(*http.Request, error) bool) {
		bursts, err := s.plan()
		if err != nil {
			yield(nil, err)
			return
		}
		for _, b := range bursts {
			r, err := s.request(ctx, b)
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s Storm) request(ctx context.Context, b Burst) (*http.Request, error) {
	var payload any
	if s.Payload != nil {
		payload = s.Payload(Name(b.Event), b.ID)
	} else {
		data, err := changeData(b.Event, b.ID)
		if err != nil {
			return nil, err
		}
		payload = data
	}
	return NewRequest(ctx, Name(b.Event), payload, append(slices.Clip(s.Options), WithTime(b.Time))...)
}

// Serve calls a handler with the requests of the storm. It returns what it sent and the status of
// each response. Its errors are those of [Storm.Requests].
func (s Storm) Serve(ctx context.Context, h http.Handler) (StormReport, error) {
	return s.run(ctx, func(r *http.Request) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	})
}

// Send posts the requests of the storm to the address in the option [WithURL]. Otherwise it does
// what [Storm.Serve] does.
func (s Storm) Send(ctx context.Context, client *http.Client) (StormReport, error) {
	return s.run(ctx, func(r *http.Request) int {
		resp, err := client.Do(r)
		if err != nil {
			return 0
		}
		defer resp.Body.Close() //nolint:errcheck // only the status matters
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return resp.StatusCode
	})
}

func (s Storm) run(ctx context.Context, do func(*http.Request) int) (StormReport, error) {
	report, err := s.Report()
	if err != nil {
		return StormReport{}, err
	}
	var (
		mu       sync.Mutex
		workers  sync.WaitGroup
		requests = make(chan *http.Request)
	)
	for range max(s.Workers, 1) {
		workers.Go(func() {
			for r := range requests {
				status := do(r)
				mu.Lock()
				report.Answers[status]++
				mu.Unlock()
			}
		})
	}
	for r, e := range s.Requests(ctx) {
		if e != nil {
			err = e
			break
		}
		requests <- r
	}
	close(requests)
	workers.Wait()
	return report, err
}
