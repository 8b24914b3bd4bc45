package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// Layout of a block file, see FORMAT.md. A file holds a fixed number of blocks, numbered on from the number in its name: a
// header, then the labels of all blocks, then the blocks.
const (
	entryBytes     = 16
	labelBytes     = 16
	blockBytes     = labelBytes + blockEntries*entryBytes
	segmentHeader  = 64
	segmentMagic   = "rmqqueue"
	segmentVersion = 1

	// segmentBlocksDefault is how many blocks a file has: 65 MiB of them.
	segmentBlocksDefault = 1 << 16

	// flushBlocks is how many full blocks are gathered in memory before they are written.
	flushBlocks = 64
)

// errBlockGone says that a block lies below the trim offset and its file is gone.
var errBlockGone = errors.New("block was trimmed")

// label says whose entries a block holds: the queue's number and the queue offset of the first entry. It is stored with a
// checksum in front that covers the block's own number too and, in the block itself, the entries.
type label struct {
	queue uint32
	base  int64
}

// seal fills the first labelBytes of b; what follows in b is covered by the checksum.
func (l label) seal(b []byte, block uint64) {
	binary.BigEndian.PutUint32(b[4:], l.queue)
	binary.BigEndian.PutUint64(b[8:], uint64(l.base))
	binary.BigEndian.PutUint32(b, labelSum(b, block))
}

// labelSum starts the checksum from the block's number, so that a block in a wrong place does not pass.
func labelSum(b []byte, block uint64) uint32 {
	return crc32.Update(uint32(block)^uint32(block>>32), castagnoli, b[4:])
}

// parseLabel is the inverse of seal. ok is false if the checksum does not match.
func parseLabel(b []byte, block uint64) (l label, ok bool) {
	if binary.BigEndian.Uint32(b) != labelSum(b, block) {
		return label{}, false
	}
	return label{queue: binary.BigEndian.Uint32(b[4:]), base: int64(binary.BigEndian.Uint64(b[8:]))}, true
}

// segment is one block file.
type segment struct {
	start   uint64 // number of its first block
	blocks  uint64 // how many it has room for
	file    File
	maxPhys int64 // log position of the last message in it, as far as it is filled
	dirty   bool  // written since the last sync
	retired atomic.Bool
}

// blockAt is a block's place in the file.
func (g *segment) blockAt(block uint64) int64 {
	return segmentHeader + int64(g.blocks)*labelBytes + int64(block-g.start)*blockBytes
}

func segmentName(start uint64) string { return fmt.Sprintf("queue-%020d", start) }

// blockStore is the block files of all consume queues: one numbered sequence of blocks, appended in log order. Apply's
// goroutine alone appends and writes; any goroutine reads.
type blockStore struct {
	fs            FS
	dir           string
	segmentBlocks uint64

	mu          sync.RWMutex
	segments    []*segment
	next        uint64 // number of the next block
	pending     []byte // blocks from pendingFrom on that are not in a file yet, blockBytes each
	pendingFrom uint64
	spare       []byte // the buffer that pending changes places with
	maxPhys     int64  // log position of the last entry of the last block put
	creating    string // name of the file being made, "" if none
}

func newBlockStore(fs FS, dir string, segmentBlocks uint64) *blockStore {
	return &blockStore{fs: fs, dir: dir, segmentBlocks: segmentBlocks}
}

// put adds a block and returns its number's low half. full asks the caller to flush.
func (s *blockStore) put(queue uint32, base int64, entries *[blockEntries]entry) (number uint32, full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	block := s.next
	s.next++
	at := len(s.pending)
	if cap(s.pending) < at+blockBytes {
		grown := make([]byte, at, flushBlocks*blockBytes)
		copy(grown, s.pending)
		s.pending = grown
	}
	s.pending = s.pending[:at+blockBytes]
	encodeBlock(s.pending[at:], block, label{queue, base}, entries)
	s.maxPhys = max(s.maxPhys, entries[blockEntries-1].phys)
	// A flush writes to one file only, so it also has to come before the next file begins.
	return uint32(block), len(s.pending) == flushBlocks*blockBytes || s.next%s.segmentBlocks == 0
}

