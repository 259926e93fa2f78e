package offline

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Filter picks records. A key is an operator and a field, such as ">ID" or "=EVENT_NAME", in any
// case. Without an operator it means "=". A value is a string, an integer or a time.Time. All
// conditions must hold.
//
// The fields are ID, TIMESTAMP_X, EVENT_NAME and MESSAGE_ID, for [Queue.List] also PROCESS_ID and
// ERROR. The operators are =, >, <, >= and <=, for [Queue.List] also @ (one of a list) and %
// (contains). The portal accepts these two for a reservation as well and then fails, so this
// package refuses them there. Prefer ID to TIMESTAMP_X, which the portal may shift by the user's
// time zone.
type Filter map[string]any

// joinFilters makes one filter in the portal's spelling of several. reading says that it is for
// event.offline.list.
func joinFilters(filters []Filter, reading bool) (Filter, error) {
	joined := make(Filter)
	for _, f := range filters {
		for key, value := range f {
			name, err := filterKey(key, reading)
			if err != nil {
				return nil, err
			}
			if _, twice := joined[name]; twice {
				return nil, fmt.Errorf("%w: two conditions for %s", ErrFilter, name)
			}
			if joined[name], err = filterValue(name, value, reading); err != nil {
				return nil, err
			}
		}
	}
	return joined, nil
}

// filterKey writes the operator "=" out: without it the portal compares with LIKE when it reads,
// and with = when it reserves.
func filterKey(key string, reading bool) (string, error) {
	key = strings.ToUpper(strings.TrimSpace(key))
	field := strings.TrimLeft(key, "=<>@%!~^*?")
	operator := strings.TrimSuffix(key, field)
	switch field {
	case "ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID":
	case "PROCESS_ID", "ERROR":
		if !reading {
			return "", fmt.Errorf("%w: only List can filter by %s", ErrFilter, field)
		}
	default:
		return "", fmt.Errorf("%w: the portal filters by ID, TIMESTAMP_X, EVENT_NAME, MESSAGE_ID, PROCESS_ID and ERROR", ErrFilter)
	}
	switch operator {
	case "":
		operator = "="
	case "=", ">", "<", ">=", "<=":
	case "@", "%":
		if !reading {
			return "", fmt.Errorf("%w: the operator %s works in List only", ErrFilter, operator)
		}
	default:
		return "", fmt.Errorf("%w: the operator of %s is none of =, >, <, >=, <=, @ and %%", ErrFilter, field)
	}
	return operator + field, nil
}

func filterValue(name string, value any, reading bool) (any, error) {
	if v, ok := scalar(value); ok {
		return v, nil
	}
	rv := reflect.ValueOf(value)
	if !reading || rv.Kind() != reflect.Slice || rv.Len() == 0 || (name[0] != '@' && name[0] != '=') {
		return nil, fmt.Errorf("%w: %s takes a string, an integer or a time; with = or @ in List also a list of them, not an empty one", ErrFilter, name)
	}
	list := make([]any, rv.Len())
	for i := range list {
		v, ok := scalar(rv.Index(i).Interface())
		if !ok {
			return nil, fmt.Errorf("%w: the list of %s holds something else than strings, integers and times", ErrFilter, name)
		}
		list[i] = v
	}
	return list, nil
}

// scalar returns a value as it is sent.
func scalar(value any) (any, bool) {
	if t, ok := value.(time.Time); ok {
		return t.Format(time.RFC3339), true
	}
	rv := reflect.ValueOf(value)
	switch {
	case !rv.IsValid():
		return nil, false
	case rv.Kind() == reflect.String:
		return rv.String(), true
	case rv.CanInt():
		return rv.Int(), true
	case rv.CanUint():
		return rv.Uint(), true
	default:
		return nil, false
	}
}
