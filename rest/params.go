package rest

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/go-querystring/query"

	"github.com/b24events/b24events/internal/phpform"
)

// encodeParams writes a call's parameters as a form. The texts of its errors name types and fields, never values.
func encodeParams(params any) (string, error) {
	form, err := encodeForm(params)
	if err != nil {
		return "", err
	}
	return form, refuseAuth(form)
}

// encoded is a form that was made of parameters before. Only this package makes such parameters.
type encoded string

func encodeForm(params any) (string, error) {
	switch params := params.(type) {
	case encoded:
		return string(params), nil
	case url.Values:
		return params.Encode(), nil
	}
	v := reflect.ValueOf(params)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Invalid: // nil, or a nil pointer
		return "", nil
	case reflect.Struct:
		if err := checkStruct(v, v.Type().String(), 0); err != nil {
			return "", err
		}
		values, err := query.Values(v.Interface())
		if err != nil {
			return "", fmt.Errorf("go-querystring refuses %s", v.Type())
		}
		return values.Encode(), nil
	case reflect.Map, reflect.Slice:
		tree, err := phpform.FromAny(v.Interface())
		if err != nil {
			return "", fmt.Errorf("parameters: %w", err)
		}
		return phpform.Encode(tree), nil
	default:
		return "", fmt.Errorf("parameters must be a map, a struct or url.Values, not a %s", v.Type())
	}
}

// refuseAuth makes sure that the token of the call is the only one in it.
func refuseAuth(form string) error {
	for pair := range strings.SplitSeq(form, "&") {
		name, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			return errors.New("parameters: a name that is not URL-encoded")
		}
		name = strings.ToLower(phpName(name))
		if name == "auth" || name == "access_token" {
			return errors.New("parameters: the client adds the token itself; leave auth and access_token out")
		}
	}
	return nil
}

// phpName returns the parameter to which a name belongs as PHP reads it: without leading spaces, up to the first bracket or NUL
// byte, dots and spaces as underscores.
func phpName(name string) string {
	name = strings.TrimLeft(name, " ")
	if i := strings.IndexAny(name, "[\x00"); i >= 0 {
		name = name[:i]
	}
	return strings.NewReplacer(".", "_", " ", "_").Replace(name)
}

const maxStructDepth = 16

// checkStruct refuses what go-querystring writes in a way that the portal misreads, and cycles, on which it would not end.
func checkStruct(v reflect.Value, path string, depth int) error {
	if depth > maxStructDepth {
		return fmt.Errorf("%s nests deeper than %d structs", path, maxStructDepth)
	}
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		tag := sf.Tag.Get("url")
		if tag == "-" || (!sf.IsExported() && !sf.Anonymous) {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		field := fieldInfo{path: path + "." + sf.Name, options: strings.Split(options, ","), del: sf.Tag.Get("del")}
		value := v.Field(i)
		if field.has("omitempty") && isNil(value) {
			continue
		}
		if !sf.IsExported() && name == "" {
			// An embedded unexported struct: its exported fields count as the outer's. Nothing else of the kind is sent.
			value = reflect.Indirect(value)
			if !value.IsValid() || value.Kind() != reflect.Struct {
				return fmt.Errorf("%s is embedded and unexported; give it a name", field.path)
			}
		}
		if err := field.check(value, depth); err != nil {
			return err
		}
	}
	return nil
}

func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
		return v.IsNil()
	default:
		return false
	}
}

type fieldInfo struct {
	path    string
	options []string
	del     string
}

func (f fieldInfo) has(option string) bool { return slices.Contains(f.options, option) }

// list tells whether a slice goes out as one parameter, or as several that PHP tells apart.
func (f fieldInfo) list() bool {
	return f.del != "" || f.has("brackets") || f.has("comma") || f.has("space") || f.has("semicolon")
}

func (f fieldInfo) check(v reflect.Value, depth int) error {
	if v.Type().Implements(reflect.TypeFor[query.Encoder]()) {
		return nil // it knows what it does
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return checkStruct(v, f.path, depth+1)
	case reflect.Slice, reflect.Array:
		if v.Len() == 0 {
			return nil
		}
		if !f.list() {
			return fmt.Errorf("%s is a slice; add the option brackets or comma to its url tag, or PHP keeps only the last element", f.path)
		}
		for i := range v.Len() {
			if err := f.checkScalar(reflect.Indirect(v.Index(i))); err != nil {
				return err
			}
		}
		return nil
	default:
		return f.checkScalar(v)
	}
}

func (f fieldInfo) checkScalar(v reflect.Value) error {
	if v.Kind() == reflect.Interface {
		if v.IsNil() {
			return fmt.Errorf("%s is nil, which go-querystring writes as text; add the option omitempty to its url tag", f.path)
		}
		v = v.Elem()
	}
	if v.IsValid() && v.Type().Implements(reflect.TypeFor[fmt.Formatter]()) {
		return fmt.Errorf("%s prints itself in a form of its own, as redacted secrets do; make it a string", f.path)
	}
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Bool:
		if !f.has("int") {
			return fmt.Errorf(`%s is a bool; add the option int to its url tag, since PHP takes the text "false" for true`, f.path)
		}
	case reflect.Struct:
		if v.Type() != reflect.TypeFor[time.Time]() {
			return fmt.Errorf("%s holds a %s, which go-querystring cannot write there; use a map for these parameters", f.path, v.Type())
		}
	case reflect.Map, reflect.Slice, reflect.Array, reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Func,
		reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return fmt.Errorf("%s holds a %s, which go-querystring cannot write; use a map for these parameters", f.path, v.Type())
	default:
	}
	return nil
}
