package oauth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/b24events/b24events/event"
)

// ErrUnreadable means that a file of a [FileStore] is not what the store wrote for this installation: it is damaged, belongs
// to something else, or was written by a newer version of this package. The error has the file's name and nothing of its
// content.
const ErrUnreadable Kind = "the file is damaged, foreign or of a newer version"

const (
	opFile = "file store"
	// fileFormat changes when files cannot be read by older versions any more. Members are added without it: a version that
	// does not know a member refuses the file rather than lose it with the next write, and members that are empty are not
	// written.
	fileFormat = 1
	// maxFile is far more than any installation takes.
	maxFile = 1 << 20
)

// storedFile is the content of a file.
type storedFile struct {
	Format       int                 `json:"format"`
	MemberID     string              `json:"member_id"`
	UserID       int64               `json:"user_id,omitempty"`
	Write        string              `json:"write"` // random, so that no two writes give the same file, and version
	Installation *storedInstallation `json:"installation,omitempty"`
	Sealed       *storedSealed       `json:"sealed,omitempty"` // a storedInstallation, encrypted
}

type storedSealed struct {
	KeyID string `json:"key_id"`
	Data  []byte `json:"data"`
}

// storedInstallation is an Installation with its secrets written out.
type storedInstallation struct {
	MemberID                 string    `json:"member_id,omitempty"`
	ClientEndpoint           string    `json:"client_endpoint,omitempty"`
	ServerEndpoint           string    `json:"server_endpoint,omitempty"`
	AccessToken              string    `json:"access_token,omitempty"`
	RefreshToken             string    `json:"refresh_token,omitempty"`
	Expires                  time.Time `json:"expires,omitzero"`
	UserID                   int64     `json:"user_id,omitempty"`
	Scope                    []string  `json:"scope,omitempty"`
	Status                   string    `json:"status,omitempty"`
	ApplicationToken         string    `json:"application_token,omitempty"`
	PreviousApplicationToken string    `json:"previous_application_token,omitempty"`
	InstalledAt              time.Time `json:"installed_at,omitzero"`
	SetUpAt                  time.Time `json:"set_up_at,omitzero"`
	UpdatedAt                time.Time `json:"updated_at,omitzero"`
}

func toStored(in Installation) storedInstallation {
	var scope []string // an empty one reads back as nil
	if len(in.Scope) > 0 {
		scope = slices.Clone(in.Scope)
	}
	return storedInstallation{
		MemberID:                 in.MemberID,
		ClientEndpoint:           in.ClientEndpoint,
		ServerEndpoint:           in.ServerEndpoint,
		AccessToken:              string(in.AccessToken),
		RefreshToken:             string(in.RefreshToken),
		Expires:                  wall(in.Expires),
		UserID:                   in.UserID,
		Scope:                    scope,
		Status:                   in.Status,
		ApplicationToken:         string(in.ApplicationToken),
		PreviousApplicationToken: string(in.PreviousApplicationToken),
		InstalledAt:              wall(in.InstalledAt),
		SetUpAt:                  wall(in.SetUpAt),
		UpdatedAt:                wall(in.UpdatedAt),
	}
}

func (s storedInstallation) installation() Installation {
	return Installation{
		MemberID:                 s.MemberID,
		ClientEndpoint:           s.ClientEndpoint,
		ServerEndpoint:           s.ServerEndpoint,
		AccessToken:              event.Secret(s.AccessToken),
		RefreshToken:             event.Secret(s.RefreshToken),
		Expires:                  s.Expires,
		UserID:                   s.UserID,
		Scope:                    s.Scope,
		Status:                   s.Status,
		ApplicationToken:         event.Secret(s.ApplicationToken),
		PreviousApplicationToken: event.Secret(s.PreviousApplicationToken),
		InstalledAt:              s.InstalledAt,
		SetUpAt:                  s.SetUpAt,
		UpdatedAt:                s.UpdatedAt,
	}
}

// wall returns the instant alone, in UTC.
func wall(t time.Time) time.Time { return t.Round(0).UTC() }

