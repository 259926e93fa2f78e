package eventtest

import (
	"slices"
	"strings"

	"github.com/b24events/b24events/internal/phpform"
)

// offlineFields returns the fields that event.offline.get filters and orders by. event.offline.list
// adds two.
func offlineFields(more ...string) []string {
	return append([]string{"ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID"}, more...)
}

func (c *call) requireAdmin() *apiError {
	if !c.caller.user.Admin {
		return denied("")
	}
	return nil
}

func (p *Portal) offlineGet(c *call) (reply, *apiError) {
	if apiErr := c.requireAdmin(); apiErr != nil {
		return reply{}, apiErr
	}
	clearing := true
	if v, ok := c.param("CLEAR"); ok {
		clearing = intOf(v) != 0
	}
	if !clearing && p.quirks.NoExtendedOffline && !p.quirks.Box {
		return reply{}, fail(403, "WRONG_LICENSE",
			"This feature is not enabled for the current license: extended offline events handling")
	}
	limit := int64(pageSize)
	if v, ok := c.param("LIMIT"); ok {
		if limit = intOf(v); limit <= 0 {
			return reply{}, badArgument("Value must be positive integer", "LIMIT")
		}
	}
	processID, again, apiErr := c.processID()
	if apiErr != nil {
		return reply{}, apiErr
	}

	filter, apiErr := readFilter(c, offlineFields())
	if apiErr != nil {
		return reply{}, apiErr
	}
	order, apiErr := readOrder(c, offlineFields(), "TIMESTAMP_X")
	if apiErr != nil {
		return reply{}, apiErr
	}
	if !again {
		if filter, apiErr = filter.forReservation(); apiErr != nil {
			return reply{}, apiErr
		}
	}
	failed := false
	if v, ok := c.param("ERROR"); ok {
		failed = intOf(v) == 1
	}
	rows := p.rowsOfLocked(c.caller.app, c.caller.connector, func(r *offlineRow) bool {
		return r.processID == processID && r.failed == failed && filter.matches(r)
	})
	order.sort(rows)
	rows = rows[:min(int64(len(rows)), limit)]
	if !again && p.quirks.RacingReservations {
		p.runOthersLocked()
		rows = slices.DeleteFunc(rows, func(r *offlineRow) bool { return r.deleted })
	}

	shown := phpform.Text(processID)
	switch {
	case again && clearing && len(rows) > 0:
		// deletes the whole batch, including what limit and filter left out
		p.deleteRowsLocked(p.rowsOfLocked(c.caller.app, c.caller.connector, func(r *offlineRow) bool { return r.processID == processID }))
	case !again && clearing:
		shown = null()
		p.deleteRowsLocked(rows)
	case !again:
		processID = randomText(32, base36)
		shown = phpform.Text(processID)
		for _, r := range rows {
			p.reserveLocked(r, processID)
		}
	}
	items := make([]phpform.Value, len(rows))
	for i, r := range rows {
		items[i] = r.value(false)
	}
	return done(phpform.Map(kv("process_id", shown), kv("events", phpform.List(items...))))
}

func (p *Portal) offlineList(c *call) (reply, *apiError) {
	if apiErr := c.requireAdmin(); apiErr != nil {
		return reply{}, apiErr
	}
	fields := offlineFields("PROCESS_ID", "ERROR")
	filter, apiErr := readFilter(c, fields)
	if apiErr != nil {
		return reply{}, apiErr
	}
	order, apiErr := readOrder(c, fields, "ID")
	if apiErr != nil {
		return reply{}, apiErr
	}
	rows := p.rowsOfLocked(c.caller.app, c.caller.connector, filter.matches)
	order.sort(rows)
	items := make([]phpform.Value, len(rows))
	for i, r := range rows {
		items[i] = r.value(true)
	}
	start, _ := c.param("START")
	return page(items, intOf(start))
}

// processID reads process_id, and reports whether it is there. The empty text is valid and means
// the rows that are not reserved. An array is an error, so that it can never mean these rows.
func (c *call) processID() (id string, given bool, apiErr *apiError) {
	v, given := c.param("PROCESS_ID")
	if v.Kind() == phpform.Array {
		return "", given, missing("PROCESS_ID")
	}
	return strings.TrimSpace(v.Scalar()), given, nil
}

// requiredProcessID is processID for methods that need one.
func (c *call) requiredProcessID() (string, *apiError) {
	id, given, apiErr := c.processID()
	if apiErr == nil && !given {
		apiErr = missing("PROCESS_ID")
	}
	return id, apiErr
}

func (p *Portal) offlineClear(c *call) (reply, *apiError) {
	if apiErr := c.requireAdmin(); apiErr != nil {
		return reply{}, apiErr
	}
	processID, apiErr := c.requiredProcessID()
	if apiErr != nil {
		return reply{}, apiErr
	}
	var messages []string
	var ids []int64
	if v, ok := c.param("MESSAGE_ID"); ok { // takes precedence over id
		if messages, apiErr = messageIDs(v, true); apiErr != nil {
			return reply{}, apiErr
		}
	} else if v, ok := c.param("ID"); ok {
		if v.Kind() != phpform.Array {
			return reply{}, badArgument("Value must be array of integers", "id")
		}
		for _, e := range v.Entries() {
			if intOf(e.Value) <= 0 {
				return reply{}, badArgument("Value must be array of integers", "id")
			}
			ids = append(ids, intOf(e.Value))
		}
	}
	p.deleteRowsLocked(p.rowsOfLocked(c.caller.app, c.caller.connector, func(r *offlineRow) bool {
		switch {
		case r.processID != processID:
			return false
		case len(messages) > 0:
			return slices.Contains(messages, r.messageID)
		case len(ids) > 0:
			return slices.Contains(ids, r.id)
		default:
			return true // an empty list means all
		}
	}))
	return done(phpform.Boolean(true))
}

// messageIDs reads a list of MESSAGE_ID values. exact means that each must have 32 characters after
// trimming. Otherwise they are taken as they are. The misspelt argument is the platform's.
func messageIDs(v phpform.Value, exact bool) ([]string, *apiError) {
	const description = "Value must be array of MESSAGE_ID values"
	if v.Kind() != phpform.Array {
		return nil, badArgument(description, "message_id")
	}
	var list []string
	for _, e := range v.Entries() {
		id := e.Value.Scalar()
		if exact {
			id = strings.TrimSpace(id)
			if e.Value.Kind() == phpform.Array || len(id) != 32 {
				return nil, badArgument(description, "messsage_id")
			}
		}
		list = append(list, id)
	}
	return list, nil
}

func (p *Portal) offlineError(c *call) (reply, *apiError) {
	if apiErr := c.requireAdmin(); apiErr != nil {
		return reply{}, apiErr
	}
	processID, apiErr := c.requiredProcessID()
	if apiErr != nil {
		return reply{}, apiErr
	}
	v, _ := c.param("MESSAGE_ID")
	messages, apiErr := messageIDs(v, false)
	if apiErr != nil {
		return reply{}, apiErr
	}
	pending := p.rowsOfLocked(c.caller.app, c.caller.connector, func(r *offlineRow) bool {
		return !r.failed && slices.Contains(messages, r.messageID)
	})
	var others []*offlineRow
	for _, r := range pending {
		if r.processID != processID {
			others = append(others, r) // newer versions and rows of other batches are deleted too
			continue
		}
		p.reserveLocked(r, "")
		r.failed = true
	}
	p.deleteRowsLocked(others)
	return done(phpform.Boolean(true))
}
