package rest

import (
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/b24events/b24events/internal/params"
)

// Ordered is parameters whose order counts, for methods that take their arguments by position. The
// portal gives the first parameter to the first argument and so on, and ignores the names:
//
//	rest.Ordered{rest.Arg("TASKID", 8017), rest.Arg("ITEMID", 3157)}
//
// These methods are task.commentitem.*, task.checklistitem.*, task.elapseditem.*, task.item.* and
// task.comment.add: their pages ask to keep the order of the table. A map would be sent in the
// order of its keys, ITEMID before TASKID. For all other methods the order does not matter, except
// inside a parameter such as order, which may be an Ordered too:
//
//	map[string]any{"order": rest.Ordered{rest.Arg("STAGE_ID", "ASC"), rest.Arg("ID", "DESC")}}
//
// A form cannot carry nil and empty lists. If an argument is one of these, it is refused when
// another argument follows, because that one would take its place. Leave out optional arguments
// only at the end. [All] adds the position of the page as an argument, so it does not work with
// these methods.
type Ordered []Argument

// Argument is one parameter of an [Ordered]. [Arg] makes it.
type Argument struct {
	Name  string
	Value any // as in a map of parameters
}

// Arg returns a parameter for an [Ordered].
func Arg(name string, value any) Argument { return Argument{Name: name, Value: value} }

// All returns the names and values in their order. Parameters of any other type with this method
// are sent in the order of All too.
func (o Ordered) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, arg := range o {
			if !yield(arg.Name, arg.Value) {
				return
			}
		}
	}
}

// encoded is a form that has been made of parameters. Only this package makes these.
type encoded params.Form

// encodeParams writes the parameters of a call as a form. Its errors name types and fields, never
// values. refs writes references to commands of the batch; it is nil for a single call.
func encodeParams(p any, refs params.Special) (params.Form, error) {
	if form, ok := p.(encoded); ok {
		return params.Form(form), nil
	}
	special := refs
	if refs == nil {
		special = noReferences
	}
	form, err := params.EncodeStreams(p, special, streamOf)
	if err != nil {
		return params.Form{}, fmt.Errorf("parameters: %w", err)
	}
	if refs != nil && len(form.Gaps) > 0 {
		return params.Form{}, errors.New("parameters: a File needs a request of its own; call this method by itself")
	}
	return form, refuseAuth(form.Text)
}

func noReferences(v any) (string, bool, error) {
	if _, ok := v.(Ref); ok {
		return "", true, errors.New("a Ref stands for a result only in later commands of its batch")
	}
	return "", false, nil
}

// refuseAuth makes sure that the call holds no other token.
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

// phpName returns the parameter to which a name belongs as PHP reads it: without leading spaces, up
// to the first bracket or NUL byte, dots and spaces as underscores.
func phpName(name string) string {
	name = strings.TrimLeft(name, " ")
	if i := strings.IndexAny(name, "[\x00"); i >= 0 {
		name = name[:i]
	}
	return strings.NewReplacer(".", "_", " ", "_").Replace(name)
}
