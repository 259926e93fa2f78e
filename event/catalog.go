package event

import (
	"strings"
	"sync"
)

//go:generate go run ../internal/gencatalog

// docs is where the event pages of the official documentation stand.
const docs = "https://apidocs.bitrix24.com/api-reference/"

// typeID ends the names of templates; at run time the number of a smart process stands there.
const typeID = "{TYPEID}"

// catalogue is what is known of all documented events.
type catalogue struct {
	events []Info
	byName map[string]*Info
}

// table returns the catalogue. It is built on first use, so that programs that never look anything
// up do not pay for it.
var table = sync.OnceValue(func() catalogue {
	c := catalogue{events: documentedEvents()}
	c.byName = make(map[string]*Info, len(c.events))
	for i := range c.events {
		c.byName[c.events[i].Name] = &c.events[i]
	}
	return c
})

// find returns the entry for a wire name, nil if there is none, and the number that the name ends
// in if the entry is a template.
func find(name string) (info *Info, number string) {
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
	if info, ok := byName[base+typeID]; ok {
		return info, name[len(base):]
	}
	return nil, ""
}

// maxTypeID is the most digits of a number that fits 64 bits whatever they are.
const maxTypeID = 18

// cutTypeID splits off the number that a run-time name ends in: ONCRMDYNAMICITEMADD_147 yields
// ONCRMDYNAMICITEMADD_.
func cutTypeID(name string) (base string, ok bool) {
	i := strings.LastIndexByte(name, '_') + 1
	id := name[i:]
	if i == 0 || id == "" || id[0] == '0' || len(id) > maxTypeID || strings.Trim(id, "0123456789") != "" {
		return "", false
	}
	return name[:i], true
}
