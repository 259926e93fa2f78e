package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

// errNotOurs keeps this program from cutting a file that was named by mistake.
var errNotOurs = errors.New("the file ends with something that this program did not write; name another file, or end its last line")

// journal appends lines to a file. A line is on disk when append returns; lines that come at the
// same time share one write and one sync.
type journal struct {
	w    io.Writer
	file *os.File // where w is a file that this program opened
	sync func() error

	disk sync.Mutex // held while writing
	size int64      // of file, without the rest of a write that failed
	bad  error      // half a line stands there that could not be removed

	mu   sync.Mutex
	next *group // takes lines until the first of them gets the disk
}

// group is lines that are written together, by whoever came first.
type group struct {
	lines []byte
	done  chan struct{}
	err   error
}

// openJournal opens the file of that name, or stdout for "-", and keeps other processes off it. A
// last line that a crash cut short is removed: its record is still in the queue. From stdout
// nothing is removed; such a line is ended there.
func openJournal(ctx context.Context, name string, stdout io.Writer, log *slog.Logger) (*journal, error) {
	if name == "" || name == "-" {
		if program.Discards(stdout) {
			log.LogAttrs(ctx, slog.LevelWarn, "stdout is the null device or was closed: records are acknowledged, and nothing keeps them")
		}
		j := newJournal(program.NewLineWriter(stdout))
		if f, ok := stdout.(*os.File); ok && regular(f) {
			j.sync = f.Sync
		}
		return j, nil
	}
	f, err := oneportal.Lock(name, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return nil, outError(err)
	}
	j := newJournal(f)
	if !regular(f) {
		j.file = f
		return j, nil
	}
	j.file, j.sync = f, f.Sync
	removed, err := j.repair()
	if err == nil && j.size == 0 {
		err = syncDir(filepath.Dir(name))
	}
	if err != nil {
		_ = oneportal.Unlock(f)
		return nil, outError(err)
	}
	if removed > 0 {
		log.LogAttrs(ctx, slog.LevelWarn, "the last line of OUT was cut short by a crash, and is removed", slog.Int64("bytes", removed))
	}
	return j, nil
}

// syncDir puts the name of a new file on disk, which its own sync need not do.
func syncDir(name string) error {
	dir, err := os.Open(name) //nolint:gosec // where the user wants the file
	if err != nil {
		return nil //nolint:nilerr // it may be written to and not be read, and systems without such a sync do without it
	}
	_ = dir.Sync()
	return dir.Close()
}

func newJournal(w io.Writer) *journal {
	return &journal{w: w, sync: func() error { return nil }, next: newGroup()}
}

func newGroup() *group { return &group{done: make(chan struct{})} }

func regular(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// repair makes the file end with a whole line. It returns how many bytes it removed.
func (j *journal) repair() (int64, error) {
	end, err := j.file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	var tail []byte // what follows the last line break
	const step = 64 << 10
	at := end
	for at > 0 {
		n := min(at, step)
		block := make([]byte, n)
		if _, err := j.file.ReadAt(block, at-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(block, '\n'); i >= 0 {
			tail = slices.Concat(block[i+1:], tail)
			break
		}
		tail = slices.Concat(block, tail)
		at -= n
	}
	j.size = end
	switch {
	case len(tail) == 0:
		return 0, nil
	case json.Valid(tail): // only the line break is missing
		if _, err := j.file.Write([]byte("\n")); err != nil {
			return 0, err
		}
		j.size++
		return 0, j.file.Sync()
	case !begun(tail):
		return 0, errNotOurs
	}
	j.size = end - int64(len(tail))
	if err := j.cut(); err != nil {
		return 0, err
	}
	return int64(len(tail)), j.file.Sync()
}

// begun reports whether a crash may have left that of a line: its beginning, or the zeros that some
// file systems put in its place.
func begun(tail []byte) bool {
	const beginning = `{"event":`
	n := min(len(tail), len(beginning))
	return string(tail[:n]) == beginning[:n] || len(bytes.Trim(tail, "\x00")) == 0
}

// append writes a line, and returns when it is on disk.
func (j *journal) append(line []byte) error {
	j.mu.Lock()
	g := j.next
	first := len(g.lines) == 0
	g.lines = append(g.lines, line...)
	j.mu.Unlock()
	if !first {
		<-g.done
		return g.err
	}
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	j.next = newGroup()
	j.mu.Unlock()
	g.err = j.write(g.lines)
	close(g.done)
	return g.err
}

// write writes lines and syncs. What a failure left of them is removed, so that every line of the
// file stays whole.
func (j *journal) write(lines []byte) error {
	if j.bad != nil {
		return j.bad
	}
	_, err := j.w.Write(lines)
	if err == nil {
		err = j.sync()
	}
	if err == nil {
		j.size += int64(len(lines))
		return nil
	}
	err = outError(err)
	if j.file == nil || !regular(j.file) || j.cut() != nil {
		j.bad = err
	}
	return err
}

// cut cuts the file to its size. Windows refuses that to a file that is opened for appending, and
// lets nobody rename it meanwhile.
func (j *journal) cut() error {
	if runtime.GOOS == "windows" {
		return os.Truncate(j.file.Name(), j.size)
	}
	return j.file.Truncate(j.size)
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return outError(oneportal.Unlock(j.file))
}

// outError says which setting an error is about.
func outError(err error) error {
	if err == nil || errors.As(err, new(*program.OutputError)) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("OUT: %w; make the folder first", err)
	}
	return fmt.Errorf("OUT: %w", err)
}
