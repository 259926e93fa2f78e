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
	noBytes    = "_" // stands for an empty ID
)

// place is where the file of an installation is. Each application has a folder, with a folder for
// each shard: the portals whose member IDs begin alike. The order of shards is the order of
// portals.
type place struct{ application, shard, name string }

func (p place) folder() string { return path.Join(p.application, p.shard) }
func (p place) path() string   { return path.Join(p.application, p.shard, p.name) }

// placeOf returns the place of a key. No two keys share one, even if the file system ignores case.
// ok is false if the file store cannot hold the key.
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

// placeToWrite returns the place of a key, or an error that says why nothing can be stored under
// it.
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

// escape returns a name for an ID. Lower case and digits stand for themselves. Every other byte
// becomes an underscore and two hexadecimal digits, as does the first byte of a name that Windows
// reserves for a device.
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

// unescape returns the ID that a name stands for. ok is false if escape never returns that name.
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

// isDevice reports whether Windows reserves a name for a device.
func isDevice(name string) bool {
	switch name {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(name) == 4 && (strings.HasPrefix(name, "com") || strings.HasPrefix(name, "lpt")) && name[3] >= '0' && name[3] <= '9'
}

// keyIn returns the key whose file has this name in a shard of an application. ok is false if no
// key's file has this name.
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
		key.UserID, _ = strconv.ParseInt(user, 10, 64) // the comparison below finds a wrong one
	}
	p, ok := placeOf(key)
	return key, ok && p.name == name
}

// tempName returns the name of a new temporary file that will become name.
func tempName(name string) string { return name + "." + newMark() + tempSuffix }

// tempTarget returns the name that a temporary file was to become.
func tempTarget(temp string) (name string, ok bool) {
	stem, ok := strings.CutSuffix(temp, tempSuffix)
	if !ok || len(stem) < markLength+1 {
		return "", false
	}
	name, mark := stem[:len(stem)-markLength-1], stem[len(stem)-markLength:]
	ok = stem[len(name)] == '.' && strings.Trim(mark, idBytes[:16]) == ""
	return name, ok
}
