// Command peerbench compares the receiving side of b24events with its peers and prints one table.
//
//	go run . -rounds 6 -duration 2s -connections 64
//
// It measures two things, each with a deal update (588 bytes) and a bot message (10.6 KB):
//
//   - Parsing: event.Parse and the typed payload, beside url.ParseQuery and beside
//     go-playground/form, which decodes the result of url.ParseQuery into a struct.
//   - Serving: webhook.Handler beside a bare net/http server that reads the body with io.ReadAll
//     and answers 200. The handler verifies each delivery among 10,000 stored portals, queues it,
//     answers, and runs a handler that only counts. Server and clients share one process and its
//     CPUs, over loopback.
//
// With -backlog it also measures recovery: a Handler that only receives stores that many
// deliveries, and another one works them. And it counts the handler calls and commits for a storm
// of changes of one object, with coalescing.
//
// The peers take turns in each round, parsers many times, so that other load affects all of them
// alike. A figure is the median over the rounds, and a ratio is the median of the rounds' ratios.
// The CPU time of a request is that of the whole process, the clients included. Under other load,
// its ratio is steadier than that of the rate.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strings"
	"time"
)

// settings holds the flags.
type settings struct {
	rounds      int
	duration    time.Duration // for each peer in each round
	connections int
	parse       bool
	serve       bool
	payload     string   // its name; empty for all
	queues      []string // of the handlers that are measured
	dir         string   // for files
	postgres    string   // address of the server
	nats        string
	syncDelay   time.Duration // added to each commit of a store
	backlog     int           // how many deliveries the backlog has; 0 to skip it
}

func main() {
	var s settings
	flag.IntVar(&s.rounds, "rounds", 6, "rounds, in each of which every peer has its turn")
	flag.DurationVar(&s.duration, "duration", 2*time.Second, "how long a peer is measured in a round")
	flag.IntVar(&s.connections, "connections", 64, "connections to a server")
	parse := flag.Bool("parse", true, "measure parsing")
	flag.StringVar(&s.payload, "payload", "", "deal or bot, to measure one payload alone")
	queues := flag.String("queues", "memory,sqlite", "queues of the handlers, comma-separated: memory, sqlite, postgres, nats")
	flag.StringVar(&s.dir, "dir", "", "folder for the files of sqlite; its disk is measured (default: the system's for temporary files)")
	flag.StringVar(&s.postgres, "postgres", "postgres://postgres@127.0.0.1:5432/test?sslmode=disable", "server for the queue postgres")
	flag.StringVar(&s.nats, "nats", "nats://127.0.0.1:4222", "server for the queue nats")
	flag.DurationVar(&s.syncDelay, "syncdelay", 0, "added to each commit of a store, for a disk whose syncs take longer")
	flag.IntVar(&s.backlog, "backlog", 0,
		"measure how the stores recover a backlog of this many deliveries, and the cost of a storm of 1,000 changes of one object")
	serve := flag.Bool("serve", true, "measure serving")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this file; the label peer tells the servers apart")
	flag.Parse()
	s.parse, s.serve, s.queues = *parse, *serve, strings.Split(*queues, ",")
	if err := profiled(*profile, func() error {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		return run(ctx, os.Stdout, s)
	}); err != nil {
		fmt.Fprintln(os.Stderr, "peerbench:", err)
		os.Exit(1)
	}
}

// profiled runs f, and writes a CPU profile if path is not empty.
func profiled(path string, f func() error) error {
	if path == "" {
		return f()
	}
	file, err := os.Create(path) //nolint:gosec // the path is the caller's
	if err != nil {
		return err
	}
	if err = pprof.StartCPUProfile(file); err != nil {
		return errors.Join(err, file.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

// run measures and prints.
func run(ctx context.Context, w io.Writer, s settings) error {
	if _, err := io.WriteString(w, machine(s)); err != nil {
		return err
	}
	if s.parse {
		if err := printTables(ctx, w, s, measureParsing, parsingTable); err != nil {
			return err
		}
	}
	if s.serve {
		if err := printTables(ctx, w, s, measureServing, servingTable); err != nil {
			return err
		}
	}
	if s.backlog > 0 {
		return measureBacklogs(ctx, w, s)
	}
	return nil
}

// printTables prints a table of the results for each payload that the settings select.
func printTables[R any](
	ctx context.Context, w io.Writer, s settings,
	measure func(context.Context, settings, payload) ([]R, error), table func(payload, []R) string,
) error {
	all, err := payloads()
	if err != nil {
		return err
	}
	for _, p := range all {
		if s.payload != "" && s.payload != p.name {
			continue
		}
		results, err := measure(ctx, s, p)
		if err == nil {
			_, err = io.WriteString(w, table(p, results))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
