package eventtest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// argument returns the argument at a position, from 0, for methods that take their arguments by
// position. The names of the parameters do not matter.
func (c *call) argument(i int) (phpform.Value, bool) {
	if sent := c.params.Entries(); i < len(sent) {
		return sent[i].Value, true
	}
	return null(), false
}

// commentFailure returns an error of task.commentitem.*. All of them have the same code.
func commentFailure(number int, words, name string) *apiError {
	return fail(400, "ERROR_CORE", fmt.Sprintf("TASKS_ERROR_EXCEPTION_#%d; %s; %d/TE/%s.<br>", number, words, number, name))
}

func wrongArgument(format string, args ...any) *apiError {
	const number = 256
	return commentFailure(number, fmt.Sprintf(format, args...), "WRONG_ARGUMENTS")
}

// commentArgument reads an integer argument. method is get or getlist.
func (c *call) commentArgument(i int, name, method string) (int64, *apiError) {
	v, ok := c.argument(i)
	if !ok {
		return 0, wrongArgument("Param #%d (%s) expected by method ctaskcommentitem::%s(), but not given.", i, name, method)
	}
	id, err := strconv.ParseInt(v.Scalar(), 10, 64)
	if err != nil {
		return 0, wrongArgument(
			`Param #%d (%s) for method ctaskcommentitem::%s() expected to be of type "integer", but given something else.`,
			i,
			name,
			method,
		)
	}
	return id, nil
}

// commentGet takes a task and a comment by position. A comment of another task returns the same
// error as a missing one.
func (p *Portal) commentGet(c *call) (reply, *apiError) {
	task, apiErr := c.commentArgument(0, "taskId", "get")
	if apiErr != nil {
		return reply{}, apiErr
	}
	item, apiErr := c.commentArgument(1, "itemId", "get")
	if apiErr != nil {
		return reply{}, apiErr
	}
	o := p.objects[TaskComment][item]
	if o == nil || intOf(o.get("TASK_ID")) != task || p.objects[Task][task] == nil {
		const number = 512
		return reply{}, commentFailure(number, "Check listitem not found or not accessible", "ITEM_NOT_FOUND_OR_NOT_ACCESSIBLE")
	}
	return done(p.commentValueLocked(o))
}

// commentList takes a task, an order and a filter by position. The newest comment comes first
// unless the order says otherwise.
func (p *Portal) commentList(c *call) (reply, *apiError) {
	const number = 8
	task, apiErr := c.commentArgument(0, "taskId", "getlist")
	if apiErr != nil {
		return reply{}, apiErr
	}
	fields := []string{"ID", "AUTHOR_ID", "AUTHOR_NAME", "AUTHOR_EMAIL", "POST_DATE"}
	order, apiErr := c.commentKeys(1, "arOrder", fields, "")
	if apiErr != nil {
		return reply{}, apiErr
	}
	filter, apiErr := c.commentKeys(2, "arFilter", slices.DeleteFunc(fields, func(f string) bool { return f == "AUTHOR_EMAIL" }), "!<>=")
	if apiErr != nil {
		return reply{}, apiErr
	}
	if p.objects[Task][task] == nil {
		return reply{}, commentFailure(number, "Action failed", "ACTION_FAILED_TO_BE_PROCESSED")
	}
	found := p.selectObjectsLocked(TaskComment, filter, order)
	if order.Len() == 0 {
		slices.Reverse(found)
	}
	var rows []phpform.Value
	for _, o := range found {
		if intOf(o.get("TASK_ID")) == task {
			rows = append(rows, p.commentValueLocked(o))
		}
	}
	return done(phpform.List(rows...))
}

// commentKeys reads an argument whose keys are fields. signs are the characters of the operators
// before them.
func (c *call) commentKeys(i int, name string, fields []string, signs string) (phpform.Value, *apiError) {
	v, ok := c.argument(i)
	if !ok || v.Kind() != phpform.Array && v.Scalar() == "" {
		return phpform.Map(), nil
	}
	if v.Kind() != phpform.Array {
		return null(), wrongArgument(
			`Param #%d (%s) for method ctaskcommentitem::getlist() expected to be of type "array", but given something else.`,
			i,
			name,
		)
	}
	for _, e := range v.Entries() {
		if !slices.Contains(fields, strings.TrimLeft(e.Key, signs)) {
			return null(), wrongArgument(`Param #%d (%s) for method ctaskcommentitem::getlist() must not contain key "%s".`, i, name, e.Key)
		}
	}
	return v, nil
}

func (p *Portal) commentValueLocked(o *object) phpform.Value {
	name, email := "", ""
	if author := p.accounts.users[intOf(o.get("AUTHOR_ID"))]; author != nil {
		name, email = author.fullName(), author.Email
	}
	return phpform.Map(
		kv("POST_MESSAGE_HTML", null()),
		text("ID", o.get("ID").Scalar()),
		text("AUTHOR_ID", o.get("AUTHOR_ID").Scalar()),
		text("AUTHOR_NAME", name),
		text("AUTHOR_EMAIL", email),
		text("POST_DATE", o.get("POST_DATE").Scalar()),
		text("POST_MESSAGE", o.get("POST_MESSAGE").Scalar()),
		kv("ATTACHED_OBJECTS", phpform.Map()),
	)
}

// checkCommentLocked checks the fields of a new comment.
func (p *Portal) checkCommentLocked(fields phpform.Value) error {
	task, _ := fields.GetFold("TASK_ID")
	if p.objects[Task][intOf(task)] == nil {
		return errors.New("eventtest: a task comment needs the TASK_ID of a task that exists")
	}
	return nil
}
