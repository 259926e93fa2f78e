package eventtest

import (
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// object is an object that the portal stores. The names of its fields are in upper case; the values
// are texts, arrays or null.
type object struct {
	id     int64
	fields []phpform.Entry
}

func (o *object) get(name string) phpform.Value {
	for _, e := range o.fields {
		if e.Key == name {
			return e.Value
		}
	}
	return null()
}

func (o *object) set(name string, v phpform.Value) {
	for i := range o.fields {
		if o.fields[i].Key == name {
			o.fields[i].Value = v
			return
		}
	}
	o.fields = append(o.fields, kv(name, v))
}

// assign sets the fields that a caller sent, except those that the portal sets itself.
func (o *object) assign(fields phpform.Value) {
	at := make(map[string]int, len(o.fields))
	for i, e := range o.fields {
		at[e.Key] = i
	}
	for _, e := range fields.Entries() {
		name := snake(e.Key)
		if name == "ID" || name == "ENTITY_TYPE_ID" {
			continue
		}
		if i, ok := at[name]; ok {
			o.fields[i].Value = stored(e.Value)
			continue
		}
		at[name] = len(o.fields)
		o.fields = append(o.fields, kv(name, stored(e.Value)))
	}
}

// stored returns a value as a database column stores it.
func stored(v phpform.Value) phpform.Value {
	switch v.Kind() {
	case phpform.Number:
		return phpform.Text(v.Scalar())
	case phpform.Bool:
		if v.Scalar() == "" {
			return phpform.Text("0")
		}
		return phpform.Text("1")
	default:
		return v
	}
}

// snake converts a name from camel case to upper case with underscores. It returns names in upper
// case unchanged.
func snake(name string) string {
	switch name {
	case "createdBy":
		return "CREATED_BY_ID"
	case "updatedBy":
		return "MODIFY_BY_ID"
	case "createdTime":
		return "DATE_CREATE"
	case "updatedTime":
		return "DATE_MODIFY"
	}
	if strings.ToUpper(name) == name {
		return name
	}
	var b strings.Builder
	for i, c := range []byte(name) {
		upperCase, digit := 'A' <= c && c <= 'Z', '0' <= c && c <= '9'
		if i > 0 && name[i-1] != '_' && (upperCase || digit && (name[i-1] < '0' || name[i-1] > '9')) {
			b.WriteByte('_')
		}
		b.WriteByte(c)
	}
	return strings.ToUpper(b.String())
}

// camel converts a name from upper case to camel case. The number at the end of a custom field
// keeps its underscore.
func camel(name string) string {
	parts := strings.Split(strings.ToLower(name), "_")
	var b strings.Builder
	for i, part := range parts {
		switch {
		case part == "":
		case b.Len() == 0:
			b.WriteString(part)
		case '0' <= part[0] && part[0] <= '9':
			if i == len(parts)-1 && parts[0] == "uf" {
				b.WriteByte('_')
			}
			b.WriteString(part)
		default:
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
