package event

import (
	"fmt"

	"github.com/b24events/b24events/internal/phpform"
)

// valueOf turns a payload struct, or nested maps, slices and scalars, into the tree that would
// decode to it.
func valueOf(v any) (phpform.Value, error) {
	tree, err := rules.Encode(v)
	if err != nil {
		return phpform.Value{}, fmt.Errorf("event: %w", err)
	}
	return tree, nil
}
