package event

// BotV2Message is a message in a chat with a bot of imbot.v2 that was sent or edited.
type BotV2Message struct {
	Bot      ChatBot     `json:"bot"`
	Message  ChatMessage `json:"message"`
	Chat     Chat        `json:"chat"`
	User     ChatUser    `json:"user"`     // who wrote it
	Language string      `json:"language"` // of the portal
}

// BotV2MessageDelete means that a message was deleted in a chat with a bot of imbot.v2.
type BotV2MessageDelete struct {
	Bot       ChatBot  `json:"bot"`
	MessageID int64    `json:"messageId"`
	Chat      Chat     `json:"chat"`
	User      ChatUser `json:"user"`     // who deleted it
	Language  string   `json:"language"` // of the portal
}

// BotV2Command is a call of a slash command of a bot of imbot.v2. A message with several commands
// sends as many events.
type BotV2Command struct {
	Bot      ChatBot     `json:"bot"`
	Command  ChatCommand `json:"command"`
	Message  ChatMessage `json:"message"` // the message that holds the command
	Chat     Chat        `json:"chat"`
	User     ChatUser    `json:"user"`     // who called it
	Language string      `json:"language"` // of the portal
}

// BotV2Reaction means that a reaction to a message was added or removed in a chat with a bot of
// imbot.v2.
type BotV2Reaction struct {
	Bot      ChatBot     `json:"bot"`
	Reaction string      `json:"reaction"` // such as like
	Action   string      `json:"action"`   // add or delete
	Message  ChatMessage `json:"message"`  // the message reacted to
	Chat     Chat        `json:"chat"`
	User     ChatUser    `json:"user"`     // who reacted
	Language string      `json:"language"` // of the portal
}

// BotV2Join means that a bot of imbot.v2 joined a chat.
type BotV2Join struct {
	Bot      ChatBot  `json:"bot"`
	DialogID string   `json:"dialogId"` // where to write: a user's ID, or chat and a number
	Chat     Chat     `json:"chat"`
	User     ChatUser `json:"user"`     // who brought the bot in
	Language string   `json:"language"` // of the portal
}

// BotV2Context means that a user opened the dialog with a bot of imbot.v2 from a place that passes
// on what it is about.
type BotV2Context struct {
	Bot      ChatBot  `json:"bot"`
	DialogID string   `json:"dialogId"` // where to write: a user's ID, or chat and a number
	Context  Data     `json:"context"`  // what the place passed on
	Chat     Chat     `json:"chat"`
	User     ChatUser `json:"user"`     // who opened it
	Language string   `json:"language"` // of the portal
}

// BotV2Delete means that a bot of imbot.v2 was deleted. It is the last event of the bot.
type BotV2Delete struct {
	Bot ChatBot `json:"bot"`
}

// ChatBot is the bot of imbot.v2 that an event is addressed to. In webhook mode it has an ID, a
// code and tokens. Records of imbot.v2.Event.get have no tokens, and describe the bot instead.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/entities.html
type ChatBot struct {
	ID               int64   `json:"id"`
	Code             string  `json:"code"`
	Auth             BotAuth `json:"auth"`               // webhook mode only
	Type             string  `json:"type"`               // bot, supervisor, personal, openline …
	Hidden           bool    `json:"isHidden"`           // is not in the contact list
	SupportOpenline  bool    `json:"isSupportOpenline"`  // works in open channels
	ReactionsEnabled bool    `json:"isReactionsEnabled"` // users may react to its messages
	BackgroundID     string  `json:"backgroundId"`       // background of its chat; may be empty
	Language         string  `json:"language"`           // such as en
	ModuleID         string  `json:"moduleId"`           // module that owns the bot, such as rest
	EventMode        string  `json:"eventMode"`          // webhook or fetch
	CountMessage     int64   `json:"countMessage"`       // messages that it has processed
	CountCommand     int64   `json:"countCommand"`       // commands that it has registered
	CountChat        int64   `json:"countChat"`          // chats that it is in
	CountUser        int64   `json:"countUser"`          // users that it has met
}

// ChatCommand is a slash command that a user called.
type ChatCommand struct {
	ID      int64  `json:"id"`
	Command string `json:"command"` // with the slash
	Params  string `json:"params"`  // the text after the command
	Context string `json:"context"` // textarea, keyboard or menu: where it was called
}
