package event

// LineSessions means that sessions of an open channel were opened or closed.
type LineSessions struct {
	Sessions []LineSession `b24:"DATA" json:"DATA"`
}

// LineSession is one conversation of a client in an open channel.
type LineSession struct {
	Connector LineConnector   `json:"connector"`
	Session   LineSessionInfo `json:"session"`
	Chat      LineChat        `json:"chat"`
	User      LineUser        `json:"user"`
}

// LineConnector is the channel through which the client writes.
type LineConnector struct {
	ID     string `json:"connector_id"` // code of the connector, such as livechat
	LineID int64  `json:"line_id"`      // open channel
	ChatID int64  `json:"chat_id"`
	UserID int64  `json:"user_id"` // the client's user; 0 if there is none
}

// LineSessionInfo is the session of a [LineSession].
type LineSessionInfo struct {
	ID        int64 `json:"id"`
	Closed    bool  `json:"closed"`
	ParentID  int64 `json:"parent_id"`  // the client's session before this one; 0 if there is none
	CloseTerm int64 `json:"close_term"` // minutes of silence after which the session closes by itself
}

// LineChat names the chat of a conversation.
type LineChat struct {
	ID int64 `json:"id"`
}

// LineUser names the client's user.
type LineUser struct {
	ID int64 `json:"id"` // 0 if there is none
}

// LineMessages are messages of an open channel that were added, changed or deleted. Added ones have
// their text; for the others, IM names the message.
type LineMessages struct {
	Connector string        `json:"CONNECTOR"` // code of the connector; empty for added messages, see [LineMessage]
	Line      int64         `json:"LINE"`      // open channel; 0 for added messages
	Messages  []LineMessage `b24:"DATA" json:"DATA"`
}

// LineMessage is one message of [LineMessages].
type LineMessage struct {
	Connector LineConnector `json:"connector"` // zero for changes and deletions
	IM        IMRef         `json:"im"`        // zero for added messages
	Chat      LineChat      `json:"chat"`
	Message   LineText      `json:"message"`
	Ref       Data          `json:"ref"`   // tracking codes; usually empty
	Extra     LineExtra     `json:"extra"` // zero for changes and deletions
}

// LineText is the content of a [LineMessage]. Changes and deletions fill only ID.
type LineText struct {
	ID     int64  `json:"id"`
	Date   string `json:"date"` // as it arrived; may be empty
	Text   string `json:"text"`
	Files  Data   `json:"files"`   // attached files, in no documented form; may be empty
	Attach Data   `json:"attach"`  // rich attachment; documented as text
	System bool   `json:"system"`  // not written by a person
	UserID int64  `json:"user_id"` // the author
}

// LineExtra holds further attributes of a [LineMessage].
type LineExtra struct {
	URL string `json:"EXTRA_URL"` // link of Bitrix24.Network; may be empty
}
