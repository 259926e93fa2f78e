package event

// BotAuth holds the tokens by which the application acts as a bot. They are as valuable as those in
// [Delivery.Auth]. The application token there shows whether a delivery is genuine, not the one
// here.
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
	UserID           int64  `b24:"user_id|AUTH.user_id" json:"user_id"` // whose token it is
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
	Bots   map[string]Bot   `json:"BOT"` // the bots it is addressed to, by their ID in decimal
	Params BotMessageParams `json:"PARAMS"`
	User   BotUser          `json:"USER"` // who wrote it; zero if unknown
}

// BotCommand is a call of slash commands of bots of the old API.
type BotCommand struct {
	Commands map[string]BotCommandCall `json:"COMMAND"` // the commands called, by their ID in decimal
	Params   BotMessageParams          `json:"PARAMS"`  // the message that holds them
	User     BotUser                   `json:"USER"`    // who called them; zero if unknown
}

// BotCommandCall is one command of a [BotCommand].
type BotCommandCall struct {
	Bot

	Command   string `json:"COMMAND"` // without the slash
	CommandID int64  `json:"COMMAND_ID"`
	Params    string `json:"COMMAND_PARAMS"`  // the text after the command
	Context   string `json:"COMMAND_CONTEXT"` // TEXTAREA if it was typed, KEYBOARD if a button was pressed
	MessageID int64  `json:"MESSAGE_ID"`      // the message to reply to
}

// BotJoin means that a bot of the old API was added to a chat, or that a user opened a private chat
// with it.
type BotJoin struct {
	Bots   map[string]Bot `json:"BOT"` // the bots it is addressed to, by their ID in decimal
	Params BotJoinParams  `json:"PARAMS"`
	User   BotUser        `json:"USER"` // who brought the bot in; zero if unknown
}

