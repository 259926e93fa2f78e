package oauth

import (
	"context"
	"iter"
)

// Lister is what a [Store] may offer besides: the keys of everything it holds, for what must visit every portal, such as a
// program's start. [FileStore] and [MemoryStore] are Listers.
type Lister interface {
	// Keys yields each key once, in no order that counts. What is created or deleted in the meantime may be among them or
	// not. An error comes with a zero Key. It stands for one installation whose key cannot be told, and the next ones follow;
	// an error of the whole listing, such as the context's, is the last.
	Keys(ctx context.Context) iter.Seq2[Key, error]
}
