package pgstore

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// key identifies a record: its ID in the order of commits, and the random tag of its commit. The
// tag is for failovers. If a server takes over that does not have the newest commits, it gives
// their IDs again. Marks for the old records must not hit the new ones.
type key struct {
	id  int64
	tag int32
}

// perCommit is how many IDs one value of the sequence provides.
const perCommit = 1024

// String returns the ID that callers see.
func (k key) String() string {
	return strconv.FormatInt(k.id, 10) + "-" + fmt.Sprintf("%08x", uint32(k.tag)) //nolint:gosec // the bits count
}

// parseKey parses an ID. It accepts only what String returns.
func parseKey(s string) (key, bool) {
	left, right, found := strings.Cut(s, "-")
	if !found || len(right) != 8 {
		return key{}, false
	}
	id, err := strconv.ParseInt(left, 10, 64)
	if err != nil {
		return key{}, false
	}
	tag, err := strconv.ParseUint(right, 16, 32)
	if err != nil {
		return key{}, false
	}
	k := key{id: id, tag: int32(tag)} //nolint:gosec // the bits count
	return k, k.String() == s
}

// columns splits keys into arrays for a statement. The arrays are not nil.
func columns(keys []key) (ids []int64, tags []int32) {
	ids, tags = make([]int64, len(keys)), make([]int32, len(keys))
	for i, k := range keys {
		ids[i], tags[i] = k.id, k.tag
	}
	return ids, tags
}

// newTag returns the random tag of a commit.
func newTag() int32 { return int32(rand.Uint32()) } //nolint:gosec // it guards against chance, not against people
