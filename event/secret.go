package event

import (
	"fmt"
	"log/slog"
)

// redacted stands wherever a secret would be printed.
const redacted = "[redacted]"

// Secret is a token or another credential. Every way of printing it (fmt verbs, JSON, text, slog) yields "[redacted]", so a
// struct that holds one can be logged whole. Convert it to string to use it: string(s).
type Secret string

// String returns "[redacted]", or "" for an empty secret, so that a log shows whether one was there.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format redacts under every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText redacts in JSON, XML and other text encodings.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
