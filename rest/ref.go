package rest

import (
	"errors"
	"fmt"
	"strings"
)

// Ref is a parameter of a later command in a batch, which stands for a part of an earlier command's
// result. [Command.Ref] makes it. It may be a whole value anywhere in the parameters, also in
// nested maps, lists and structs, but not a part of a text. Nothing else refers to a result: a
// batch refuses a text that reads like $result[name].
//
// Outside its batch, a Ref is refused with [ErrBadCall]. So is the zero Ref.
type Ref struct {
	batch *Batch
	at    int // the position of the command
	text  string
}

// Ref returns a reference to a part of the command's result. The elements of the path are keys of
// objects and positions in lists. Without a path it refers to the whole result.
func (c *Command[T]) Ref(path ...string) Ref {
	var text strings.Builder
	text.WriteString("$result[" + c.item.name + "]")
	for _, key := range path {
		if key == "" || strings.ContainsAny(key, "[] \t\n\v\f\r") {
			c.batch.refuse(c.item.method, errors.New("the path of a reference holds an empty key, or one with brackets or space"))
		}
		text.WriteString("[" + key + "]")
	}
	return Ref{batch: c.batch, at: c.at, text: text.String()}
}

// Format prints that it is a reference, for every verb.
func (Ref) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("rest.Ref")) }

// refs writes the references in the parameters of a command that is about to be added, and records
// the commands to which they refer.
func (b *Batch) refs(i *item) func(v any) (string, bool, error) {
	return func(v any) (string, bool, error) {
		ref, ok := v.(Ref)
		switch {
		case !ok:
			return "", false, nil
		case ref.batch != b || ref.at >= len(b.items):
			return "", true, errors.New("a Ref of another batch")
		}
		i.refs = append(i.refs, ref.at)
		return ref.text, true, nil
	}
}
