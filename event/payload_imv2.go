package event

// IMV2Message is a message that was sent or edited in a chat of the user who subscribed with
// im.v2.Event.subscribe. Only records of im.v2.Event.get carry it; portals do not post it.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/im.v2/events/events.html
type IMV2Message struct {
	Message  ChatMessage `json:"message"`
	Chat     Chat        `json:"chat"`
	User     ChatUser    `json:"user"`     // who wrote it
	Language string      `json:"language"` // of the portal
}

// IMV2MessageDelete means that a message was deleted in a chat of the user; see [IMV2Message].
type IMV2MessageDelete struct {
	MessageID int64    `json:"messageId"`
	Chat      Chat     `json:"chat"`
	User      ChatUser `json:"user"`     // who wrote the message
	Language  string   `json:"language"` // of the portal
}

// IMV2Reaction means that a reaction to a message was added or removed in a chat of the user; see
// [IMV2Message].
type IMV2Reaction struct {
	Reaction string      `json:"reaction"` // such as like
	Action   string      `json:"action"`   // add or delete
	Message  ChatMessage `json:"message"`  // the message reacted to
	Chat     Chat        `json:"chat"`
	User     ChatUser    `json:"user"`     // who reacted
	Language string      `json:"language"` // of the portal
}

// IMV2Join means that a participant was added to a chat of the user; see [IMV2Message].
type IMV2Join struct {
	DialogID string   `json:"dialogId"` // a user's ID, or chat and a number
	Chat     Chat     `json:"chat"`
	User     ChatUser `json:"user"`     // who was added
	Language string   `json:"language"` // of the portal
}
