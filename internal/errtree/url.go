package errtree

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// WithoutURL removes the address from an HTTP client's error, because it may hold a token. It
// returns other errors as they are.
func WithoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return fmt.Errorf("%s request: %w", strings.ToLower(ue.Op), ue.Err)
	}
	return err
}
