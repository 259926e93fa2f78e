package program

import (
	"errors"
	"io"
	"os"
)

// OutputError means that a program's results could not be written to stdout.
type OutputError struct{ Err error }

// Error names stdout and the cause.
func (e *OutputError) Error() string { return "writing to stdout: " + e.Err.Error() }

// Unwrap returns the error of the write.
func (e *OutputError) Unwrap() error { return e.Err }

// Gone reports whether an output that returned err can never be written again, because its reader
// has closed it or it is closed itself. Other errors may pass, for example that of a full disk.
func Gone(err error) bool { return closedByReader(err) || errors.Is(err, os.ErrClosed) }

// Discards reports whether an output is the null device, as it also is when stdout was closed at
// the start: Go opens the null device in its place.
func Discards(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && nullErr == nil && os.SameFile(info, null)
}

// LineWriter writes lines to an output that may fail in the middle of a line. Its next write either
// completes that line or begins with a line break, so that a reader loses only the line that was
// cut. It is not safe for concurrent use.
type LineWriter struct {
	w    io.Writer
	rest []byte // what the last Write could not write
	cut  bool   // the output ends within a line
}

// NewLineWriter returns a writer of lines to w. If w is a file that ends within a line, because an
// earlier process could not write the rest, the first line begins with a line break. Only Linux can
// read the end of the file; other systems do not open for reading what the shell has opened for
// writing.
func NewLineWriter(w io.Writer) *LineWriter {
	f, ok := w.(*os.File)
	return &LineWriter{w: w, cut: ok && endsWithinLine(f)}
}

// Write writes whole lines. After an error, [LineWriter.Resume] continues after the last byte that
// was written. Another Write drops the rest.
func (l *LineWriter) Write(lines []byte) (int, error) {
	l.rest = lines
	if l.cut {
		l.rest = append([]byte{'\n'}, lines...)
	}
	if err := l.Resume(); err != nil {
		return max(0, len(lines)-len(l.rest)), err
	}
	return len(lines), nil
}

// Resume writes the rest of what the last Write could not write.
func (l *LineWriter) Resume() error {
	n, err := l.w.Write(l.rest)
	if n > 0 {
		l.cut = l.rest[n-1] != '\n'
	}
	l.rest = l.rest[n:]
	if err != nil {
		return &OutputError{err}
	}
	return nil
}

// endsWithinLine reports whether a file does not end with a line break. The file may be open for
// writing only.
func endsWithinLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	again, err := reopen(f)
	if err != nil {
		return false
	}
	defer func() { _ = again.Close() }() // only read from
	last := make([]byte, 1)
	_, err = again.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}
