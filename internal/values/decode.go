package values

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/jsonlex"
	"github.com/b24events/b24events/internal/phpform"
)

// Report lists what did not fit.
type Report struct {
	Misfits []Misfit // in the order of the fields, at most [MaxMisfits]
	More    int      // how many misfits are not listed

	objects, fields int
	member          string
}

// Blank reports whether the outermost objects have members and fill structs, but no member has a
// field. It also returns the name of a member, or "" if the name does not look like an identifier.
func (r *Report) Blank() (member string, blank bool) {
	return r.member, r.objects > 0 && r.fields == 0
}

// Decode fills dst, a non-nil pointer, from v. Types with their own rules receive the owner. An
// error is a bug in the program: dst is not a pointer, or its type fails [Rules.Check].
func (r *Rules) Decode(v phpform.Value, owner, dst any) (Report, error) {
	return r.decode(node{v: v}, owner, dst)
}

// Unmarshal fills dst, a non-nil pointer, from a JSON document. In an any, it stores what
// encoding/json would. Types with their own rules receive the owner. It returns the errors of
// [Rules.Decode], and [ErrSyntax].
func (r *Rules) Unmarshal(doc []byte, owner, dst any) (Report, error) {
	d, err := parse(string(doc))
	if err != nil {
		return Report{}, err
	}
	return r.decode(node{doc: d}, owner, dst)
}

func (r *Rules) decode(n node, owner, dst any) (Report, error) {
	rv := reflect.ValueOf(dst)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return Report{}, fmt.Errorf("cannot decode into a %T; pass a non-nil pointer", dst)
	}
	p := r.plan(rv.Type().Elem())
	if p.bad != nil {
		return Report{}, p.bad
	}
	d := decoder{owner: owner}
	d.fill(n, rv.Elem(), p)
	return d.report, nil
}

// decoder is one call of Decode or Unmarshal.
type decoder struct {
	owner  any
	report Report
	inside bool // the current value is within a struct
	level  int  // how many values the current one is in
}

// misfit records that the current value does not fit, and returns false. The values around it
// complete the path.
func (d *decoder) misfit(want string) bool {
	if len(d.report.Misfits) == MaxMisfits {
		d.report.More++
		return false
	}
	d.report.Misfits = append(d.report.Misfits, Misfit{Want: want})
	return false
}

// maxLevels bounds the paths of misfits, so that reporting a deep document takes no longer than
// reading it. The end of a longer path becomes a star.
const maxLevels = 64

// within puts a key before the paths of the misfits from the position from on.
func (d *decoder) within(from int, key string) {
	if d.level > maxLevels {
		key = "*"
	}
	for i := from; i < len(d.report.Misfits); i++ {
		switch m := &d.report.Misfits[i]; {
		case key == "":
		case m.Path == "", d.level > maxLevels:
			m.Path = key
		default:
			m.Path = key + "." + m.Path
		}
	}
}

// printable returns a key for a path. A key that does not look like an identifier, which the sender
// chose, becomes a star.
func printable(key string) string {
	const longest = 32
	if key == "" || len(key) > longest {
		return "*"
	}
	for _, c := range []byte(key) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' {
			return "*"
		}
	}
	return key
}

// maxNesting bounds how deep values are filled. Documents do not nest deeper. But a single value
// fills a list, so a type such as []T that is its own T would never end.
const maxNesting = 2 * maxDepth

// fill sets rv from a node. It returns true if the node fits, perhaps with misfits inside. If the
// node itself does not fit, it returns false and does not change rv.
func (d *decoder) fill(n node, rv reflect.Value, p *plan) bool {
	if d.level == maxNesting {
		return d.misfit("nested less deeply")
	}
	d.level++
	fits := d.fillBy(n, rv, p)
	d.level--
	return fits
}

