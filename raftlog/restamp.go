package raftlog

import "fmt"

// restamp runs the state machine's Stamp over all records that are not applied. The writer is locked, or not at work yet.
func (l *Log) restamp() error {
	off, end := l.sm.Rewind(), l.w.at.end
	if lowest := l.MinOffset(); off < lowest {
		return damaged(fmt.Errorf("state is applied up to offset %d, the log begins at %d", off, lowest))
	}
	if off > end {
		return damaged(fmt.Errorf("state is applied up to offset %d, the log ends at %d", off, end))
	}
	return l.records(off, end, func(h *frameHeader, record []byte, offset int64) error {
		if err := l.sm.Stamp(record, offset); err != nil {
			return damaged(fmt.Errorf("stamp entry %d at offset %d again: %w", h.index, offset, err))
		}
		return nil
	})
}
