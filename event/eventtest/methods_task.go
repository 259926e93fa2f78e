package eventtest

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// task returns the task with the ID taskId, or nil if there is none.
func (p *Portal) task(c *call) (*object, *apiError) {
	v, ok := c.param("TASKID")
	if !ok {
		return nil, fail(400, "100", "CTaskItem All parameters in the constructor must have real class type (internal error)")
	}
	if intOf(v) <= 0 {
		return nil, fail(400, "0", "wrong task id")
	}
	return p.objects[Task][intOf(v)], nil
}

// taskGone returns the error for a change of a task that does not exist.
func taskGone() *apiError {
	return fail(400, "1048582", "TASKS_ERROR_EXCEPTION_#8; Action failed; 8/TE/ACTION_FAILED_TO_BE_PROCESSED<br>")
}

// taskFields reads the parameter fields, which must not be empty.
func (c *call) taskFields() (phpform.Value, *apiError) {
	v, _ := c.param("FIELDS")
	if v.Len() == 0 {
		return null(), fail(400, "100", "Could not find value for parameter {fields} (internal error)")
	}
	return v, nil
}

// checkTaskLocked checks the task that results from new fields. o is nil and id 0 for a new task.
func (p *Portal) checkTaskLocked(o *object, fields phpform.Value, id int64) *apiError {
	task := &object{}
	if o != nil {
		task.fields = slices.Clone(o.fields)
	}
	task.assign(fields)
	wrong := func(description string) *apiError { return fail(400, "ERROR_CORE", description+"<br>") }
	starts, planned := calendarTime(task.get("START_DATE_PLAN").Scalar())
	ends, ended := calendarTime(task.get("END_DATE_PLAN").Scalar())
	parent := intOf(task.get("PARENT_ID"))
	status := task.get("STATUS").Scalar()
	switch responsible := intOf(task.get("RESPONSIBLE_ID")); {
	case strings.TrimSpace(task.get("TITLE").Scalar()) == "":
		return wrong("Task title not specified")
	case responsible == 0:
		return wrong("Assignee not specified")
	case p.accounts.users[responsible] == nil:
		return wrong(`User specified in the "Assignee" field not found`)
	case status != "" && !slices.Contains([]string{"2", "3", "4", "5", "6"}, status):
		return wrong("Invalid status")
	case parent != 0 && parent == id:
		return wrong("Cannot bind the node to itself")
	case parent != 0 && p.objects[Task][parent] == nil:
		return wrong(`Task specified in the "Parent Task" field not found`)
	case id != 0 && p.descendsLocked(parent, id):
		return wrong("Creating cyclic links in tasks is prohibited")
	case planned && ended && ends.Before(starts):
		return wrong("End date specified earlier than start date in scheduling")
	}
	return nil
}

// descendsLocked reports whether a task is a subtask of another, at any depth.
func (p *Portal) descendsLocked(task, above int64) bool {
	for seen := map[int64]bool{}; task != 0 && !seen[task]; {
		seen[task] = true
		o := p.objects[Task][task]
		if o == nil {
			return false
		}
		if task = intOf(o.get("PARENT_ID")); task == above {
			return true
		}
	}
	return false
}

// taskValue returns a task as tasks.task.* shows it: names in camel case, all scalars as texts.
func taskValue(o *object) phpform.Value {
	entries := make([]phpform.Entry, len(o.fields))
	for i, e := range o.fields {
		entries[i] = kv(camel(e.Key), e.Value)
	}
	return phpform.Map(entries...)
}

func taskReply(o *object) (reply, *apiError) { return done(phpform.Map(kv("task", taskValue(o)))) }

func (p *Portal) taskAdd(c *call) (reply, *apiError) {
	fields, apiErr := c.taskFields()
	if apiErr != nil {
		return reply{}, apiErr
	}
	if apiErr := p.checkTaskLocked(nil, fields, 0); apiErr != nil {
		return reply{}, apiErr
	}
	return taskReply(p.addObject(c.events, Task, fields, c.caller.user.id))
}

// taskGet returns an empty array if there is no such task.
func (p *Portal) taskGet(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return done(phpform.Map())
	}
	return taskReply(o)
}

func (p *Portal) taskUpdate(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return reply{}, taskGone()
	}
	fields, apiErr := c.taskFields()
	if apiErr != nil {
		return reply{}, apiErr
	}
	if apiErr := p.checkTaskLocked(o, fields, o.id); apiErr != nil {
		return reply{}, apiErr
	}
	p.updateObject(c.events, Task, o, fields, c.caller.user.id)
	return taskReply(o)
}

func (p *Portal) taskDelete(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return reply{}, taskGone()
	}
	p.deleteObject(c.events, Task, o, c.caller.user.id)
	return done(phpform.Map(kv("task", phpform.Boolean(true))))
}

// taskSortable returns the documented fields that tasks.task.list sorts by.
func taskSortable() []string {
	return strings.Fields(`ID TITLE TIME_SPENT_IN_LOGS DATE_START CREATED_DATE CHANGED_DATE CLOSED_DATE ACTIVITY_DATE
		START_DATE_PLAN END_DATE_PLAN DEADLINE REAL_STATUS STATUS_COMPLETE PRIORITY MARK CREATED_BY_LAST_NAME
		RESPONSIBLE_LAST_NAME GROUP_ID TIME_ESTIMATE ALLOW_CHANGE_DEADLINE ALLOW_TIME_TRACKING MATCH_WORK_TIME FAVORITE SORTING
		IS_PINNED IS_PINNED_IN_GROUP`)
}

// taskColumns converts the keys of a filter or an order to those of fields. Keys that do not name a
// field are left out.
func taskColumns(v phpform.Value) phpform.Value {
	var entries []phpform.Entry
	for _, e := range v.Entries() {
		if strings.HasPrefix(e.Key, "::") {
			continue
		}
		if op, ok := strings.CutSuffix(strings.ToUpper(e.Key), "REAL_STATUS"); ok {
			e.Key = op + "STATUS"
		}
		entries = append(entries, e)
	}
	return phpform.Map(entries...)
}

// taskList returns a page of tasks. The default order is the newest first.
func (p *Portal) taskList(c *call) (reply, *apiError) {
	order, ordered := c.param("ORDER")
	for _, e := range order.Entries() {
		if !slices.Contains(taskSortable(), strings.ToUpper(e.Key)) {
			return reply{}, fail(400, "0", "Invalid sorting key (internal error)")
		}
	}
	filter, _ := c.param("FILTER")
	tasks := p.selectObjectsLocked(Task, taskColumns(filter), taskColumns(order))
	if !ordered || order.Len() == 0 {
		slices.Reverse(tasks)
	}
	wanted, chosen := selection(c)
	var rows []phpform.Value
	for _, o := range tasks {
		if chosen {
			o = &object{id: o.id, fields: slices.DeleteFunc(slices.Clone(o.fields), func(e phpform.Entry) bool {
				return !wanted[e.Key] && e.Key != "ID"
			})}
		}
		rows = append(rows, taskValue(o))
	}
	rep, apiErr := p.pageOf(c, rows)
	rep.result = phpform.Map(kv("tasks", rep.result))
	return rep, apiErr
}
