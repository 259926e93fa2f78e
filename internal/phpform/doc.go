// Package phpform reads and writes the bracket forms of PHP, in which Bitrix24 sends its events
// (data[FIELDS][ID]=42&auth[domain]=…), and holds what they say as a tree of [Value].
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
// The tree is neutral: [DecodeJSON] makes the same one from JSON (offline records), and [Encode],
// [Value.AppendJSON] and [Value.Any] turn it into a form, JSON and Go values.
//
// # The form of the tree
//
// A decoded tree is packed into one text without pointers, hardly larger than the body that it came
// in, whatever the body is: see [Value]. To decode, a tape of nodes that refer to each other by
// number is filled, on the stack for a body of the usual size, and packed in one pass.
//
// # The rules of Decode
//
// They are PHP's (parse_str and $_POST), compared with PHP 8.2 itself by the tests:
//
//   - Pairs are separated by "&" only. The first "=" ends the name; a pair without one has the value "".
//   - Escapes are undone before brackets are looked at, so %5B equals "[". A percent sign without two hexadecimal digits is text.
//   - Spaces before a name are skipped, a name ends at a NUL, and a pair whose name is empty (or begins with "[") is skipped.
//   - Before the first "[", the characters " " and "." become "_". Between brackets every character stands for itself.
//   - a[] and a[ ] append at the largest integer key plus one. After a[-5] that is -4 in PHP 8, where 7 had 0. Where
//     9223372036854775807 is taken, the pair is dropped.
//   - Keys in canonical decimal are integers: 8 and -8, but not 08, +8, -0 or numbers beyond 64 bits. All keys are text
//     here, and only the next append tells them apart.
//   - What stands between a "]" and the next "&" or "=", other than a "[" right after it, is ignored.
//   - A "[" that is never closed is no index: data[BOT=1 has the key data_BOT, and every further " ", "." and "[" of that name
//     becomes "_" as well; a[b][c=1 is a[b]=1.
//   - A later pair replaces an earlier one with the same name, a scalar an array and an array a scalar. The new
//     value stands where the old one stood.
//   - A NUL that arrives unescaped is one more character of a value, as in $_POST (parse_str stops at it).
//
// Where PHP drops data in silence for its limits (max_input_vars, max_input_nesting_level), Decode
// returns an error. Unlike PHP it counts elements, not pairs; see [Limits].
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
// No error text holds any part of the input, and printing a Value shows its kind and size only.
package phpform
