// Package disk puts files and folders on the disk, so that they are there after a crash of the machine.
package disk

import (
	"errors"
	"os"
)

// Fill writes data to a file, and the file to the disk, and closes it.
func Fill(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// SyncFolder puts a folder on the disk: the names of the files in it, and which of them are gone.
func SyncFolder(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
