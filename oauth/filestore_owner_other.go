//go:build !unix

package oauth

import "io/fs"

func ownedByUs(fs.FileInfo) bool { return true }

func checkParents(string) error { return nil }
