package main

import (
	"fmt"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
)

// kind is the kind of the objects that are meant. A smart process is added when it is first named.
func (d *desk) kind(in change) (eventtest.Kind, error) {
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
		if in.TypeID == 0 {
			in.TypeID = firstProcess
		}
		if in.TypeID != 31 { // the invoices, which are always there
			if err := d.portal.AddSmartProcess(in.TypeID); err != nil {
				return "", err
			}
		}
		return eventtest.SmartProcess(in.TypeID), nil
	default:
		return "", refuse("the kind is deal, lead, contact, company, task, item, calendar or message")
	}
}

// eventOf is the event that a change raises, the general one for items.
func eventOf(in change) string {
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

// noun is what people call a kind.
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

// tell says in words what was done.
func tell(in change, out changed) string {
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
