package main

import (
	"errors"
	"io"
	"os"
	"sync"

	"github.com/b24events/b24events/examples/internal/oneportal"
	"github.com/b24events/b24events/examples/internal/program"
)

// output appends lines to a file or to stdout. A line that a crash cut short is ended by the next
// start, and its event is written again.
type output struct {
	mu   sync.Mutex
	w    *program.LineWriter
	file *os.File // if this program opened it; otherwise nil
	sync func() error
}

// openOutput opens and locks the file, or uses stdout for "-".
func openOutput(name string, stdout io.Writer) (*output, error) {
	if name == "" || name == "-" {
		return &output{w: program.NewLineWriter(stdout)}, nil
	}
	f, err := oneportal.Lock(name, os.O_RDWR|os.O_APPEND)
	if err != nil {
		return nil, outputError(err)
	}
	o := &output{w: program.NewLineWriter(f), file: f}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		o.sync = f.Sync
	}
	return o, nil
}

// append writes a line. On a disk it is synced.
func (o *output) append(line []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.w.Write(line)
	if err == nil && o.sync != nil {
		err = o.sync()
	}
	if err == nil || o.file == nil {
		return err // the writer names stdout
	}
	var written *program.OutputError
	if errors.As(err, &written) {
		err = written.Err
	}
	return outputError(err)
}

func outputError(err error) error { return errors.Join(errors.New("OUT cannot be written"), err) }

func (o *output) close() error {
	if o.file == nil {
		return nil
	}
	return oneportal.Unlock(o.file)
}