func (d *decoder) fillBy(n node, rv reflect.Value, p *plan) bool {
	switch p.fill {
	case fillSpecial:
		v, ok := n.value()
		if !ok {
			return d.misfit("nested less deeply")
		}
		p.special.Decode(d.owner, rv.Addr().Interface(), v)
		return true
	case fillRaw:
		rv.SetBytes(n.appendJSON(nil))
		return true
	case fillMethods:
		return d.fillMethods(n, rv, p)
	case fillPointer:
		return d.fillPointer(n, rv, p)
	case fillAny:
		return d.fillAny(n, rv)
	case fillStruct:
		return d.fillStruct(n, rv, p)
	case fillMap:
		return d.fillMap(n, rv, p)
	case fillSlice:
		return d.fillSlice(n, rv, p)
	case fillArray:
		return d.fillArray(n, rv, p)
	default:
		return d.fillScalar(n, rv, p)
	}
}

func (d *decoder) fillScalar(n node, rv reflect.Value, p *plan) bool {
	if n.kind() == kindArray && !n.isEmpty() {
		return d.misfit("a single value")
	}
	if p.fill == fillString {
		if text := n.kept(); text != "" || n.kind() == kindString {
			rv.SetString(text) // also "undefined", so that it stays readable
		}
		return true
	}
	if n.isEmpty() {
		return true
	}
	text := spaceless(n.text())
	switch p.fill {
	case fillBool:
		b, ok := parseBool(text)
		if !ok {
			return d.misfit("a flag (Y, N, 1, 0)")
		}
		rv.SetBool(b)
	case fillInt:
		i, ok := parseInt(text)
		if !ok || rv.OverflowInt(i) {
			return d.misfit("an integer of " + strconv.Itoa(p.typ.Bits()) + " bits")
		}
		rv.SetInt(i)
	case fillUint:
		i, ok := parseUint(text)
		if !ok || rv.OverflowUint(i) {
			return d.misfit("an unsigned integer of " + strconv.Itoa(p.typ.Bits()) + " bits")
		}
		rv.SetUint(i)
	case fillFloat:
		f, ok := parseFloat(text, p.typ.Bits())
		if !ok {
			return d.misfit("a number that fits a " + p.typ.Kind().String())
		}
		rv.SetFloat(f)
	case fillNumber:
		if !jsonlex.IsNumber(text) {
			return d.misfit("a number")
		}
		rv.SetString(strings.Clone(text))
	case fillBytes:
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return d.misfit("text in base64")
		}
		rv.SetBytes(b)
	case fillTime:
		return d.fillTime(text, rv)
	default:
		return d.misfit("a " + p.typ.String())
	}
	return true
}

func (d *decoder) fillTime(text string, rv reflect.Value) bool {
	if noDate(text) {
		return true
	}
	t, ok := parseTime(text)
	if !ok {
		return d.misfit("a time")
	}
	setTime(rv, t)
	return true
}

func parseBool(text string) (value, ok bool) {
	switch text {
	case "Y", "y", "1", "true", "TRUE":
		return true, true
	case "N", "n", "0", "false", "FALSE":
		return false, true
	default:
		return false, false
	}
}

// fillPointer sets a pointer to nil if the value is empty. But an empty text is a value for a
// *string, and false is one for a *bool.
func (d *decoder) fillPointer(n node, rv reflect.Value, p *plan) bool {
	if n.isEmpty() {
		switch kind := n.kind(); {
		case kind == kindString && p.elem.fill == fillString:
		case kind == kindBool && p.elem.fill == fillBool:
		case kind != kindNull && n.doc != nil && p.elem.byJSON:
			target := reflect.New(p.elem.typ)
			if !unmarshal(n, target, p.elem) {
				target = reflect.Zero(p.typ)
			}
			rv.Set(target)
			return true
		default:
			rv.SetZero()
			return true
		}
	}
	if !rv.IsNil() {
		return d.fill(n, rv.Elem(), p.elem)
	}
	target := reflect.New(p.elem.typ)
	if !d.fill(n, target.Elem(), p.elem) {
		return false
	}
	rv.Set(target)
	return true
}

func (d *decoder) fillMethods(n node, rv reflect.Value, p *plan) bool {
	if n.isEmpty() {
		if n.doc != nil && p.byJSON && !unmarshal(n, rv.Addr(), p) {
			rv.SetZero() // it may be half filled
		}
		return true
	}
	if !unmarshal(n, rv.Addr(), p) {
		rv.SetZero() // it may be half filled
		return d.misfit("a " + p.typ.String())
	}
	return true
}

