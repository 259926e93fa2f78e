package oauth

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
)

// Keys yields the keys of the installations, sorted by file name. It reads no file unless the member id is an odd one, and
// decrypts nothing. See [Lister].
func (s *FileStore) Keys(ctx context.Context) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		entries, err := s.entries()
		if err != nil {
			yield(Key{}, err)
			return
		}
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(Key{}, err)
				return
			}
			key, known, ours := parseName(e.Name())
			if !ours {
				continue
			}
			if !known {
				key, err = s.keyIn(e.Name())
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// keyIn returns the key that a file is for.
func (s *FileStore) keyIn(name string) (Key, error) {
	data, err := s.read(name)
	if err != nil {
		return Key{}, err
	}
	file, err := parseHeader(data)
	if err != nil {
		return Key{}, named(name, err)
	}
	key := Key{MemberID: file.MemberID, UserID: file.UserID}
	if fileName(key) != name {
		return Key{}, named(name, unreadable("it belongs to another portal or user"))
	}
	return key, nil
}
