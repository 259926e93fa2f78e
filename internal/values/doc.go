// Package values holds the rules for decoding what Bitrix24 sends into Go values, and for encoding
// Go values as Bitrix24 would send them. The payloads of events and the results of calls follow the
// same rules.
//
// Decoding does not stop at a value that does not fit: the field stays as it was, the rest is
// decoded, and a [Misfit] names the path. The documentation of package event lists the rules.
package values
