package eventtest

import (
	"maps"
	"slices"
)

// ObjectCounts returns how many objects of each kind the portal has. Kinds without objects are left
// out.
func (p *Portal) ObjectCounts() map[Kind]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[Kind]int{}
	for kind, objects := range p.objects {
		if len(objects) > 0 {
			counts[kind] = len(objects)
		}
	}
	return counts
}

// ObjectIDs returns the IDs of the objects of a kind in ascending order. Read the fields of each
// with [Portal.Object].
func (p *Portal) ObjectIDs(kind Kind) []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.objects[kind]))
}