func encodeBlock(dst []byte, block uint64, l label, entries *[blockEntries]entry) {
	body := dst[labelBytes:blockBytes]
	for i := range entries {
		e, b := &entries[i], body[i*entryBytes:(i+1)*entryBytes]
		binary.BigEndian.PutUint64(b, uint64(e.phys))
		binary.BigEndian.PutUint32(b[8:], uint32(e.size))
		binary.BigEndian.PutUint32(b[12:], uint32(e.tagsCode))
	}
	l.seal(dst[:blockBytes], block)
}

func decodeEntries(body []byte, dst *[blockEntries]entry) {
	for i := range dst {
		b := body[i*entryBytes : (i+1)*entryBytes]
		dst[i] = entry{
			phys:     int64(binary.BigEndian.Uint64(b)),
			size:     int32(binary.BigEndian.Uint32(b[8:])),
			tagsCode: int32(binary.BigEndian.Uint32(b[12:])),
		}
	}
}

// flush writes the pending blocks to their file, unsynced. Readers go on reading them from memory meanwhile.
func (s *blockStore) flush() error {
	n := len(s.pending) / blockBytes
	if n == 0 {
		return nil
	}
	from := s.pendingFrom
	seg, err := s.segmentFor(from)
	if err != nil {
		return err
	}
	if err := seg.write(s.pending, from); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.maxPhys = max(seg.maxPhys, s.maxPhys)
	seg.dirty = true
	s.pendingFrom += uint64(n)
	s.pending, s.spare = s.spare[:0], s.pending
	return nil
}

// write puts consecutive blocks and their labels in place.
func (g *segment) write(blocks []byte, from uint64) error {
	index := int64(from - g.start)
	if _, err := g.file.WriteAt(blocks, g.blockAt(from)); err != nil {
		return fmt.Errorf("write consume queue blocks: %w", err)
	}
	labels := make([]byte, 0, flushBlocks*labelBytes)
	for b := from; len(blocks) > 0; b, blocks = b+1, blocks[blockBytes:] {
		l := label{queue: binary.BigEndian.Uint32(blocks[4:]), base: int64(binary.BigEndian.Uint64(blocks[8:]))}
		labels = labels[:len(labels)+labelBytes]
		l.seal(labels[len(labels)-labelBytes:], b)
	}
	if _, err := g.file.WriteAt(labels, segmentHeader+index*labelBytes); err != nil {
		return fmt.Errorf("write consume queue labels: %w", err)
	}
	return nil
}

// segmentFor returns the file in which a block has its place, created if it is the next one.
func (s *blockStore) segmentFor(block uint64) (*segment, error) {
	start := block - block%s.segmentBlocks
	s.mu.RLock()
	seg := s.find(block)
	s.mu.RUnlock()
	if seg != nil {
		return seg, nil
	}
	s.mu.Lock()
	s.creating = segmentName(start)
	s.mu.Unlock()
	seg, err := s.create(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.creating = ""
	if err != nil {
		return nil, err
	}
	s.segments = append(s.segments, seg)
	return seg, nil
}

// names returns the files in use.
func (s *blockStore) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := []string{s.creating}
	for _, seg := range s.segments {
		names = append(names, segmentName(seg.start))
	}
	return names
}

// create makes an empty block file. Its name becomes durable with the next sync.
func (s *blockStore) create(start uint64) (*segment, error) {
	f, err := s.fs.Create(filepath.Join(s.dir, segmentName(start)))
	if err != nil {
		return nil, fmt.Errorf("create consume queue file: %w", err)
	}
	if _, err := f.WriteAt(s.segmentHead(start), 0); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write consume queue file header: %w", err)
	}
	return &segment{start: start, blocks: s.segmentBlocks, file: f, dirty: true}, nil
}

