package eventtest

import "github.com/b24events/b24events/internal/phpform"

// task finds the task that taskId names.
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

// taskGone is what a change of a task that is not there answers.
func taskGone() *apiError {
	return fail(400, "1048582", "TASKS_ERROR_EXCEPTION_#8; Action failed; 8/TE/ACTION_FAILED_TO_BE_PROCESSED<br>")
}

// taskValue is a task as tasks.task.* shows it: names in camel case, every scalar a text.
func taskValue(o *object) phpform.Value {
	entries := make([]phpform.Entry, len(o.fields))
	for i, e := range o.fields {
		entries[i] = kv(camel(e.Key), e.Value)
	}
	return phpform.Map(kv("task", phpform.Map(entries...)))
}

func (p *Portal) taskAdd(c *call) (reply, *apiError) {
	v, _ := c.param("FIELDS")
	if v.Kind() != phpform.Array {
		return reply{}, fail(400, "100", "Could not find value for parameter {fields} (internal error)")
	}
	return done(taskValue(p.addObject(c.h, Task, v, c.id.user.id)))
}

// taskGet answers an empty array where there is no such task.
func (p *Portal) taskGet(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return done(phpform.Map())
	}
	return done(taskValue(o))
}

func (p *Portal) taskUpdate(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return reply{}, taskGone()
	}
	v, _ := c.param("FIELDS")
	p.updateObject(c.h, Task, o, v, c.id.user.id)
	return done(taskValue(o))
}

func (p *Portal) taskDelete(c *call) (reply, *apiError) {
	o, apiErr := p.task(c)
	switch {
	case apiErr != nil:
		return reply{}, apiErr
	case o == nil:
		return reply{}, taskGone()
	}
	p.deleteObject(c.h, Task, o, c.id.user.id)
	return done(phpform.Map(kv("task", phpform.Boolean(true))))
}
