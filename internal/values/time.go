package values

import (
	"reflect"
	"strings"
	"time"
)

// maxUnix is the last second that RFC 3339 can write, in the year 9999.
const maxUnix = 253402300799

// minUnixDigits is the smallest number of digits of seconds since 1970. A shorter number is a year,
// or a date without separators.
const minUnixDigits = 9

// parseTime reads a date and time. A time without a zone is in UTC.
func parseTime(text string) (time.Time, bool) {
	if sec, ok := parseInt(text); ok {
		if len(text) < minUnixDigits {
			return time.Time{}, false
		}
		return unixTime(sec)
	}
	for _, layout := range layouts(text) {
		if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil {
			return t, writable(t)
		}
	}
	return time.Time{}, false
}

// unixTime returns the time of seconds since 1970. It returns false for times that cannot be
// written; they would also overflow later arithmetic.
func unixTime(sec int64) (time.Time, bool) {
	if sec < 0 || sec > maxUnix {
		return time.Time{}, false
	}
	return time.Unix(sec, 0).UTC(), true
}

// layouts returns those layouts of Bitrix24's times that a text may have.
func layouts(text string) []string {
	switch {
	case len(text) < len(time.DateOnly):
		return nil
	case text[2] == '.':
		return []string{"02.01.2006 15:04:05", "02.01.2006"}
	case len(text) == len(time.DateOnly):
		return []string{time.DateOnly}
	case text[len(time.DateOnly)] == ' ':
		return []string{time.DateTime}
	default:
		return []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05"}
	}
}

// noDate reports whether a text means that there is no date: the false of a form, or the zero date
// of a database.
func noDate(text string) bool {
	return text == "0" || text == "0000-00-00" || text == "0000-00-00 00:00:00"
}

// writable reports whether encoding/json can write a time, here and in UTC.
func writable(t time.Time) bool {
	const day = 24 * 60 * 60
	_, offset := t.Zone()
	return inYears(t) && inYears(t.UTC()) && -day < offset && offset < day
}

func inYears(t time.Time) bool { return 0 <= t.Year() && t.Year() <= 9999 }

// timeText writes a time such that parseTime reads the same moment.
func timeText(t time.Time) string {
	if _, offset := t.Zone(); offset%60 != 0 {
		t = t.UTC() // RFC 3339 has no seconds in a zone
	}
	return t.Format(time.RFC3339Nano)
}

// spaceless returns a text without the space around it.
func spaceless(text string) string {
	if text != "" && text[0] > ' ' && text[0] < 0x80 && text[len(text)-1] > ' ' && text[len(text)-1] < 0x80 {
		return text
	}
	return strings.TrimSpace(text)
}

// setTime sets a time.Time without the copy on the heap that reflect.ValueOf would make.
func setTime(rv reflect.Value, t time.Time) {
	if target, ok := reflect.TypeAssert[*time.Time](rv.Addr()); ok {
		*target = t
	}
}
