package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"time"
)

// ErrUnreadable means that stored data is not what a [Codec] wrote for this installation: it is
// damaged, belongs to something else, is not encrypted though it must be, or was written by a newer
// version of this package. The error of a [FileStore] has the name of the file. No such error holds
// anything of the content.
const ErrUnreadable ErrorKind = "the stored installation is damaged, foreign or of a newer version"

const (
	opCodec = "codec"
	// documentFormat changes when older versions can no longer read a document. A new member does not
	// change it: a version that does not know a member refuses the document, and empty members are
	// not written. Format 1 did not name the application.
	documentFormat = 2
	// maxDocument is far more than any installation needs.
	maxDocument = 1 << 20
)

// document is what a Codec writes.
type document struct {
	Format       int                 `json:"format"`
	ClientID     string              `json:"client_id"`
	MemberID     string              `json:"member_id"`
	UserID       int64               `json:"user_id,omitempty"`
	Write        string              `json:"write,omitempty"` // of a FileStore: no two writes give the same file, and version
	Installation *storedInstallation `json:"installation,omitempty"`
	Sealed       *sealedInstallation `json:"sealed,omitempty"` // a storedInstallation, encrypted
}

type sealedInstallation struct {
	KeyID string `json:"key_id"`
	Data  []byte `json:"data"`
}

// storedInstallation is an [Installation] in JSON, with its secrets written out. It has each field
// of Installation under the same name, with a string instead of a secret; a test checks that. Empty
// members are not written.
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
	RotatedAt                time.Time `json:"rotated_at,omitzero"`
	ExtraApplicationTokens   []string  `json:"extra_application_tokens,omitempty"`
	InstalledAt              time.Time `json:"installed_at,omitzero"`
	EventTime                time.Time `json:"event_time,omitzero"`
	SetUpAt                  time.Time `json:"set_up_at,omitzero"`
	UpdatedAt                time.Time `json:"updated_at,omitzero"`
}

// convert copies an Installation to a storedInstallation or back, field by field, by name. Times
// become UTC, and empty slices nil, so that equal installations give equal results.
func convert(dst, src reflect.Value) {
	switch at, isTime := reflect.TypeAssert[time.Time](src); {
	case isTime:
		dst.Set(reflect.ValueOf(at.Round(0).UTC()))
	case src.Kind() == reflect.Struct:
		for i := range dst.NumField() {
			convert(dst.Field(i), src.FieldByName(dst.Type().Field(i).Name))
		}
	case src.Kind() == reflect.Slice && src.Len() == 0:
		dst.SetZero()
	case src.Kind() == reflect.Slice:
		dst.Set(reflect.MakeSlice(dst.Type(), src.Len(), src.Len()))
		for i := range src.Len() {
			convert(dst.Index(i), src.Index(i))
		}
	default:
		dst.Set(src.Convert(dst.Type()))
	}
}

var (
	errTooLarge = errors.New("oauth: the installation takes more than 1 MiB and was not written")
	errNoText   = errors.New("oauth: the installation has bytes that are not UTF-8, or a time that JSON cannot hold, and was not written")
)

func marshal(in storedInstallation) ([]byte, error) {
	return json.Marshal(in) //nolint:gosec // to be encrypted
}

func marshalIndent(doc document) ([]byte, error) {
	data, err := json.MarshalIndent(doc, "", "\t")
	return append(data, '\n'), err
}

// parseDocument returns a document without decrypting anything. It has an Installation or a Sealed.
func parseDocument(data []byte) (document, error) {
	if len(data) > maxDocument {
		return document{}, unreadable("it has more than 1 MiB")
	}
	var probe struct {
		Format int `json:"format"`
	}
	switch err := json.Unmarshal(data, &probe); {
	case err != nil: // which may quote the document
		return document{}, unreadable("it is not the JSON of an installation")
	case probe.Format > documentFormat:
		return document{}, unreadable("a newer version of this package wrote it")
	case probe.Format == documentFormat-1:
		return document{}, unreadable("an earlier version of this package wrote it, which did not name the application; " +
			"install the application again")
	case probe.Format != documentFormat:
		return document{}, unreadable("it does not hold an installation")
	}
	var doc document
	if !decodeStrictly(data, &doc) {
		return document{}, unreadable("it is malformed, or has members that this version does not know")
	}
	if (doc.Installation == nil) == (doc.Sealed == nil) {
		return document{}, unreadable("it does not hold an installation")
	}
	return doc, nil
}

// decodeStrictly decodes data into v. It reports whether data is one JSON object whose members are
// all fields of v.
func decodeStrictly(data []byte, v any) bool {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if dec.Decode(v) != nil {
		return false
	}
	_, err := dec.Token()
	return err == io.EOF
}

func unreadable(why string) error { return &Error{Op: opCodec, Kind: ErrUnreadable, Detail: why} }
