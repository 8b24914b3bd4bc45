package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"path/filepath"
	"sort"
	"sync/atomic"
)

// Layout of a key index run, see FORMAT.md: a header page, pages of entries sorted by (hash, log position), the first
// hash of each page.
const (
	keyPageBytes   = 4096
	keyPageHeader  = 16
	keyEntryBytes  = 16
	keyPageEntries = (keyPageBytes - keyPageHeader) / keyEntryBytes
	keyHeaderBytes = 64
	keyRunMagic    = "rmqkeys\x00"
	keyRunVersion  = 1

	// keyWriteBytes is how much is gathered before it is written.
	keyWriteBytes = 16 * keyPageBytes
)

// keyEntry says that the message at a log position carries a key with this hash.
type keyEntry struct {
	hash uint64
	phys int64
}

func (e keyEntry) less(o keyEntry) bool {
	return e.hash < o.hash || e.hash == o.hash && e.phys < o.phys
}

// keyHash is the hash of topic#key that the index keeps: FNV-1a, with the bits mixed at the end.
func keyHash(topic, key []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, c := range topic {
		h = (h ^ uint64(c)) * prime
	}
	h = (h ^ '#') * prime
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	h ^= h >> 32
	h *= chainPrime
	return h ^ h>>29
}

// keyRange is what a run covers: log positions [from, to) and the store times of its messages. level is how often its
// entries were merged.
type keyRange struct {
	from, to         int64
	minTime, maxTime int64
	level            int
}

func (r *keyRange) name() string { return fmt.Sprintf("keys-%020d-%020d-%d", r.from, r.to, r.level) }

// stretch makes the range cover a store time.
func (r *keyRange) stretch(minTime, maxTime int64) {
	r.minTime = min(r.minTime, minTime)
	r.maxTime = max(r.maxTime, maxTime)
}

func emptyKeyRange(from int64) keyRange {
	return keyRange{from: from, to: from, minTime: math.MaxInt64, maxTime: math.MinInt64}
}

// keyRun is one run file, or a damaged one's place until it is rebuilt. It does not change once it is in the index.
type keyRun struct {
	keyRange
	file    File
	count   int64
	fences  []uint64
	synced  bool // the worker's
	damaged atomic.Bool
	retired atomic.Bool // no longer in the index; the file may be closed
}

func (r *keyRun) retire() {
	r.retired.Store(true)
	if r.file != nil {
		_ = r.file.Close()
	}
}

// runWriter writes a run; entries come in order.
type runWriter struct {
	file   File
	buf    []byte // whole pages and the one being filled
	filled int    // entries in the last page of buf
	off    int64
	run    *keyRun
}

func newRunWriter(fs FS, dir string, r keyRange) (*runWriter, error) {
	f, err := fs.Create(filepath.Join(dir, r.name()))
	if err != nil {
		return nil, fmt.Errorf("create key index run: %w", err)
	}
	return &runWriter{file: f, off: keyPageBytes, buf: make([]byte, 0, keyWriteBytes), run: &keyRun{keyRange: r, file: f}}, nil
}

func (w *runWriter) add(e keyEntry) error {
	if w.filled == 0 {
		w.buf = w.buf[:len(w.buf)+keyPageBytes]
		clear(w.buf[len(w.buf)-keyPageBytes:])
		w.run.fences = append(w.run.fences, e.hash)
	}
	page := w.buf[len(w.buf)-keyPageBytes:]
	b := page[keyPageHeader+w.filled*keyEntryBytes:]
	binary.BigEndian.PutUint64(b, e.hash)
	binary.BigEndian.PutUint64(b[8:], uint64(e.phys))
	w.filled++
	w.run.count++
	if w.filled == keyPageEntries {
		return w.endPage()
	}
	return nil
}

func (w *runWriter) endPage() error {
	if w.filled == 0 {
		return nil
	}
	page := w.buf[len(w.buf)-keyPageBytes:]
	binary.BigEndian.PutUint32(page[4:], uint32(w.filled))
	binary.BigEndian.PutUint64(page[8:], uint64(len(w.run.fences)-1))
	binary.BigEndian.PutUint32(page, crc32.Checksum(page[4:], castagnoli))
	w.filled = 0
	if len(w.buf) == cap(w.buf) {
		return w.write()
	}
	return nil
}

