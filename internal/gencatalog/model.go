package main

import (
	"fmt"
	"strings"
	"unicode"
)

// pages is where the pages of events and methods are in the documentation's repository.
const pages = "api-reference/"

// descriptor is one entry as the generated source has it.
type descriptor struct {
	entry

	methods  map[string]method
	variable string // such as OnCrmDealAdd
	payload  string // Go type of the payload
	title    string
	page     string // below the documentation's root
	deletion bool
	auto     bool // the platform subscribes to it by itself
	platform bool // the platform binds it by itself
	offline  bool // it can be bound to the offline queue
}

// describe derives what the catalogue does not state.
func describe(s source) ([]descriptor, error) {
	all := make([]descriptor, 0, len(s.Events))
	taken := make(map[string]string)
	for _, e := range s.Events {
		d := descriptor{entry: e, methods: s.Methods, variable: variable(e), payload: payload(e), title: title(e), deletion: deletion(e.Name)}
		if d.payload == "" {
			return nil, fmt.Errorf("%s: no payload type for shape %q", e.Name, e.Shape)
		}
		page, ok := strings.CutPrefix(e.Doc, pages)
		if !ok {
			return nil, fmt.Errorf("%s: page %q outside %s", e.Name, e.Doc, pages)
		}
		d.page = page + ".html"
		d.auto = e.family() == "F" || e.family() == "P" || e.Platform == platformAlways
		d.platform = e.Platform != ""
		d.offline = !d.auto && (e.OfflineOK == nil || *e.OfflineOK)
		key := d.variable
		if e.template() {
			key += "Of"
		}
		if other, ok := taken[key]; ok {
			return nil, fmt.Errorf("%s and %s are both %s", other, e.Name, key)
		}
		taken[key] = e.Name
		all = append(all, d)
	}
	return all, nil
}

