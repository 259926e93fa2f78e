package main

import "strings"

// quoted is text as one word of a POSIX shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func scopeText(scope []string) string { return strings.Join(scope, ",") }

func upper(names []string) []string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = strings.ToUpper(n)
	}
	return all
}
