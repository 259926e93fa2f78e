package oauth

import (
	"path"
	"strconv"
	"strings"
)

const (
	fileSuffix = ".json"
	tempSuffix = ".tmp" // after fileSuffix, a dot and markLength digits: a write that is not finished, or a reservation
	markLength = 32
	// maxID keeps names short enough for every file system, escapes included.
	maxID = 64
	// shardBytes is how much of a member ID names the folder of its files. A shard of 100,000
	// portals has about 400.
	shardBytes = 2
	idBytes    = "0123456789abcdefghijklmnopqrstuvwxyz"
	escapeByte = '_'
	noBytes    = "_" // what is empty
)

// place is where an installation has its file: in a folder of the application, in a folder of the
// portals whose member IDs begin alike. Shards in order are portals in order.
type place struct{ application, shard, name string }

func (p place) folder() string { return path.Join(p.application, p.shard) }
func (p place) path() string   { return path.Join(p.application, p.shard, p.name) }

// placeOf returns the place of a key. No two keys share one, not even if the file system ignores
// case. ok is false if the file store does not hold such a key.
func placeOf(key Key) (p place, ok bool) {
	if key.writable() != nil || len(key.ClientID) > maxID || len(key.MemberID) > maxID {
		return place{}, false
	}
	return place{
		application: escape(key.ClientID),
		shard:       escape(shardOf(key.MemberID)),
		name:        escape(key.MemberID) + userSuffix(key.UserID),
	}, true
}

// placeToWrite returns the place of a key, or why nothing can be stored under it.
func placeToWrite(key Key) (place, error) {
	if err := key.writable(); err != nil {
		return place{}, err
	}
	p, ok := placeOf(key)
	if !ok {
		return place{}, errLongKey
	}
	return p, nil
}

func shardOf(memberID string) string { return memberID[:min(shardBytes, len(memberID))] }

func userSuffix(user int64) string {
	if user == 0 {
		return fileSuffix
	}
	return "-" + strconv.FormatInt(user, 10) + fileSuffix
}

// escape returns a name for an ID: lower case and digits stand for themselves, every other byte is
// an underscore and two hexadecimal digits. So is the first byte of a name that Windows keeps for a
// device.
func escape(id string) string {
	if id == "" {
		return noBytes
	}
	var b strings.Builder
	for i := range len(id) {
		if strings.IndexByte(idBytes, id[i]) >= 0 && (i > 0 || !isDevice(id)) {
			b.WriteByte(id[i])
			continue
		}
		const digits = "0123456789abcdef"
		b.Write([]byte{escapeByte, digits[id[i]>>4], digits[id[i]&0xf]})
	}
	return b.String()
}

// unescape returns the ID that a name stands for. ok is false if escape gives no such name.
func unescape(name string) (id string, ok bool) {
	if name == noBytes {
		return "", true
	}
	var b strings.Builder
	for rest := name; rest != ""; {
		if rest[0] != escapeByte {
			b.WriteByte(rest[0])
			rest = rest[1:]
			continue
		}
		if len(rest) < 3 {
			return "", false
		}
		c, err := strconv.ParseUint(rest[1:3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		rest = rest[3:]
	}
	id = b.String()
	return id, escape(id) == name
}

// isDevice reports whether Windows takes a name for that of a device.
func isDevice(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (strings.HasPrefix(name, "com") || strings.HasPrefix(name, "lpt")) && name[3] >= '0' && name[3] <= '9'
}

// keyIn returns the key whose file has this name in a shard of an application. ok is false if it is
// the name of none.
func keyIn(clientID, shard, name string) (key Key, ok bool) {
	stem, ok := strings.CutSuffix(name, fileSuffix)
	if !ok {
		return Key{}, false
	}
	member, user, _ := strings.Cut(stem, "-")
	key.ClientID = clientID
	if key.MemberID, ok = unescape(member); !ok || shardOf(key.MemberID) != shard {
		return Key{}, false
	}
	if user != "" {
		key.UserID, _ = strconv.ParseInt(user, 10, 64) // a wrong one shows below
	}
	p, ok := placeOf(key)
	return key, ok && p.name == name
}

// tempName returns the name of a temporary file that becomes name.
func tempName(name string) string { return name + "." + newMark() + tempSuffix }

// ofTemp returns the name that a temporary file was to become.
func tempTarget(temp string) (name string, ok bool) {
	stem, ok := strings.CutSuffix(temp, tempSuffix)
	if !ok || len(stem) < markLength+1 {
		return "", false
	}
	name, mark := stem[:len(stem)-markLength-1], stem[len(stem)-markLength:]
	ok = stem[len(name)] == '.' && strings.Trim(mark, idBytes[:16]) == ""
	return name, ok
}
