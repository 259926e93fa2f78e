package event

// BotAuth holds the tokens by which the application acts as a bot. They are as valuable as those in
// [Delivery.Auth]. Whether a delivery is genuine is told by the application token there, not by the
// one here.
type BotAuth struct {
	AccessToken      Secret `b24:"access_token|AUTH.access_token" json:"access_token"`
	RefreshToken     Secret `b24:"refresh_token|AUTH.refresh_token" json:"refresh_token"` // may be missing
	ApplicationToken Secret `b24:"application_token|AUTH.application_token" json:"application_token"`
	ClientID         string `b24:"client_id|AUTH.client_id" json:"client_id"`    // of the application; bots of the old API only
	Expires          int64  `b24:"expires|AUTH.expires" json:"expires"`          // when AccessToken ends, unix seconds
	ExpiresIn        int64  `b24:"expires_in|AUTH.expires_in" json:"expires_in"` // how long AccessToken lasts, seconds
	Scope            string `b24:"scope|AUTH.scope" json:"scope"`                // comma-separated
	Domain           string `b24:"domain|AUTH.domain" json:"domain"`             // host of the portal
	ServerEndpoint   string `b24:"server_endpoint|AUTH.server_endpoint" json:"server_endpoint"`
	ClientEndpoint   string `b24:"client_endpoint|AUTH.client_endpoint" json:"client_endpoint"`
	MemberID         string `b24:"member_id|AUTH.member_id" json:"member_id"`
	Status           string `b24:"status|AUTH.status" json:"status"`    // licence letter, as in [Auth.Status]
	UserID           int64  `b24:"user_id|AUTH.user_id" json:"user_id"` // whom the token stands for
}

// Bot is a chat bot of the old API (imbot without v2) that an event is addressed to.
type Bot struct {
	BotAuth

	ID   int64  `b24:"BOT_ID" json:"BOT_ID"`
	Code string `b24:"BOT_CODE" json:"BOT_CODE"`
}

// BotMessage is a message to a bot of the old API that was sent, edited or deleted. In a group chat
// only messages that mention the bot arrive.
type BotMessage struct {
	Bots   map[string]Bot   `json:"BOT"` // the bots it is addressed to, by their id in decimal
	Params BotMessageParams `json:"PARAMS"`
	User   BotUser          `json:"USER"` // who wrote it; zero where unknown
}

// BotCommand is a call of slash commands of bots of the old API.
type BotCommand struct {
	Commands map[string]BotCommandCall `json:"COMMAND"` // the commands called, by their id in decimal
	Params   BotMessageParams          `json:"PARAMS"`  // the message that holds them
	User     BotUser                   `json:"USER"`    // who called them; zero where unknown
}

// BotCommandCall is one command of a [BotCommand].
type BotCommandCall struct {
	Bot

	Command   string `json:"COMMAND"` // without the slash
	CommandID int64  `json:"COMMAND_ID"`
	Params    string `json:"COMMAND_PARAMS"`  // the text after the command
	Context   string `json:"COMMAND_CONTEXT"` // TEXTAREA where it was typed, KEYBOARD where a button was pressed
	MessageID int64  `json:"MESSAGE_ID"`      // the message to answer
}

// BotJoin tells that a bot of the old API was added to a chat, or that a user opened a private chat
// with it.
type BotJoin struct {
	Bots   map[string]Bot `json:"BOT"` // the bots it is addressed to, by their id in decimal
	Params BotJoinParams  `json:"PARAMS"`
	User   BotUser        `json:"USER"` // who brought the bot in; zero where unknown
}

// BotContext means that a user opened the dialog with a bot of the old API from a place that passes
// on what it is about. Only the name of the event is documented, so the fields are what its
// siblings have.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/migration.html
type BotContext struct {
	Bots   map[string]Bot   `json:"BOT"` // the bots it is addressed to, by their id in decimal
	Params BotContextParams `json:"PARAMS"`
	User   BotUser          `json:"USER"` // who opened it; zero if unknown
}

// BotContextParams describes the dialog of a [BotContext].
type BotContextParams struct {
	BotID       int64  `json:"BOT_ID"`
	UserID      int64  `json:"USER_ID"`
	DialogID    string `json:"DIALOG_ID"` // where to write: a user's ID, or chat and a number
	ChatID      int64  `json:"CHAT_ID"`
	ChatType    string `json:"CHAT_TYPE"`
	MessageType string `json:"MESSAGE_TYPE"`
	Language    string `json:"LANGUAGE"`          // of the portal
	Other       Data   `b24:",rest" json:"OTHER"` // everything else, the context included
}

// BotDelete tells that a bot of the old API was deleted.
type BotDelete struct {
	ID   int64  `b24:"BOT_ID" json:"BOT_ID"`
	Code string `b24:"BOT_CODE" json:"BOT_CODE"`
}

// BotUser is the user behind an event of a bot of the old API.
type BotUser struct {
	ID           int64  `json:"ID"`
	Name         string `json:"NAME"` // first and last name
	FirstName    string `json:"FIRST_NAME"`
	LastName     string `json:"LAST_NAME"`
	WorkPosition string `json:"WORK_POSITION"`
	Gender       string `json:"GENDER"`       // M or F
	Bot          bool   `json:"IS_BOT"`       // is a bot itself
	Connector    bool   `json:"IS_CONNECTOR"` // writes from an external channel
	Network      bool   `json:"IS_NETWORK"`   // a user of Bitrix24.Network
	Extranet     bool   `json:"IS_EXTRANET"`  // not an employee
}
