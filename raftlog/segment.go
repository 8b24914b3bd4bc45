package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// Segment files are named by the offset of their first byte in 20 digits. A file opens with one page of segmentPageBytes that lies
// outside the offset space; behind it, file position and log offset differ by a constant.
const (
	segmentPageBytes = 4096
	segmentVersion   = 1

	segmentHeadBytes = 68 // magic to CRC
	markBytes        = 44
	markSlotA        = 1024 // the two copies of the mark lie in different sectors
	markSlotB        = 2048

	markSealed = 1 // flag: no frame will be added

	indexSuffix = ".idx"
	tmpSuffix   = ".tmp"
)

var (
	segmentMagic = [8]byte{'r', 'm', 'q', 'l', 'o', 'g', '\r', '\n'}
	markMagic    = [4]byte{'m', 'a', 'r', 'k'}
)

// segmentHead is the part of a segment's first page that is the same on every replica.
type segmentHead struct {
	base         int64
	segmentBytes int64
	firstIndex   uint64 // index of the first frame in the segment
	prevEnd      int64  // where the last frame before the segment ends
	prevTerm     uint64 // its term
	prevChain    uint64 // its chain value
}

func (h *segmentHead) encode(b []byte) {
	copy(b, segmentMagic[:])
	binary.BigEndian.PutUint32(b[8:], segmentVersion)
	binary.BigEndian.PutUint32(b[12:], 0)
	binary.BigEndian.PutUint64(b[16:], uint64(h.base))
	binary.BigEndian.PutUint64(b[24:], uint64(h.segmentBytes))
	binary.BigEndian.PutUint64(b[32:], h.firstIndex)
	binary.BigEndian.PutUint64(b[40:], uint64(h.prevEnd))
	binary.BigEndian.PutUint64(b[48:], h.prevTerm)
	binary.BigEndian.PutUint64(b[56:], h.prevChain)
	binary.BigEndian.PutUint32(b[64:], crc32.Checksum(b[:64], castagnoli))
}

// errVersion tells a format this program does not know from damage.
type errVersion uint32

func (v errVersion) Error() string {
	return fmt.Sprintf("segment format version is %d, this program knows %d", uint32(v), segmentVersion)
}

func decodeSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentHeadBytes {
		return segmentHead{}, fmt.Errorf("segment head has %d of %d bytes", len(b), segmentHeadBytes)
	}
	if !bytes.Equal(b[:8], segmentMagic[:]) {
		return segmentHead{}, fmt.Errorf("segment begins with %x", b[:8])
	}
	if got, want := binary.BigEndian.Uint32(b[64:]), crc32.Checksum(b[:64], castagnoli); got != want {
		return segmentHead{}, fmt.Errorf("segment head CRC is %08x, computed %08x", got, want)
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != segmentVersion {
		return segmentHead{}, errVersion(v)
	}
	h := segmentHead{
		base:         int64(binary.BigEndian.Uint64(b[16:])),
		segmentBytes: int64(binary.BigEndian.Uint64(b[24:])),
		firstIndex:   binary.BigEndian.Uint64(b[32:]),
		prevEnd:      int64(binary.BigEndian.Uint64(b[40:])),
		prevTerm:     binary.BigEndian.Uint64(b[48:]),
		prevChain:    binary.BigEndian.Uint64(b[56:]),
	}
	if h.segmentBytes < segmentBytesMin || h.segmentBytes > segmentBytesMax || h.base < 0 || h.base%h.segmentBytes != 0 || h.prevEnd < 0 || h.prevEnd > h.base || h.firstIndex == 0 {
		return segmentHead{}, fmt.Errorf("segment head is inconsistent: %+v", h)
	}
	return h, nil
}

// mark is this replica's own note in a segment's first page: how far the segment is known to be on stable storage.
type mark struct {
	seq    uint64 // the higher of the two copies counts
	synced int64  // offset below which the segment's bytes are durable
	sealed bool
	node   [16]byte // incarnation of the directory the file belongs to
}

func (m *mark) encode(b []byte) {
	copy(b, markMagic[:])
	var flags uint32
	if m.sealed {
		flags |= markSealed
	}
	binary.BigEndian.PutUint32(b[4:], flags)
	binary.BigEndian.PutUint64(b[8:], m.seq)
	binary.BigEndian.PutUint64(b[16:], uint64(m.synced))
	copy(b[24:40], m.node[:])
	binary.BigEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
}

