package values

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/b24events/b24events/internal/phpform"
)

// MaxMisfits is how many misfits a [Report] lists. It counts the others.
const MaxMisfits = 100

// Misfit is a value that does not fit its target.
type Misfit struct {
	Path string // keys with dots between them; empty for the whole value
	Want string // what the target takes, such as "a number"
}

// Special says how to read and write a type with its own rules.
type Special struct {
	// Decode sets the target, a pointer to the type. The owner is that of the call of [Rules.Decode].
	// If Decode is nil, the type is read by its kind.
	Decode func(owner, target any, v phpform.Value)
	// Encode returns the tree for the source, a value of the type.
	Encode func(source any) phpform.Value
}

// Rules decodes and encodes values. It caches what it knows about types, and is safe for concurrent
// use.
type Rules struct {
	special map[reflect.Type]Special
	plans   sync.Map // reflect.Type → *plan
}

// New returns the rules. special has the types with their own rules. The caller must not change the
// map afterwards.
func New(special map[reflect.Type]Special) *Rules { return &Rules{special: special} }

// Check returns an error if no value can ever fill a t, for example because it has a channel or a
// tag with an unknown option. The error names the field.
func (r *Rules) Check(t reflect.Type) error { return r.plan(t).bad }

// fill is the way to fill a type.
type fill uint8

const (
	fillNever fill = iota
	fillSpecial
	fillTime
	fillNumber  // json.Number
	fillRaw     // json.RawMessage
	fillMethods // by UnmarshalJSON or UnmarshalText
	fillPointer
	fillAny
	fillStruct
	fillMap
	fillSlice
	fillBytes
	fillArray
	fillString
	fillBool
	fillInt
	fillUint
	fillFloat
)

// plan says how to fill a type. It is made once for each type.
type plan struct {
	typ     reflect.Type
	fill    fill
	special Special
	byJSON  bool // the type has UnmarshalJSON
	byText  bool // the type has UnmarshalText
	elem    *plan
	key     *plan
	shape   *shape
	reason  string // why this type itself can never be filled
	bad     error  // why this type, or one in it, can never be filled
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	numberType = reflect.TypeFor[json.Number]()
	rawType    = reflect.TypeFor[json.RawMessage]()
	jsonTarget = reflect.TypeFor[json.Unmarshaler]()
	textTarget = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (r *Rules) plan(t reflect.Type) *plan {
	if p, ok := r.plans.Load(t); ok {
		return p.(*plan) //nolint:forcetypeassert // only this function stores
	}
	b := builder{rules: r, made: make(map[reflect.Type]*plan)}
	p := b.plan(t)
	for _, made := range b.made {
		if field, reason := b.reason(made, make(map[*plan]bool)); reason != "" {
			made.bad = fmt.Errorf("%s%s: %s", made.typ, field, reason)
		}
	}
	for t, made := range b.made {
		r.plans.LoadOrStore(t, made)
	}
	return p
}

// builder makes plans of types, which may contain themselves.
type builder struct {
	rules *Rules
	made  map[reflect.Type]*plan
}

func (b *builder) plan(t reflect.Type) *plan {
	if p, ok := b.rules.plans.Load(t); ok {
		return p.(*plan) //nolint:forcetypeassert // only plans are stored
	}
	if p, ok := b.made[t]; ok {
		return p
	}
	p := &plan{typ: t}
	b.made[t] = p
	if special, ok := b.rules.special[t]; ok && special.Decode != nil {
		p.fill, p.special = fillSpecial, special
		return p
	}
	switch t {
	case timeType:
		p.fill = fillTime
	case numberType:
		p.fill = fillNumber
	case rawType:
		p.fill = fillRaw
	default:
		b.complete(p, t)
	}
	return p
}

// complete fills in the plan of a type without its own rules.
func (b *builder) complete(p *plan, t reflect.Type) {
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		target := reflect.PointerTo(t)
		p.byJSON, p.byText = target.Implements(jsonTarget), target.Implements(textTarget)
	}
	if p.byJSON || p.byText {
		p.fill = fillMethods
		return
	}
	switch kind := t.Kind(); kind {
	case reflect.Pointer:
		p.fill, p.elem = fillPointer, b.plan(t.Elem())
	case reflect.Struct:
		p.fill = fillStruct // before its fields, which may embed it
		p.shape = b.shape(t)
	case reflect.Map:
		p.fill, p.key, p.elem = fillMap, b.plan(t.Key()), b.plan(t.Elem())
		if !p.key.scalar() {
			p.reason = "no key fits a " + t.Key().String()
		}
	case reflect.Slice:
		p.fill, p.elem = fillSlice, b.plan(t.Elem())
		if t.Elem().Kind() == reflect.Uint8 && p.elem.fill == fillUint {
			p.fill = fillBytes
		}
	case reflect.Array:
		p.fill, p.elem = fillArray, b.plan(t.Elem())
	default:
		if p.fill = fillOf(t); p.fill == fillNever {
			p.reason = "no value fits a " + t.String()
		}
	}
}

func fillOf(t reflect.Type) fill {
	switch t.Kind() {
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return fillAny
		}
	case reflect.String:
		return fillString
	case reflect.Bool:
		return fillBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fillInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return fillUint
	case reflect.Float32, reflect.Float64:
		return fillFloat
	default:
	}
	return fillNever
}

// scalar reports whether a text can fill the type.
func (p *plan) scalar() bool {
	switch p.fill {
	case fillString, fillBool, fillInt, fillUint, fillFloat, fillNumber, fillTime:
		return true
	case fillMethods:
		return p.byText
	default:
		return false
	}
}

// takesObject reports whether an object can fill the type.
func (p *plan) takesObject() bool {
	switch p.fill {
	case fillSpecial, fillAny, fillMap, fillRaw:
		return true
	case fillMethods:
		return p.byJSON
	default:
		return false
	}
}

// reason returns why a type can never be filled, and the field that is the cause.
func (b *builder) reason(p *plan, seen map[*plan]bool) (field, reason string) {
	if p == nil || seen[p] {
		return "", ""
	}
	seen[p] = true
	switch {
	case p.reason != "":
		return "", p.reason
	case p.shape != nil:
		if p.shape.reason != "" {
			return "." + p.shape.reasonField, p.shape.reason
		}
		for i := range p.shape.fields {
			f := &p.shape.fields[i]
			if field, reason = b.reason(f.plan, seen); reason != "" {
				return "." + f.name + field, reason
			}
		}
		return "", ""
	}
	if field, reason = b.reason(p.key, seen); reason != "" {
		return field, reason
	}
	return b.reason(p.elem, seen)
}
