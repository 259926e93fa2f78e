package main

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"time"

	"github.com/go-playground/form/v4"

	"github.com/b24events/b24events/event"
)

const formType = "application/x-www-form-urlencoded"

// parser is a way to parse a payload.
type parser struct {
	name  string
	parse func(p payload) error
}

// parsers are the peers. The others are compared with the first.
func parsers() []parser {
	decoder := form.NewDecoder()
	decoder.SetNamespacePrefix("[")
	decoder.SetNamespaceSuffix("]")
	return []parser{
		{"url.ParseQuery", func(p payload) error {
			_, err := url.ParseQuery(string(p.body))
			return err
		}},
		{"url.ParseQuery, go-playground/form", func(p payload) error {
			values, err := url.ParseQuery(string(p.body))
			if err != nil {
				return err
			}
			target := p.form()
			if err = decoder.Decode(target, values); err == nil && !target.filled() {
				err = errDecoded
			}
			return err
		}},
		{"event.Parse", func(p payload) error {
			_, err := event.Parse(formType, p.body)
			return err
		}},
		{"event.Parse, typed payload", func(p payload) error {
			d, err := event.Parse(formType, p.body)
			if err != nil {
				return err
			}
			return p.decode(d)
		}},
	}
}

// cost is the total cost of some parsings.
type cost struct {
	n             int
	took          time.Duration
	allocs, bytes uint64
}

func (c *cost) ns() float64 { return float64(c.took.Nanoseconds()) / float64(max(c.n, 1)) }

func (c *cost) allocations() float64 { return float64(c.allocs) / float64(max(c.n, 1)) }

func (c *cost) allocated() float64 { return float64(c.bytes) / float64(max(c.n, 1)) }

// parsing holds the results of one parser, one value per round.
type parsing struct {
	name  string
	costs []*cost
}

// turns is how many times the parsers take turns in a round, so that other load affects all of them
// alike.
const turns = 25

func measureParsing(ctx context.Context, s settings, p payload) ([]parsing, error) {
	all := parsers()
	results := make([]parsing, len(all))
	for i, one := range all {
		results[i] = parsing{name: one.name, costs: make([]*cost, 0, s.rounds)}
	}
	for round := range s.rounds {
		for i := range results {
			results[i].costs = append(results[i].costs, new(cost))
		}
		runtime.GC()
		for range turns {
			for i, one := range all {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				if err := results[i].costs[round].add(s.duration/4/turns, func() error { return one.parse(p) }); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", one.name, p.title, err)
				}
			}
		}
	}
	return results, nil
}

// add calls f for about a duration, and at least ten times.
func (c *cost) add(d time.Duration, f func() error) error {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	took := time.Duration(0)
	for first := true; first || took < d; first = false {
		for range 10 {
			if err := f(); err != nil {
				return err
			}
		}
		c.n += 10
		took = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	c.took += took
	c.allocs += after.Mallocs - before.Mallocs
	c.bytes += after.TotalAlloc - before.TotalAlloc
	return nil
}
