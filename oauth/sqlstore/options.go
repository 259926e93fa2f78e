package sqlstore

import (
	"regexp"

	"github.com/b24events/b24events/oauth"
)

// DefaultTablePrefix is the prefix of the names of the tables, unless [WithTablePrefix] is given.
const DefaultTablePrefix = "b24events_"

// Option configures [New] and [DDL].
type Option func(*config) error

type config struct {
	schema   string // of the tables; empty means the schema of the connection
	prefix   string // of the tables
	codec    []oauth.CodecOption
	migrates bool
	unsynced bool // commits need not survive a power failure
}

// Statements quote names. These patterns allow names that a DBA can type without quotes, and in
// addition the hyphens of the names of MySQL databases.
var (
	prefixes = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	schemas  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)
)

// WithTablePrefix sets the prefix of the names of the tables: a lower-case letter, followed by up
// to 31 lower-case letters, digits and underscores. The default is [DefaultTablePrefix]. Stores
// with different prefixes share nothing, not even leases.
func WithTablePrefix(prefix string) Option {
	return func(cfg *config) error {
		if !prefixes.MatchString(prefix) {
			return configError("WithTablePrefix: a prefix has a lower-case letter and up to 31 lower-case letters, digits and underscores")
		}
		cfg.prefix = prefix
		return nil
	}
}

// WithSchema sets the schema of the tables, which on MySQL is their database. It must exist.
// Without the option, the tables are in the first schema of search_path, or in the database of the
// DSN. The name has up to 63 letters, digits, underscores and hyphens, and begins with a letter or
// an underscore. SQLite has no schemas.
func WithSchema(name string) Option {
	return func(cfg *config) error {
		if !schemas.MatchString(name) {
			return configError("WithSchema: a name has up to 63 letters, digits, underscores and hyphens, the first a letter or an underscore")
		}
		cfg.schema = name
		return nil
	}
}

// WithCodec sets how installations are written, for example encrypted by [oauth.WithEncryptionKey].
// Without it, the database holds tokens in clear. The options of several calls are combined. See
// [oauth.WithEncryptionKey] for how to change keys.
func WithCodec(opts ...oauth.CodecOption) Option {
	return func(cfg *config) error {
		cfg.codec = append(cfg.codec, opts...)
		return nil
	}
}

// WithoutMigration makes [New] create and change no tables. New then returns [ErrSchema] if they
// are missing or old. Use it if the program's database user may not create tables; a DBA runs what
// [DDL] returns.
func WithoutMigration() Option {
	return func(cfg *config) error {
		cfg.migrates = false
		return nil
	}
}

// WithUnsyncedCommits accepts a database that confirms a commit before it is on the disk, which
// [New] refuses otherwise. After a power failure the last refresh tokens may be missing. They work
// once, so those portals must then install the application again. The option is for tests.
func WithUnsyncedCommits() Option {
	return func(cfg *config) error {
		cfg.unsynced = true
		return nil
	}
}

func newConfig(opts []Option) (config, error) {
	cfg := config{prefix: DefaultTablePrefix, migrates: true}
	for _, opt := range opts {
		if opt == nil {
			continue
		}
		if err := opt(&cfg); err != nil {
			return config{}, err
		}
	}
	return cfg, nil
}
