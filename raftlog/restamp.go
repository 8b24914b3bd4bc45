package raftlog

import (
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// restamp runs the state machine's Stamp over all records that are not applied. The writer is locked, or not at work yet.
func (l *Log) restamp() error {
	off, end := l.sm.Rewind(), l.w.at.end
	if lowest := l.MinOffset(); off < lowest {
		return damaged(fmt.Errorf("state is applied up to offset %d, the log begins at %d", off, lowest))
	}
	if off > end {
		return damaged(fmt.Errorf("state is applied up to offset %d, the log ends at %d", off, end))
	}
	var buf []byte
	w := headerWalk{read: l.readRaw}
	for off < end {
		if off = place(off, frameHeaderBytes, l.o.SegmentBytes); off >= end {
			break
		}
		h, err := w.header(off)
		if err != nil {
			return damaged(fmt.Errorf("frame at offset %d, to be stamped again: %w", off, err))
		}
		if h.kind == uint8(raft.LogCommand) && h.length > 0 {
			if cap(buf) < int(h.length) {
				buf = make([]byte, h.length)
			}
			buf = buf[:h.length]
			if _, err := l.readRaw(buf, off+frameHeaderBytes); err != nil {
				return fmt.Errorf("record at offset %d, to be stamped again: %w", off, err)
			}
			if crc32.Checksum(buf, castagnoli) != h.bodyCRC {
				return damaged(fmt.Errorf("record at offset %d does not match its CRC", off))
			}
			if err := l.sm.Stamp(buf, off+frameHeaderBytes); err != nil {
				return damaged(fmt.Errorf("stamp entry %d at offset %d again: %w", h.index, off, err))
			}
		}
		off += h.size()
	}
	return nil
}
