package oauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// List returns keys of one application in order. It reads no installation: the names of the files
// show the keys. A page costs the names of the folders of the application, at most a few hundred
// for the member IDs of Bitrix24, and those of the files in each folder that the page touches. See
// [Store].
func (s *FileStore) List(ctx context.Context, after Key, limit int) ([]Key, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, errLimit
	}
	if len(after.ClientID) > maxID {
		return nil, nil
	}
	folder, err := openFolder(s.root, escape(after.ClientID), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	shards, err := s.shardsFrom(folder, after)
	if err != nil {
		return nil, err
	}
	var page []Key
	for _, shard := range shards {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		keys, err := s.keysIn(folder, shard, after)
		if err != nil {
			return nil, err
		}
		page = append(page, keys...)
		if len(page) >= limit {
			return slices.Clip(page[:limit]), nil
		}
	}
	return page, nil
}

// shardsFrom returns the shards of an application that may hold keys after a key, in order.
func (s *FileStore) shardsFrom(application *os.Root, after Key) ([]string, error) {
	entries, err := s.entries(application)
	if err != nil {
		return nil, err
	}
	var shards []string
	for _, e := range entries {
		if shard, ok := unescape(e.Name()); ok && e.IsDir() && shard >= shardOf(after.MemberID) {
			shards = append(shards, shard)
		}
	}
	slices.Sort(shards)
	return shards, nil
}

// keysIn returns the keys of a shard after a key, in order.
func (s *FileStore) keysIn(application *os.Root, shard string, after Key) ([]Key, error) {
	folder, err := openFolder(application, escape(shard), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	entries, err := s.entries(folder)
	if err != nil {
		return nil, err
	}
	var keys []Key
	for _, e := range entries {
		if key, ok := keyIn(after.ClientID, shard, e.Name()); ok && key.compare(after) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, Key.compare)
	return slices.Compact(keys), nil // a folder that changes may name an entry twice
}

// entries returns the entries of a folder, by name.
func (s *FileStore) entries(folder *os.Root) ([]fs.DirEntry, error) {
	dir, err := folder.Open(".")
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	defer func() { _ = dir.Close() }()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("oauth: file store: %w", err)
	}
	if s.listed != nil {
		s.listed(len(entries))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return entries, nil
}
