package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// read counts all files below a directory, by the directories that they are in.
func read(root string) (map[string]*count, error) {
	rooms := make(map[string]*count)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		room := filepath.ToSlash(filepath.Dir(name))
		c := rooms[room]
		if c == nil {
			c = new(count)
		}
		switch {
		case strings.HasSuffix(name, ".go"):
			err = c.goFile(path, name)
		case strings.HasSuffix(name, ".md") && !strings.HasSuffix(name, ".ru.md"):
			err = c.markdown(path, name)
		default:
			return nil
		}
		rooms[room] = c
		return err
	})
	return rooms, err
}

func (c *count) goFile(path, name string) error {
	source, err := os.ReadFile(path) //nolint:gosec // of the tree that is counted
	if err != nil {
		return err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(file) {
		return nil
	}
	lines := strings.Split(string(source), "\n")
	for _, group := range file.Comments {
		var paragraph []string
		first := files.Position(group.Pos()).Line
		flush := func() {
			if len(paragraph) > 0 {
				c.text(fmt.Sprintf("%s:%d", name, first), strings.Join(paragraph, " "))
			}
			paragraph = nil
		}
		for _, comment := range group.List {
			at := files.Position(comment.Pos())
			text, ok := strings.CutPrefix(comment.Text, "//")
			line := strings.TrimSuffix(lines[at.Line-1], "\r")
			switch alone := strings.TrimSpace(line[:at.Column-1]) == ""; {
			case !ok, isDirective(text):
				flush()
				continue
			case !alone: // each is a remark of its own
				flush()
			case utf8.RuneCountInString(line) > maxColumns && !isAddress(text) && !isTable(text):
				c.long++
				c.places = append(c.places, fmt.Sprintf("%s:%d: a comment of more than %d columns", name, at.Line, maxColumns))
			}
			if len(paragraph) == 0 {
				first = at.Line
			}
			if isCode(text) || strings.TrimSpace(text) == "" || isAddress(text) {
				flush()
				continue
			}
			if item, is := strings.CutPrefix(strings.TrimSpace(text), "- "); is {
				flush()
				text = item
			}
			paragraph = append(paragraph, text)
		}
		flush()
	}
	return nil
}

// isDirective reports whether a comment is for a tool, for example //nolint or //go:build. An
// example's output is such too.
func isDirective(text string) bool {
	if text == "" || text[0] == ' ' || text[0] == '\t' {
		return strings.HasPrefix(text, " Output:") || strings.HasPrefix(text, " +build")
	}
	return unicode.IsLower(rune(text[0]))
}

// isCode reports whether a line of a comment is indented, as code and tables are.
func isCode(text string) bool {
	return strings.HasPrefix(text, "\t") ||
		strings.HasPrefix(text, "  ") && !strings.HasPrefix(strings.TrimSpace(text), "- ") && !strings.HasPrefix(text, "    ")
}

// isTable reports whether a line stands as it is, and cannot be wrapped.
func isTable(text string) bool { return strings.HasPrefix(text, "\t") }

// isAddress reports whether a line is a source or the target of a link.
func isAddress(text string) bool {
	text = strings.TrimSpace(text)
	return strings.HasPrefix(text, "Source:") || strings.HasPrefix(text, "[") && strings.Contains(text, "]: http")
}

func (c *count) markdown(path, name string) error {
	source, err := os.ReadFile(path) //nolint:gosec // of the tree that is counted
	if err != nil {
		return err
	}
	var paragraph []string
	first, fenced := 0, false
	flush := func() {
		if len(paragraph) > 0 {
			c.text(fmt.Sprintf("%s:%d", name, first), strings.Join(paragraph, " "))
		}
		paragraph = nil
	}
	for i, line := range strings.Split(string(source), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
			flush()
			continue
		case fenced, line == "", strings.HasPrefix(line, "|"), strings.HasPrefix(line, "#"), strings.HasPrefix(line, "<"):
			flush()
			continue
		case strings.HasPrefix(line, "- "), strings.HasPrefix(line, "* "):
			flush()
			line = line[2:]
		}
		if len(paragraph) == 0 {
			first = i + 1
		}
		paragraph = append(paragraph, line)
	}
	flush()
	return nil
}

func isLetter(r rune) bool { return unicode.IsLetter(r) }

func notInWord(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '\'' && r != '_'
}

// endsSentence reports whether a sentence ends with a word: by a full stop, a question mark or an
// exclamation mark before a word that begins another.
func endsSentence(word, next string) bool {
	word = strings.TrimRight(word, ")\"'”’`*_")
	if !strings.HasSuffix(word, ".") && !strings.HasSuffix(word, "?") && !strings.HasSuffix(word, "!") {
		return false
	}
	if strings.HasSuffix(word, "e.g.") || strings.HasSuffix(word, "i.e.") {
		return false
	}
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(next, "(\"'“‘`*_["))
	return !unicode.IsLower(first)
}