// unmarshal calls the methods of a type until one succeeds. It drops their errors, which may quote
// the value. JSON goes to UnmarshalJSON first, as it arrived, and the scalars of a form go to
// UnmarshalText first. As a last try, a number in quotes goes to UnmarshalJSON without them,
// because a form and many results have only such numbers.
func unmarshal(n node, target reflect.Value, p *plan) bool {
	if n.doc == nil && unmarshalText(n, target, p) || unmarshalJSON(n.appendJSON(nil), target, p) {
		return true
	}
	if n.doc != nil && unmarshalText(n, target, p) {
		return true
	}
	return n.kind() == kindString && jsonlex.IsNumber(n.text()) && unmarshalJSON([]byte(n.text()), target, p)
}

func unmarshalText(n node, target reflect.Value, p *plan) bool {
	if !p.byText || n.kind() == kindArray {
		return false
	}
	t, _ := reflect.TypeAssert[encoding.TextUnmarshaler](target)
	return t.UnmarshalText([]byte(n.text())) == nil
}

func unmarshalJSON(doc []byte, target reflect.Value, p *plan) bool {
	if !p.byJSON {
		return false
	}
	t, _ := reflect.TypeAssert[json.Unmarshaler](target)
	return t.UnmarshalJSON(doc) == nil
}

func (d *decoder) fillAny(n node, rv reflect.Value) bool {
	tree, ok := n.tree()
	if !ok {
		return d.misfit("of numbers of 64 bits")
	}
	if tree == nil {
		rv.SetZero()
	} else {
		rv.Set(reflect.ValueOf(tree))
	}
	return true
}

// fillSlice fills a slice from a list, from a list with gaps, which PHP leaves if an element was
// null, or from a single value, because a list of one event is a single value in another.
func (d *decoder) fillSlice(n node, rv reflect.Value, p *plan) bool {
	if n.kind() != kindArray {
		if n.isEmpty() {
			rv.SetZero()
			return true
		}
		s := reflect.MakeSlice(p.typ, 1, 1)
		if !d.fill(n, s.Index(0), p.elem) {
			return false
		}
		rv.Set(s)
		return true
	}
	size := n.len()
	s := reflect.MakeSlice(p.typ, size, size)
	if !d.fillList(n, s, p) {
		return false
	}
	rv.Set(s)
	return true
}

func (d *decoder) fillArray(n node, rv reflect.Value, p *plan) bool {
	if n.isEmpty() {
		return true
	}
	if n.kind() != kindArray {
		return p.typ.Len() > 0 && d.fill(n, rv.Index(0), p.elem)
	}
	rv.SetZero()
	return d.fillList(n, rv, p)
}

// fillList fills the elements of a slice or array from those of a list. They are in the order of
// their positions or, if the list has gaps, of their arrival.
func (d *decoder) fillList(n node, s reflect.Value, p *plan) bool {
	size, gaps := n.len(), false
	if !n.isJSONList() {
		for key := range n.each {
			i, ok := position(key)
			if !ok {
				return d.misfit("a list")
			}
			gaps = gaps || i >= size
		}
	}
	next := 0
	for key, child := range n.each {
		i := next
		next++
		if key != "" && !gaps {
			i, _ = position(key)
		}
		from := len(d.report.Misfits)
		if i < s.Len() {
			d.fill(child, s.Index(i), p.elem)
		} else if i == s.Len() {
			d.misfit("in a list of " + strconv.Itoa(s.Len()))
		}
		if len(d.report.Misfits) > from {
			d.within(from, strconv.Itoa(i))
		}
	}
	return true
}

