package doctor

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
)

// typeIDMark ends a template of names.
const typeIDMark = "{TYPEID}"

// basicScope is the permission that every application has.
const basicScope = "basic"

// checkPlan finds out what the portal's plan allows.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/system/feature-get.html
func (e *exam) checkPlan(ctx context.Context) {
	reserve, ok := e.feature(ctx, "rest_offline_extended")
	if !ok {
		return
	}
	connectors, ok := e.feature(ctx, "rest_auth_connector")
	if !ok {
		return
	}
	if !connectors && slices.ContainsFunc(e.want, func(b event.Binding) bool { return b.Connector != "" }) {
		e.fail(checkPlan, NoConnectors, "A wanted binding has a connector, and the portal's plan has none (rest_auth_connector). Every call "+
			"with auth_connector is refused.", "Leave the connector out, or change the plan.")
	}
	if !reserve && e.offline {
		e.warn(checkPlan, NoReservations, "The portal's plan cannot reserve offline records (rest_offline_extended). They are deleted when "+
			"they are read, and a crash loses them.", "Give the consumer a spool (offline.WithSpool), or change the plan.")
	}
	if !e.found(checkPlan) {
		e.ok(checkPlan, "it has what the wanted bindings need")
	}
}

// feature returns whether the plan has a feature. If the portal does not say, it adds a line.
func (e *exam) feature(ctx context.Context, code string) (has, ok bool) {
	result := make(object)
	if err := e.call(ctx, "feature.get", map[string]any{"CODE": code}, &result); err != nil {
		e.unknown(checkPlan, "feature.get", err)
		return false, false
	}
	value := result.text("value")
	e.box = e.box || strings.HasSuffix(value, "_selfhosted")
	return value != "" && value != "N", true
}

// checkScopesAndEvents compares the wanted events with the application's permissions and with what
// the portal offers.
//
// Source: https://apidocs.bitrix24.com/api-reference/events/events.html
func (e *exam) checkScopesAndEvents(ctx context.Context) {
	var granted, offered names
	if err := e.call(ctx, "scope", nil, &granted); err != nil {
		e.unknown(checkScopes, "scope", err)
	} else {
		e.scope, e.scoped = granted, true
	}
	if err := e.call(ctx, "events", nil, &offered); err != nil {
		e.unknown(checkEvents, "events", err)
	} else {
		e.available, e.listed = make(map[string]bool, len(offered)), true
		for _, n := range offered {
			e.available[strings.ToUpper(n)] = true
		}
	}
	e.judgeEvents()
	if !e.found(checkScopes) {
		e.ok(checkScopes, "they cover the wanted events")
	}
	if !e.found(checkEvents) {
		e.ok(checkEvents, "the portal offers all of them")
	}
}

// wantedEvent is an event in one of the two ways to bind it.
type wantedEvent struct {
	name    string
	offline bool
}

// judgeEvents adds lines for names that are wrong, and for events that need another permission. It
// notes the events that cannot be bound because of that.
func (e *exam) judgeEvents() {
	missing := make(map[string][]string) // events, by permission
	done := make(map[wantedEvent]bool)
	for _, b := range e.want {
		w := wantedEvent{b.Event, b.Offline}
		if done[w] {
			continue
		}
		done[w] = true
		before := e.count[checkEvents]
		info, known := event.Lookup(b.Event)
		switch {
		case strings.HasSuffix(b.Event, typeIDMark):
			e.fail(checkEvents, UnknownEvent, name(b.Event)+" is not a name but a template.", "Replace the braces with the ID of a smart process.")
		case known && info.AutoSubscribed:
			e.fail(checkEvents, EventNotBindable, name(b.Event)+" cannot be bound: the platform subscribes to it by itself, or a program polls it.",
				"Leave it out of the wanted bindings.")
		case known && b.Offline && !info.Offline:
			e.fail(checkEvents, EventNotBindable, name(b.Event)+" cannot be bound to the offline queue.", "Bind it to a URL.")
		case e.available[b.Event]:
		case !known:
			e.unknownEvent(b.Event)
		case e.scoped && info.Scope != basicScope && !e.granted(info.Scope):
			missing[info.Scope] = append(missing[info.Scope], b.Event)
			e.refused[w] = true
		case e.listed:
			e.fail(checkEvents, EventUnavailable, "The portal does not offer "+name(b.Event)+" to the application, so it cannot be bound.",
				"Check that the portal has the module, and for a smart process that its ID is right. A box may need an update.")
		}
		if e.count[checkEvents] > before {
			e.refused[w] = true
		}
	}
	for _, s := range slices.Sorted(maps.Keys(missing)) {
		e.fail(checkScopes, ScopeMissing, "The application lacks the permission "+s+", which "+list(missing[s])+" needs.",
			"Add "+s+" to the permissions in the application's settings, and install it again: tokens get it only then.")
	}
}

