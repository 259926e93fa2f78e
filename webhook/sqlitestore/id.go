package sqlitestore

import (
	"strconv"
	"time"
)

// maxIDLen is the length of the largest ID.
const maxIDLen = 19

// parseID returns the number of an ID, or 0 if the text is not an ID of this package. Each number
// can be written in one way only.
func parseID(id string) int64 {
	if id == "" || len(id) > maxIDLen || id[0] == '0' {
		return 0
	}
	for i := range len(id) {
		if id[i] < '0' || id[i] > '9' {
			return 0
		}
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func formatID(n int64) string { return strconv.FormatInt(n, 10) }

// jsonIDs returns the valid IDs as a JSON array, and their count. SQLite's json_each turns the
// array into rows, so that one statement takes any number of IDs.
func jsonIDs(ids []string) (string, int) {
	b := make([]byte, 0, 2+8*len(ids))
	n := 0
	for _, id := range ids {
		if parseID(id) == 0 {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = append(b, id...)
	}
	return "[" + string(b) + "]", n
}

// micros converts a time to the value of a column, and fromMicros converts it back.
func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }

// dueMicros is micros for a time that may be zero.
func dueMicros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromDueMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return fromMicros(n)
}
