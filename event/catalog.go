package event

import (
	"strings"
	"sync"
)

//go:generate go run ../internal/gencatalog

// docs is the address below which the official documentation has its pages.
const docs = "https://apidocs.bitrix24.com/api-reference/"

// typeIDMark ends the name of a template. The name of an event has the ID of a smart process there.
const typeIDMark = "{TYPEID}"

// catalogue holds all documented events.
type catalogue struct {
	events []Info
	byName map[string]*Info
}

// table returns the catalogue. It is built on first use, so that programs that do not look anything
// up do not pay for it.
var table = sync.OnceValue(func() catalogue {
	c := catalogue{events: documentedEvents()}
	c.byName = make(map[string]*Info, len(c.events))
	for i := range c.events {
		c.byName[c.events[i].Name] = &c.events[i]
	}
	return c
})

// find returns the entry for a wire name, or nil if there is none. If the entry is a template, it
// also returns the type ID at the end of the name.
func find(name string) (info *Info, typeID string) {
	byName := table().byName
	if info, ok := byName[name]; ok {
		return info, ""
	}
	name = strings.ToUpper(name)
	if info, ok := byName[name]; ok {
		return info, ""
	}
	base, ok := cutTypeID(name)
	if !ok {
		return nil, ""
	}
	if info, ok := byName[base+typeIDMark]; ok {
		return info, name[len(base):]
	}
	return nil, ""
}

// maxTypeID is the largest number of digits that always fit 64 bits.
const maxTypeID = 18

// cutTypeID removes the type ID at the end of a name: ONCRMDYNAMICITEMADD_147 becomes
// ONCRMDYNAMICITEMADD_.
func cutTypeID(name string) (base string, ok bool) {
	i := strings.LastIndexByte(name, '_') + 1
	id := name[i:]
	if i == 0 || id == "" || id[0] == '0' || len(id) > maxTypeID || strings.Trim(id, "0123456789") != "" {
		return "", false
	}
	return name[:i], true
}
