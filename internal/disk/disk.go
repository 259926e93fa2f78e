// Package disk makes files and folders durable, so that they survive a crash of the machine, and
// keeps other users out of them.
//
// On Unix, a change is on the disk when [Fill], [Rename] or [SyncFolder] returns nil.
//
// On Windows the content of files is on the disk too. Windows cannot flush a folder, so Rename
// flushes the renamed file instead, which makes NTFS write its journal. After a crash, NTFS never
// shows half of a rename. A file that was removed shortly before a power failure may come back.
package disk

import (
	"errors"
	"os"
)

const dirPerm = 0o700

// Fill writes data to a file, syncs it, and closes it.
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

// Rename renames a file, replaces a file that has the new name, and makes the change durable. No
// other process may write to either file.
//
// On Windows it waits up to a second for programs that have the replaced file open; see [Retry].
func Rename(root *os.Root, from, to string) error {
	if err := Retry(func() error { return root.Rename(from, to) }); err != nil {
		return err
	}
	return syncRenamed(root, to)
}

// SyncRenamed makes the name of a renamed file durable. [Rename] does that itself.
func SyncRenamed(root *os.Root, name string) error { return syncRenamed(root, name) }

// Remove removes a file. [SyncFolder] makes that durable. On Windows, Remove waits up to a second
// for programs that have the file open; see [Retry].
func Remove(root *os.Root, name string) error {
	return Retry(func() error { return root.Remove(name) })
}

// SyncFolder makes the entries of a folder durable: new names and removals. On Windows, which
// cannot do that, it only checks that the folder can be opened.
func SyncFolder(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}

// Retry runs a function, and repeats it for up to a second as long as it returns a temporary error.
// On Windows, these are access denied and a sharing violation: the errors for a file that another
// program has open for a moment, as virus scanners and backups do. Other systems have no such
// errors.
func Retry(op func() error) error { return retry(op) }

// MakePrivate makes a folder, and missing parent folders, to which no other user has access. On
// Unix that is mode 0700. On Windows the current user, the system and the administrators have
// access. It does not change an existing folder.
func MakePrivate(dir string) error { return makePrivate(dir) }

// OthersMayWrite reports whether others can write to a folder. On Unix these are its group and
// everybody. On Windows they are the groups to which users belong automatically: Everyone,
// Anonymous, Authenticated Users, Interactive, Network, Users, Guests, Domain Users and Domain
// Guests. They count if the access list of the folder gives them a right to write to it, or to
// files that are made in it. A user in the list is there on purpose.
func OthersMayWrite(root *os.Root) (bool, error) { return othersMayWrite(root) }