// granted reports whether the application has a permission.
func (e *exam) granted(scope string) bool {
	return slices.ContainsFunc(e.scope, func(s string) bool { return strings.EqualFold(s, scope) })
}

// unknownEvent adds the line for a name that neither the catalogue nor the portal knows.
func (e *exam) unknownEvent(wanted string) {
	cause := "Neither the documentation nor the portal knows an event " + name(wanted) + "."
	if !e.listed {
		cause = "The documentation knows no event " + name(wanted) + ", and the portal does not say."
	}
	if best := e.suggest(wanted); best != "" {
		e.fail(checkEvents, UnknownEvent, cause, "Did you mean "+name(best)+"?")
		return
	}
	e.fail(checkEvents, UnknownEvent, cause, "Look up its name in the documentation, or list what the portal offers with the method events.")
}

const (
	maxDistance   = 3
	maxSuggestLen = 64   // of a name; the longest documented one is shorter
	maxOffered    = 5000 // names of the portal that are compared
)

// suggest returns the name that is most like a wrong one, or nothing if none is.
func (e *exam) suggest(wanted string) string {
	if len(wanted) > maxSuggestLen || e.count[checkEvents] > maxFindings {
		return ""
	}
	best, least := "", maxDistance+1
	consider := func(candidate string) {
		if len(candidate) > maxSuggestLen || strings.Contains(candidate, "{") {
			return
		}
		if d := distance(wanted, candidate, least+1); d < least || d == least && candidate < best {
			best, least = candidate, d
		}
	}
	for info := range event.Catalog() {
		if !info.AutoSubscribed {
			consider(info.Name)
		}
	}
	n := 0
	for candidate := range e.available {
		if n++; n > maxOffered {
			break
		}
		consider(candidate)
	}
	if least > maxDistance {
		return ""
	}
	return best
}

// distance returns how many letters have to be added, removed or changed to make b of a, or limit
// if that is more.
func distance(a, b string, limit int) int {
	if diff := len(a) - len(b); diff >= limit || -diff >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}

// checkRights finds out whether the token's user is an administrator.
//
// Source: https://apidocs.bitrix24.com/api-reference/common/users/user-admin.html
func (e *exam) checkRights(ctx context.Context) {
	var result json.RawMessage
	if err := e.call(ctx, "user.admin", nil, &result); err != nil {
		e.unknown(checkRights, "user.admin", err)
		return
	}
	var v any
	_ = json.Unmarshal(result, &v) // what cannot be read is no yes
	e.admin, e.judged = object{"admin": v}.flag("admin"), true
	const cure = "Install the application as an administrator, and use the tokens of that installation."
	switch {
	case e.admin:
		e.ok(checkRights, "the token's user is an administrator")
	case e.offline:
		e.fail(checkRights, NotAdministrator, "The token's user is not an administrator. Only an administrator may bind offline events and read "+
			"the queue.", cure)
	default:
		e.warn(checkRights, NotAdministrator, "The token's user is not an administrator. The portal lists only the user's own bindings, and "+
			"binds events for that user only.", cure)
	}
}

// list joins names for a text, up to five of them.
func list(all []string) string {
	const most = 5
	text := make([]string, 0, most+1)
	for i, n := range all {
		if i == most {
			text = append(text, "…")
			break
		}
		text = append(text, name(n))
	}
	return strings.Join(text, ", ")
}
