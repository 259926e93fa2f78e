// Command gencatalog writes the descriptors of package event, and a table of package notfound, from
// the catalogue of documented events.
//
//	gencatalog [-in testdata/catalog.json] [-dir ..] [-check]
//
// It is run by go generate in the folder of package event. With -check it writes nothing, and fails
// if a file differs from what it would write.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "gencatalog:", err)
		}
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("gencatalog", flag.ContinueOnError)
	flags.SetOutput(stderr)
	in := flags.String("in", filepath.Join("testdata", "catalog.json"), "catalogue of events")
	dir := flags.String("dir", "..", "folder of the module")
	check := flags.Bool("check", false, "compare instead of writing")
	if err := flags.Parse(args); err != nil {
		return err
	}
	doc, err := os.ReadFile(*in)
	if err != nil {
		return err
	}
	files, err := generate(doc)
	if err != nil {
		return err
	}
	stale, err := leftovers(*dir, files)
	if err != nil {
		return err
	}
	if *check {
		return compare(*dir, files, stale)
	}
	return write(*dir, files, stale)
}

// generate returns the files that it makes from the catalogue, by their paths below the module.
func generate(doc []byte) (map[string][]byte, error) {
	s, err := load(doc)
	if err != nil {
		return nil, err
	}
	all, err := describe(s)
	if err != nil {
		return nil, err
	}
	return render(all, s.Methods)
}

// leftovers returns the paths of generated files that are no longer made.
func leftovers(dir string, files map[string][]byte) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, filePrefix+"*.go"))
	if err != nil {
		return nil, err
	}
	var stale []string
	for _, path := range paths {
		name := filePrefix + strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(filepath.Join(dir, filePrefix)))
		if _, ok := files[name]; ok {
			continue
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of the folder that the caller named
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(text, []byte(header)) {
			stale = append(stale, name)
		}
	}
	return stale, nil
}

func compare(dir string, files map[string][]byte, stale []string) error {
	differ := slices.Clone(stale)
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // a file of the folder that the caller named
		if err != nil || !bytes.Equal(got, want) {
			differ = append(differ, name)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	slices.Sort(differ)
	return fmt.Errorf("out of date, run go generate: %s", strings.Join(differ, ", "))
}

func write(dir string, files map[string][]byte, stale []string) error {
	for name, text := range files {
		const readable = 0o644 // source is for everyone
		if err := os.WriteFile(filepath.Join(dir, name), text, readable); err != nil {
			return err
		}
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
