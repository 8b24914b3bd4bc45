package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rmq/store/message"
)

// checkpoints returns the names of the checkpoint files in dir, newest first.
func checkpoints(f FS, dir string) ([]string, error) {
	names, err := f.List(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, "checkpoint-")
		if !ok || len(digits) != 20 {
			continue
		}
		if _, err := strconv.ParseInt(digits, 10, 64); err == nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// sectionReader reads a checkpoint's sections. It hands out nothing that fails its checksum.
type sectionReader struct {
	file File
	off  int64
	size int64
	n    uint32
}

func newSectionReader(f File, wantApplied int64) (*sectionReader, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	head := make([]byte, checkpointHeader)
	if err := readFull(f, head, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(head[:8]) != checkpointMagic || be.Uint32(head[28:]) != crc32.Checksum(head[:28], castagnoli) {
		return nil, fmt.Errorf("checkpoint header: %w", ErrCorrupt)
	}
	if v := be.Uint32(head[8:]); v != checkpointVersion {
		return nil, fmt.Errorf("checkpoint version %d: %w", v, ErrVersion)
	}
	if applied := int64(be.Uint64(head[16:])); applied != wantApplied {
		return nil, fmt.Errorf("checkpoint of offset %d under the name of %d: %w", applied, wantApplied, ErrCorrupt)
	}
	return &sectionReader{file: f, off: checkpointHeader, size: size}, nil
}

func (r *sectionReader) next() (sectionKind, []byte, error) {
	var head [sectionHeader]byte
	if err := readFull(r.file, head[:], r.off); err != nil {
		return 0, nil, fmt.Errorf("checkpoint ends early: %w: %w", ErrCorrupt, err)
	}
	be := binary.BigEndian
	n := int64(be.Uint32(head[4:]))
	if n > sectionBytesMax || n > r.size-r.off-sectionHeader {
		return 0, nil, fmt.Errorf("checkpoint section of %d bytes: %w", n, ErrCorrupt)
	}
	body := make([]byte, n)
	if err := readFull(r.file, body, r.off+sectionHeader); err != nil {
		return 0, nil, fmt.Errorf("checkpoint section: %w: %w", ErrCorrupt, err)
	}
	if be.Uint32(head[8:]) != crc32.Update(crc32.Checksum(head[:8], castagnoli), castagnoli, body) {
		return 0, nil, fmt.Errorf("checkpoint section at %d fails its checksum: %w", r.off, ErrCorrupt)
	}
	r.off += sectionHeader + n
	kind := sectionKind(be.Uint32(head[:]))
	if kind == sectionEnd && (n != 4 || be.Uint32(body) != r.n) {
		return 0, nil, fmt.Errorf("checkpoint has %d sections, its end says otherwise: %w", r.n, ErrCorrupt)
	}
	r.n++
	return kind, body, nil
}

// load fills an empty store from a checkpoint file, without its derived files. The key ranges found are returned.
func (s *Store) load(name string) ([]keyRange, error) {
	applied, err := strconv.ParseInt(strings.TrimPrefix(name, "checkpoint-"), 10, 64)
	if err != nil {
		return nil, err
	}
	f, err := s.fs.Open(filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := newSectionReader(f, applied)
	if err != nil {
		return nil, err
	}
	var keys []keyRange
	var segments []segmentMark
	for {
		kind, body, err := r.next()
		if err != nil {
			return nil, err
		}
		if kind == sectionEnd {
			break
		}
		if kind == sectionTimers {
			err = s.decodeTimers(body)
		} else {
			d := newDecoder(body)
			switch kind {
			case sectionState:
				s.decodeState(d)
			case sectionTopics:
				s.topics.decode(d)
			case sectionGroups:
				s.groups.decode(d)
			case sectionOffsets:
				s.offsets.decode(d)
			case sectionLocks:
				s.locks.decode(d)
			case sectionSettings:
				s.settings.decode(d)
			case sectionTimes:
				s.times.decode(d)
			case sectionSegments:
				segments = decodeSegments(d)
			case sectionKeys:
				keys = decodeKeyRanges(d)
			case sectionQueues:
				s.decodeQueues(d)
			default:
				d.fail(fmt.Errorf("section kind %d: %w", kind, ErrVersion))
			}
			err = d.finish()
		}
		if err != nil {
			return nil, fmt.Errorf("checkpoint section %d: %w: %w", kind, ErrCorrupt, err)
		}
	}
	if s.applied.Load() != applied {
		return nil, fmt.Errorf("checkpoint state is of offset %d: %w", s.applied.Load(), ErrCorrupt)
	}
	if err := s.loadBlocks(segments); err != nil {
		return nil, err
	}
	s.kept = []checkpointRefs{{name: name, applied: applied, trim: s.trim.Load(), blocks: s.blocks.next, files: fileNames(segments, keys)}}
	return keys, nil
}

func (s *Store) decodeState(d *decoder) {
	d.fields(7)
	s.applied.Store(d.int())
	s.trim.Store(d.int())
	s.lastStoreTime.Store(d.int())
	s.lastPhys.Store(d.int())
	s.chain = chain(d.int())
	s.queues.nextNumber = uint32(d.int())
	next := uint64(d.int())
	s.blocks.next, s.blocks.pendingFrom = next, next
}

func (s *Store) decodeTimers(body []byte) error {
	if len(body)%16 != 0 {
		return fmt.Errorf("%d bytes of timers", len(body))
	}
	for ; len(body) > 0; body = body[16:] {
		deliverAt, q := unpackTimer(int64(binary.BigEndian.Uint64(body[8:])))
		s.timers.add(deliverAt, int64(binary.BigEndian.Uint64(body)), q)
	}
	return nil
}

func decodeSegments(d *decoder) []segmentMark {
	marks := make([]segmentMark, d.records(2))
	for i := range marks {
		marks[i] = segmentMark{start: uint64(d.int()), maxPhys: d.int()}
	}
	return marks
}

func decodeKeyRanges(d *decoder) []keyRange {
	keys := make([]keyRange, d.records(5))
	for i := range keys {
		keys[i] = keyRange{from: d.int(), to: d.int(), minTime: d.int(), maxTime: d.int(), level: int(d.int())}
	}
	return keys
}

// decodeQueues adds a section's queues, with room for the numbers of their blocks.
func (s *Store) decodeQueues(d *decoder) {
	for d.err == nil && d.r.Len() > 0 {
		d.fields(9)
		q := &queue{topic: d.str(), id: d.int32(), number: uint32(d.int()), born: d.int(),
			first: d.int(), min: d.int(), minTrim: d.int(), next: d.int()}
		n := d.records(3)
		if n > 0 {
			q.tail = make([]entry, n, max(4, n))
			for i := range q.tail {
				q.tail[i] = entry{phys: d.int(), size: d.int32(), tagsCode: d.int32()}
			}
		}
		full := q.next - int64(n) - q.first
		switch {
		case d.err != nil:
			return
		case n >= blockEntries || q.first < 0 || q.first%blockEntries != 0 || full < 0 || full%blockEntries != 0 ||
			uint64(full/blockEntries) > s.blocks.next || q.min < 0 || q.min > q.next:
			d.fail(fmt.Errorf("queue %s-%d has impossible bounds", q.topic, q.id))
			return
		}
		q.blocks = make([]uint32, full/blockEntries)
		tq := s.queues.byTopic[q.topic]
		if tq == nil {
			tq = &topicQueues{name: q.topic}
			s.queues.byTopic[q.topic] = tq
		}
		q.topic = tq.name
		if _, ok := tq.find(q.id); ok {
			d.fail(fmt.Errorf("queue %s-%d occurs twice", q.topic, q.id))
			return
		}
		s.queues.insert(tq, q)
	}
}

// blockLoader finds the blocks of all queues in the labels of the block files.
type blockLoader struct {
	store   *Store
	byLabel map[uint32]*queueBlocks
	bad     []uint64 // numbers of blocks that nobody can identify
}

// queueBlocks is a queue with the blocks found of it.
type queueBlocks struct {
	queue *queue
	found []bool
	lost  map[int64]*[blockEntries]entry // rebuilt blocks by base
}

// loadBlocks opens the block files and fills the queues' lists of blocks. Blocks that cannot be identified are rebuilt from
// the log, if it can be scanned.
func (s *Store) loadBlocks(marks []segmentMark) error {
	l := &blockLoader{store: s, byLabel: make(map[uint32]*queueBlocks)}
	for _, q := range s.queues.all() {
		l.byLabel[q.number] = &queueBlocks{queue: q, found: make([]bool, len(q.blocks))}
	}
	next, per := s.blocks.next, s.blocks.segmentBlocks
	for i, m := range marks {
		if m.start%per != 0 || m.start >= next || i > 0 && m.start != marks[i-1].start+per {
			return fmt.Errorf("consume queue file %d of %d: %w", m.start, next, ErrCorrupt)
		}
		if err := l.open(m, min(next-m.start, per)); err != nil {
			return err
		}
	}
	if n := len(marks); n > 0 && marks[n-1].start+per < next || n == 0 && next > 0 {
		return fmt.Errorf("consume queue files end before block %d: %w", next, ErrCorrupt)
	}
	if len(l.bad) > 0 {
		if err := l.rebuild(); err != nil {
			return err
		}
	}
	for _, q := range s.queues.all() {
		if err := l.byLabel[q.number].settle(); err != nil {
			return err
		}
	}
	return nil
}

// open opens one block file, or replaces a missing one, and reads the labels of its first n blocks.
func (l *blockLoader) open(m segmentMark, n uint64) error {
	b := l.store.blocks
	f, err := b.fs.Open(filepath.Join(b.dir, segmentName(m.start)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seg := &segment{start: m.start, blocks: b.segmentBlocks, file: f, maxPhys: m.maxPhys}
	if err != nil {
		if seg, err = b.create(m.start); err != nil {
			return err
		}
		seg.maxPhys = m.maxPhys
	}
	b.segments = append(b.segments, seg)
	b.maxPhys = m.maxPhys
	labels := make([]byte, n*labelBytes)
	head := make([]byte, segmentHeader)
	if err := readFull(seg.file, head, 0); err != nil || !bytes.Equal(head, b.segmentHead(m.start)) {
		if err == nil && string(head[:8]) == segmentMagic && binary.BigEndian.Uint32(head[24:]) == crc32.Checksum(head[:24], castagnoli) &&
			binary.BigEndian.Uint32(head[8:]) > segmentVersion {
			return fmt.Errorf("%s: %w", segmentName(m.start), ErrVersion)
		}
		if _, err := seg.file.WriteAt(b.segmentHead(m.start), 0); err != nil {
			return err
		}
		seg.dirty = true
	}
	if err := readFull(seg.file, labels, segmentHeader); err != nil {
		clear(labels) // the file is too short: look at each block
	}
	for i := range n {
		block := m.start + i
		lab, ok := parseLabel(labels[i*labelBytes:][:labelBytes], block)
		if !ok {
			if lab, ok = l.identify(seg, block); !ok {
				l.bad = append(l.bad, block)
				continue
			}
		}
		l.place(lab, block)
	}
	return nil
}

// identify reads a block whose label in the file's head is damaged.
func (l *blockLoader) identify(seg *segment, block uint64) (label, bool) {
	buf := make([]byte, blockBytes)
	if readFull(seg.file, buf, seg.blockAt(block)) != nil {
		return label{}, false
	}
	return parseLabel(buf, block)
}

func (l *blockLoader) place(lab label, block uint64) {
	qb := l.byLabel[lab.queue]
	if qb == nil {
		return // of a deleted queue
	}
	if i := (lab.base - qb.queue.first) / blockEntries; lab.base >= qb.queue.first && i < int64(len(qb.found)) {
		qb.queue.blocks[i], qb.found[i] = uint32(block), true
	}
}

// rebuild scans the log for the messages of blocks that were not found and writes those blocks in the places of the
// unidentified ones.
func (l *blockLoader) rebuild() error {
	s := l.store
	s.logger.Error("consume queue files are damaged, rebuilding blocks from the log", "blocks", len(l.bad))
	type lost struct {
		qb   *queueBlocks
		base int64
	}
	var order []lost
	err := s.scanMessages(0, s.applied.Load(), func(v message.View, pos int64) error {
		q := s.queues.getBytes(v.Topic(), v.QueueID())
		if q == nil || pos < q.born || !message.Queued(v.SysFlag()) {
			return nil
		}
		qb, offset := l.byLabel[q.number], v.QueueOffset()
		i := (offset - q.first) / blockEntries
		if offset < q.first || i >= int64(len(qb.found)) || qb.found[i] {
			return nil
		}
		base := q.first + i*blockEntries
		if qb.lost == nil {
			qb.lost = make(map[int64]*[blockEntries]entry)
		}
		if qb.lost[base] == nil {
			qb.lost[base] = new([blockEntries]entry)
			order = append(order, lost{qb, base})
		}
		qb.lost[base][offset-base] = entryOf(v, pos)
		return nil
	})
	if err != nil {
		return fmt.Errorf("rebuild consume queue blocks: %w: %w", ErrCorrupt, err)
	}
	if len(order) > len(l.bad) {
		return fmt.Errorf("%d consume queue blocks lost, %d damaged: %w", len(order), len(l.bad), ErrCorrupt)
	}
	slices.SortStableFunc(order, func(a, b lost) int {
		return cmp.Compare(a.qb.lost[a.base][blockEntries-1].phys, b.qb.lost[b.base][blockEntries-1].phys)
	})
	for i, o := range order {
		entries, block := o.qb.lost[o.base], l.bad[i]
		if err := s.checkRebuilt(entries); err != nil {
			return err
		}
		lab := label{o.qb.queue.number, o.base}
		l.place(lab, block)
		if err := s.blocks.repair(uint32(block), lab, entries); err != nil {
			return err
		}
	}
	return nil
}

// settle drops the blocks in front that are gone since they lie below the trim offset. Any other hole is damage.
func (qb *queueBlocks) settle() error {
	q := qb.queue
	gone := 0
	for gone < len(qb.found) && !qb.found[gone] {
		gone++
	}
	if slices.Contains(qb.found[gone:], false) {
		return fmt.Errorf("consume queue %s-%d lacks a block: %w", q.topic, q.id, ErrCorrupt)
	}
	q.blocks = q.blocks[gone:]
	q.first += int64(gone) * blockEntries
	return nil
}
