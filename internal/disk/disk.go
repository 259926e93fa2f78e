// Package disk puts files and folders on the disk, so that they are there after a crash of the
// machine, and keeps other users out of them.
//
// On Unix a change is on the disk when [Fill], [Rename] or [SyncFolder] returns without an error.
//
// On Windows the content of files is on the disk too. Windows cannot flush a folder, so Rename
// flushes the renamed file instead, which makes NTFS write its journal. NTFS never shows half of a
// rename after a crash. What was removed shortly before a loss of power may be there again.
package disk

import (
	"errors"
	"os"
)

const dirPerm = 0o700

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

// Rename gives a file its name, in place of the file that has it, and puts both names on the disk.
// No other process may write to either of them.
//
// On Windows it waits up to a second for programs that have the replaced file open, see [Retry].
func Rename(root *os.Root, from, to string) error {
	if err := Retry(func() error { return root.Rename(from, to) }); err != nil {
		return err
	}
	return syncRenamed(root, to)
}

// SyncRenamed puts the name of a renamed file on the disk. [Rename] does it itself.
func SyncRenamed(root *os.Root, name string) error { return syncRenamed(root, name) }

// Remove removes a file. [SyncFolder] puts the removal on the disk. On Windows it waits up to
// a second for programs that have the file open, see [Retry].
func Remove(root *os.Root, name string) error {
	return Retry(func() error { return root.Remove(name) })
}

// SyncFolder puts a folder on the disk: the names of the files in it, and which of them are gone.
// On Windows, which cannot do that, it only checks that the folder can be opened.
func SyncFolder(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}

// Retry runs a function until it returns no error that passes by itself. On Windows these are the
// errors of a file that another program has open for a moment, as virus scanners and backups do:
// access denied, and a sharing violation. They are retried for a second. On other systems there are
// none.
func Retry(op func() error) error { return retry(op) }

// MakePrivate makes a folder, and those above it that are missing, to which no other user has
// access. On Unix that is mode 0700. On Windows the current user, the system and the administrators
// have access. It does not change a folder that is there.
func MakePrivate(dir string) error { return makePrivate(dir) }

// OthersMayWrite reports whether others can write to a folder. On Unix these are its group and
// everybody. On Windows they are the groups to which users belong without anybody's doing, when the
// access list of the folder gives them a right to write to it, or to files that are made in it:
// Everyone, Anonymous, Authenticated Users, Interactive, Network, Users, Guests, Domain Users and
// Domain Guests. A user that the list names is there on purpose.
func OthersMayWrite(root *os.Root) (bool, error) { return othersMayWrite(root) }
