package main

import (
	"maps"
	"strings"
)

// entity names the object an event is about: its kind, and the paths that make up its id. All events of one object must agree, so
// that they are processed one after the other.
func entity(e entry, kinds map[string]string) (kind string, id []string) {
	if fixed, ok := entitiesByName[e.Name]; ok {
		return fixed.kind, fixed.id
	}
	kind = kinds[base(e.Name)]
	switch e.family() {
	case "A1", "A2":
		return kind, []string{"FIELDS.ID|ID"}
	case "A3":
		return kind, []string{"FIELDS.POST_ID|FIELDS.ID"}
	case "B1":
		return kind, []string{"FIELDS.ENTITY_TYPE_ID", "FIELDS.ID"}
	case "B2", "B3", "B4", "B5", "B6", "B7":
		return kind, []string{"FIELDS.ID"}
	case "B8":
		return "crm.address", []string{"FIELDS.TYPE_ID", "FIELDS.ENTITY_TYPE_ID", "FIELDS.ENTITY_ID"}
	case "C1":
		return kind, []string{"FIELDS_AFTER.ID|FIELDS_BEFORE.ID"}
	case "C2":
		return kind, []string{"FIELDS_AFTER.ID|FIELDS_BEFORE.ID|FIELDS_AFTER.MESSAGE_ID|FIELDS_BEFORE.MESSAGE_ID"}
	case "D1":
		return kind, []string{"ID|FIELDS.ID"}
	case "D2":
		return kind, []string{"id|FIELDS.ID"}
	case "E1", "E2":
		return chat, []string{"PARAMS.DIALOG_ID|PARAMS.CHAT_ID"}
	case "F":
		return chat, []string{"chat.dialogId|chat.id|dialogId"}
	case "G1":
		return lineChat, []string{"MESSAGES.0.im.chat_id|DATA.0.im.chat_id"}
	case "G2", "H1", "H2":
		// in a live chat connector.chat_id is the visitor's side; chat.id is the same in all events
		return lineChat, []string{"DATA.0.chat.id|DATA.0.im.chat_id|DATA.0.connector.chat_id"}
	case "I":
		return "voximplant.call", []string{"CALL_ID"}
	case "J":
		return "app", nil
	case "N":
		return "sign.b2e.document", []string{"documentUid"}
	case "O":
		return "humanresources.hcmlink.job", []string{"jobId"}
	default:
		return "", nil
	}
}

const (
	chat     = "im.chat"
	lineChat = "imopenlines.chat"
)

type object struct {
	kind string
	id   []string
}

// entitiesByName are the events that their shape does not settle.
var entitiesByName = map[string]object{
	"ONAPPTEST":      {},
	"ONOFFLINEEVENT": {kind: "event.offline"},
	"ONUSERADD":      {kind: "user", id: []string{"ID"}},

	// these are about the object that the template produced, whose own events arrive at the same time
	"ONCRMDEALRECURRINGEXPOSE":    {kind: "crm.deal", id: []string{"FIELDS.DEAL_ID"}},
	"ONCRMINVOICERECURRINGEXPOSE": {kind: "crm.invoice", id: []string{"FIELDS.INVOICE_ID"}},

	"ONCRMTIMELINEITEMACTION": {kind: "crm.activity.configurable", id: []string{"activityId"}},

	"ONIMBOTDELETE":   {kind: "imbot.bot", id: []string{"BOT_ID"}},
	"ONIMBOTV2DELETE": {kind: "imbot.v2.Bot", id: []string{"bot.id"}},

	"ONIMCONNECTORSTATUSDELETE": {kind: "imconnector.status", id: []string{"connector", "line"}},
	"ONIMCONNECTORLINEDELETE":   {kind: "imopenlines.config", id: []string{".|LINE_ID|LINE"}},

	"ONEXTERNALCALLBACKSTART": {}, // it has no call yet

	"ONSIGNHCMLINKB2EDOCUMENTSIGNED": {kind: "sign.b2e.hcmlink.document", id: []string{"id"}},
}

// kindsByBase are the kinds of objects that no method fetches, or none that is named like its siblings.
var kindsByBase = map[string]string{
	"ONCALENDARENTRY":     "calendar.event",
	"ONCALENDARSECTION":   "calendar.section",
	"ONSONETGROUPSUBJECT": "sonet_group.subject",
	"ONSALEBEFOREORDER":   "sale.order",
}

// fetchKinds derives a kind for each group of events from the method that fetches its objects: crm.deal.get makes crm.deal.
func fetchKinds(entries []entry) map[string]string {
	kinds := make(map[string]string)
	for _, e := range entries {
		if _, ok := entitiesByName[e.Name]; ok {
			continue
		}
		if kind, ok := strings.CutSuffix(e.Method, ".get"); ok {
			kinds[base(e.Name)] = kind
		}
	}
	maps.Copy(kinds, kindsByBase)
	return kinds
}

// actions are the endings that tell the events of one object apart; longer ones come before their own endings.
var actions = []string{
	"_{TYPEID}", "SETENUMVALUES", "SETSTATUS", "MOVETOCATEGORY", "ENTITYSAVED", "SAVED", "EXPOSE",
	"DELETED", "DELETE", "UPDATE", "ADD",
}

// base strips the action off a name: ONCRMDEALADD is about ONCRMDEAL.
func base(name string) string {
	for _, action := range actions {
		if stem, ok := strings.CutSuffix(name, action); ok {
			name = stem
			if action != "_{TYPEID}" {
				break
			}
		}
	}
	return name
}

// deletion reports whether an event tells that its object is gone. An order that is about to be deleted may stay.
func deletion(name string) bool {
	if name == "ONSALEBEFOREORDERDELETE" {
		return false
	}
	name = strings.TrimSuffix(name, "_{TYPEID}")
	for _, ending := range []string{"DELETE", "DELETED", "UNREGISTER", "UNINSTALL"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}
