package event

import (
	"slices"
)

// FetchMethod is a REST method that returns the object of an event, with what its page says about
// it. The texts are those of the documentation, for programs that show them, such as a check of an
// installation.
type FetchMethod struct {
	Name   string       // such as crm.item.get
	Doc    string       // address of the method's page in the official documentation
	Params []FetchParam // the parameters, in the order in which they are sent
	// Positional means that the portal takes the parameters by position and ignores their names.
	Positional bool
	// Scope lists the permissions that the method needs. The application needs all of them. They can
	// differ from those of the event.
	Scope      []string
	Who        string   // who may call it, in words; empty for any user
	Admin      bool     // only an administrator may call it
	AppContext bool     // only applications may call it: incoming webhooks are refused
	BotTypes   []string // types of bot that it works for; empty for all types, and for methods that are not about bots
	// Result is the member of the method's result that holds the object, such as item; [0] if the
	// result is a list with the object in it, and empty if the result is the object.
	Result string
	// Filtered means that the result is also empty if the token may not see the object, so that an
	// empty result does not prove a deletion. See [ErrNotVisible].
	Filtered  bool
	Halted    bool   // Bitrix24 no longer develops the method
	Successor string // for a halted method: the one that its page recommends, if it returns the same object
	Remark    string // what else to know before calling it; may be empty
}

// FetchParam is a parameter of a [FetchMethod].
type FetchParam struct {
	Name    string // such as id; a nested one is FILTER[ID]
	Literal string // the value that is always sent, such as Y; empty if it is taken from the delivery
	// Path is where the value is in the delivery's data, such as FIELDS.ID. A | separates
	// alternatives. [] stands for the elements of a list, of which the first one counts, and @type for
	// the type ID at the end of the event's name.
	Path string
}

// firstOfList is the Result of a method that returns a list.
const firstOfList = "[0]"

// withParams returns the method with parameters.
func withParams(m FetchMethod, params ...FetchParam) FetchMethod {
	m.Params = params
	return m
}

// lastPath is where the delivery has the ID of the object itself. The parameters before it name
// types and owners.
func (m *FetchMethod) lastPath() string {
	for _, p := range slices.Backward(m.Params) {
		if p.Path != "" {
			return p.Path
		}
	}
	return ""
}
