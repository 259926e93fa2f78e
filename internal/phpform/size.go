package phpform

import "unsafe"

const (
	arrayBytes = int64(unsafe.Sizeof(array{}))
	entryBytes = int64(unsafe.Sizeof(Entry{}))
)

// Size returns about how many bytes of memory v holds. For a scalar and for an array that was
// decoded, that is the length of its text. For an array that was built, it is the capacity of its
// slices and the text of keys and elements; text that shares memory counts each time. The index of
// a large array does not count.
func (v Value) Size() int64 {
	size := int64(len(v.text))
	if v.arr == nil {
		return size
	}
	size += arrayBytes + entryBytes*int64(cap(v.arr.entries))
	for i := range v.arr.entries {
		e := &v.arr.entries[i]
		size += int64(len(e.Key)) + e.Value.Size()
	}
	return size
}
