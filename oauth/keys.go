package oauth

import (
	"context"
	"iter"
)

// pageSize is how many keys Keys asks for at a time.
const pageSize = 200

// Keys returns an iterator over the keys of one application in a store, by portal and user. It
// reads them page by page and keeps nothing open in between. So the body of the loop may be slow,
// and may write and delete. An error ends the iteration; its Key is zero.
func Keys(ctx context.Context, store Store, clientID string) iter.Seq2[Key, error] {
	return keysAfter(ctx, store, Key{ClientID: clientID})
}

func keysAfter(ctx context.Context, store Store, after Key) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		after := after // each iteration starts from the beginning
		for {
			page, err := store.List(ctx, after, pageSize)
			if err != nil {
				yield(Key{}, err)
				return
			}
			for _, key := range page {
				if !yield(key, nil) {
					return
				}
			}
			if len(page) < pageSize {
				return
			}
			after = page[len(page)-1]
		}
	}
}

// userKeys returns an iterator over the keys of a portal's users.
func userKeys(ctx context.Context, store Store, portal Key) iter.Seq2[Key, error] {
	portal.UserID = 0
	return func(yield func(Key, error) bool) {
		for key, err := range keysAfter(ctx, store, portal) {
			if err == nil && key.MemberID != portal.MemberID || !yield(key, err) {
				return
			}
		}
	}
}
