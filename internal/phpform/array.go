package phpform

import "sync/atomic"

// array is the content of an Array that was built. The index is a cache: the first search in a
// large array makes it.
type array struct {
	entries []Entry
	index   atomic.Pointer[map[string]int]
}

// find returns the position of key, or -1.
func (a *array) find(key string) int {
	n := len(a.entries)
	if n <= smallArray {
		for i := range a.entries {
			if a.entries[i].Key == key {
				return i
			}
		}
		return -1
	}
	if i, ok := listIndex(key, n); ok && a.entries[i].Key == key {
		return i
	}
	at := a.index.Load()
	if at == nil {
		at = a.buildIndex() // two goroutines may build it at once, but both build the same
	}
	if i, ok := (*at)[key]; ok {
		return i
	}
	return -1
}

func (a *array) buildIndex() *map[string]int {
	at := make(map[string]int, len(a.entries))
	for i := range a.entries {
		if _, dup := at[a.entries[i].Key]; !dup {
			at[a.entries[i].Key] = i
		}
	}
	a.index.Store(&at)
	return &at
}
