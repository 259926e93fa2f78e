package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// maxObjects limits the objects in one list.
const maxObjects = 50

// objectList is the latest objects of one kind, and how many there are of each.
type objectList struct {
	Kinds []kindView   `json:"kinds"`
	Kind  string       `json:"kind"` // of those shown; empty if there are none
	Shown []objectView `json:"shown"`
}

type kindView struct {
	Kind  string `json:"kind"` // as package eventtest names it, for example crm.deal
	Name  string `json:"name"`
	Count int    `json:"count"`
}

type objectView struct {
	ID      int64  `json:"id"`
	Title   string `json:"title"`
	Changed string `json:"changed"`  // as the object has it
	By      string `json:"by"`       // ID of the user, 0 for nobody
	Rev     string `json:"revision"` // changes with any field
}

// kinds returns the kinds that have objects, by name.
func (pg *page) kinds() []kindView {
	views := []kindView{}
	for kind, count := range pg.portal.ObjectCounts() {
		views = append(views, kindView{Kind: string(kind), Name: kindLabel(kind), Count: count})
	}
	slices.SortFunc(views, func(a, b kindView) int { return cmp.Compare(a.Name, b.Name) })
	return views
}

// kindLabel returns the name of the objects of a kind.
func kindLabel(kind eventtest.Kind) string {
	if process, ok := strings.CutPrefix(string(kind), "crm.item."); ok {
		return "Items of process " + process
	}
	names := map[eventtest.Kind]string{
		eventtest.Deal: "Deals", eventtest.Lead: "Leads", eventtest.Contact: "Contacts", eventtest.Company: "Companies",
		eventtest.Task: "Tasks", eventtest.CalendarEvent: "Calendar entries", eventtest.ChatMessage: "Chat messages",
		eventtest.TaskComment: "Task comments", eventtest.Workgroup: "Workgroups", eventtest.FeedPost: "Posts",
	}
	return cmp.Or(names[kind], string(kind))
}

// objects returns the objects of a kind, the latest first. If the portal has none of that kind, it
// returns those of another.
func (pg *page) objects(kind string) objectList {
	list := objectList{Kinds: pg.kinds(), Kind: kind, Shown: []objectView{}}
	if len(list.Kinds) == 0 {
		return list
	}
	if !slices.ContainsFunc(list.Kinds, func(k kindView) bool { return k.Kind == kind }) {
		list.Kind = list.Kinds[0].Kind
	}
	ids := pg.portal.ObjectIDs(eventtest.Kind(list.Kind))
	for _, id := range slices.Backward(ids[max(0, len(ids)-maxObjects):]) {
		if fields, ok := pg.portal.Object(eventtest.Kind(list.Kind), id); ok {
			list.Shown = append(list.Shown, objectViewOf(id, fields))
		}
	}
	return list
}

func objectViewOf(id int64, fields map[string]any) objectView {
	first := func(names ...string) string {
		for _, name := range names {
			if text, ok := fields[name].(string); ok && text != "" {
				return shorten(text)
			}
		}
		return ""
	}
	hash := fnv.New64a()
	if doc, err := json.Marshal(fields); err == nil {
		_, _ = hash.Write(doc)
	}
	return objectView{
		ID: id, Title: first("TITLE", "NAME", "MESSAGE", "POST_MESSAGE", "LAST_NAME"),
		Changed: first("DATE_MODIFY", "CHANGED_DATE", "TIMESTAMP_X", "DATE_UPDATE", "POST_DATE", "DATE_PUBLISH", "DATE_CREATE"),
		By:      first("MODIFY_BY_ID", "CHANGED_BY", "AUTHOR_ID", "OWNER_ID"), Rev: strconv.FormatUint(hash.Sum64(), 36),
	}
}

func (pg *page) serveKinds(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, pg.kinds())
}

// serveObjects lists the latest objects of a kind.
func (pg *page) serveObjects(w http.ResponseWriter, r *http.Request) {
	kind := objectKind(r.PathValue("kind"))
	if pg.portal.ObjectCounts()[eventtest.Kind(kind)] == 0 {
		writeJSON(w, http.StatusOK, []objectView{})
		return
	}
	writeJSON(w, http.StatusOK, pg.objects(kind).Shown)
}

// objectDetail is one object.
type objectDetail struct {
	ID     int64          `json:"id"`
	Fields map[string]any `json:"fields"`
	Order  []string       `json:"order"` // names of the fields, those that people look for first
}

// serveObject returns the fields of an object.
func (pg *page) serveObject(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		writeError(w, badRequest("the ID of an object is a number"))
		return
	}
	fields, ok := pg.portal.Object(eventtest.Kind(objectKind(r.PathValue("kind"))), id)
	if !ok {
		writeError(w, problem{http.StatusNotFound, fmt.Sprintf("there is no object %d of this kind", id)})
		return
	}
	names := slices.Sorted(maps.Keys(fields))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	writeJSON(w, http.StatusOK, objectDetail{id, fields, names})
}

// rank puts the fields that people look for first.
func rank(name string) int {
	if i := slices.Index([]string{"ID", "TITLE", "NAME"}, name); i >= 0 {
		return i
	}
	return 3
}

// objectKind returns the kind that a path names: deal and crm.deal are the same.
func objectKind(name string) string {
	short := map[string]eventtest.Kind{
		"deal": eventtest.Deal, "lead": eventtest.Lead, "contact": eventtest.Contact, "company": eventtest.Company, "task": eventtest.Task,
		"calendar": eventtest.CalendarEvent, "message": eventtest.ChatMessage, "item": eventtest.SmartProcess(defaultProcess),
	}
	return string(cmp.Or(short[name], eventtest.Kind(name)))
}
