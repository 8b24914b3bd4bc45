package raftlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sort"

	"github.com/hashicorp/raft"
)

// logStore is the Log as Raft sees it. It is not a raft.MonotonicLogStore: Raft would then delete the whole log when a snapshot is
// installed.
type logStore struct{ l *Log }

var _ raft.LogStore = logStore{}

func (s logStore) FirstIndex() (uint64, error) {
	first, _ := s.l.index.bounds()
	return first, nil
}

func (s logStore) LastIndex() (uint64, error) {
	_, last := s.l.index.bounds()
	return last, nil
}

func (s logStore) GetLog(index uint64, out *raft.Log) error { return s.l.getLog(index, out) }
func (s logStore) StoreLog(log *raft.Log) error             { return s.l.storeLogs([]*raft.Log{log}) }
func (s logStore) StoreLogs(logs []*raft.Log) error         { return s.l.storeLogs(logs) }
func (s logStore) DeleteRange(first, last uint64) error     { return s.l.deleteRange(first, last) }

// getLog reads one entry into memory of its own and verifies it. A bad one is fatal: Raft would panic or leave a gap.
func (l *Log) getLog(index uint64, out *raft.Log) error {
	cuts := l.cuts.Load()
	err := l.readEntry(index, out)
	switch {
	case err == nil, errors.Is(err, raft.ErrLogNotFound):
		return err
	case cuts%2 != 0 || cuts != l.cuts.Load(), errors.Is(err, ErrTrimmed), errors.Is(err, io.EOF):
		return raft.ErrLogNotFound // truncated or unlinked under the reader, who was about to send it to a follower
	}
	return l.readFailed(fmt.Errorf("entry %d: %w", index, err))
}

func (l *Log) readEntry(index uint64, out *raft.Log) error {
	s, ok, err := l.index.find(index)
	if err != nil {
		return err
	}
	if !ok {
		return raft.ErrLogNotFound
	}
	b := make([]byte, s.end-s.off)
	if _, err := l.readRaw(b, s.off); err != nil {
		return fmt.Errorf("at offset %d: %w", s.off, err)
	}
	h, err := decodeFrameHeader(b)
	switch {
	case err != nil:
	case h.index != index || h.size() != int64(len(b)):
		err = fmt.Errorf("frame of entry %d with %d bytes lies there", h.index, h.size())
	case crc32.Checksum(b[frameHeaderBytes:], castagnoli) != h.bodyCRC:
		err = errors.New("record does not match its CRC")
	}
	if err != nil {
		return damaged(fmt.Errorf("at offset %d: %w", s.off, err))
	}
	*out = raft.Log{Index: h.index, Term: h.term, Type: raft.LogType(h.kind), Data: b[frameHeaderBytes:]}
	return nil
}

// header reads the frame header of one entry.
func (l *Log) header(index uint64) (frameHeader, error) {
	s, ok, err := l.index.find(index)
	if err != nil {
		return frameHeader{}, err
	}
	if !ok {
		return frameHeader{}, raft.ErrLogNotFound
	}
	var b [frameHeaderBytes]byte
	if _, err := l.readRaw(b[:], s.off); err != nil {
		return frameHeader{}, err
	}
	h, err := decodeFrameHeader(b[:])
	if err != nil {
		err = damaged(err)
	}
	return h, err
}

// ReadAt reads bytes below EndOffset. It answers ErrTrimmed below MinOffset and io.EOF when it reaches the end. Recent bytes come
// from memory; bytes from before the last start are verified against the CRC of their frame when they are first read.
func (l *Log) ReadAt(p []byte, off int64) (int, error) { return l.read(p, off, l.verifyRange) }

// readRaw is ReadAt without the verification, for callers that check the frames they read themselves.
func (l *Log) readRaw(p []byte, off int64) (int, error) { return l.read(p, off, nil) }

func (l *Log) read(p []byte, off int64, verify func(seg *segment, from, to int64) error) (int, error) {
	if off < l.MinOffset() || off < 0 {
		return 0, ErrTrimmed
	}
	end := l.end.Load()
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= end {
			return n, io.EOF
		}
		want := p[n:min(int64(len(p)), int64(n)+end-at)]
		if k := l.tail.readAt(want, at); k > 0 {
			l.stats.fromCache.Add(1)
			n += k
			continue
		}
		k, err := l.readFile(want, at, verify)
		l.stats.fromFile.Add(1)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readFile reads from the segment that holds off, up to its end.
func (l *Log) readFile(p []byte, off int64, verify func(seg *segment, from, to int64) error) (int, error) {
	segs := *l.segs.Load()
	i := sort.Search(len(segs), func(i int) bool { return segs[i].base > off }) - 1
	if i < 0 {
		return 0, ErrTrimmed
	}
	seg := segs[i]
	p = p[:min(int64(len(p)), seg.limit()-off)]
	if verify != nil && off < seg.trusted {
		if err := verify(seg, off, off+int64(len(p))); err != nil {
			return 0, l.goneOr(err, off)
		}
	}
	n, err := seg.readAt(p, off)
	switch {
	case n == len(p) && n > 0:
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		if off+int64(n) >= l.end.Load() {
			return n, io.EOF
		}
		return n, fmt.Errorf("%w: %s ends at offset %d", ErrCorrupt, seg.path, off+int64(n))
	}
	return n, l.goneOr(fmt.Errorf("read %s at offset %d: %w", seg.path, off, err), off)
}

// goneOr translates a segment that was closed under the reader: unlinked at the start of the log or truncated at its end.
func (l *Log) goneOr(err error, off int64) error {
	switch {
	case !errors.Is(err, errSegmentClosed):
		return err
	case off < l.MinOffset():
		return ErrTrimmed
	}
	return io.EOF
}

// readFailed ends the process on corruption; other failures to read are returned.
func (l *Log) readFailed(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return l.storageFailed(err)
	}
	return err
}

// MinOffset returns the lowest offset that can be read.
func (l *Log) MinOffset() int64 {
	if segs := *l.segs.Load(); len(segs) > 0 {
		return segs[0].base
	}
	return 0
}

// EndOffset returns the end of what is appended, committed or not.
func (l *Log) EndOffset() int64 { return l.end.Load() }

// SizeBytes returns what lies between MinOffset and EndOffset.
func (l *Log) SizeBytes() int64 { return max(l.EndOffset()-l.MinOffset(), 0) }

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
