package oneportal

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
)

// QueueDir returns the folder for the state of one queue of the portal, made where it is missing, and keeps other processes off it until
// release: two consumers would handle records twice.
func (p *Portal) QueueDir(connector string) (dir string, release func(), err error) {
	name := "default"
	if connector != "" {
		name = "connector-" + url.PathEscape(connector)
	}
	dir = filepath.Join(p.Data, "queues", p.MemberID, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	f, err := Lock(filepath.Join(dir, "lock"), os.O_RDWR)
	if err != nil {
		return "", nil, fmt.Errorf("the queue's folder: %w", err)
	}
	return dir, func() { _ = Unlock(f) }, nil
}

// WriteFile writes a file that only the user may read, and that a crash leaves as it was or as it is to be.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // with mode 0600
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
