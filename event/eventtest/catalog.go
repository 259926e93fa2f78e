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

// AddSmartProcess adds a smart process, whose items are of the kind [SmartProcess]. Its three
// events can be bound from now on. The one for invoices, 31, is there from the start. Identifiers
// below 128 belong to the platform and are refused.
func (p *Portal) AddSmartProcess(entityTypeID int64) error {
	if entityTypeID < 128 {
		return misconfigured("smart processes have identifiers of 128 and above, not %d", entityTypeID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catalog.smartProcesses[entityTypeID] = true
	return nil
}

func (p *Portal) smartProcessIDsLocked() []int64 {
	return slices.Sorted(maps.Keys(p.catalog.smartProcesses))
}

// AddEvent makes an event bindable that the catalogue of package event does not have. An empty
// scope means that every application may bind it.
func (p *Portal) AddEvent(name, scope string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.catalog.extraEvents[upperName(name)] = scope
}

// bindableLocked looks an event up and returns the permission it needs.
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

// typeIDMark ends the names of the catalogue's templates, where a name on the wire has the number
// of a smart process.
const typeIDMark = "{TYPEID}"

// scopeOf returns the permission of an event of the catalogue, empty for those that every
// application may bind.
func scopeOf(info event.Info) string {
	if info.Scope == "basic" {
		return ""
	}
	return info.Scope
}

func upperName(name string) string { return strings.ToUpper(strings.TrimSpace(name)) }

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
