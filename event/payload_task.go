package event

// Task names a task that was created, changed or deleted.
type Task struct {
	ID               int64       `b24:"FIELDS_AFTER.ID|FIELDS_BEFORE.ID" json:"ID"`
	Before           *TaskFields `json:"FIELDS_BEFORE"`        // nil if there was no task before
	After            *TaskFields `json:"FIELDS_AFTER"`         // nil if the task is gone
	AccessibleBefore string      `json:"IS_ACCESSIBLE_BEFORE"` // whether the task could be read before: Y, N or undefined
	AccessibleAfter  string      `json:"IS_ACCESSIBLE_AFTER"`  // whether the task can be read now: Y, N or undefined
}

// TaskFields is what an event says about a task.
type TaskFields struct {
	ID int64 `json:"ID"`
}

// TaskComment names a comment of a task. Since the new task card (tasks 25.700.0) comments are
// messages of the task's chat: ID is 0 then, and MessageID is the ID of the message.
type TaskComment struct {
	ID               int64              `b24:"FIELDS_AFTER.ID|FIELDS_BEFORE.ID" json:"ID"`
	TaskID           int64              `b24:"FIELDS_AFTER.TASK_ID|FIELDS_BEFORE.TASK_ID" json:"TASK_ID"`
	MessageID        int64              `b24:"FIELDS_AFTER.MESSAGE_ID|FIELDS_BEFORE.MESSAGE_ID" json:"MESSAGE_ID"`
	Action           string             `b24:"FIELDS_AFTER.ACTION" json:"ACTION"` // EDIT or DEL; empty for new comments
	Before           *TaskCommentFields `json:"FIELDS_BEFORE"`                    // nil if there was no comment before
	After            *TaskCommentFields `json:"FIELDS_AFTER"`                     // filled for deleted comments too
	AccessibleBefore string             `json:"IS_ACCESSIBLE_BEFORE"`             // whether the task could be read before: Y, N or undefined
	AccessibleAfter  string             `json:"IS_ACCESSIBLE_AFTER"`              // whether the task can be read now: Y, N or undefined
}

// TaskCommentFields is what an event says about a comment.
type TaskCommentFields struct {
	ID        int64  `json:"ID"` // 0 with the new task card
	TaskID    int64  `json:"TASK_ID"`
	MessageID int64  `json:"MESSAGE_ID"` // message of the task's chat; 0 with the old task card
	Action    string `json:"ACTION"`     // EDIT or DEL, in After only
}
