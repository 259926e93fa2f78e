package event

// ConnectorMessages are new, edited or deleted messages of operators, which a connector must carry
// to its external channel. Report new ones with imconnector.send.status.delivery.
type ConnectorMessages struct {
	Connector string             `json:"CONNECTOR"` // code of the connector
	Line      int64              `json:"LINE"`      // open channel
	Messages  []ConnectorMessage `b24:"MESSAGES|DATA" json:"MESSAGES"`
}

// ConnectorMessage is one message of [ConnectorMessages].
type ConnectorMessage struct {
	IM      IMRef         `json:"im"`      // the message in Bitrix24
	Message ConnectorText `json:"message"` // what to carry
	Chat    ConnectorChat `json:"chat"`    // where to carry it
}

// IMRef names a message of Bitrix24's messenger.
type IMRef struct {
	ChatID    int64 `json:"chat_id"`
	MessageID int64 `json:"message_id"`
}

// ConnectorText is the content of a [ConnectorMessage].
type ConnectorText struct {
	ID     []string `json:"id"`      // the message's IDs in the external channel; empty for new messages
	UserID int64    `json:"user_id"` // the operator; 0 for changes
	Text   string   `json:"text"`    // with BB codes; empty for deletions and for files without a text
	// Files are the attached files. Portals send them, but the documentation does not mention them.
	Files []ConnectorFile `json:"files"`
}

// ConnectorFile is a file of a [ConnectorText].
type ConnectorFile struct {
	Name         string `json:"name"`
	Type         string `json:"type"` // such as file or image
	MIME         string `json:"mime"`
	Size         int64  `json:"size"`         // bytes
	Link         string `json:"link"`         // address of a page that shows the file
	DownloadLink string `json:"downloadLink"` // address of the content
}

// ConnectorChat names a chat of the external channel.
type ConnectorChat struct {
	ID string `json:"id"`
}

// ConnectorDialogs means that dialogs of a connector were opened or closed.
type ConnectorDialogs struct {
	Connector string        `json:"CONNECTOR"` // code of the connector
	Line      int64         `json:"LINE"`      // open channel
	Dialogs   []LineSession `b24:"DATA" json:"DATA"`
}

// ConnectorStatus means that a connector was switched off for an open channel.
type ConnectorStatus struct {
	Connector string `json:"connector"` // code of the connector
	Line      int64  `json:"line"`      // open channel
}

// ConnectorLine means that an open channel was deleted.
type ConnectorLine struct {
	ID int64 `b24:".|LINE_ID|LINE" json:"LINE_ID"` // the data section itself is the ID
}
