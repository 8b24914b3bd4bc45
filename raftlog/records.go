package raftlog

import (
	"fmt"
	"hash/crc32"
	"sort"

	"github.com/hashicorp/raft"
)

// Scan calls fn for each record that ends above byte from, in log order, up to what is written now. record is valid during the
// call only; offset is the byte position of record[0]. It stops at fn's first error and returns it. Records below MinOffset are
// left out. Any number of goroutines may scan at a time, also beside appends and trims.
func (l *Log) Scan(from int64, fn func(record []byte, offset int64) error) error {
	from = max(from, l.MinOffset())
	start, err := l.index.frameBefore(from)
	if err != nil {
		return err
	}
	return l.records(max(start, l.MinOffset()), l.end.Load(), func(h *frameHeader, record []byte, offset int64) error {
		if offset+int64(len(record)) <= from {
			return nil
		}
		return fn(record, offset)
	})
}

// records calls fn for each record whose frame begins in [off, end), in log order; off is where a frame begins.
func (l *Log) records(off, end int64, fn func(h *frameHeader, record []byte, offset int64) error) error {
	var buf []byte
	return l.frames(off, end, func(h *frameHeader, off int64) error {
		if h.kind != uint8(raft.LogCommand) || h.length == 0 {
			return nil
		}
		if cap(buf) < int(h.length) {
			buf = make([]byte, h.length)
		}
		buf = buf[:h.length]
		if _, err := l.readRaw(buf, off+frameHeaderBytes); err != nil {
			return fmt.Errorf("record at offset %d: %w", off, err)
		}
		if crc32.Checksum(buf, castagnoli) != h.bodyCRC {
			return fmt.Errorf("record at offset %d does not match its CRC: %w", off, ErrCorrupt)
		}
		return fn(h, buf, off+frameHeaderBytes)
	})
}

// frames calls fn for each frame that begins in [off, end), pads among them, with its offset; off is where a frame begins.
func (l *Log) frames(off, end int64, fn func(h *frameHeader, off int64) error) error {
	w := headerWalk{read: l.readRaw}
	for off < end {
		if off = place(off, frameHeaderBytes, l.o.SegmentBytes); off >= end {
			return nil
		}
		h, err := w.header(off)
		if err != nil {
			return fmt.Errorf("frame at offset %d: %w", off, err)
		}
		if err := fn(&h, off); err != nil {
			return err
		}
		off += h.size()
	}
	return nil
}

// frameBefore returns where a frame begins at or before off, the nearest that is known without reading frames.
func (x *logIndex) frameBefore(off int64) (int64, error) {
	x.mu.RLock()
	n := sort.Search(len(x.segs), func(i int) bool { return x.segs[i].base > off }) - 1
	if n < 0 {
		x.mu.RUnlock()
		return off, nil
	}
	base := x.segs[n].base
	x.mu.RUnlock()
	if err := x.ensurePoints(base); err != nil {
		return 0, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if n = x.segmentOf(base); n < 0 || n >= len(x.segs) || x.segs[n].base != base {
		return base, nil // trimmed meanwhile
	}
	points := x.segs[n].points
	if k := sort.Search(len(points), func(i int) bool { return points[i].off > off }); k > 0 {
		return points[k-1].off, nil
	}
	return base, nil
}
