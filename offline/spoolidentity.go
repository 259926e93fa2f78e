package offline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/b24events/b24events/internal/disk"
)

const (
	spoolIdentity    = "identity.json"
	spoolIdentityNew = "identity.new" // that is being written
	identityVersion  = 1
)

// spoolOwner is the document of the file spoolIdentity: whose records a folder holds.
type spoolOwner struct {
	Version   int    `json:"version"`
	ClientID  string `json:"client_id"`
	MemberID  string `json:"member_id"`
	Connector string `json:"connector"`
}

func (o spoolOwner) String() string {
	text := fmt.Sprintf("application %q, portal %q", o.ClientID, o.MemberID)
	if o.Connector != "" {
		text += fmt.Sprintf(", connector %q", o.Connector)
	}
	return text
}

// claim makes sure that the folder belongs to the queue. An empty folder becomes the queue's. The
// caller has the lock.
func (s *spool) claim(id identity) error {
	want := spoolOwner{Version: identityVersion, ClientID: id.clientID, MemberID: id.memberID, Connector: id.connector}
	data, err := s.read(spoolIdentity)
	if errors.Is(err, fs.ErrNotExist) {
		return s.settle(want)
	}
	if err != nil {
		return spoolError(err)
	}
	var have spoolOwner
	switch {
	case json.Unmarshal(data, &have) != nil || have.Version != want.Version:
		return fmt.Errorf("%w: %s in it cannot be read; finish the folder with the version that wrote it, or move it away", ErrSpoolOwner, spoolIdentity)
	case have != want:
		return fmt.Errorf("%w: it holds records of the %v; give each application a spool of its own, or move the folder to where it belongs", ErrSpoolOwner, have)
	default:
		return nil
	}
}

// settle writes the owner into a folder that has none. Records without an owner are those of an
// older version, which did not write it.
func (s *spool) settle(owner spoolOwner) error {
	old, err := holdsRecords(s.root.FS())
	if err != nil {
		return spoolError(err)
	}
	if old {
		return errOldSpool(filepath.Base(s.root.Name()))
	}
	data, err := json.Marshal(owner)
	if err != nil {
		return spoolError(err)
	}
	if err := s.put(spoolIdentityNew, os.O_TRUNC, append(data, '\n')); err != nil {
		return spoolError(err)
	}
	if err := disk.Rename(s.root, spoolIdentityNew, spoolIdentity); err != nil {
		return spoolError(err)
	}
	return nil
}

// refuseOldSpool returns an error when an older version left records of the queue in the spool.
// That version named folders without the application, so nobody can tell whose records they are.
func refuseOldSpool(dir string, id identity) error {
	for _, name := range []string{id.oldFolder(), identity{memberID: "portal", connector: id.connector}.oldFolder()} {
		old, err := holdsRecords(os.DirFS(filepath.Join(dir, name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return spoolError(err)
		case old:
			return errOldSpool(name)
		}
	}
	return nil
}

func errOldSpool(name string) error {
	return fmt.Errorf("%w: the folder %q is in the format of an older version, which did not write down its owner; "+
		"finish its records with that version, or move the folder away", ErrSpoolOwner, name)
}

// holdsRecords reports whether there is a file of a spool in a folder, finished or not.
func holdsRecords(folder fs.FS) (bool, error) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if _, _, ours := fileNumber(entry.Name()); ours {
			return true, nil
		}
	}
	return false, nil
}
