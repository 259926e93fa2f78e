package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// page is what a page of the documentation says about events.
type page struct {
	lower    string   // the text, in lower case
	scopes   []string // of its line "> Scope:"
	samples  []sample // bodies of events in its code blocks
	titles   []string // names in the title and in headings, if the page is about events; in upper case
	overview []string // names in a table of events, in upper case
	rows     []row    // of its tables of parameters
}

// sample is the body of an event in a code block.
type sample struct {
	event string   // in upper case
	keys  []string // paths of its data
}

// row is a row of a table that describes payloads.
type row struct {
	section string // the parameter or the event, in upper case, that the heading names
	name    string
}

// The layout of the pages, which are written in YFM, a dialect of Markdown.
var (
	wireName    = regexp.MustCompile(`^(?:ON[A-Z0-9_]{4,}|[A-Z]+(?:\.[A-Z]+)*\.ON\.[A-Z]+)$`)
	mixedName   = regexp.MustCompile(`\b[oO]n[A-Z][A-Za-z0-9]+\b`)
	scopeLine   = regexp.MustCompile(`^>\s*Scope:\s*(.*)$`)
	quoted      = regexp.MustCompile("`([^`]+)`")
	subscribe   = regexp.MustCompile(`^>\s*Who can subscribe`)
	heading     = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*(?:\{#[^}]*\})?\s*$`)
	parameter   = regexp.MustCompile(`^(?i:parameter)\s+([A-Za-z0-9_.]+)$`)
	boldRow     = regexp.MustCompile(`^\|\|\s*\*\*([^*|]+)\*`)
	overviewRow = regexp.MustCompile(`^\|\|\s*\[([oO][nN][A-Za-z0-9_]+|[A-Za-z]+(?:\.[A-Za-z]+)*\.ON\.[A-Z]+)\]\(`)
)

// parsePage reads a page. A page of another layout is empty.
func parsePage(text string) page {
	text = strings.ToValidUTF8(text, "\uFFFD")
	p := page{lower: strings.ToLower(text)}
	var (
		block    []string // the lines of an open code block
		fenced   bool
		section  string
		header   bool // the next row is the header of a table
		title    string
		headings []string
		events   bool
	)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "```") && (!fenced || strings.Trim(trimmed, "`") == "") {
			if fenced {
				p.addBlock(strings.Join(block, "\n"))
			}
			fenced, block = !fenced, nil
			continue
		}
		if fenced {
			block = append(block, line)
			continue
		}
		switch {
		case strings.HasPrefix(trimmed, "#|"):
			header = true
		case strings.HasPrefix(trimmed, "||"):
			if header {
				header = false
				continue
			}
			if m := overviewRow.FindStringSubmatch(trimmed); m != nil {
				p.overview = append(p.overview, strings.ToUpper(m[1]))
			}
			if m := boldRow.FindStringSubmatch(trimmed); m != nil {
				p.rows = append(p.rows, row{section, strings.TrimSpace(m[1])})
			}
		case subscribe.MatchString(line):
			events = true
		default:
			if m := scopeLine.FindStringSubmatch(line); m != nil {
				p.addScopes(m[1])
			}
			if m := heading.FindStringSubmatch(line); m != nil {
				if title == "" {
					title = m[1]
				}
				section = ""
				if wireName.MatchString(m[1]) {
					headings = append(headings, m[1])
					section = m[1]
				} else if of := parameter.FindStringSubmatch(m[1]); of != nil {
					section = strings.ToUpper(of[1])
				}
			}
		}
	}
	p.titles = headings
	if events && len(p.samples) == 0 {
		for _, n := range mixedName.FindAllString(title, -1) {
			p.titles = append(p.titles, strings.ToUpper(n))
		}
	}
	if !events {
		p.overview = nil
	}
	return p
}

func (p *page) addScopes(text string) {
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		for s := range strings.SplitSeq(m[1], ",") {
			if s = strings.TrimSpace(s); s != "" {
				p.scopes = append(p.scopes, s)
			}
		}
	}
}

// addBlock adds the sample in a code block, if it holds the body of an event as JSON.
func (p *page) addBlock(text string) {
	var body struct {
		Event any `json:"event"`
		Data  any `json:"data"`
		Auth  any `json:"auth"`
	}
	if json.Unmarshal([]byte(text), &body) != nil || (body.Data == nil && body.Auth == nil) {
		return
	}
	name, ok := body.Event.(string)
	if name = strings.ToUpper(strings.TrimSpace(name)); !ok || len(name) > maxKey || !wireName.MatchString(name) {
		return
	}
	p.samples = append(p.samples, sample{name, paths(body.Data)})
}

const (
	maxKey   = 200 // bytes of a key; longer ones are left out
	maxDepth = 16  // of data; what is deeper is left out
)

// anyKey stands for a position in a list, an ID as a key, and a placeholder such as {BOT_ID}.
const anyKey = "*"

// paths returns the paths of the keys in the data of an event, sorted. Keys that are numbers or
// placeholders count as positions.
func paths(data any) []string {
	found := make(map[string]bool)
	addPaths(found, "", data, 0)
	all := make([]string, 0, len(found))
	for p := range found {
		all = append(all, p)
	}
	slices.Sort(all)
	return all
}

func addPaths(found map[string]bool, prefix string, v any, depth int) {
	if depth == maxDepth {
		return
	}
	add := func(key string, v any) {
		path := key
		if prefix != "" {
			path = prefix + "." + key
		}
		found[path] = true
		addPaths(found, path, v, depth+1)
	}
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			if key != "" && len(key) <= maxKey {
				add(segment(key), inner)
			}
		}
	case []any:
		for _, inner := range v {
			add(anyKey, inner)
		}
	}
}

func segment(key string) string {
	if key == "[]" || strings.Contains(key, "{") || strings.Trim(key, "0123456789") == "" {
		return anyKey
	}
	return key
}
