package program

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Owner says to what the state in a folder belongs: an application, one of its portals, or one
// queue of a portal.
type Owner struct {
	Version   int    `json:"version"`
	ClientID  string `json:"client_id"`
	MemberID  string `json:"member_id,omitempty"`
	Connector string `json:"connector,omitempty"`
}

func (o Owner) String() string {
	text := fmt.Sprintf("application %q", o.ClientID)
	if o.MemberID != "" {
		text += fmt.Sprintf(", portal %q", o.MemberID)
	}
	if o.Connector != "" {
		text += fmt.Sprintf(", connector %q", o.Connector)
	}
	return text
}

const (
	ownerFile    = "owner.json"
	ownerVersion = 1
	tempPattern  = ".new-*" // of files that are being written
)

// oldNames are names that the first version used in B24_DATA itself, for any application.
var oldNames = []string{"installations", "queues", "spool", "listen-application-token"}

// AppFolder returns the path of the folder in B24_DATA of the application that the settings name.
// Unlike [StateFolder], it neither makes nor checks the folder.
func AppFolder(v Values) (string, error) {
	data, err := v.Data()
	if err != nil {
		return "", err
	}
	if data, err = filepath.Abs(data); err != nil {
		return "", err
	}
	return filepath.Join(data, appName(v["client-id"])), nil
}

// appName returns the name of an application's folder, or of the folder for outgoing webhooks.
func appName(clientID string) string {
	if clientID == "" {
		return "webhooks"
	}
	return "app-" + url.QueryEscape(clientID)
}

// appFolder returns the application's folder in data, and makes it if it is missing. Each
// application has its own folder, so that several can share data.
func appFolder(data, clientID string) (string, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return "", err
	}
	for _, name := range oldNames {
		if _, err := os.Lstat(filepath.Join(data, name)); err == nil {
			return "", Usage("B24_DATA holds state of an older version (%s), which did not record its application; "+
				"move it away or name another folder, and set the tokens of the first start again", name)
		}
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return "", err
	}
	if err := private(data); err != nil {
		return "", err
	}
	return Claim(filepath.Join(data, appName(clientID)), Owner{ClientID: clientID})
}

// Folder makes a folder in a parent that [Claim] returned, unless it exists, and checks that other
// users cannot write to it. It returns the folder's path.
func Folder(parent, name string) (string, error) {
	path := filepath.Join(parent, name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", Usage("B24_DATA: %s is not a folder; move it away", path)
	default:
		return path, guarded(path, info)
	}
}

// Claim is [Folder] for the state of an owner, which it records in a new folder. It refuses a
// folder of another owner, and a folder that is not empty and has no owner.
func Claim(path string, owner Owner) (string, error) {
	owner.Version = ownerVersion
	path, err := Folder(filepath.Dir(path), filepath.Base(path))
	if err != nil {
		return "", err
	}
	have, err := ownerOf(path)
	if errors.Is(err, fs.ErrNotExist) {
		switch taken, failure := inUse(path); {
		case failure != nil:
			return "", failure
		case !taken:
			return path, writeOwner(path, owner)
		}
		have, err = ownerOf(path) // another process may have claimed it meanwhile
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", Usage("B24_DATA: %s does not record whose state it holds; move it away", path)
	case err != nil:
		return "", err
	case have != owner:
		return "", Usage("B24_DATA: %s belongs to another queue or application (%v) and not to this one (%v); move it away, or name "+
			"another folder", path, have, owner)
	default:
		return path, nil
	}
}

func ownerOf(path string) (Owner, error) {
	name := filepath.Join(path, ownerFile)
	text, err := ReadFile(name)
	if err != nil {
		return Owner{}, err
	}
	var owner Owner
	if json.Unmarshal(text, &owner) != nil || owner.Version != ownerVersion {
		return Owner{}, Usage("B24_DATA: %s cannot be read by this version; move its folder away", name)
	}
	return owner, nil
}

func writeOwner(path string, owner Owner) error {
	text, err := json.Marshal(owner)
	if err != nil {
		return err
	}
	return WriteFile(filepath.Join(path, ownerFile), append(text, '\n'))
}

// inUse reports whether a folder has entries besides files that are being written.
func inUse(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), strings.TrimSuffix(tempPattern, "*")) {
			return true, err
		}
	}
	return false, err
}

// ReadFile reads a file of a program's own state. It refuses one that another user may have put
// there.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, Usage("B24_DATA: %s is not a regular file; move it away", path)
	}
	if err := guarded(path, info); err != nil {
		return nil, err
	}
	return os.ReadFile(path) //nolint:gosec // in a folder that nobody else can write to
}

// WriteFile writes a file that only the user may read. After a crash, the file has either its old
// or its new content.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern) // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// private checks that only the user of the process, and root, can replace a folder. As ssh requires
// for its keys, neither the folder nor one that it is in may be writable by others. A sticky folder
// such as /tmp may be, because users cannot rename the entries of others in it.
func private(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	for _, at := range []string{path, resolved} {
		for {
			info, err := os.Lstat(at)
			if err != nil {
				return err
			}
			if err := guarded(at, info); err != nil {
				return err
			}
			above := filepath.Dir(at)
			if above == at {
				break
			}
			at = above
		}
	}
	return nil
}
