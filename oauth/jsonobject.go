package oauth

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
)

// jsonObject is the object in a response of an OAuth server or a portal. PHP writes an empty object
// as [], so a member may be of any type.
type jsonObject map[string]any

// maxObjectStarts is how many braces are tried as the beginning of the object. PHP notices have
// none.
const maxObjectStarts = 16

// findObject finds the JSON object in a response that has one of the members names. A byte order
// mark or the text of a PHP notice may come before it, and anything after it.
func findObject(body []byte, names ...string) (jsonObject, bool) {
	for range maxObjectStarts {
		i := bytes.IndexByte(body, '{')
		if i < 0 {
			break
		}
		body = body[i:]
		var o jsonObject
		if json.NewDecoder(bytes.NewReader(body)).Decode(&o) == nil {
			for _, name := range names {
				if _, ok := o[name]; ok {
					return o, true
				}
			}
		}
		body = body[1:]
	}
	return nil, false
}

// text returns a member that is a string, or an empty one.
func (o jsonObject) text(name string) string {
	s, _ := o[name].(string)
	return s
}

// object returns a member that is an object, or an empty one.
func (o jsonObject) object(name string) jsonObject {
	m, _ := o[name].(map[string]any)
	return m
}

// integer reads a JSON number, or one in quotes.
func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		if math.Abs(v) < 1<<53 {
			return int64(v)
		}
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n
		}
	}
	return 0
}
