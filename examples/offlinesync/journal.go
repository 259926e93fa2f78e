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
var errNotOurs = errors.New("the end of the file was not written by this program; name another file, or end its last line")

// journal appends lines to a file. A line is on disk when append returns; lines that come at the
// same time share one write and one sync.
type journal struct {
	w    io.Writer
	file *os.File // w, if this program opened it; otherwise nil
	sync func() error

	disk sync.Mutex // held while writing
	size int64      // of file, without the remains of a failed write
	bad  error      // set if half a line could not be removed

	mu   sync.Mutex
	next *group // collects lines until the first of them locks disk
}

// group is a set of lines that are written together, by the goroutine that came first.
type group struct {
	lines []byte
	done  chan struct{}
	err   error
}

// openJournal opens and locks the file, or uses stdout for "-". It removes a last line that a crash
// cut short, because its record is still in the queue. On stdout it ends such a line instead.
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

// syncDir makes the name of a new file durable, which the sync of the file need not do.
func syncDir(name string) error {
	dir, err := os.Open(name) //nolint:gosec // the user names the file
	if err != nil {
		return nil //nolint:nilerr // the folder may be writable but not readable, and some systems have no such sync
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

// begun reports whether tail may be a line that a crash cut short: the beginning of a line, or
// zeros that some file systems write in its place.
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

// write writes lines and syncs. After a failure it removes what was written of them, so that every
// line of the file is whole.
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

// cut truncates the file to size. Windows refuses that for a file that is open for appending, but
// does not allow to rename the file meanwhile either.
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

// outError adds the name of the setting to an error.
func outError(err error) error {
	if err == nil || errors.As(err, new(*program.OutputError)) {
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("OUT: %w; make the folder first", err)
	}
	return fmt.Errorf("OUT: %w", err)
}
