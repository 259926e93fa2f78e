package offline

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"github.com/b24events/b24events/internal/disk"
)

// recover reads what is in the folder. A process that died while it wrote a packet left a part of it under another name: the records in it
// were deleted on the portal already, so what can be read of it becomes a packet.
func (s *spool) recover(ctx context.Context) error {
	dir, err := s.root.Open(".")
	if err != nil {
		return spoolError(err)
	}
	entries, err := dir.ReadDir(-1)
	_ = dir.Close()
	if err != nil {
		return spoolError(err)
	}
	have := make(map[string][]int64) // numbers by suffix
	for _, entry := range entries {
		if number, suffix, ok := fileNumber(entry.Name()); ok {
			have[suffix] = append(have[suffix], number)
			s.last = max(s.last, number)
		}
	}
	packets := have[packetSuffix]
	for _, number := range have[newSuffix] {
		made, err := s.recoverNew(ctx, number)
		if err != nil {
			return spoolError(err)
		}
		if made > 0 && !slices.Contains(packets, made) {
			packets = append(packets, made)
		}
	}
	slices.Sort(packets)
	for _, number := range packets {
		if err := s.recoverPacket(ctx, number); err != nil {
			return spoolError(err)
		}
	}
	for _, number := range have[marksSuffix] {
		if !slices.Contains(packets, number) { // the packet was finished
			if err := s.remove(number); err != nil {
				return spoolError(err)
			}
		}
	}
	return s.flush()
}

// recoverNew makes a packet of one that was being written, and returns its number; 0 where there is nothing in it.
func (s *spool) recoverNew(ctx context.Context, number int64) (int64, error) {
	name := fileName(number, newSuffix)
	data, err := s.read(name)
	if err != nil {
		return 0, err
	}
	lines, whole := decodePacket(data)
	if whole { // it may not be on the disk yet, and to write it again would put it at risk
		if err := s.put(name, os.O_APPEND, nil); err != nil {
			return 0, err
		}
		return number, s.place(number)
	}
	s.last++
	number = s.last // in its own place it would be written over while it is read
	if len(data) > 0 {
		if err := s.salvage(ctx, number, data, lines); err != nil {
			return 0, err
		}
	}
	if err := disk.Remove(s.root, name); err != nil || len(lines.rows) == 0 {
		return 0, err
	}
	return number, nil
}

// salvage keeps a copy of a file that is not whole, and then writes a packet of the lines in it that are.
func (s *spool) salvage(ctx context.Context, number int64, data []byte, lines packetLines) error {
	s.last++
	aside := fileName(s.last, damagedSuffix)
	if err := s.put(aside, os.O_TRUNC, data); err != nil {
		return err
	}
	s.damaged++
	s.log.LogAttrs(ctx, slog.LevelError, "offline queue: a file of the spool is damaged, and a copy was put aside; the records in it that can be "+
		"read are worked on, the others are lost unless you can read them", slog.String(keyFile, aside), slog.Int(keyRecords, len(lines.rows)))
	return s.write(number, packetLines{count: len(lines.rows), parked: lines.parked, rows: lines.rows}.encode())
}

// recoverPacket takes in a packet that is in its place.
func (s *spool) recoverPacket(ctx context.Context, number int64) error {
	name := fileName(number, packetSuffix)
	data, err := s.read(name)
	if err != nil {
		return err
	}
	lines, whole := decodePacket(data)
	if !whole {
		if err := s.salvage(ctx, number, data, lines); err != nil {
			return err
		}
	}
	rows := make([]rowState, lines.count)
	for _, l := range lines.rows {
		rows[l.at] = rowPending
	}
	marks, err := s.read(fileName(number, marksSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	whole = applyMarks(rows, marks)
	p := newPacket(number, rows)
	p.broken = !whole
	s.packets = append(s.packets, p) // flush removes it where it is finished
	s.open += p.open()
	return nil
}
