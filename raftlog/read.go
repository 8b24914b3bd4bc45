package raftlog

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

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