// BotContext means that a user opened the dialog with a bot of the old API from a place that passes
// on what it is about. Only the name of the event is documented, so the fields are those of similar
// events.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/migration.html
type BotContext struct {
	Bots   map[string]Bot   `json:"BOT"` // the bots it is addressed to, by their ID in decimal
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

// BotDelete means that a bot of the old API was deleted.
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

// BotMessageParams describes a message to a bot of the old API, and its chat. Which fields are
// filled depends on the event and on the kind of chat: those named Chat… stay empty in private
// chats, with a few exceptions.
type BotMessageParams struct {
	Message         string `json:"MESSAGE"`          // the text; without mentions of the bot
	MessageOriginal string `json:"MESSAGE_ORIGINAL"` // the text with its BB codes, if it mentions someone
	MessageID       int64  `b24:"MESSAGE_ID|ID" json:"MESSAGE_ID"`
	ID              int64  `json:"ID"`           // the same as MessageID, for edited and deleted messages
	MessageType     string `json:"MESSAGE_TYPE"` // letter of the kind of chat, as ChatType
	TemplateID      string `json:"TEMPLATE_ID"`  // UUID that the sender's client gave the message
	DialogID        string `json:"DIALOG_ID"`    // where to reply: a user's ID, or chat and a number
	FromUserID      int64  `json:"FROM_USER_ID"` // who sent it
	ToUserID        int64  `json:"TO_USER_ID"`   // whom it is for; 0 for everyone
	ToChatID        int64  `json:"TO_CHAT_ID"`
	AuthorID        int64  `json:"AUTHOR_ID"` // who wrote it
	Language        string `json:"LANGUAGE"`  // of the portal
	CommandContext  string `json:"COMMAND_CONTEXT"`
	PlatformContext string `json:"PLATFORM_CONTEXT"` // the sender's client, such as web

	// Files are the attached files. Portals send them, but the documentation does not mention them.
	Files   []BotFile `json:"FILES"`
	FileIDs []int64   `b24:"PARAMS.FILE_ID" json:"FILE_ID"` // the IDs of the attached files

	MentionedList map[string]int64 `json:"MENTIONED_LIST"` // the users mentioned, by their ID in decimal
	BotInChat     map[string]int64 `json:"BOT_IN_CHAT"`    // the bots in the chat, by their ID in decimal

	ChatID            int64  `json:"CHAT_ID"`
	ChatType          string `json:"CHAT_TYPE"` // P private, C group, O open, L open channel
	ChatTitle         string `json:"CHAT_TITLE"`
	ChatAuthorID      int64  `json:"CHAT_AUTHOR_ID"` // owner of the chat
	ChatUserCount     int64  `json:"CHAT_USER_COUNT"`
	ChatAvatar        string `json:"CHAT_AVATAR"`      // ID of the picture's file; 0 if there is none
	ChatColor         string `json:"CHAT_COLOR"`       // name of the colour
	ChatEntityType    string `json:"CHAT_ENTITY_TYPE"` // kind of the object that the chat belongs to
	ChatEntityID      string `json:"CHAT_ENTITY_ID"`   // key of that object
	ChatEntityData1   string `json:"CHAT_ENTITY_DATA_1"`
	ChatEntityData2   string `json:"CHAT_ENTITY_DATA_2"`
	ChatEntityData3   string `json:"CHAT_ENTITY_DATA_3"`
	ChatParentID      int64  `json:"CHAT_PARENT_ID"`       // for comments: the chat they belong to
	ChatParentMID     int64  `json:"CHAT_PARENT_MID"`      // for comments: the message they belong to
	ChatPrevMessageID int64  `json:"CHAT_PREV_MESSAGE_ID"` // the message before this one
	ChatCanPost       string `json:"CHAT_CAN_POST"`        // the least role that may write, such as MEMBER
	ChatExtranet      bool   `json:"CHAT_EXTRANET"`        // the chat has members who are not employees
	RID               int64  `json:"RID"`                  // the messenger's own relation of user and chat
	Manager           bool   `json:"IS_MANAGER"`           // the sender manages the chat

	System                bool  `json:"SYSTEM"` // not written by a person
	Push                  bool  `json:"PUSH"`
	PushImportant         bool  `json:"PUSH_IMPORTANT"`
	RecentAdd             bool  `json:"RECENT_ADD"`         // shows in the list of recent chats
	RecentSkipAuthor      bool  `json:"RECENT_SKIP_AUTHOR"` // except in the author's list
	Convert               bool  `json:"CONVERT"`            // formatting was converted
	SkipUserCheck         bool  `json:"SKIP_USER_CHECK"`
	SkipCommand           bool  `json:"SKIP_COMMAND"` // commands in it do not count
	SkipCounterIncrements bool  `json:"SKIP_COUNTER_INCREMENTS"`
	SkipURLIndex          bool  `json:"SKIP_URL_INDEX"`
	SilentConnector       bool  `json:"SILENT_CONNECTOR"`
	SkipConnector         bool  `json:"SKIP_CONNECTOR"` // not carried to external channels
	ImportantConnector    bool  `json:"IMPORTANT_CONNECTOR"`
	NoSessionOL           bool  `json:"NO_SESSION_OL"` // opens no session of an open channel
	FakeRelation          int64 `json:"FAKE_RELATION"`
}

// BotFile is a file in a message to a bot of the old API. Portals send it, but the documentation
// does not mention it.
type BotFile struct {
	ID          int64  `json:"id"`
	ChatID      int64  `json:"chatId"`
	Date        string `json:"date"` // when it was uploaded, as it arrived
	Type        string `json:"type"` // such as file or image
	Name        string `json:"name"`
	Extension   string `json:"extension"` // such as pdf
	Size        int64  `json:"size"`      // bytes
	Status      string `json:"status"`    // done for an upload that is complete
	Progress    int64  `json:"progress"`  // of the upload, percent
	AuthorID    int64  `json:"authorId"`  // who uploaded it
	AuthorName  string `json:"authorName"`
	URLPreview  string `json:"urlPreview"`  // address of a small picture; may be empty
	URLShow     string `json:"urlShow"`     // address of a page that shows the file; may be empty
	URLDownload string `json:"urlDownload"` // address of the content
	ViewerAttrs Data   `json:"viewerAttrs"` // for the portal's own viewer
}

// BotJoinParams describes the chat that a bot of the old API was added to. In private chats the
// fields from ChatID on are empty.
type BotJoinParams struct {
	BotID          int64  `json:"BOT_ID"`
	UserID         int64  `json:"USER_ID"`      // who brought the bot in
	DialogID       string `json:"DIALOG_ID"`    // where to write: a user's ID, or chat and a number
	ChatType       string `json:"CHAT_TYPE"`    // P private, C group, O open, L open channel
	MessageType    string `json:"MESSAGE_TYPE"` // the same letter
	FromUserID     int64  `json:"FROM_USER_ID"`
	ToUserID       int64  `json:"TO_USER_ID"`
	Language       string `json:"LANGUAGE"`    // of the portal
	SilentJoin     bool   `json:"SILENT_JOIN"` // no message in the chat says so
	ChatID         int64  `json:"CHAT_ID"`
	ChatAuthorID   int64  `json:"CHAT_AUTHOR_ID"`   // owner of the chat
	ChatEntityType string `json:"CHAT_ENTITY_TYPE"` // kind of the object that the chat belongs to
	ChatEntityID   string `json:"CHAT_ENTITY_ID"`   // key of that object
	AccessHistory  bool   `json:"ACCESS_HISTORY"`   // the bot may read what was written before
}
