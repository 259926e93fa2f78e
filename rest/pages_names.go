package rest

import (
	"errors"
	"strconv"
	"strings"
)

// spelling is how a list method names the parameters that [ByID] needs. The REST core itself reads
// start, which is in small letters for every method.
type spelling struct {
	filter string
	order  string // of the direction of each field; of the direction alone if there is sort
	sort   string // of the field
}

// spellingOf returns how the page of a method names its parameters. Methods that fold the case are
// not here, nor are those that take their arguments by position (task.items.getlist and the like),
// which cannot be paged by start.
//
// Source: the pages of the methods below https://apidocs.bitrix24.com/api-reference/
func spellingOf(method string) (names spelling, known bool) {
	switch strings.ToLower(method) {
	case "sonet_group.get", "bizproc.task.list", "bizproc.workflow.template.list", "crm.calllist.list",
		"sale.cashbox.list", "sale.delivery.getlist", "sale.paysystem.list":
		return spelling{filter: "FILTER", order: "ORDER"}, true
	case "entity.item.get", "entity.section.get":
		return spelling{filter: "FILTER", order: "SORT"}, true
	case "lists.element.get":
		return spelling{filter: "FILTER", order: "ELEMENT_ORDER"}, true
	case "user.get", "user.search":
		return spelling{filter: "FILTER", sort: "sort", order: "order"}, true
	case "voximplant.statistic.get":
		return spelling{filter: "FILTER", sort: "SORT", order: "ORDER"}, true
	default:
		return spelling{filter: "filter", order: "order"}, false
	}
}

var (
	errOrder = errors.New("ByID orders the rows itself: leave order out, or order by its field alone, ascending")
	errBound = errors.New("the filter > by the field of ByID is not an ID: leave it out, or leave After out")
)

// readNames finds out from the parameters how the caller spells them, whether they already order by
// the field of ByID, and where to begin.
func (l *list) readNames() error {
	var filter, order string     // as the parameters spell them
	var sorts, directs, odd bool // for a field and a direction apart; a bound that is no ID
	var bound uint64
	err := l.each(func(name, top, value string) error {
		key, whole := keyOfName(name)
		switch strings.ToLower(top) {
		case "start":
			return errStart
		case "filter":
			filter = top
			if strings.EqualFold(key, ">"+l.cfg.id) {
				id, err := strconv.ParseUint(value, 10, 64)
				bound, odd = id, err != nil
			}
		case "order", "sort", "element_order":
			switch {
			case strings.EqualFold(key, l.cfg.id) && strings.EqualFold(value, "ASC"):
				order, l.ordered = top, true
			case whole && strings.EqualFold(value, l.cfg.id):
				sorts = true
			case whole && strings.EqualFold(value, "ASC"):
				order, directs = top, true
			default:
				return errOrder
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case sorts != directs:
		return errOrder
	case odd && l.cfg.after > 0:
		return errBound
	}
	l.ordered = l.ordered || sorts
	if odd {
		bound = 0
	}
	l.after = max(l.cfg.after, bound)
	l.names = l.spelled(filter, order)
	return nil
}

// spelled chooses the names: those of the parameters, or else those of the method's page, or else
// those that go with the name in the parameters.
func (l *list) spelled(filter, order string) spelling {
	names, known := spellingOf(l.method)
	switch {
	case filter != "":
		names.filter = filter
	case !known && isUpper(order):
		names.filter = "FILTER"
	}
	if !known && isUpper(filter) {
		names.order = "ORDER"
	}
	return names
}

func isUpper(name string) bool { return name != "" && name == strings.ToUpper(name) }

// keyOfName returns the key in the only brackets of a parameter's name. whole reports that there
// are none.
func keyOfName(name string) (key string, whole bool) {
	_, inside, brackets := strings.Cut(name, "[")
	if !brackets {
		return "", true
	}
	key, closed := strings.CutSuffix(inside, "]")
	if !closed || strings.ContainsAny(key, "[]") {
		return "", false
	}
	return key, false
}

// isName reports whether a text can stand in a reference and as the name of a field.
func isName(text string) bool { return consists(text, letters+digits+"_") }
