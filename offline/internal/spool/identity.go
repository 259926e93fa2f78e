package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	identityName    = "identity.json"
	identityNewName = "identity.new" // that is being written

	// identityVersion is the version of the whole folder. In version 1, files of rows had the suffix
	// ".packet" and marks had no checksum.
	identityVersion = 2
)

// Identity names the queue whose records are in a folder: of an application, on a portal, for a
// connector, which may be empty.
type Identity struct {
	ClientID  string `json:"client_id"`
	MemberID  string `json:"member_id"`
	Connector string `json:"connector"`
}

func (i Identity) String() string {
	text := fmt.Sprintf("application %q, portal %q", i.ClientID, i.MemberID)
	if i.Connector != "" {
		text += fmt.Sprintf(", connector %q", i.Connector)
	}
	return text
}

// identityDoc is the document of the file identityName.
type identityDoc struct {
	Version int `json:"version"`
	Identity
}

// claim makes sure that the folder belongs to the queue. A folder without an owner and without
// records becomes the queue's. The caller has the lock of the folder.
func claim(f folder, dir string, id Identity) error {
	data, err := f.read(identityName)
	if errors.Is(err, fs.ErrNotExist) {
		return writeIdentity(f, dir, id)
	}
	if err != nil {
		return diskError(dir, err)
	}
	var have identityDoc
	switch {
	case json.Unmarshal(data, &have) != nil || have.Version < 1 || have.Version > identityVersion:
		return fmt.Errorf("%w: %s in the folder %q cannot be read; finish the folder with the version that wrote it, or move it away",
			ErrOwner, identityName, filepath.Base(dir))
	case have.Identity != id:
		return fmt.Errorf(
			"%w: the folder %q holds records of the %v; give each application a spool of its own, or move the folder to its owner",
			ErrOwner,
			filepath.Base(dir),
			have.Identity,
		)
	case have.Version < identityVersion:
		return writeIdentity(f, dir, id)
	default:
		return nil
	}
}

// writeIdentity writes the owner and the version into a folder without records.
func writeIdentity(f folder, dir string, id Identity) error {
	names, err := f.list()
	if err != nil {
		return diskError(dir, err)
	}
	if holdRecords(names) {
		return OldFormatError(dir)
	}
	data, err := json.Marshal(identityDoc{Version: identityVersion, Identity: id})
	if err != nil {
		return diskError(dir, err)
	}
	if err := f.write(identityNewName, writingNew, append(data, '\n')); err != nil {
		return diskError(dir, err)
	}
	if err := f.rename(identityNewName, identityName); err != nil {
		return diskError(dir, err)
	}
	return nil
}

// OldFormatError returns the ErrOwner for a folder in the format of an older version.
func OldFormatError(dir string) error {
	return fmt.Errorf("%w: the folder %q is in the format of an older version; "+
		"finish its records with that version, or move the folder away", ErrOwner, filepath.Base(dir))
}

// HoldsRecords reports whether a folder has a file of records, of any version, finished or not. It
// is false for a folder that does not exist.
func HoldsRecords(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, diskError(dir, err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return holdRecords(names), nil
}

func holdRecords(names []string) bool {
	for _, name := range names {
		if _, _, ok := fileNumber(name); ok {
			return true
		}
	}
	return false
}
