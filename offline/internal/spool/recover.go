package spool

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
)

// found is what is in a folder.
type found struct {
	segments   []*segment // the oldest first
	last       int64      // the highest number in use
	staleMarks []string   // marks of segments that are gone
}

// readFolder reads what is in a folder. A file of which only some lines can be read becomes a
// segment that is in memory only, until a flush writes it and puts the file aside.
//
// A process that died while it wrote a segment left a file with another name. Its rows were deleted
// on the portal, so they are used as far as they can be read.
func readFolder(f folder) (found, error) {
	names, err := f.list()
	if err != nil {
		return found{}, err
	}
	r := reader{folder: f, numbers: make(map[string][]int64), files: make(map[int64]*segment)}
	for _, name := range names {
		if number, suffix, ok := fileNumber(name); ok {
			r.numbers[suffix] = append(r.numbers[suffix], number)
			r.found.last = max(r.found.last, number)
		}
	}
	for _, step := range []func() error{r.readSegments, r.readNew, r.readDamaged} {
		if err := step(); err != nil {
			return found{}, err
		}
	}
	for _, number := range r.numbers[marksSuffix] {
		if r.files[number] == nil { // its rows are done
			r.found.staleMarks = append(r.found.staleMarks, fileName(number, marksSuffix))
		}
	}
	for _, number := range slices.Sorted(maps.Keys(r.files)) {
		r.found.segments = append(r.found.segments, r.files[number])
	}
	return r.found, nil
}

// reader reads a folder.
type reader struct {
	folder   folder
	numbers  map[string][]int64 // of the files, by suffix
	files    map[int64]*segment // by the number of the file
	broken   []brokenFile
	replaced []string // damaged files whose rows are in a segment already
	found    found
}

// brokenFile is a file that is not whole.
type brokenFile struct {
	number int64
	suffix string
	lines  segmentLines
}

func (r *reader) readSegments() error {
	for _, number := range r.numbers[segmentSuffix] {
		data, err := r.folder.read(fileName(number, segmentSuffix))
		if err != nil {
			return err
		}
		lines, whole := decodeSegment(data)
		if !whole {
			r.broken = append(r.broken, brokenFile{number, segmentSuffix, lines})
			continue
		}
		if err := r.add(number, lines); err != nil {
			return err
		}
	}
	return nil
}

// add adds a segment that is whole.
func (r *reader) add(number int64, lines segmentLines) error {
	if lines.from != "" {
		r.replaced = append(r.replaced, lines.from)
	}
	s := &segment{number: number, wasParked: lines.parked, rows: make([]row, lines.size)}
	for _, l := range lines.rows {
		s.rows[l.at].state = rowPending
	}
	marks, err := r.readMarks(number)
	if err != nil {
		return err
	}
	s.hasMarks, s.torn = marks.exists, marks.torn
	for at := range s.rows {
		if to, ok := marks.states[at]; ok && s.rows[at].state != rowMissing {
			s.rows[at].state = to
		}
	}
	r.files[number] = s
	return nil
}

// readNew reads the segments that were being written. One that is whole may not be on the disk yet.
// It is synced and gets its name, but is not written again, because that would put its rows at
// risk. One whose rows are all in another file is removed for good, before that file may be
// removed.
func (r *reader) readNew() error {
	numbers := r.numbers[newSuffix]
	files := make([][]byte, len(numbers))
	for i, number := range numbers {
		var err error
		if files[i], err = r.folder.read(fileName(number, newSuffix)); err != nil {
			return err
		}
		if lines, whole := decodeSegment(files[i]); whole && lines.from != "" {
			r.replaced = append(r.replaced, lines.from)
		}
	}
	removed := false
	for i, number := range numbers {
		name := fileName(number, newSuffix)
		lines, whole := decodeSegment(files[i])
		switch {
		case r.files[number] != nil || len(files[i]) == 0 || (!whole && r.exists(lines.from)):
			removed = true
			if err := r.folder.remove(name); err != nil {
				return err
			}
		case whole && !slices.Contains(r.replaced, name):
			if err := r.place(number, lines); err != nil {
				return err
			}
		default:
			r.broken = append(r.broken, brokenFile{number, newSuffix, lines})
		}
	}
	if removed {
		return r.folder.sync()
	}
	return nil
}

// place gives a whole segment its name. If there is a file with that name, it is damaged.
func (r *reader) place(number int64, lines segmentLines) error {
	name := fileName(number, newSuffix)
	if err := r.folder.write(name, writingAppend, nil); err != nil {
		return err
	}
	if err := r.folder.rename(name, fileName(number, segmentSuffix)); err != nil {
		return err
	}
	r.broken = slices.DeleteFunc(r.broken, func(b brokenFile) bool { return b.number == number })
	return r.add(number, lines)
}

// exists reports whether there was a file with a name.
func (r *reader) exists(name string) bool {
	number, suffix, ok := fileNumber(name)
	return ok && slices.Contains(r.numbers[suffix], number)
}

// readDamaged makes segments of the files that are not whole. A file whose segment an earlier
// process has written is only put aside.
func (r *reader) readDamaged() error {
	for _, file := range r.broken {
		name := fileName(file.number, file.suffix)
		if slices.Contains(r.replaced, name) {
			if err := putAside(r.folder, name); err != nil {
				return err
			}
			continue
		}
		var marks fileMarks
		if file.suffix == segmentSuffix {
			var err error
			if marks, err = r.readMarks(file.number); err != nil {
				return err
			}
		}
		s := &segment{wasParked: file.lines.parked, replaces: name}
		for _, l := range file.lines.rows {
			state := rowPending
			if to, ok := marks.states[l.at]; ok {
				state = to
			}
			if state != rowDone {
				s.rows = append(s.rows, row{state: state})
				s.unsaved = append(s.unsaved, l.row)
			}
		}
		r.files[file.number] = s
	}
	return nil
}

// fileMarks are the marks of a segment.
type fileMarks struct {
	states       map[int]rowState // by row; rowParked or rowDone
	exists, torn bool
}

// readMarks reads the marks of a segment. It also syncs them, because the process that wrote them
// may have died before it did.
func (r *reader) readMarks(number int64) (fileMarks, error) {
	name := fileName(number, marksSuffix)
	data, err := r.folder.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fileMarks{}, nil
	}
	if err == nil {
		err = r.folder.write(name, writingAppend, nil)
	}
	if err != nil {
		return fileMarks{}, err
	}
	list, ended := decodeMarks(data)
	marks := fileMarks{states: make(map[int]rowState, len(list)), exists: true, torn: !ended}
	for _, m := range list {
		if marks.states[m.at] != rowDone {
			marks.states[m.at] = m.to
		}
	}
	return marks, nil
}