func decodeMark(b []byte) (mark, bool) {
	if len(b) < markBytes || !bytes.Equal(b[:4], markMagic[:]) ||
		binary.BigEndian.Uint32(b[40:]) != crc32.Checksum(b[:40], castagnoli) {
		return mark{}, false
	}
	m := mark{
		sealed: binary.BigEndian.Uint32(b[4:])&markSealed != 0,
		seq:    binary.BigEndian.Uint64(b[8:]),
		synced: int64(binary.BigEndian.Uint64(b[16:])),
	}
	copy(m.node[:], b[24:40])
	return m, true
}

// newestMark picks the valid mark with the higher sequence from a segment's first page.
func newestMark(page []byte) (mark, bool) {
	a, okA := decodeMark(page[markSlotA : markSlotA+markBytes])
	b, okB := decodeMark(page[markSlotB : markSlotB+markBytes])
	if okA && (!okB || a.seq > b.seq) {
		return a, true
	}
	return b, okB
}

// segment is one open segment file.
type segment struct {
	segmentHead
	path string

	mu sync.RWMutex // readers of f against close
	f  File         // nil once closed

	mark mark // as last written; owned by the writer, or by the flusher under writer.mu

	// Bytes from trusted on were verified at open or written since. Those before are verified when they are first read; checked has
	// a bit for each region of regionBytes that has been.
	trusted int64
	checked []atomic.Uint64
}

func (s *segment) limit() int64            { return s.base + s.segmentBytes }
func (s *segment) filePos(off int64) int64 { return segmentPageBytes + off - s.base }

// readAt reads from the file; off and the end of p lie within the segment. It fails with errSegmentClosed after close.
func (s *segment) readAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return 0, errSegmentClosed
	}
	return s.f.ReadAt(p, s.filePos(off))
}

// sync makes the file durable; it may overlap with writes. A closed segment has nothing left to sync.
func (s *segment) sync() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return nil
	}
	return s.f.Sync()
}

// close waits for readers in readAt.
func (s *segment) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// writeMark replaces the older copy of the mark. It becomes durable with the next Sync of the file.
func (s *segment) writeMark(m mark) error {
	m.seq = s.mark.seq + 1
	m.node = s.mark.node
	var b [markBytes]byte
	m.encode(b[:])
	pos := int64(markSlotA)
	if m.seq%2 == 0 {
		pos = markSlotB
	}
	if _, err := s.f.WriteAt(b[:], pos); err != nil {
		return fmt.Errorf("write mark of %s: %w", s.path, err)
	}
	s.mark = m
	return nil
}

func segmentName(base int64) string { return fmt.Sprintf("%020d", base) }

// parseSegmentName returns the base offset if name is that of a segment.
func parseSegmentName(name string) (int64, bool) {
	if len(name) != 20 {
		return 0, false
	}
	v, err := strconv.ParseInt(name, 10, 64)
	if err != nil || v < 0 || segmentName(v) != name {
		return 0, false
	}
	return v, true
}

// createSegment makes a segment file whose head is durable before its name is.
func createSegment(fsys FS, dir string, head segmentHead, node [16]byte) (*segment, error) {
	s := &segment{segmentHead: head, path: filepath.Join(dir, segmentName(head.base)), trusted: head.base}
	tmp := s.path + tmpSuffix
	f, err := fsys.Create(tmp)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	s.f = f
	s.mark = mark{seq: 1, synced: head.base, node: node}
	page := make([]byte, segmentPageBytes)
	head.encode(page)
	s.mark.encode(page[markSlotA:])
	if _, err = f.WriteAt(page, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(tmp, s.path)
	}
	if err == nil {
		err = fsys.SyncDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("create segment %s: %w", s.path, joinClose(err, f))
	}
	return s, nil
}

// openSegment opens a segment file and reads its first page.
func openSegment(fsys FS, path string) (*segment, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open segment: %w", err)
	}
	page := make([]byte, segmentPageBytes)
	n, err := readFull(f, page, 0)
	if err != nil {
		return nil, fmt.Errorf("read segment %s: %w", path, joinClose(err, f))
	}
	head, err := decodeSegmentHead(page[:n])
	if err != nil {
		return nil, joinClose(fmt.Errorf("%s: %w: %w", path, ErrCorrupt, err), f)
	}
	s := &segment{segmentHead: head, path: path, f: f}
	if n == segmentPageBytes {
		if m, ok := newestMark(page); ok {
			s.mark, s.trusted = m, s.limit()
			return s, nil
		}
	}
	return nil, joinClose(fmt.Errorf("%s: %w: no valid mark", path, ErrCorrupt), f)
}
