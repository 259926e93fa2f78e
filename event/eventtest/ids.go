package eventtest

import (
	"crypto/md5" //nolint:gosec // the platform derives IDs with MD5; it protects nothing here
	"crypto/rand"
	"encoding/hex"
	"strings"
)

const (
	hexDigits = "0123456789abcdef"
	base36    = "0123456789abcdefghijklmnopqrstuvwxyz"
)

// randomText returns n random characters of an alphabet.
func randomText(n int, alphabet string) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

// randomDomain returns a random host of bitrix24.com.
func randomDomain() string { return "b24-" + randomText(6, base36) + ".bitrix24.com" }

// templateID returns a random ID in the form of a UUID.
func templateID() string {
	s := randomText(32, hexDigits)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// md5Hex returns the MD5 of text in hexadecimal.
func md5Hex(text []byte) string {
	sum := md5.Sum(text) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// nextIDLocked returns the next ID of a sequence.
func (p *Portal) nextIDLocked(sequence string) int64 {
	p.seq[sequence]++
	return p.seq[sequence]
}
