package event

import (
	"fmt"
	"log/slog"

	"github.com/b24events/b24events/internal/redact"
)

// Secret is a token or another credential. Every fmt verb, every text encoding (JSON, XML, YAML)
// and slog print "[redacted]", so a struct that holds one can be logged whole. To use it, convert
// it: string(s).
//
// A redacted secret cannot be read back. Code that stores secrets takes them out with string(s) and
// encrypts them. Binary encodings are for storing and sending, so encoding/gob and
// encoding.BinaryMarshaler fail with [ErrSecret] instead of writing a secret or "[redacted]".
//
// For Go, a Secret is a string: concatenation, comparison and conversion work on the secret itself.
// Package fmt calls no methods on unexported struct fields, so keep a Secret in an exported field,
// or behind a pointer, if the struct around it may be printed.
type Secret string

// String returns "[redacted]", or "" for an empty secret, so that a log shows whether there was
// one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redact.Mark
}

// Format redacts under every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText redacts in JSON, XML and other text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalBinary returns [ErrSecret].
func (s Secret) MarshalBinary() ([]byte, error) { return nil, ErrSecret }

// GobEncode returns [ErrSecret].
func (s Secret) GobEncode() ([]byte, error) { return nil, ErrSecret }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
