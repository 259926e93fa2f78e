package params

import "errors"

// Stream is a value that is too large for a form in memory, such as a file. The form has a [Gap]
// for its content.
type Stream struct {
	Name    string // of the file
	Named   bool   // the value is a list of the name and the content, and not only the content
	Content any    // what fills the gap; must not be nil
}

// Gap is a place in the text of a form at which the content of a [Stream] is missing. The sender of
// the form writes the content there as base64, escaped like the text.
type Gap struct {
	At      int // the content goes before Text[At]
	Content any // that of the stream
}

// Streams recognizes values that are streams. ok is false for all others.
type Streams func(v any) (s Stream, ok bool)

// EncodeStreams is [Encode] for parameters that may hold streams.
func EncodeStreams(v any, special Special, streams Streams) (Form, error) {
	return encode(v, encoder{special: special, streams: streams})
}

// stream writes the name of a stream and leaves a gap for its content.
func (e *encoder) stream(s Stream) error {
	switch {
	case s.Content == nil:
		return errors.New("a file without content: use a constructor of the file")
	case e.level == 0:
		return errNotWhole
	case !s.Named:
		return e.gap(s.Content)
	case s.Name == "":
		return errors.New("a file without a name; for a field that takes only the content, pass its Content")
	}
	if err := e.child("0", func() error { return e.text(s.Name, nil) }); err != nil {
		return err
	}
	return e.child("1", func() error { return e.gap(s.Content) })
}

func (e *encoder) gap(content any) error {
	err := e.pair("", nil)
	e.gaps = append(e.gaps, Gap{At: len(e.form), Content: content})
	return err
}
