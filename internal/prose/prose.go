// Command prose counts habits of writing in the comments of Go files and in Markdown, which
// docs/style.md asks for. With -check it fails if a habit has come back.
//
//	go run ./internal/prose [-check] [directory]
//
// It counts the comments of all Go files below a directory, without generated ones and testdata,
// and the paragraphs of Markdown files. Code blocks, tables and addresses are left out.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "prose:", err)
		}
		os.Exit(1)
	}
}

// The limits that -check holds each directory to.
const (
	maxWhere    = 2.0 // per 1,000 words
	maxSentence = 30  // words that 90 of 100 sentences have at most
	maxColumns  = 100 // of a line that is a comment
	minWords    = 200 // of a directory whose share of words counts
)

var errHabits = errors.New("habits have come back; docs/style.md says how to write")

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("prose", flag.ContinueOnError)
	check := flags.Bool("check", false, "fail if the counts pass the limits")
	if err := flags.Parse(args); err != nil {
		return err
	}
	root := cmp.Or(flags.Arg(0), ".")
	rooms, err := read(root)
	if err != nil {
		return err
	}
	var all count
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "words\twhere\tif\tsentence p50\tp90\tlong lines\told words\t directory")
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		c := rooms[name]
		all.add(c)
		c.print(w, name)
	}
	all.print(w, "all")
	if err := w.Flush(); err != nil {
		return err
	}
	if !*check {
		return nil
	}
	failed := len(all.places) > 0
	for _, place := range all.places {
		_, _ = fmt.Fprintln(stdout, place)
	}
	for _, name := range slices.Sorted(maps.Keys(rooms)) {
		c := rooms[name]
		switch {
		case c.words < minWords:
			continue
		case c.per(c.where) > maxWhere:
			_, _ = fmt.Fprintf(stdout, "%s: more than %v times \"where\" in 1,000 words\n", name, maxWhere)
		case c.sentence(90) > maxSentence:
			_, _ = fmt.Fprintf(stdout, "%s: one sentence in ten has more than %d words\n", name, maxSentence)
		default:
			continue
		}
		failed = true
	}
	if failed {
		return errHabits
	}
	return nil
}

// count is what was counted in some files.
type count struct {
	words     int
	where     int
	ifs       int
	sentences []int    // words of each
	long      int      // lines
	old       int      // words that nobody writes today
	places    []string // of long lines and old words
}

func (c *count) add(o *count) {
	c.words += o.words
	c.where += o.where
	c.ifs += o.ifs
	c.long += o.long
	c.old += o.old
	c.sentences = append(c.sentences, o.sentences...)
	c.places = append(c.places, o.places...)
}

// per is n for each 1,000 words.
func (c *count) per(n int) float64 { return float64(n) * 1000 / float64(max(c.words, 1)) }

// sentence is the length that so many of 100 sentences have at most.
func (c *count) sentence(percent int) int {
	if len(c.sentences) == 0 {
		return 0
	}
	slices.Sort(c.sentences)
	return c.sentences[(len(c.sentences)*percent+99)/100-1]
}

func (c *count) print(w io.Writer, name string) {
	_, _ = fmt.Fprintf(w, "%d\t%.1f\t%.1f\t%d\t%d\t%d\t%d\t %s\n",
		c.words, c.per(c.where), c.per(c.ifs), c.sentence(50), c.sentence(90), c.long, c.old, name)
}

// old are words and turns that read like an old manual.
var old = []string{
	"lest", "hence", "likewise", "thereof", "whereof", "wherein", "befell", "befall", "befalls", "heed", "heeds", "vouch",
	"vouches", "needs not", "is no error", "are no errors", "gives up hope",
}

// text counts a paragraph. place names it in complaints.
func (c *count) text(place, paragraph string) {
	lower := " " + strings.Join(strings.FieldsFunc(strings.ToLower(paragraph), notInWord), " ") + " "
	for _, turn := range old {
		if n := strings.Count(lower, " "+turn+" "); n > 0 {
			c.old += n
			c.places = append(c.places, fmt.Sprintf("%s: %q", place, turn))
		}
	}
	c.where += strings.Count(lower, " where ")
	c.ifs += strings.Count(lower, " if ")
	n := 0
	words := strings.Fields(paragraph)
	for i, word := range words {
		if strings.ContainsFunc(word, isLetter) {
			n++
		}
		if i == len(words)-1 || endsSentence(word, words[i+1]) {
			if n > 0 {
				c.sentences = append(c.sentences, n)
			}
			c.words += n
			n = 0
		}
	}
}
