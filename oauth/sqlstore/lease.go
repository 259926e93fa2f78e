package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"time"
)

const (
	// MaxNameLength is the greatest length of the name of a lease, in bytes.
	MaxNameLength = 512
	// MaxOwnerLength is the greatest length of an owner, in bytes.
	MaxOwnerLength = 255

	// maxNames is how many leases one statement handles.
	maxNames = 1000
	// keepExpired is how long the row of an expired lease stays. If the database's clock is set back
	// by less, fences still grow.
	keepExpired = 10 * time.Minute
	// deleteInterval is how often a process looks for expired rows to delete.
	deleteInterval = time.Minute
	// maxDeleted is how many rows it deletes each time.
	maxDeleted = 1000
)

const (
	errName  Error = "sqlstore: a lease needs a name of 1 to 512 bytes"
	errOwner Error = "sqlstore: a lease needs an owner of 1 to 255 bytes"
	errTTL   Error = "sqlstore: a lease needs a time that is positive"
)

// Acquire takes the named leases for owner, or renews those that it holds, to ttl from now. It
// returns the names of those that owner then holds; other owners hold the rest. Names are compared
// byte by byte. It does not wait for leases.
//
// Each lease is taken or not, independently of the others. One statement takes up to 1,000. Only
// the database's clock counts, so the clocks of processes may be wrong. After an error leases may
// have been taken.
func (s *Store) Acquire(ctx context.Context, owner string, ttl time.Duration, names ...string) ([]string, error) {
	if ttl <= 0 {
		return nil, errTTL
	}
	const op = "acquire"
	micros := ttl.Microseconds() + 1000 // never less than ttl, though SQLite's clock counts milliseconds
	var held []string
	err := s.eachChunk(ctx, op, owner, names, func(chunk []string) error {
		args := make([]any, 0, 3*len(chunk)+3)
		for _, name := range chunk {
			args = append(args, []byte(name))
			if s.dialect.dialect == MySQL {
				args = append(args, []byte(owner), micros)
			}
		}
		statement := s.dialect.sql(s.cfg, s.dialect.acquire, len(chunk))
		if s.dialect.dialect != MySQL {
			taken, err := query(ctx, s, op, statement, append(args, []byte(owner), micros), scanName)
			held = append(held, taken...)
			return err
		}
		if _, err := s.exec(ctx, op, statement, append(args, []byte(owner), []byte(owner), micros)); err != nil {
			return err
		}
		fences, err := s.fences(ctx, op, owner, chunk)
		for _, f := range fences {
			held = append(held, f.name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.deleteExpired(ctx)
	slices.Sort(held)
	return held, nil
}

// Release ends the named leases that owner holds. It leaves those of others as they are. After an
// error leases may have ended.
func (s *Store) Release(ctx context.Context, owner string, names ...string) error {
	const op = "release"
	return s.eachChunk(ctx, op, owner, names, func(chunk []string) error {
		args := append(nameArgs(chunk), []byte(owner))
		if s.dialect.dialect == PostgreSQL {
			args = append(args, []byte(owner))
		}
		_, err := s.exec(ctx, op, s.dialect.sql(s.cfg, s.dialect.release, len(chunk)), args)
		return err
	})
}

// Held returns the leases in force whose names begin with prefix, with their owners.
func (s *Store) Held(ctx context.Context, prefix string) (map[string]string, error) {
	statement, args := heldSQL, []any{[]byte(prefix)}
	if end := afterPrefix(prefix); end != nil {
		statement, args = heldBelowSQL, append(args, end)
	}
	type lease struct{ name, owner []byte }
	leases, err := query(ctx, s, "held", s.sql(statement), args, func(rows *sql.Rows) (l lease, err error) {
		err = rows.Scan(&l.name, &l.owner)
		return l, err
	})
	if err != nil {
		return nil, err
	}
	owners := make(map[string]string, len(leases))
	for _, l := range leases {
		owners[string(l.name)] = string(l.owner)
	}
	return owners, nil
}

// Fences returns the fencing tokens of those of the named leases that owner holds, by name.
//
// A process that was frozen for a while can write something after its lease has ended, when another
// owner works already. No lease can prevent that, but the store that it writes to can. Read the
// token once after Acquire and send it with every write. The store refuses a token that is less
// than the greatest that it has seen:
//
//	UPDATE account SET balance = ?, fence = ? WHERE id = ? AND fence <= ?
//
// The token of a lease is positive and grows whenever the lease is taken, whether by another owner
// or by the same one after it had ended. Renewing a lease does not change it. It is the database's
// time in microseconds since 1970, or more. So it also grows if the row of the lease was deleted,
// or if the database was restored from a backup. It does not grow if the database's clock is set
// back by more than ten minutes.
func (s *Store) Fences(ctx context.Context, owner string, names ...string) (map[string]int64, error) {
	const op = "fences"
	tokens := make(map[string]int64)
	err := s.eachChunk(ctx, op, owner, names, func(chunk []string) error {
		fences, err := s.fences(ctx, op, owner, chunk)
		for _, f := range fences {
			tokens[f.name] = f.token
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

type fence struct {
	name  string
	token int64
}

// fences returns the leases of a chunk that owner holds.
func (s *Store) fences(ctx context.Context, op, owner string, chunk []string) ([]fence, error) {
	statement := s.dialect.sql(s.cfg, fencesSQL, len(chunk))
	return query(ctx, s, op, statement, append(nameArgs(chunk), []byte(owner)), func(rows *sql.Rows) (fence, error) {
		var name []byte
		var f fence
		err := rows.Scan(&name, &f.token)
		f.name = string(name)
		return f, err
	})
}

// eachChunk calls f with the names, sorted and each once, as many at a time as fit into one
// statement. All statements lock leases in this order, so that there is no deadlock.
func (s *Store) eachChunk(ctx context.Context, op, owner string, names []string, f func(chunk []string) error) error {
	if err := ctx.Err(); err != nil {
		return s.dialect.wrapError(ctx, op, err)
	}
	if owner == "" || len(owner) > MaxOwnerLength {
		return errOwner
	}
	for _, name := range names {
		if name == "" || len(name) > MaxNameLength {
			return errName
		}
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(names)))
	for chunk := range slices.Chunk(sorted, maxNames) {
		if err := f(chunk); err != nil {
			return err
		}
	}
	return nil
}

// deleteExpired deletes the rows of leases that expired a while ago, at most once in
// deleteInterval. If it fails, a later call deletes them.
func (s *Store) deleteExpired(ctx context.Context) {
	s.mu.Lock()
	due := time.Since(s.deletedAt) >= deleteInterval
	if due {
		s.deletedAt = time.Now()
	}
	s.mu.Unlock()
	if !due {
		return
	}
	const op = "sweep"
	kept := keepExpired.Microseconds()
	names, err := query(ctx, s, op, s.sql(expiredSQL), []any{kept, maxDeleted}, scanName)
	if err != nil || len(names) == 0 {
		return
	}
	slices.Sort(names)
	args := append(nameArgs(names), kept)
	if s.dialect.dialect == PostgreSQL {
		args = append(args, kept)
	}
	_, err = s.exec(ctx, op, s.dialect.sql(s.cfg, s.dialect.deleteExpired, len(names)), args)
	if err == nil && len(names) == maxDeleted { // the next Acquire deletes more
		s.mu.Lock()
		s.deletedAt = time.Time{}
		s.mu.Unlock()
	}
}

func scanName(rows *sql.Rows) (string, error) {
	var name []byte
	err := rows.Scan(&name)
	return string(name), err
}

func nameArgs(names []string) []any {
	args := make([]any, 0, len(names)+2)
	for _, name := range names {
		args = append(args, []byte(name))
	}
	return args
}

// afterPrefix returns the first name after all names that begin with prefix, or nil if there is
// none.
func afterPrefix(prefix string) []byte {
	end := []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) == 0 {
		return nil
	}
	end[len(end)-1]++
	return end
}
