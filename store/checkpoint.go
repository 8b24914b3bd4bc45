package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Layout of a checkpoint file, see FORMAT.md: a header, sections with a checksum each, an end section that counts them.
const (
	checkpointMagic   = "rmqstore"
	checkpointVersion = 1
	checkpointHeader  = 32
	sectionHeader     = 12
	// sectionBytes is about how large a section of a long list gets.
	sectionBytes = 1 << 20
	// sectionBytesMax caps what a reader allocates for a section.
	sectionBytesMax = 1 << 30
	checkpointsKept = 2
)

// sectionKind says what a section holds. Queues and timers may take several sections.
type sectionKind uint32

const (
	sectionEnd      sectionKind = 0
	sectionState    sectionKind = 1
	sectionTopics   sectionKind = 2
	sectionGroups   sectionKind = 3
	sectionOffsets  sectionKind = 4
	sectionLocks    sectionKind = 5
	sectionSettings sectionKind = 6
	sectionSegments sectionKind = 7
	sectionQueues   sectionKind = 8
	sectionTimers   sectionKind = 9
	sectionKeys     sectionKind = 10
	sectionTimes    sectionKind = 11
)

// ErrVersion says that a file was written by a newer release.
var ErrVersion = errors.New("format version is not known to this release")

// Snapshot is a captured state; Persist makes it a checkpoint on disk, Release forgets it.
type Snapshot = interface {
	Persist() error
	Release()
}

func checkpointName(applied int64) string { return fmt.Sprintf("checkpoint-%020d", applied) }

// capture is the state as of one applied offset. Small tables are encoded already; queues and timers are shared with the
// store in a form that does not change.
type capture struct {
	store         *Store
	applied, trim int64
	tables        []section
	queues        []queueCapture
	timers        []*pairChunk
	segments      []segmentMark
	blocks        uint64 // number of the first block that is not part of it
	keys          <-chan barrierResult
}

type section struct {
	kind sectionKind
	body []byte
}

type queueCapture struct {
	queue        *queue
	first        int64
	min, minTrim int64
	next         int64
	tail         []entry
}

// Snapshot captures the state as of the last Apply. It comes from Apply's goroutine and is quick: a few nanoseconds a queue
// and an offset. Persist, from any goroutine and at the same time as Apply, makes it a checkpoint and returns once that
// is durable.
func (s *Store) Snapshot() (Snapshot, error) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	if err := s.Err(); err != nil {
		return nil, err
	}
	c := &capture{store: s, applied: s.applied.Load(), trim: s.trim.Load()}
	if err := s.blocks.flush(); err != nil {
		s.fail(err)
		return nil, err
	}
	s.blocks.retire(c.trim)
	s.keys.retire(c.trim)
	var err error
	if c.keys, err = s.keys.capture(c.applied); err != nil {
		return nil, err
	}
	c.segments = s.blocks.marks()
	c.blocks = s.blocks.next
	c.timers = s.timers.capture()
	c.add(sectionState, s.encodeState)
	c.add(sectionTopics, s.topics.encode)
	c.add(sectionGroups, s.groups.encode)
	c.add(sectionOffsets, s.offsets.encode)
	c.add(sectionLocks, s.locks.encode)
	c.add(sectionSettings, s.settings.encode)
	c.add(sectionTimes, s.times.encode)
	for _, q := range s.queues.all() {
		c.queues = append(c.queues, q.capture())
	}
	return c, nil
}

func (q *queue) capture() queueCapture {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tailShared = true
	return queueCapture{queue: q, first: q.first, min: q.min, minTrim: q.minTrim, next: q.next, tail: q.tail[:len(q.tail):len(q.tail)]}
}

func (c *capture) add(kind sectionKind, encode func(*encoder)) {
	e := newEncoder()
	encode(e)
	c.tables = append(c.tables, section{kind, e.bytes()})
}

