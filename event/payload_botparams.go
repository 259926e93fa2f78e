package event

// BotMessageParams describes a message to a bot of the old API, and its chat. Which fields are
// filled depends on the event and on the kind of chat: those named Chat… stay empty in private
// chats, with a few exceptions.
type BotMessageParams struct {
	Message         string `json:"MESSAGE"`          // the text; without mentions of the bot
	MessageOriginal string `json:"MESSAGE_ORIGINAL"` // the text with its BB codes, where it mentions someone
	MessageID       int64  `b24:"MESSAGE_ID|ID" json:"MESSAGE_ID"`
	ID              int64  `json:"ID"`           // the same as MessageID, for edited and deleted messages
	MessageType     string `json:"MESSAGE_TYPE"` // letter of the kind of chat, as ChatType
	TemplateID      string `json:"TEMPLATE_ID"`  // UUID that the sender's client gave the message
	DialogID        string `json:"DIALOG_ID"`    // where to answer: a user's id, or chat and a number
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

	MentionedList map[string]int64 `json:"MENTIONED_LIST"` // the users mentioned, by their id in decimal
	BotInChat     map[string]int64 `json:"BOT_IN_CHAT"`    // the bots in the chat, by their id in decimal

	ChatID            int64  `json:"CHAT_ID"`
	ChatType          string `json:"CHAT_TYPE"` // P private, C group, O open, L open channel
	ChatTitle         string `json:"CHAT_TITLE"`
	ChatAuthorID      int64  `json:"CHAT_AUTHOR_ID"` // owner of the chat
	ChatUserCount     int64  `json:"CHAT_USER_COUNT"`
	ChatAvatar        string `json:"CHAT_AVATAR"`      // number of the picture's file; 0 where there is none
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
	Date        string `json:"date"` // when it was uploaded, as it came
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
	DialogID       string `json:"DIALOG_ID"`    // where to write: a user's id, or chat and a number
	ChatType       string `json:"CHAT_TYPE"`    // P private, C group, O open, L open channel
	MessageType    string `json:"MESSAGE_TYPE"` // the same letter
	FromUserID     int64  `json:"FROM_USER_ID"`
	ToUserID       int64  `json:"TO_USER_ID"`
	Language       string `json:"LANGUAGE"`    // of the portal
	SilentJoin     bool   `json:"SILENT_JOIN"` // no message tells of it in the chat
	ChatID         int64  `json:"CHAT_ID"`
	ChatAuthorID   int64  `json:"CHAT_AUTHOR_ID"`   // owner of the chat
	ChatEntityType string `json:"CHAT_ENTITY_TYPE"` // kind of the object that the chat belongs to
	ChatEntityID   string `json:"CHAT_ENTITY_ID"`   // key of that object
	AccessHistory  bool   `json:"ACCESS_HISTORY"`   // the bot may read what was written before
}