// encodeFile returns the content of an installation's file. It has read it back: what JSON would bend, such as bytes that are
// not UTF-8, is refused instead.
func encodeFile(key Key, in Installation, keys keyring) ([]byte, error) {
	var write [16]byte
	_, _ = rand.Read(write[:]) // never fails
	stored := toStored(in)
	file := storedFile{Format: fileFormat, MemberID: key.MemberID, UserID: key.UserID, Write: hex.EncodeToString(write[:])}
	if len(keys) == 0 {
		file.Installation = &stored
	} else {
		plain, err := json.Marshal(stored) //nolint:gosec // to be encrypted
		if err != nil {
			return nil, errNoText
		}
		id, data := keys.seal(plain, key)
		file.Sealed = &storedSealed{KeyID: id, Data: data}
	}
	data, err := json.MarshalIndent(file, "", "\t")
	if err != nil {
		return nil, errNoText
	}
	data = append(data, '\n')
	if len(data) > maxFile {
		return nil, errTooLarge
	}
	back, err := parseFile(data, key, keys)
	if err != nil || !reflect.DeepEqual(toStored(back), stored) {
		return nil, errNoText
	}
	return data, nil
}

var (
	errTooLarge = errors.New("oauth: file store: the installation takes more than 1 MiB and was not written")
	errNoText   = errors.New("oauth: file store: the installation has bytes that are not UTF-8, or a time that is none, and was not written")
)

// parseFile returns the installation in a file. Its errors lack the name of the file.
func parseFile(data []byte, key Key, keys keyring) (Installation, error) {
	file, err := parseHeader(data)
	if err != nil {
		return Installation{}, err
	}
	if file.MemberID != key.MemberID || file.UserID != key.UserID {
		return Installation{}, unreadable("it belongs to another portal or user")
	}
	stored := file.Installation
	if file.Sealed != nil {
		plain, known, ok := keys.open(file.Sealed.KeyID, file.Sealed.Data, key)
		switch {
		case !known && len(keys) == 0:
			return Installation{}, &Error{Op: opFile, Kind: ErrEncryptionKey, Detail: "the file is encrypted; see WithEncryptionKey"}
		case !known:
			return Installation{}, &Error{Op: opFile, Kind: ErrEncryptionKey, Detail: "the file is encrypted with a key that the store was not given"}
		case !ok:
			return Installation{}, unreadable("its encrypted part was changed, or moved here from another file")
		}
		stored = new(storedInstallation)
		if !decodeStrictly(plain, stored) {
			return Installation{}, unreadable("its encrypted part is malformed, or has members that this version does not know")
		}
	}
	return stored.installation(), nil
}

// parseHeader returns a file without decrypting anything. It has an Installation or a Sealed.
func parseHeader(data []byte) (storedFile, error) {
	if len(data) > maxFile {
		return storedFile{}, unreadable("it has more than 1 MiB")
	}
	var probe struct {
		Format int `json:"format"`
	}
	switch err := json.Unmarshal(data, &probe); {
	case err != nil: // which may quote the file
		return storedFile{}, unreadable("it is not the JSON of an installation")
	case probe.Format > fileFormat:
		return storedFile{}, unreadable("a newer version of this package wrote it")
	case probe.Format != fileFormat:
		return storedFile{}, unreadable("it does not hold an installation")
	}
	var file storedFile
	if !decodeStrictly(data, &file) {
		return storedFile{}, unreadable("it is malformed, or has members that this version does not know")
	}
	if (file.Installation == nil) == (file.Sealed == nil) {
		return storedFile{}, unreadable("it does not hold an installation")
	}
	return file, nil
}

// decodeStrictly reports whether data is one JSON object that v has a place for all of.
func decodeStrictly(data []byte, v any) bool {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(v) != nil {
		return false
	}
	_, err := dec.Token()
	return err == io.EOF
}

func unreadable(why string) error { return &Error{Op: opFile, Kind: ErrUnreadable, Detail: why} }

// versionOf is the version of a file. Any change of the file changes it, those by hand too.
func versionOf(data []byte) Version {
	sum := sha256.Sum256(data)
	return Version(hex.EncodeToString(sum[:16]))
}