func (s *Store) encodeState(e *encoder) {
	e.array(7)
	e.int(s.applied.Load())
	e.int(s.trim.Load())
	e.int(s.lastStoreTime.Load())
	e.int(s.lastPhys.Load())
	e.int(int64(s.chain))
	e.int(int64(s.queues.nextNumber))
	e.int(int64(s.blocks.next))
}

// Release forgets the capture.
func (c *capture) Release() {}

// Persist writes the checkpoint: derived files and their names first, then the checkpoint under a temporary name, then its
// name. An error leaves the previous checkpoint as the newest and stops the store.
func (c *capture) Persist() error {
	s := c.store
	s.persistMu.Lock()
	defer s.persistMu.Unlock()
	if err := s.Err(); err != nil {
		return err
	}
	keys := <-c.keys
	if n := len(s.kept); n > 0 && s.kept[n-1].applied > c.applied {
		return nil // a newer capture was faster
	}
	err := keys.err
	if err == nil {
		err = c.persist(keys.runs)
	}
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("write checkpoint: %w", err)
		s.fail(err)
	}
	return err
}

func (c *capture) persist(keys []keyRange) error {
	s := c.store
	if err := s.blocks.sync(); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	name := checkpointName(c.applied)
	tmp := filepath.Join(s.dir, name+".tmp")
	if err := c.writeFile(tmp, keys); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, filepath.Join(s.dir, name)); err != nil {
		return err
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return err
	}
	s.published(checkpointRefs{name: name, applied: c.applied, trim: c.trim, blocks: c.blocks, files: fileNames(c.segments, keys)})
	return nil
}

func (c *capture) writeFile(path string, keys []keyRange) error {
	f, err := c.store.fs.Create(path)
	if err != nil {
		return err
	}
	w := &checkpointWriter{file: f}
	err = c.write(w, keys)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (c *capture) write(w *checkpointWriter, keys []keyRange) error {
	w.header(c.applied)
	for _, t := range c.tables {
		w.section(t.kind, t.body)
	}
	e := newEncoder()
	e.array(2 * len(c.segments))
	for _, m := range c.segments {
		e.int(int64(m.start))
		e.int(m.maxPhys)
	}
	w.section(sectionSegments, e.bytes())
	e = newEncoder()
	e.array(5 * len(keys))
	for _, k := range keys {
		e.int(k.from)
		e.int(k.to)
		e.int(k.minTime)
		e.int(k.maxTime)
		e.int(int64(k.level))
	}
	w.section(sectionKeys, e.bytes())
	c.writeQueues(w)
	c.writeTimers(w)
	w.end()
	return w.err
}

// writeQueues writes the queues, each as its fields and the raw entries of its tail.
func (c *capture) writeQueues(w *checkpointWriter) {
	e := newEncoder()
	for i := range c.queues {
		q := &c.queues[i]
		e.array(9)
		e.str(q.queue.topic)
		e.int(int64(q.queue.id))
		e.int(int64(q.queue.number))
		e.int(q.queue.born)
		e.int(q.first)
		e.int(q.min)
		e.int(q.minTrim)
		e.int(q.next)
		e.array(3 * len(q.tail))
		for _, t := range q.tail {
			e.int(t.phys)
			e.int(int64(t.size))
			e.int(int64(t.tagsCode))
		}
		if e.buf.Len() >= sectionBytes {
			w.section(sectionQueues, e.bytes())
			e.buf.Reset()
		}
	}
	if e.buf.Len() > 0 {
		w.section(sectionQueues, e.bytes())
	}
}

// writeTimers writes the parked messages as pairs of 64-bit words, in log order.
func (c *capture) writeTimers(w *checkpointWriter) {
	buf := make([]byte, 0, 16*pairChunkMax)
	for _, chunk := range c.timers {
		buf = buf[:0]
		for _, p := range chunk.items {
			buf = binary.BigEndian.AppendUint64(buf, uint64(p.a))
			buf = binary.BigEndian.AppendUint64(buf, uint64(p.b))
		}
		w.section(sectionTimers, buf)
	}
}

// checkpointWriter writes a checkpoint front to back. The first error sticks.
type checkpointWriter struct {
	file     File
	off      int64
	sections uint32
	buf      []byte
	err      error
}

func (w *checkpointWriter) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.file.WriteAt(w.buf, w.off)
		w.off += int64(len(w.buf))
	}
	w.buf = w.buf[:0]
}