func (s *blockStore) segmentHead(start uint64) []byte {
	head := make([]byte, segmentHeader)
	copy(head, segmentMagic)
	binary.BigEndian.PutUint32(head[8:], segmentVersion)
	binary.BigEndian.PutUint32(head[12:], uint32(s.segmentBlocks))
	binary.BigEndian.PutUint64(head[16:], start)
	binary.BigEndian.PutUint32(head[24:], crc32.Checksum(head[:24], castagnoli))
	return head
}

// find returns the file of a block, or nil. s.mu is held.
func (s *blockStore) find(block uint64) *segment {
	if len(s.segments) == 0 || block < s.segments[0].start {
		return nil
	}
	if i := (block - s.segments[0].start) / s.segmentBlocks; i < uint64(len(s.segments)) {
		return s.segments[i]
	}
	return nil
}

// widen gives a block's full number from its low half: live numbers span less than 2^32. s.mu is held.
func (s *blockStore) widen(number uint32) uint64 {
	return s.next - 1 - uint64(uint32(s.next-1)-number)
}

// read returns a block's entries. buf is scratch space of blockBytes. The errors: errBlockGone below the trim offset,
// ErrCorrupt if the bytes are not what the queue put there, else the file's own.
func (s *blockStore) read(number uint32, want label, buf []byte, dst *[blockEntries]entry) error {
	s.mu.RLock()
	block := s.widen(number)
	if block >= s.pendingFrom {
		decodeEntries(s.pending[(block-s.pendingFrom)*blockBytes+labelBytes:][:blockBytes-labelBytes], dst)
		s.mu.RUnlock()
		return nil
	}
	seg := s.find(block)
	s.mu.RUnlock()
	if seg == nil {
		return errBlockGone
	}
	err := readFull(seg.file, buf[:blockBytes], seg.blockAt(block))
	if err == nil {
		if got, ok := parseLabel(buf[:blockBytes], block); ok && got == want {
			decodeEntries(buf[labelBytes:blockBytes], dst)
			return nil
		}
		err = errors.New("checksum or label does not match")
	}
	if seg.retired.Load() {
		return errBlockGone
	}
	return fmt.Errorf("%s block %d: %w: %w", segmentName(seg.start), block-seg.start, ErrCorrupt, err)
}

// repair writes a rebuilt block in place.
func (s *blockStore) repair(number uint32, l label, entries *[blockEntries]entry) error {
	s.mu.RLock()
	block := s.widen(number)
	seg := s.find(block)
	s.mu.RUnlock()
	if seg == nil {
		return errBlockGone
	}
	buf := make([]byte, blockBytes)
	encodeBlock(buf, block, l, entries)
	if err := seg.write(buf, block); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.dirty = true
	return nil
}

// sync makes everything flushed so far durable, except names: those need a sync of the directory.
func (s *blockStore) sync() error {
	var dirty []*segment
	s.mu.Lock()
	for _, seg := range s.segments {
		if seg.dirty {
			seg.dirty = false
			dirty = append(dirty, seg)
		}
	}
	s.mu.Unlock()
	for _, seg := range dirty {
		if err := seg.file.Sync(); err != nil && !seg.retired.Load() {
			return fmt.Errorf("sync consume queue file: %w", err)
		}
	}
	return nil
}

// retire takes the files out that hold nothing at or above the trim offset, and closes them. The files themselves are
// removed when no checkpoint names them any more.
func (s *blockStore) retire(trim int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.segments)-1 && s.segments[n].maxPhys < trim {
		s.segments[n].retired.Store(true)
		_ = s.segments[n].file.Close()
		n++
	}
	s.segments = append([]*segment(nil), s.segments[n:]...)
}

// segmentMark is what a checkpoint keeps of a block file.
type segmentMark struct {
	start   uint64
	maxPhys int64
}

func (s *blockStore) marks() []segmentMark {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]segmentMark, len(s.segments))
	for i, seg := range s.segments {
		out[i] = segmentMark{seg.start, seg.maxPhys}
	}
	return out
}

func (s *blockStore) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range s.segments {
		seg.retired.Store(true)
		_ = seg.file.Close()
	}
	s.segments = nil
}
