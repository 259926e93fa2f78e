package oauth

import (
	"iter"
	"slices"
)

// maxRun is the length at which a run of a keyIndex is split.
const maxRun = 512

// keyIndex is an ordered set of keys. The zero keyIndex is empty. It keeps the keys in runs of
// limited length, so that inserting or removing one of very many keys moves few of them.
type keyIndex struct {
	runs [][]Key // no run is empty; all keys of one come before those of the next
}

// find returns the run that key belongs to, its index in the run, and whether key is there.
func (x *keyIndex) find(key Key) (run, place int, found bool) {
	run, starts := slices.BinarySearchFunc(x.runs, key, func(r []Key, key Key) int { return r[0].compare(key) })
	switch {
	case starts:
		return run, 0, true
	case run == 0: // before all others
		return 0, 0, false
	}
	place, found = slices.BinarySearchFunc(x.runs[run-1], key, Key.compare)
	return run - 1, place, found
}

func (x *keyIndex) insert(key Key) {
	run, place, found := x.find(key)
	switch {
	case found:
		return
	case len(x.runs) == 0:
		x.runs = [][]Key{{key}}
		return
	}
	r := slices.Insert(x.runs[run], place, key)
	x.runs[run] = r
	if len(r) >= maxRun {
		second := slices.Clone(r[maxRun/2:])
		x.runs[run] = slices.Clip(r[:maxRun/2])
		x.runs = slices.Insert(x.runs, run+1, second)
	}
}

func (x *keyIndex) remove(key Key) {
	run, place, found := x.find(key)
	if !found {
		return
	}
	x.runs[run] = slices.Delete(x.runs[run], place, place+1)
	if len(x.runs[run]) == 0 {
		x.runs = slices.Delete(x.runs, run, run+1)
	}
}

// after returns an iterator over the keys that follow key.
func (x *keyIndex) after(key Key) iter.Seq[Key] {
	return func(yield func(Key) bool) {
		run, place, found := x.find(key)
		if found {
			place++
		}
		for ; run < len(x.runs); run++ {
			for _, next := range x.runs[run][place:] {
				if !yield(next) {
					return
				}
			}
			place = 0
		}
	}
}
