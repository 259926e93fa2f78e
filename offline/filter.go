package offline

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Filter selects records. A key is an operator and a field in any case, for example ">ID" or
// "=EVENT_NAME". Without an operator it means "=". A value is a string, an integer or a time.Time.
// All conditions must hold.
//
// The fields are ID, TIMESTAMP_X, EVENT_NAME and MESSAGE_ID, for [Queue.List] also PROCESS_ID and
// ERROR. The operators are =, >, <, >= and <=, for [Queue.List] also @ (one of a list) and %
// (contains). The portal accepts these two for a reservation as well and then fails, so this
// package refuses them there. Prefer ID to TIMESTAMP_X, which the portal may shift by the user's
// time zone.
type Filter map[string]any

// joinFilters joins filters to one, in the portal's spelling. forList says that it is for
// event.offline.list.
func joinFilters(filters []Filter, forList bool) (Filter, error) {
	joined := make(Filter)
	for _, f := range filters {
		for key, value := range f {
			name, err := filterKey(key, forList)
			if err != nil {
				return nil, err
			}
			if _, twice := joined[name]; twice {
				return nil, fmt.Errorf("%w: two conditions for %s", ErrFilter, name)
			}
			if joined[name], err = filterValue(name, value, forList); err != nil {
				return nil, err
			}
		}
	}
	return joined, nil
}

// filterKey returns a key with its operator. Without one, the portal compares with LIKE in lists
// and with = in reservations.
func filterKey(key string, forList bool) (string, error) {
	key = strings.ToUpper(strings.TrimSpace(key))
	field := strings.TrimLeft(key, "=<>@%!~^*?")
	operator := strings.TrimSuffix(key, field)
	switch field {
	case "ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID":
	case "PROCESS_ID", "ERROR":
		if !forList {
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
		if !forList {
			return "", fmt.Errorf("%w: the operator %s works in List only", ErrFilter, operator)
		}
	default:
		return "", fmt.Errorf("%w: the operator of %s is none of =, >, <, >=, <=, @ and %%", ErrFilter, field)
	}
	return operator + field, nil
}

func filterValue(name string, value any, forList bool) (any, error) {
	if v, ok := scalar(value); ok {
		return v, nil
	}
	rv := reflect.ValueOf(value)
	if !forList || rv.Kind() != reflect.Slice || rv.Len() == 0 || (name[0] != '@' && name[0] != '=') {
		return nil, fmt.Errorf(
			"%w: %s takes a string, an integer or a time; with = or @ in List also a list of them, not an empty one",
			ErrFilter,
			name,
		)
	}
	list := make([]any, rv.Len())
	for i := range list {
		v, ok := scalar(rv.Index(i).Interface())
		if !ok {
			return nil, fmt.Errorf("%w: the list of %s holds values other than strings, integers and times", ErrFilter, name)
		}
		list[i] = v
	}
	return list, nil
}

// scalar returns a value as it is sent, and false if it is not a scalar.
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
