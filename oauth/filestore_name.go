package oauth

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	plainPrefix  = "portal-" // and the member id
	hashedPrefix = "hashed-" // and the SHA-256 of the member id
	fileSuffix   = ".json"
	tempSuffix   = ".tmp" // after fileSuffix: a write that is not finished
	lockPrefix   = "lock-"
	// maxPlainID keeps names short enough for every file system.
	maxPlainID = 64
	idBytes    = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// fileName returns the name of an installation's file. No two keys share one, not even where the file system ignores case.
// A member id that is no harmless name is hashed; Bitrix24 has none of those.
func fileName(key Key) string {
	if plainID(key.MemberID) {
		return plainPrefix + key.MemberID + userSuffix(key.UserID)
	}
	sum := sha256.Sum256([]byte(key.MemberID))
	return hashedPrefix + hex.EncodeToString(sum[:]) + userSuffix(key.UserID)
}

func userSuffix(user int64) string {
	if user == 0 {
		return fileSuffix
	}
	return "-" + strconv.FormatInt(user, 10) + fileSuffix
}

func plainID(id string) bool {
	return id != "" && len(id) <= maxPlainID && strings.Trim(id, idBytes) == ""
}

// parseName tells whether a name is that of an installation's file, and the key where the name shows it.
func parseName(name string) (key Key, known, ours bool) {
	rest, plain := strings.CutPrefix(name, plainPrefix)
	if !plain {
		if rest, ours = strings.CutPrefix(name, hashedPrefix); !ours {
			return Key{}, false, false
		}
	}
	id, user, _ := strings.Cut(strings.TrimSuffix(rest, fileSuffix), "-")
	key.MemberID = id
	if user != "" {
		key.UserID, _ = strconv.ParseInt(user, 10, 64) // a wrong one shows below
	}
	if !plainID(id) || rest != id+userSuffix(key.UserID) {
		return Key{}, false, false
	}
	if !plain {
		return Key{}, false, len(id) == 2*sha256.Size
	}
	return key, true, true
}
