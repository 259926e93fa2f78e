// Package values holds the rules by which what Bitrix24 sends fills a Go value, and by which a Go
// value becomes what Bitrix24 would send. The payloads of events and the results of calls follow
// the same rules.
//
// Decoding never stops at a value that does not fit: the field stays as it was, the rest is
// decoded, and a [Misfit] names the path. The documentation of package event lists the rules.
package values