func (w *checkpointWriter) header(applied int64) {
	b := make([]byte, checkpointHeader)
	copy(b, checkpointMagic)
	binary.BigEndian.PutUint32(b[8:], checkpointVersion)
	binary.BigEndian.PutUint64(b[16:], uint64(applied))
	binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	w.buf = append(w.buf, b...)
}

func (w *checkpointWriter) section(kind sectionKind, body []byte) {
	be := binary.BigEndian
	at := len(w.buf)
	w.buf = be.AppendUint32(w.buf, uint32(kind))
	w.buf = be.AppendUint32(w.buf, uint32(len(body)))
	sum := crc32.Update(crc32.Checksum(w.buf[at:], castagnoli), castagnoli, body)
	w.buf = be.AppendUint32(w.buf, sum)
	w.buf = append(w.buf, body...)
	w.sections++
	if len(body) > sectionBytesMax {
		w.err = fmt.Errorf("checkpoint section %d of %d bytes is too large", kind, len(body))
	}
	if len(w.buf) >= sectionBytes {
		w.flush()
	}
}

func (w *checkpointWriter) end() {
	w.section(sectionEnd, binary.BigEndian.AppendUint32(nil, w.sections))
	w.flush()
}

// checkpointRefs is what a checkpoint on disk needs.
type checkpointRefs struct {
	name          string
	applied, trim int64
	blocks        uint64
	files         []string
}

func fileNames(segments []segmentMark, keys []keyRange) []string {
	var names []string
	for _, m := range segments {
		names = append(names, segmentName(m.start))
	}
	for _, k := range keys {
		names = append(names, k.name())
	}
	return names
}

// published notes a new newest checkpoint: the floor may rise, and files that neither it nor the one before nor the
// running store needs are removed. persistMu is held.
func (s *Store) published(refs checkpointRefs) {
	s.kept = slices.DeleteFunc(s.kept, func(r checkpointRefs) bool { return r.name == refs.name })
	s.kept = append(s.kept, refs)
	if n := len(s.kept) - checkpointsKept; n > 0 {
		s.kept = slices.Delete(s.kept, 0, n)
	}
	if len(s.kept) == checkpointsKept {
		s.floor.Store(min(refs.trim, s.kept[0].applied))
	}
	needed := make(map[string]bool)
	for _, r := range s.kept {
		needed[r.name] = true
		for _, name := range r.files {
			needed[name] = true
		}
	}
	s.removeUnneeded(needed)
}

// removeUnneeded removes files of the store's own kinds that are not needed. Failing to is logged only: it costs space.
func (s *Store) removeUnneeded(needed map[string]bool) {
	// List first: whoever makes a file registers its name before, so a file in the list is among the names.
	names, err := s.fs.List(s.dir)
	if err != nil {
		s.logger.Warn("list store directory", "dir", s.dir, "err", err)
		return
	}
	for _, e := range s.exports {
		for _, f := range e.Files {
			needed[f.Name] = true
		}
	}
	for _, name := range s.blocks.names() {
		needed[name] = true
	}
	for _, name := range s.keys.names() {
		needed[name] = true
	}
	for _, name := range names {
		if needed[name] || !isStoreFile(name) {
			continue
		}
		if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.logger.Warn("remove file", "file", name, "err", err)
		}
	}
}

func isStoreFile(name string) bool {
	return strings.HasPrefix(name, "checkpoint-") || strings.HasPrefix(name, "queue-") || strings.HasPrefix(name, "keys-")
}
