package event

import "time"

// ChatMessage is a message in events of imbot.v2.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/entities.html
type ChatMessage struct {
	ID             int64        `json:"id"`
	ChatID         int64        `json:"chatId"`
	AuthorID       int64        `json:"authorId"` // 0 for messages of the system
	Date           time.Time    `json:"date"`     // zero if it was empty
	Text           string       `json:"text"`     // cut after 20,000 characters
	System         bool         `json:"isSystem"` // not written by a person
	UUID           string       `json:"uuid"`     // that the sender's client gave the message; may be empty
	Forward        *ChatForward `json:"forward"`  // nil for messages that were not forwarded
	Params         Data         `json:"params"`   // attachments, keyboard, files and more
	ViewedByOthers bool         `json:"viewedByOthers"`
}

// ChatForward is the origin of a forwarded message.
type ChatForward struct {
	ID     string `json:"id"`
	UserID int64  `json:"userId"`
	ChatID int64  `json:"chatId"`
	Date   string `json:"date"` // as it arrived
}

// Chat is a chat in events of imbot.v2. Events leave out some fields, which are then empty.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/entities.html
type Chat struct {
	ID               int64  `json:"id"`
	DialogID         string `json:"dialogId"` // a user's ID for private chats, else chat and a number
	Name             string `json:"name"`
	Type             string `json:"type"`        // private, chat, open, channel …
	MessageType      string `json:"messageType"` // letter of the kind
	Owner            int64  `json:"owner"`       // user who owns it
	Color            string `json:"color"`       // hexadecimal; may be empty
	Avatar           string `json:"avatar"`      // address of the picture; may be empty
	Description      string `json:"description"`
	Extranet         bool   `json:"extranet"`         // it has members who are not employees
	ContainsCollaber bool   `json:"containsCollaber"` // it has guests of a collab
	EntityType       string `json:"entityType"`       // kind of the object that it belongs to, LINES for open channels
	EntityID         string `json:"entityId"`         // key of that object
	EntityData1      string `json:"entityData1"`
	EntityData2      string `json:"entityData2"`
	EntityData3      string `json:"entityData3"`
	EntityLink       Data   `json:"entityLink"`      // how to open that object
	DiskFolderID     int64  `json:"diskFolderId"`    // Drive folder of its files; 0 if there is none
	Permissions      Data   `json:"permissions"`     // what members may do
	ParentChatID     int64  `json:"parentChatId"`    // for comments: the chat they belong to
	ParentMessageID  int64  `json:"parentMessageId"` // for comments: the message they belong to
	New              bool   `json:"isNew"`
	TextFieldEnabled bool   `json:"textFieldEnabled"` // members may write
	BackgroundID     string `json:"backgroundId"`     // may be empty
}

// ChatUser is a user in events of imbot.v2. Events leave out some fields, which are then empty. The
// dates are as they arrived, in ISO 8601; an unknown one is empty in JSON and 0 in a form.
//
// Source: https://apidocs.bitrix24.com/api-reference/chat-bots/chat-bots-v2/entities.html
type ChatUser struct {
	ID               int64   `json:"id"`
	Active           bool    `json:"active"`
	Name             string  `json:"name"` // first and last name
	FirstName        string  `json:"firstName"`
	LastName         string  `json:"lastName"`
	WorkPosition     string  `json:"workPosition"`
	Color            string  `json:"color"`            // hexadecimal
	Avatar           string  `json:"avatar"`           // address of the picture; may be empty
	Gender           string  `json:"gender"`           // M or F
	Birthday         string  `json:"birthday"`         // may be empty
	Extranet         bool    `json:"extranet"`         // not an employee
	Bot              bool    `json:"bot"`              // is a bot itself
	Connector        bool    `json:"connector"`        // writes from an external channel
	ExternalAuthID   string  `json:"externalAuthId"`   // how the user signs in: default, bot, email …
	Status           string  `json:"status"`           // online or dnd
	Idle             string  `json:"idle"`             // since when idle
	LastActivityDate string  `json:"lastActivityDate"` // last seen
	MobileLastDate   string  `json:"mobileLastDate"`   // last seen in the mobile application
	DesktopLastDate  string  `json:"desktopLastDate"`  // last seen in the desktop application
	Absent           string  `json:"absent"`           // since when absent
	Departments      []int64 `json:"departments"`
	Phones           Data    `json:"phones"` // numbers by kind, or false
	Type             string  `json:"type"`   // employee, extranet, email, collaber or bot
	Website          string  `json:"website"`
	Email            string  `json:"email"`
}
