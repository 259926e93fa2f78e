// Command catalogdrift compares the catalogue of events with a checkout of the platform's public
// documentation (github.com/bitrix24/b24restdocs), and lists the events that are new, changed or
// gone:
//
//	catalogdrift -docs ../b24restdocs [-catalog event/testdata/catalog.json] [-json]
//
// It compares names, scopes, and the keys of payloads, as far as pages show them: in a sample of
// the body, and in tables of parameters. It does not compare types and meanings. It changes
// nothing. The exit code is 0 if there is no difference, 1 if there is, and 2 after an error.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/b24events/b24events/internal/redact"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	found, err := drift(args, stdout, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "catalogdrift:", err)
		return 2
	case found > 0:
		return 1
	default:
		return 0
	}
}

func drift(args []string, stdout, stderr io.Writer) (found int, err error) {
	flags := flag.NewFlagSet("catalogdrift", flag.ContinueOnError)
	flags.SetOutput(stderr)
	docs := flags.String("docs", "", "folder of the documentation's checkout")
	catalog := flags.String("catalog", filepath.Join("event", "testdata", "catalog.json"), "catalogue of events")
	asJSON := flags.Bool("json", false, "print a JSON object for each difference")
	if err := flags.Parse(args); err != nil {
		return 0, err
	}
	if *docs == "" || flags.NArg() > 0 {
		return 0, errors.New("set -docs, the folder of a checkout of github.com/bitrix24/b24restdocs")
	}
	doc, err := os.ReadFile(*catalog)
	if err != nil {
		return 0, err
	}
	entries, err := readCatalog(doc)
	if err != nil {
		return 0, err
	}
	pages, err := readPages(*docs)
	if err != nil {
		return 0, err
	}
	all := compare(entries, pages)
	if *asJSON {
		enc := json.NewEncoder(stdout)
		for _, f := range all {
			if err := enc.Encode(f); err != nil {
				return 0, err
			}
		}
		return len(all), nil
	}
	return len(all), printAll(stdout, all, len(entries), len(pages))
}

const (
	maxPages   = 50_000
	maxPage    = 4 << 20
	maxPrinted = 400 // characters of a text
)

// readPages reads all pages below the folder api-reference, by their paths without .md. It follows
// no links. Pages of more than 4 MiB are an error, because something is wrong with them.
func readPages(root string) (map[string]page, error) {
	const reference = "api-reference"
	pages := make(map[string]page)
	err := filepath.WalkDir(filepath.Join(root, reference), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || filepath.Ext(path) != ".md" {
			return nil
		}
		if len(pages) == maxPages {
			return fmt.Errorf("there are more than %d pages", maxPages)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Size() > maxPage {
			return fmt.Errorf("%s has more than %d bytes", path, maxPage)
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file below the folder that the caller named
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		pages[strings.TrimSuffix(filepath.ToSlash(name), ".md")] = parsePage(string(text))
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the documentation: %w", err)
	case len(pages) == 0:
		return nil, errors.New("the documentation has no pages; is it a checkout of github.com/bitrix24/b24restdocs?")
	}
	return pages, nil
}

func printAll(w io.Writer, all []finding, events, pages int) error {
	count := make(map[string]int)
	var b strings.Builder
	for _, f := range all {
		count[f.Kind]++
		b.WriteString(redact.Escape(fmt.Sprintf("%-8s %s: %s (%s)", f.Kind, f.Event, f.What, f.Page), maxPrinted) + "\n")
	}
	fmt.Fprintf(&b, "%d events of the catalogue, %d pages: %d new, %d changes, %d gone\n", events, pages, count[kindNew], count[kindChanged],
		count[kindGone])
	_, err := io.WriteString(w, b.String())
	return err
}
