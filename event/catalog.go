package event

import (
	"iter"
	"strconv"
	"strings"
	"sync"
)

//go:generate go run ../internal/gencatalog

// docs is where the event pages of the official documentation stand.
const docs = "https://apidocs.bitrix24.com/api-reference/"

// typeID ends the names of templates; at run time the number of a smart process stands there.
const typeID = "{TYPEID}"

// index finds the entries of the catalogue by name. It is built on first use, so that programs that never look anything up do not
// pay for it.
var index = sync.OnceValue(func() map[string]*Info {
	all := entries()
	byName := make(map[string]*Info, len(all))
	for _, info := range all {
		byName[info.Name] = info
	}
	return byName
})

func lookup(name string) (Info, bool) {
	name = strings.ToUpper(name) // which allocates nothing where name is upper case already, as on the wire
	byName := index()
	if info, ok := byName[name]; ok {
		return *info, true
	}
	base, ok := cutTypeID(name)
	if !ok {
		return Info{}, false
	}
	template, ok := byName[base+typeID]
	if !ok {
		return Info{}, false
	}
	info := *template
	info.Name = name
	return info, true
}

// maxTypeID is the most digits of a number that fits 64 bits whatever they are.
const maxTypeID = 18

// cutTypeID splits off the number that a run-time name ends in: ONCRMDYNAMICITEMADD_147 yields ONCRMDYNAMICITEMADD_.
func cutTypeID(name string) (base string, ok bool) {
	i := strings.LastIndexByte(name, '_') + 1
	id := name[i:]
	if i == 0 || id == "" || id[0] == '0' || len(id) > maxTypeID || strings.Trim(id, "0123456789") != "" {
		return "", false
	}
	return name[:i], true
}

func catalog() iter.Seq[Info] {
	return func(yield func(Info) bool) {
		for _, info := range entries() {
			if !yield(*info) {
				return
			}
		}
	}
}

// ofType makes a descriptor for one smart process out of a template.
func ofType[T any](template Descriptor[T], entityTypeID int) Descriptor[T] {
	info := template.Info()
	base := strings.TrimSuffix(info.Name, typeID)
	if entityTypeID <= 0 {
		panic("event: " + base + "… needs a positive entityTypeId, not " + strconv.Itoa(entityTypeID))
	}
	info.Name = base + strconv.Itoa(entityTypeID)
	return describe[T](info)
}
