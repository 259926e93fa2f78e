package program

import (
	"encoding/hex"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/b24events/b24events/oauth"
)

// Values holds the settings by the names of their flags.
type Values map[string]string

// Split splits a list at commas and white space.
func Split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}

// List is [Split] of a value.
func (v Values) List(name string) []string { return Split(v[name]) }

// On reports whether a switch is on.
func (v Values) On(name string) bool {
	on, _ := strconv.ParseBool(v[name]) // Parse has checked it
	return on
}

// Number returns a value as a whole number of at least least.
func (v Values) Number(name string, least int) (int, error) {
	n, err := strconv.Atoi(v[name])
	if err != nil || n < least {
		return 0, Usage("-%s must be a number, %d or more", name, least)
	}
	return n, nil
}

// Duration returns a value as a duration of at least least.
func (v Values) Duration(name string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v[name])
	if err != nil || d < least {
		return 0, Usage("-%s must be a duration such as 90s or 10m, %v or more", name, least)
	}
	return d, nil
}

// Key returns the setting key, which encrypts what is stored, or nil if it is empty. Errors show no
// part of it.
func (v Values) Key() ([]byte, error) {
	if v["key"] == "" {
		return nil, nil
	}
	key, err := hex.DecodeString(v["key"])
	if err != nil || len(key) != oauth.EncryptionKeySize {
		return nil, Usage("B24_KEY must be %d hexadecimal digits, such as those that openssl rand -hex %d prints",
			2*oauth.EncryptionKeySize, oauth.EncryptionKeySize)
	}
	return key, nil
}

// Logger returns the logger that log-format selects. It logs from the level least on.
func (v Values) Logger(w io.Writer, least slog.Level) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: least}
	switch v["log-format"] {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(escaping{w}, options)), nil
	default:
		return nil, Usage("the log format must be text or json")
	}
}

// Data returns the folder for state: the setting data, or else b24events in XDG_STATE_HOME, in
// LocalAppData on Windows, or in .local/state of the user's home.
func (v Values) Data() (string, error) {
	if v["data"] != "" {
		return v["data"], nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" && runtime.GOOS == "windows" {
		state = os.Getenv("LocalAppData")
	}
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", Usage("there is no default folder for state; set B24_DATA")
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "b24events"), nil
}
