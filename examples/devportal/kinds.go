package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// kind returns the kind of the objects in a request. It adds a smart process when a request first
// names it.
func (pg *page) kind(in changeRequest) (eventtest.Kind, error) {
	switch in.Kind {
	case "deal":
		return eventtest.Deal, nil
	case "lead":
		return eventtest.Lead, nil
	case "contact":
		return eventtest.Contact, nil
	case "company":
		return eventtest.Company, nil
	case "task":
		return eventtest.Task, nil
	case "calendar":
		return eventtest.CalendarEvent, nil
	case "message":
		return eventtest.ChatMessage, nil
	case "item":
		in.TypeID = cmp.Or(in.TypeID, defaultProcess)
		return eventtest.SmartProcess(in.TypeID), pg.addProcess(in.TypeID)
	default:
		return "", badRequest("the kind is deal, lead, contact, company, task, item, calendar or message")
	}
}

// maxProcesses limits the smart processes.
const maxProcesses = 100

// addProcess adds a smart process, unless the portal has it.
func (pg *page) addProcess(id int64) error {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	switch {
	case id == 31 || pg.processes[id]: // 31 is that of the invoices, which every portal has
		return nil
	case len(pg.processes) >= maxProcesses:
		return badRequest("there are too many smart processes; use one that is there, or restart the program for an empty portal")
	}
	if err := pg.portal.AddSmartProcess(id); err != nil {
		return err
	}
	pg.processes[id] = true
	return nil
}

// eventOf returns the event that a change raises; for items, the general one.
func eventOf(in changeRequest) string {
	prefix := "ONCRM" + strings.ToUpper(in.Kind)
	switch in.Kind {
	case "task":
		prefix = "ONTASK"
	case "item":
		prefix = "ONCRMDYNAMICITEM"
	case "calendar":
		prefix = "ONCALENDARENTRY"
	case "message":
		prefix = "ONIMBOTMESSAGE"
	}
	return prefix + strings.ToUpper(in.Action)
}

// namesOf returns the events that a change raises. Items raise a general one and that of their
// smart process.
func namesOf(in changeRequest) []string {
	name := eventOf(in)
	if in.Kind != "item" {
		return []string{name}
	}
	return []string{name, name + "_" + strconv.FormatInt(cmp.Or(in.TypeID, defaultProcess), 10)}
}

// noun returns the name of a kind in texts.
func noun(kind string) string {
	switch kind {
	case "item":
		return "smart-process item"
	case "calendar":
		return "calendar entry"
	default:
		return kind
	}
}

// describe returns a text that says what was done.
func describe(in changeRequest, out changeResult) string {
	verb := strings.TrimSuffix(in.Action, "e") + "ed"
	first, last := out.IDs[0], out.IDs[len(out.IDs)-1]
	switch {
	case out.Done == 1:
		return fmt.Sprintf("%s %d %s", noun(in.Kind), first, verb)
	case len(out.IDs) == 1:
		return fmt.Sprintf("%s %d %s %d times", noun(in.Kind), first, verb, out.Done)
	default:
		return fmt.Sprintf("%d %s %s, %d to %d", out.Done, plural(noun(in.Kind)), verb, min(first, last), max(first, last))
	}
}

func plural(noun string) string {
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return stem + "ies"
	}
	return noun + "s"
}
