package oauth

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
)

var _ Lister = (*MemoryStore)(nil)

// Keys yields the keys of what the store held when the iteration began, sorted by portal and user. See [Lister].
func (s *MemoryStore) Keys(ctx context.Context) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		s.mu.Lock()
		keys := slices.Collect(maps.Keys(s.rows))
		s.mu.Unlock()
		slices.SortFunc(keys, func(a, b Key) int {
			return cmp.Or(cmp.Compare(a.MemberID, b.MemberID), cmp.Compare(a.UserID, b.UserID))
		})
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield(Key{}, err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}