func (d *decoder) fillMap(n node, rv reflect.Value, p *plan) bool {
	if n.kind() != kindArray {
		if n.isEmpty() {
			rv.SetZero()
			return true
		}
		return d.misfit("an object")
	}
	if rv.IsNil() {
		rv.Set(reflect.MakeMapWithSize(p.typ, n.len()))
	}
	key, elem := reflect.New(p.key.typ).Elem(), reflect.New(p.elem.typ).Elem()
	next := 0
	for name, child := range n.each {
		if n.isJSONList() {
			name = strconv.Itoa(next)
		}
		next++
		from := len(d.report.Misfits)
		key.SetZero()
		elem.SetZero()
		if d.fillKey(n, name, key, p.key) {
			d.fill(child, elem, p.elem)
			rv.SetMapIndex(key, elem)
		}
		if len(d.report.Misfits) > from {
			d.within(from, printable(name))
		}
	}
	return true
}

func (d *decoder) fillKey(n node, name string, key reflect.Value, p *plan) bool {
	if p.fill == fillString {
		if n.doc != nil {
			name = strings.Clone(name)
		}
		key.SetString(name)
		return true
	}
	if name == "" {
		return d.misfit("a " + p.typ.String())
	}
	return d.fill(node{v: phpform.Text(name)}, key, p)
}

func (d *decoder) fillStruct(n node, rv reflect.Value, p *plan) bool {
	if n.isEmpty() {
		return true
	}
	s := p.shape
	if n.kind() != kindArray && !s.scalar {
		return d.misfit("an object")
	}
	outermost := !d.inside
	d.inside = true
	var few [64]slot // enough for most structs, and on the stack
	slots := few[:min(len(s.keys), len(few))]
	if len(s.keys) > len(few) {
		slots = make([]slot, len(s.keys))
	}
	others := d.sort(n, s, slots)
	present := 0
	for i := range s.fields {
		f := &s.fields[i]
		if f.rest {
			d.fillRest(n, others, f.in(rv), f.plan)
			present++
			continue
		}
		if f.absent(slots) {
			continue
		}
		found, at := f.find(slots, &n)
		if at == nil {
			continue
		}
		present++
		from := len(d.report.Misfits)
		if f.quoted {
			found = found.unquoted()
		}
		d.fill(found, f.in(rv), f.plan)
		if len(d.report.Misfits) > from {
			d.within(from, at.spelled(n))
		}
	}
	d.inside = !outermost
	if present > 0 || len(s.fields) == 0 {
		if outermost {
			d.report.fields++
		}
		return true
	}
	if n.isList() {
		return d.misfit("an object")
	}
	if outermost {
		d.blank(n)
	}
	return true
}

// member is an element of an object.
type member struct {
	key  string
	node node
}

// sort puts the elements of a section into the slots of a shape. If the shape has a field for the
// rest, it returns the elements that no other field reads.
func (d *decoder) sort(n node, s *shape, slots []slot) (others []member) {
	if n.doc == nil {
		c := n.v.Cursor()
		for c.Next() {
			if !s.offer(slots, c.Key, c.Position()) && s.rest >= 0 {
				others = append(others, member{c.Key, node{v: c.Value}})
			}
		}
		return others
	}
	next := 0
	for key, child := range n.each {
		if n.isJSONList() {
			key = strconv.Itoa(next)
		}
		next++
		if !s.offer(slots, key, child.at) && s.rest >= 0 {
			others = append(others, member{key, child})
		}
	}
	return others
}

// fillRest fills the field for the elements that no other field reads.
func (d *decoder) fillRest(n node, others []member, rv reflect.Value, p *plan) {
	switch {
	case len(others) == 0 && p.fill != fillSpecial:
		return
	case n.doc == nil:
		entries := make([]phpform.Entry, len(others))
		for i, m := range others {
			entries[i] = phpform.Entry{Key: m.key, Value: m.node.v}
		}
		d.fill(node{v: phpform.Map(entries...)}, rv, p)
		return
	}
	text := []byte{'{'}
	for i, m := range others {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(phpform.Text(m.key).AppendJSON(text), ':')
		text = m.node.appendJSON(text)
	}
	if doc, err := parse(string(append(text, '}'))); err == nil {
		d.fill(node{doc: doc}, rv, p)
	}
}

// blank records an object without a known field.
func (d *decoder) blank(n node) {
	d.report.objects++
	if d.report.objects > 1 {
		return
	}
	for key := range n.each {
		if shown := printable(key); shown != "*" {
			d.report.member = strings.Clone(shown)
		}
		return
	}
}
