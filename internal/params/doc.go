// Package params writes the parameters of REST methods as a form, the way PHP reads them. Calls and
// the commands of a batch share it.
//
//	nil, nil pointer, map, slice   nothing: a form cannot carry null, nor an empty list
//	string, numbers                their text; NaN and the infinities are refused
//	bool                           1 or 0; a struct field says int or yn (Y or N) in its tag
//	time.Time                      RFC 3339 with the offset and whole seconds; the zero time is ""
//	[]byte                         base64
//	json.Number                    as it is, if it is a number
//	json.RawMessage                what the JSON describes, objects in their order
//	slice, array                   name[0], name[1] and so on
//	map                            name[key], sorted by key
//	struct                         name[field], in the order of the fields
//	All() iter.Seq2[string, any]   name[key], in the order of the sequence
//	encoding.TextMarshaler         its text
//	json.Marshaler                 what its JSON describes
//
// Encode returns an error for a type with a Format method, which prints itself in another form, as
// redacted secrets do. It also returns an error for channels, functions, complex numbers, arrays of
// bytes, and structs without an exported field.
//
// The name of a struct field is that in the first of the tags url, b24 and json that it has.
// Without these tags, it is the name in Go. The fields of an embedded struct without a tag count as
// fields of the outer struct. The url tag takes these options:
//
//	omitempty                 leaves zero values out; the json tag's omitempty and omitzero too
//	int, yn                   writes a bool as 1 or 0, or as Y or N
//	comma, space, semicolon   writes a list as one text
//	unix                      writes a time as Unix seconds
//	brackets                  nothing: a list always has brackets
//
// A tag layout:"2006-01-02" gives a time another layout.
package params