// deletion reports whether an event means that its object is gone. An order that is about to be
// deleted may still stay.
func deletion(name string) bool {
	if name == "ONSALEBEFOREORDERDELETE" {
		return false
	}
	name = strings.TrimSuffix(name, typeID)
	for _, ending := range []string{"DELETE", "DELETED", "UNREGISTER", "UNINSTALL"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// variable spells the descriptor as the documentation spells the event, so that a search for one
// finds the other.
func variable(e entry) string {
	if e.Spelling != "" {
		return "O" + e.Spelling[1:]
	}
	if spelled, ok := spellings[e.Name]; ok {
		return spelled
	}
	// CATALOG.PRICE.TYPE.ON.ADD
	var b strings.Builder
	b.WriteString("On")
	for word := range strings.SplitSeq(e.Name, ".") {
		if word == "" || word == "ON" {
			continue
		}
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

// spellings are the names of events that the documentation prints in upper case only.
var spellings = map[string]string{
	"ONAPPTEST":               "OnAppTest",
	"ONAPPUSERREADY":          "OnAppUserReady",
	"ONIMBOTJOINCHAT":         "OnImBotJoinChat",
	"ONIMBOTDELETE":           "OnImBotDelete",
	"ONIMBOTMESSAGEADD":       "OnImBotMessageAdd",
	"ONIMBOTMESSAGEDELETE":    "OnImBotMessageDelete",
	"ONIMBOTMESSAGEUPDATE":    "OnImBotMessageUpdate",
	"ONIMCOMMANDADD":          "OnImCommandAdd",
	"ONIMBOTV2COMMANDADD":     "OnImBotV2CommandAdd",
	"ONIMBOTV2CONTEXTGET":     "OnImBotV2ContextGet",
	"ONIMBOTV2DELETE":         "OnImBotV2Delete",
	"ONIMBOTV2JOINCHAT":       "OnImBotV2JoinChat",
	"ONIMBOTV2MESSAGEADD":     "OnImBotV2MessageAdd",
	"ONIMBOTV2MESSAGEDELETE":  "OnImBotV2MessageDelete",
	"ONIMBOTV2MESSAGEUPDATE":  "OnImBotV2MessageUpdate",
	"ONIMBOTV2REACTIONCHANGE": "OnImBotV2ReactionChange",
	"ONIMBOTCONTEXTGET":       "OnImBotContextGet",
	"ONIMV2MESSAGEADD":        "OnImV2MessageAdd",
	"ONIMV2MESSAGEUPDATE":     "OnImV2MessageUpdate",
	"ONIMV2MESSAGEDELETE":     "OnImV2MessageDelete",
	"ONIMV2REACTIONCHANGE":    "OnImV2ReactionChange",
	"ONIMV2JOINCHAT":          "OnImV2JoinChat",
}

// payload names the Go type that holds the event's data.
func payload(e entry) string {
	if t, ok := payloadsByName[e.Name]; ok {
		return t
	}
	switch e.family() {
	case "A1", "D1":
		if e.Scope == "crm" {
			return "CRMEntity"
		}
		return "Object"
	case "B7":
		if strings.HasPrefix(e.Name, "ONCRMINVOICE") {
			return "CRMRecurringInvoice"
		}
		return "CRMRecurringDeal"
	default:
		return payloadsByFamily[e.family()]
	}
}

var payloadsByFamily = map[string]string{
	"A2": "CRMCurrency",
	"A3": "FeedPost",
	"B1": "CRMItem",
	"B2": "CRMDocument",
	"B3": "CRMUserField",
	"B4": "CatalogProduct",
	"B5": "SaleOrder",
	"B6": "CRMDealMove",
	"B8": "CRMAddress",
	"C1": "Task",
	"C2": "TaskComment",
	"D2": "CalendarObject",
	"E1": "BotMessage",
	"E2": "BotCommand",
	"E3": "BotDelete",
	"G1": "ConnectorMessages",
	"G2": "ConnectorDialogs",
	"G3": "ConnectorStatus",
	"G4": "ConnectorLine",
	"H1": "LineSessions",
	"H2": "LineMessages",
	"J2": "AppTest",
	"K":  "User",
	"L":  "OfflineNotice",
	"M":  "CRMTimelineAction",
	"O":  "HCMLinkJob",
}

// payloadsByName has the payloads of families whose members differ.
var payloadsByName = map[string]string{
	"ONAPPINSTALL":                   "AppInstall",
	"ONAPPUPDATE":                    "AppUpdate",
	"ONAPPUSERREADY":                 "AppUserReady",
	"ONAPPUNINSTALL":                 "AppUninstall",
	"ONAPPPAYMENT":                   "AppPayment",
	"ONAPPMETHODCONFIRM":             "AppMethodConfirm",
	"ONIMBOTJOINCHAT":                "BotJoin",
	"ONIMBOTCONTEXTGET":              "BotContext",
	"ONIMV2MESSAGEADD":               "IMV2Message",
	"ONIMV2MESSAGEUPDATE":            "IMV2Message",
	"ONIMV2MESSAGEDELETE":            "IMV2MessageDelete",
	"ONIMV2REACTIONCHANGE":           "IMV2Reaction",
	"ONIMV2JOINCHAT":                 "IMV2Join",
	"ONIMBOTV2COMMANDADD":            "BotV2Command",
	"ONIMBOTV2CONTEXTGET":            "BotV2Context",
	"ONIMBOTV2DELETE":                "BotV2Delete",
	"ONIMBOTV2JOINCHAT":              "BotV2Join",
	"ONIMBOTV2MESSAGEADD":            "BotV2Message",
	"ONIMBOTV2MESSAGEUPDATE":         "BotV2Message",
	"ONIMBOTV2MESSAGEDELETE":         "BotV2MessageDelete",
	"ONIMBOTV2REACTIONCHANGE":        "BotV2Reaction",
	"ONEXTERNALCALLBACKSTART":        "ExternalCallback",
	"ONEXTERNALCALLSTART":            "ExternalCall",
	"ONVOXIMPLANTCALLINIT":           "CallInit",
	"ONVOXIMPLANTCALLSTART":          "CallStart",
	"ONVOXIMPLANTCALLEND":            "CallEnd",
	"ONSIGNB2EDOCUMENTSTATUSCHANGED": "SignDocumentStatus",
	"ONSIGNB2EMEMBERSTATUSCHANGED":   "SignMemberStatus",
	"ONSIGNHCMLINKB2EDOCUMENTSIGNED": "SignedDocument",
}

// title returns in plain words what happened.
func title(e entry) string {
	if t, ok := titles[e.Name]; ok {
		return t
	}
	return plain.Replace(e.Title)
}

var plain = strings.NewReplacer(
	"SPA item", "Smart-process item", "SPA custom field", "Smart-process custom field", "SPA type", "Smart process",
	"Legacy", "Old-style",
	"(legacy bot API)", "(old bot API)", "Catalog measure unit", "Catalogue unit of measure", "Catalog", "Catalogue",
	"CRM generated document", "CRM document",
)

var titles = map[string]string{
	"ONAPPUSERREADY":             "Tokens of the application's system user are ready",
	"ONAPPPAYMENT":               "Application paid for, or its period changed",
	"ONAPPMETHODCONFIRM":         "Administrator answered a request to confirm a method",
	"ONAPPTEST":                  "Test event, sent by event.test",
	"ONOFFLINEEVENT":             "Records came into the offline queue",
	"ONCALENDARSECTIONADD":       "Calendar created",
	"ONCALENDARSECTIONUPDATE":    "Calendar changed",
	"ONCALENDARSECTIONDELETE":    "Calendar deleted",
	"ONIMBOTV2CONTEXTGET":        "Dialog with the bot opened with a context",
	"ONIMBOTV2DELETE":            "Bot deleted",
	"ONIMBOTV2REACTIONCHANGE":    "Reaction to a message set or taken back",
	"ONIMCONNECTORMESSAGEADD":    "Operator's message to carry to the external channel",
	"ONIMCONNECTORMESSAGEUPDATE": "Operator's message edited, to carry to the external channel",
	"ONIMCONNECTORMESSAGEDELETE": "Operator's message deleted, to carry to the external channel",
	"ONIMCONNECTORLINEDELETE":    "Open channel deleted",
	"ONIMCONNECTORSTATUSDELETE":  "Connector switched off for an open channel",
	"ONEXTERNALCALLBACKSTART":    "Callback asked for in a web form",
	"ONEXTERNALCALLSTART":        "Outgoing call started by a click on a number",
	"ONVOXIMPLANTCALLINIT":       "Call began",
	"ONVOXIMPLANTCALLSTART":      "Call answered",
	"ONVOXIMPLANTCALLEND":        "Call over and logged",
	"ONUSERADD":                  "User signed in for the first time",

	"ONCRMDYNAMICITEMADD_{TYPEID}":    "Item of one smart process created",
	"ONCRMDYNAMICITEMUPDATE_{TYPEID}": "Item of one smart process changed",
	"ONCRMDYNAMICITEMDELETE_{TYPEID}": "Item of one smart process deleted",
}

// remarks returns sentences for the comment of the descriptor.
func (d descriptor) remarks() []string {
	var all []string
	switch d.Platform {
	case platformAlways:
		all = append(all, "The platform binds it by itself; applications do not.")
	case platformAPIOnly:
		all = append(all, "The platform binds it by itself if the application has no pages.")
	}
	return append(all, d.Remarks...)
}

// lowerFirst returns a title as the end of a sentence: in lower case unless it starts with an
// abbreviation.
func lowerFirst(s string) string {
	r := []rune(s)
	if len(r) > 1 && unicode.IsUpper(r[0]) && unicode.IsLower(r[1]) {
		r[0] = unicode.ToLower(r[0])
	}
	return string(r)
}