func (w *runWriter) write() error {
	if len(w.buf) == 0 {
		return nil
	}
	if _, err := w.file.WriteAt(w.buf, w.off); err != nil {
		return fmt.Errorf("write key index run: %w", err)
	}
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// finish writes fences and header and returns the run, unsynced.
func (w *runWriter) finish() (*keyRun, error) {
	if err := w.endPage(); err != nil {
		return nil, err
	}
	if err := w.write(); err != nil {
		return nil, err
	}
	tail := make([]byte, 0, 8*len(w.run.fences)+4)
	for _, f := range w.run.fences {
		tail = binary.BigEndian.AppendUint64(tail, f)
	}
	tail = binary.BigEndian.AppendUint32(tail, crc32.Checksum(tail, castagnoli))
	if _, err := w.file.WriteAt(tail, w.off); err != nil {
		return nil, fmt.Errorf("write key index run: %w", err)
	}
	if _, err := w.file.WriteAt(w.run.header(), 0); err != nil {
		return nil, fmt.Errorf("write key index run: %w", err)
	}
	return w.run, nil
}

func (r *keyRun) header() []byte {
	b := make([]byte, keyHeaderBytes)
	copy(b, keyRunMagic)
	be := binary.BigEndian
	be.PutUint32(b[8:], keyRunVersion)
	be.PutUint32(b[12:], uint32(r.level))
	be.PutUint64(b[16:], uint64(r.count))
	be.PutUint64(b[24:], uint64(r.from))
	be.PutUint64(b[32:], uint64(r.to))
	be.PutUint64(b[40:], uint64(r.minTime))
	be.PutUint64(b[48:], uint64(r.maxTime))
	be.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// openRun opens a run that a checkpoint names. Anything but the promised run is an error.
func openRun(fs FS, dir string, want keyRange) (*keyRun, error) {
	f, err := fs.Open(filepath.Join(dir, want.name()))
	if err != nil {
		return nil, err
	}
	r, err := readRun(f, want)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

func readRun(f File, want keyRange) (*keyRun, error) {
	head := make([]byte, keyHeaderBytes)
	if err := readFull(f, head, 0); err != nil {
		return nil, err
	}
	be := binary.BigEndian
	if string(head[:8]) != keyRunMagic || be.Uint32(head[60:]) != crc32.Checksum(head[:60], castagnoli) {
		return nil, fmt.Errorf("key index run header: %w", ErrCorrupt)
	}
	if v := be.Uint32(head[8:]); v != keyRunVersion {
		return nil, fmt.Errorf("key index run version %d: %w", v, ErrCorrupt)
	}
	r := &keyRun{file: f, synced: true, count: int64(be.Uint64(head[16:])), keyRange: keyRange{
		level: int(be.Uint32(head[12:])), from: int64(be.Uint64(head[24:])), to: int64(be.Uint64(head[32:])),
		minTime: int64(be.Uint64(head[40:])), maxTime: int64(be.Uint64(head[48:]))}}
	if r.keyRange != want {
		return nil, fmt.Errorf("key index run is another one: %w", ErrCorrupt)
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	pages := (r.count + keyPageEntries - 1) / keyPageEntries
	if r.count < 0 || pages > size/keyPageBytes || size != keyPageBytes+pages*(keyPageBytes+8)+4 {
		return nil, fmt.Errorf("key index run of %d bytes for %d entries: %w", size, r.count, ErrCorrupt)
	}
	tail := make([]byte, 8*pages+4)
	if err := readFull(f, tail, keyPageBytes*(1+pages)); err != nil {
		return nil, err
	}
	if be.Uint32(tail[8*pages:]) != crc32.Checksum(tail[:8*pages], castagnoli) {
		return nil, fmt.Errorf("key index run fences: %w", ErrCorrupt)
	}
	r.fences = make([]uint64, pages)
	for i := range r.fences {
		r.fences[i] = be.Uint64(tail[8*i:])
	}
	return r, nil
}

// page reads one page's entries into dst, which it returns resliced.
func (r *keyRun) page(i int, buf []byte, dst []keyEntry) ([]keyEntry, error) {
	buf = buf[:keyPageBytes]
	if err := readFull(r.file, buf, keyPageBytes*int64(1+i)); err != nil {
		return nil, fmt.Errorf("%s page %d: %w: %w", r.name(), i, errRunDamaged, err)
	}
	be := binary.BigEndian
	n := int(be.Uint32(buf[4:]))
	if be.Uint32(buf) != crc32.Checksum(buf[4:], castagnoli) || be.Uint64(buf[8:]) != uint64(i) || n > keyPageEntries {
		return nil, fmt.Errorf("%s page %d: %w: checksum", r.name(), i, errRunDamaged)
	}
	dst = dst[:0]
	for b := buf[keyPageHeader:]; n > 0; n, b = n-1, b[keyEntryBytes:] {
		dst = append(dst, keyEntry{be.Uint64(b), int64(be.Uint64(b[8:]))})
	}
	return dst, nil
}

// lookup calls visit with the log positions of a hash, newest first, until it returns false.
func (r *keyRun) lookup(hash uint64, visit func(phys int64) (bool, error)) (more bool, err error) {
	// The last page that may hold the hash is the one before the first that starts behind it.
	i := sort.Search(len(r.fences), func(i int) bool { return r.fences[i] > hash }) - 1
	if i < 0 {
		return true, nil
	}
	buf, entries := make([]byte, keyPageBytes), make([]keyEntry, 0, keyPageEntries)
	for ; i >= 0; i-- {
		if entries, err = r.page(i, buf, entries); err != nil {
			return false, err
		}
		end := sort.Search(len(entries), func(j int) bool { return entries[j].hash > hash })
		j := end - 1
		for ; j >= 0 && entries[j].hash == hash; j-- {
			if more, err := visit(entries[j].phys); !more || err != nil {
				return false, err
			}
		}
		if j >= 0 {
			break
		}
	}
	return true, nil
}

// runCursor reads a run from start to end.
type runCursor struct {
	run     *keyRun
	next    int // page
	buf     []byte
	entries []keyEntry
	at      int
}

func newRunCursor(r *keyRun) *runCursor {
	return &runCursor{run: r, buf: make([]byte, keyPageBytes), entries: make([]keyEntry, 0, keyPageEntries)}
}

// head returns the entry to take next; ok is false at the end.
func (c *runCursor) head() (e keyEntry, ok bool, err error) {
	for c.at == len(c.entries) {
		if c.next == len(c.run.fences) {
			return keyEntry{}, false, nil
		}
		if c.entries, err = c.run.page(c.next, c.buf, c.entries); err != nil {
			return keyEntry{}, false, err
		}
		c.next, c.at = c.next+1, 0
	}
	return c.entries[c.at], true, nil
}

// runMerge merges neighbouring runs into one, a step at a time.
type runMerge struct {
	sources []*keyRun
	cursors []*runCursor
	covers  keyRange
	out     *runWriter // to covers
	floor   int64      // entries below it are dropped
}

func newRunMerge(sources []*keyRun, floor int64) *runMerge {
	m := &runMerge{sources: sources, floor: floor, covers: emptyKeyRange(sources[0].from)}
	for _, src := range sources {
		m.covers.to = src.to
		m.covers.level = max(m.covers.level, src.level+1)
		m.covers.stretch(src.minTime, src.maxTime)
		m.cursors = append(m.cursors, newRunCursor(src))
	}
	return m
}

// step merges up to n entries and reports whether the merge is complete. If a source cannot be read, it is bad.
func (m *runMerge) step(n int) (done bool, bad *keyRun, err error) {
	for ; n > 0; n-- {
		best := -1
		var least keyEntry
		for i, c := range m.cursors {
			e, ok, err := c.head()
			if err != nil {
				return false, c.run, err
			}
			if ok && (best < 0 || e.less(least)) {
				best, least = i, e
			}
		}
		if best < 0 {
			return true, nil, nil
		}
		m.cursors[best].at++
		if least.phys < m.floor {
			continue
		}
		if err := m.out.add(least); err != nil {
			return false, nil, err
		}
	}
	return false, nil, nil
}
