package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"
)

// median returns the median of the numbers that of returns for the values.
func median[T any](values []T, of func(T) float64) float64 {
	all := make([]float64, 0, len(values))
	for _, v := range values {
		all = append(all, of(v))
	}
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return 0
	}
	return (all[(n-1)/2] + all[n/2]) / 2
}

// ratio returns the median of the ratios of each round's value to that of the peer.
func ratio[T any](values, peer []T, of func(T) float64) float64 {
	ratios := make([]float64, 0, len(values))
	for i, v := range values {
		if base := of(peer[i]); base > 0 {
			ratios = append(ratios, of(v)/base)
		}
	}
	return median(ratios, func(r float64) float64 { return r })
}

// machine describes the machine and the settings.
func machine(s settings) string {
	return fmt.Sprintf("%s, %s/%s, %d CPUs, %d rounds of %s, %d connections\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), s.rounds, s.duration, s.connections)
}

func parsingTable(p payload, results []parsing) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| parse: %s, %d bytes | µs | ratio | allocations | bytes |\n|---|---|---|---|---|\n", p.title, len(p.body))
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.0f | %.0f |\n", r.name, median(r.costs, (*cost).ns)/1000,
			ratio(r.costs, results[0].costs, (*cost).ns),
			median(r.costs, (*cost).allocations), median(r.costs, (*cost).allocated))
	}
	return b.String()
}

func servingTable(p payload, results []serving) string {
	var b strings.Builder
	fmt.Fprintf(&b,
		"\n| serve: %s, %d bytes | requests/s | ratio | p50 | p99 | ratio of p99 | CPU a request | ratio | deliveries a commit |\n"+
			"|---|---|---|---|---|---|---|---|---|\n",
		p.title, len(p.body))
	rate := func(l load) float64 { return l.rate }
	p50 := func(l load) float64 { return float64(l.p50) }
	p99 := func(l load) float64 { return float64(l.p99) }
	cpu := func(l load) float64 { return float64(l.cpu) }
	base := results[0].loads
	for _, r := range results {
		grouped := "" // without a store
		if r.grouped > 0 {
			grouped = fmt.Sprintf("%.1f", r.grouped)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %.2f | %s | %s | %.2f | %s | %.2f | %s |\n", r.name,
			median(r.loads, rate), ratio(r.loads, base, rate),
			rounded(median(r.loads, p50)), rounded(median(r.loads, p99)), ratio(r.loads, base, p99),
			rounded(median(r.loads, cpu)), ratio(r.loads, base, cpu), grouped)
	}
	return b.String()
}

// rounded prints nanoseconds with three digits.
func rounded(ns float64) string {
	d := time.Duration(ns)
	for unit := time.Nanosecond; ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}
