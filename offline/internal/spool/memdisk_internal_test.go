package spool

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// errCrashed is what a disk returns after its crash, errFault a failure that passes.
var (
	errCrashed = errors.New("crashed")
	errDead    = errors.New("crashed before")
	errFault   = errors.New("input/output error")
)

// memDisk is a folder on a disk that can lose power. What was not synced then is there or not, in
// any combination: this is less than file systems promise.
type memDisk struct {
	random *rand.Rand
	note   func(format string, args ...any) // gets a line for each change
	faults float64                          // how likely a use fails
	left   int                              // uses until the crash; negative for none

	crashed bool
	locked  bool
	names   map[string]*memFile // as the system shows them
	synced  map[string]*memFile // as they are on the disk
	changes []func(map[string]*memFile)
}

type memFile struct {
	data, synced []byte
	truncated    bool // since it was synced
}

func newMemDisk(random *rand.Rand) *memDisk {
	return &memDisk{
		random: random,
		note:   func(string, ...any) {},
		left:   -1,
		names:  make(map[string]*memFile),
		synced: make(map[string]*memFile),
	}
}

// restart makes the disk what another process finds.
func (d *memDisk) restart() { d.crashed, d.locked, d.left = false, false, -1 }

// losePower makes the disk what it is after a loss of power.
func (d *memDisk) losePower() {
	likely := []float64{0, 0.5, 1}[d.random.IntN(3)]
	for _, change := range d.changes {
		if d.random.Float64() < likely {
			change(d.synced)
		}
	}
	d.names, d.changes = maps.Clone(d.synced), nil
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		f := d.names[name]
		switch {
		case bytes.Equal(f.data, f.synced) && !f.truncated:
		case bytes.HasPrefix(f.data, f.synced) && !f.truncated:
			f.data = f.data[:len(f.synced)+d.random.IntN(len(f.data)-len(f.synced)+1)]
		case d.random.IntN(3) == 0:
			f.data = f.synced
		default:
			f.data = f.data[:d.random.IntN(len(f.data)+1)]
		}
		f.data, f.truncated = bytes.Clone(f.data), false
		f.synced = f.data
		d.note("  after the power: %s %q", name, f.data)
	}
	d.restart()
}

// use counts a use of the disk, and returns why it fails. An errFault and the first errCrashed may
// leave a part of what was to be done.
func (d *memDisk) use() error {
	switch {
	case d.crashed:
		return errDead
	case d.left == 0:
		d.crashed = true
		return errCrashed
	case d.random.Float64() < d.faults:
		return errFault
	}
	d.left--
	return nil
}

// partly reports whether a use that fails does a part of its work.
func (d *memDisk) partly(err error) bool { return !errors.Is(err, errDead) && d.random.IntN(2) == 0 }

// change changes the names in the folder.
func (d *memDisk) change(do func(map[string]*memFile)) {
	do(d.names)
	d.changes = append(d.changes, do)
}

func (d *memDisk) open(string) (folder, error) { return d, d.use() }

func (d *memDisk) lock() (bool, error) {
	if d.locked {
		return false, nil
	}
	d.locked = true
	return true, nil
}

func (d *memDisk) close() { d.locked = false }

func (d *memDisk) list() ([]string, error) {
	return slices.Sorted(maps.Keys(d.names)), d.use()
}

func (d *memDisk) read(name string) ([]byte, error) {
	if err := d.use(); err != nil {
		return nil, err
	}
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(f.data), nil
}

func (d *memDisk) write(name string, how writing, data []byte) error {
	err := d.use()
	d.note("  write %s %d %q: %v", name, how, data, err)
	if err != nil && !d.partly(err) {
		return err
	}
	f, ok := d.names[name]
	if !ok {
		f = new(memFile)
		d.change(func(names map[string]*memFile) { names[name] = f })
	}
	if how == writingNew {
		f.data, f.truncated = nil, true
	}
	if err != nil {
		data = data[:d.random.IntN(len(data)+1)] // all of it: the sync failed
	}
	f.data = append(bytes.Clone(f.data), data...)
	if err == nil {
		f.synced, f.truncated = f.data, false
	}
	return err
}

func (d *memDisk) rename(from, to string) error {
	err := d.use()
	d.note("  rename %s %s: %v", from, to, err)
	if err != nil && !d.partly(err) {
		return err
	}
	f, ok := d.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*memFile) {
		names[to] = f
		delete(names, from)
	})
	if err != nil {
		return err
	}
	return d.sync()
}

func (d *memDisk) remove(name string) error {
	err := d.use()
	d.note("  remove %s: %v", name, err)
	if err != nil && !d.partly(err) {
		return err
	}
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*memFile) { delete(names, name) })
	return err
}

func (d *memDisk) sync() error {
	err := d.use()
	d.note("  sync: %v", err)
	if err != nil {
		return err
	}
	d.synced, d.changes = maps.Clone(d.names), nil
	return nil
}
