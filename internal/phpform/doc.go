// Package phpform reads and writes the bracket forms of PHP, in which Bitrix24 sends its events
// (data[FIELDS][ID]=42&auth[domain]=…). It represents them as a tree of [Value].
//
//	v, err := phpform.Decode(body, phpform.Limits{})
//	if err != nil {
//		return err // a *phpform.LimitError
//	}
//	data, _ := v.GetFold("data")
//	fields, _ := data.GetFold("FIELDS")
//	id, _ := fields.Get("ID")
//	fmt.Fprintln(w, id.Scalar())
//
// The tree does not depend on the format: [DecodeJSON] makes the same tree from JSON, such as an
// offline record, and [Encode], [Value.AppendJSON] and [Value.Any] turn it into a form, JSON and Go
// values.
//
// # The form of the tree
//
// A decoded tree is packed into one text without pointers, which is hardly larger than the body,
// even for a hostile body: see [Value]. A decoder fills a tape of nodes, which refer to each other
// by index, and packs it in one pass. For a body of the usual size, the tape is on the stack.
//
// # The rules of Decode
//
// They are those of PHP (parse_str and $_POST). Tests compare them with PHP 8.2:
//
//   - Only "&" separates pairs. The first "=" ends the name; a pair without one has the value "".
//   - Escapes are decoded before brackets are read, so %5B equals "[". A percent sign without two
//     hexadecimal digits is text.
//   - Spaces before a name are skipped, a name ends at a NUL, and a pair whose name is empty (or
//     begins with "[") is skipped.
//   - Before the first "[", the characters " " and "." become "_". Between brackets every character
//     stands for itself.
//   - a[] and a[ ] append at the largest integer key plus one. After a[-5] that is -4 in PHP 8, but
//     0 in PHP 7. If 9223372036854775807 is taken, the pair is dropped.
//   - Keys in canonical decimal are integers: 8 and -8, but not 08, +8, -0 or numbers beyond 64
//     bits. Here all keys are text, and the difference matters only for the next append.
//   - Text between a "]" and the next "&" or "=" is ignored, unless it begins with a "[".
//   - A "[" that is not closed is not an index: data[BOT=1 has the key data_BOT, and every further
//     " ", "." and "[" of that name becomes "_" as well; a[b][c=1 is a[b]=1.
//   - A later pair replaces an earlier one with the same name, also a scalar an array and an array
//     a scalar. The new value keeps the position of the old one.
//   - An unescaped NUL is a character of a value, as in $_POST (parse_str stops at it).
//
// PHP silently drops data beyond its limits (max_input_vars, max_input_nesting_level). Decode
// returns an error instead. It counts elements, but PHP counts pairs; see [Limits].
//
// # Guarantees
//
// Decode and DecodeJSON take any input in time and memory linear in its length, and never panic. A
// Value is immutable and safe for concurrent use; its zero value is null. Decode(Encode(v)) equals
// v for every v that Decode returned, and [Value.AppendJSON] is always valid JSON.
//
// # Errors
//
//	[LimitError]   an input exceeds one of the Limits; matches the next three
//	ErrTooLarge    … Limits.Bytes
//	ErrTooManyKeys … Limits.Keys
//	ErrTooDeep     … Limits.Depth
//	[SyntaxError]  DecodeJSON: not one JSON value, with the offset; matches ErrSyntax
//
// No error text holds any part of the input, and printing a Value shows only its kind and size.
package phpform
