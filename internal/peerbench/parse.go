package main

import (
	"context"
	"errors"
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

// parsers are the peers; the first is what the others are compared with.
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

// cost is what one parsing takes.
type cost struct {
	ns     float64
	allocs float64
	bytes  float64
}

// parsing is what was measured of one parser, a value a round.
type parsing struct {
	name  string
	costs []cost
}

func measureParsing(ctx context.Context, s settings, p payload) ([]parsing, error) {
	all := parsers()
	results := make([]parsing, len(all))
	for range s.rounds {
		for i, one := range all {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c, err := repeat(s.duration/4, func() error { return one.parse(p) })
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", one.name, p.title, err)
			}
			results[i].name = one.name
			results[i].costs = append(results[i].costs, c)
		}
	}
	return results, nil
}

// repeat calls f for about that long.
func repeat(d time.Duration, f func() error) (cost, error) {
	if d <= 0 {
		return cost{}, errors.New("no time to measure in")
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	n, took := 0, time.Duration(0)
	for took < d {
		for range 100 {
			if err := f(); err != nil {
				return cost{}, err
			}
		}
		n += 100
		took = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	per := func(x uint64) float64 { return float64(x) / float64(n) }
	return cost{
		ns:     float64(took.Nanoseconds()) / float64(n),
		allocs: per(after.Mallocs - before.Mallocs),
		bytes:  per(after.TotalAlloc - before.TotalAlloc),
	}, nil
}
