package eventtest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event"
)

// eventCatalog is what the portal adds to the catalogue of package event. Portal.mu guards it.
type eventCatalog struct {
	smartProcesses map[int64]bool    // by entityTypeId
	extraEvents    map[string]string // scopes by event name; see AddEvent
}

// AddSmartProcess adds a smart process, whose items have the kind [SmartProcess]. Its three events
// can be bound from now on. Every portal has the process for invoices, 31. IDs below 128 belong to
// the platform and return [ErrConfig].
func (p *Portal) AddSmartProcess(entityTypeID int64) error {
	if entityTypeID < 128 {
		return misconfigured("the ID of a smart process must be 128 or above, not %d", entityTypeID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catalog.smartProcesses[entityTypeID] = true
	return nil
}

// smartProcessIDsLocked returns the entityTypeIds in ascending order.
func (p *Portal) smartProcessIDsLocked() []int64 {
	return slices.Sorted(maps.Keys(p.catalog.smartProcesses))
}

// AddEvent lets applications bind an event that is not in the catalogue of package event. If scope
// is empty, every application may bind it.
func (p *Portal) AddEvent(name, scope string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catalog.extraEvents[upperName(name)] = scope
}

// undocumentedEvents returns the events of the platform that have no page, and so no place in the
// catalogue of package event, with their permissions. A portal's method events lists them.
func undocumentedEvents() map[string]string { return map[string]string{"ONSUBSCRIPTIONRENEW": ""} }

// bindableLocked returns the permission that binding an event needs, and whether the event can be
// bound.
func (p *Portal) bindableLocked(name string) (scope string, ok bool) {
	if scope, ok := p.catalog.extraEvents[name]; ok {
		return scope, true
	}
	info, ok := event.Lookup(name)
	if !ok || info.AutoSubscribed || strings.ContainsAny(name, "{}") {
		return "", false
	}
	stem := name[:strings.LastIndexByte(name, '_')+1]
	if _, templated := event.Lookup(stem + typeIDMark); stem != "" && templated {
		id, err := strconv.ParseInt(name[len(stem):], 10, 64)
		return scopeOf(info), err == nil && p.catalog.smartProcesses[id]
	}
	return scopeOf(info), true
}

// typeIDMark ends the names of templates in the catalogue. An event on the wire has the
// entityTypeId of a smart process in its place.
const typeIDMark = "{TYPEID}"

// scopeOf returns the permission of an event of the catalogue. It is empty if every application may
// bind the event.
func scopeOf(info event.Info) string {
	if info.Scope == "basic" {
		return ""
	}
	return info.Scope
}

// upperName returns the name of an event as it is written on the wire.
func upperName(name string) string { return strings.ToUpper(strings.TrimSpace(name)) }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
