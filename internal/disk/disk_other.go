//go:build !windows

package disk

import "os"

func syncRenamed(root *os.Root, _ string) error { return SyncFolder(root) }

func syncFolder(dir *os.File) error { return dir.Sync() }

func retry(op func() error) error { return op() }

func makePrivate(dir string) error { return os.MkdirAll(dir, dirPerm) }

func othersMayWrite(root *os.Root) (bool, error) {
	info, err := root.Stat(".")
	return err == nil && info.Mode().Perm()&0o022 != 0, err
}
