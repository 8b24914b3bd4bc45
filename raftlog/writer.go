package raftlog

import (
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/hashicorp/raft"
)

// writer is the end of the log. Raft's main goroutine appends and truncates; the flusher only reads where the end is and notes
// what it has synced.
type writer struct {
	mu       sync.Mutex
	at       cursor
	written  int64      // bytes below are in the files, those above only in the tail cache
	unsynced []*segment // full segments that are not on stable storage yet, in order
	synced   int64      // bytes below are on stable storage
	filled   int64      // zeros are in the active segment's file up to here
	flush    FlushMode
	armed    bool   // the flusher has been told that there is something to sync
	armedAt  int64  // where the log ended then
	spots    []spot // scratch of storeLogs
}

const (
	fillBytes   = 256 << 10
	fillSyncMax = 64 << 10
)

// storeLogs appends entries. It returns when they are written, and synced under SyncFlush. Any error closes the log for good.
func (l *Log) storeLogs(logs []*raft.Log) error {
	w := &l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := l.poisoned(); err != nil {
		return err
	}
	from := w.at.end
	spots := w.spots[:0]
	for _, e := range logs {
		s, err := l.appendEntry(e)
		if err != nil {
			return l.storageFailed(err)
		}
		l.index.add(e.Index, s)
		spots = append(spots, s)
	}
	w.spots = spots
	err := l.writeOut(w.at.end)
	if err == nil && w.flush == SyncFlush {
		if err = l.fillAhead(w.at.end - from); err == nil {
			err = l.syncLocked()
		}
	}
	if err != nil {
		return l.storageFailed(err)
	}
	l.end.Store(w.at.end)
	l.index.publish(w.at.index, w.at.term)
	l.stats.entries.Add(uint64(len(logs)))
	l.stats.bytes.Add(uint64(w.at.end - from))
	if !w.armed && (w.flush == AsyncFlush || w.at.end-w.armedAt >= sidecarEvery) {
		w.armed, w.armedAt = true, w.at.end
		notify(l.flushWanted)
	}
	for _, e := range logs {
		if e.Type == raft.LogConfiguration {
			if conf, err := decodeConfiguration(e.Data); err == nil { // else Raft will say so
				l.queue.setAlone(voters(conf) == 1, e.Index)
			}
		}
	}
	l.queue.stored(logs, spots)
	return nil
}

// appendEntry stamps one entry and encodes it into the tail cache.
func (l *Log) appendEntry(e *raft.Log) (spot, error) {
	w := &l.w
	if len(e.Extensions) > 0 {
		return spot{}, fmt.Errorf("entry %d carries extensions, which a frame cannot keep", e.Index)
	}
	if last := w.at.index; e.Index != last+1 && l.segment() != nil {
		return spot{}, fmt.Errorf("entry %d cannot follow entry %d", e.Index, last)
	}
	size := frameHeaderBytes + int64(len(e.Data))
	if size > l.o.SegmentBytes {
		return spot{}, fmt.Errorf("entry %d of %d bytes does not fit into a segment of %d", e.Index, size, l.o.SegmentBytes)
	}
	off := place(w.at.end, size, l.o.SegmentBytes)
	if seg := l.segment(); seg == nil || off == seg.limit() {
		if err := l.roll(e.Index, off); err != nil {
			return spot{}, err
		}
	}
	if e.Type == raft.LogCommand && len(e.Data) > 0 && l.sm != nil {
		if err := l.sm.Stamp(e.Data, off+frameHeaderBytes); err != nil {
			return spot{}, damaged(fmt.Errorf("stamp entry %d at offset %d: %w", e.Index, off, err))
		}
	}
	h := frameHeader{
		length:  uint32(len(e.Data)),
		kind:    uint8(e.Type),
		index:   e.Index,
		term:    e.Term,
		bodyCRC: crc32.Checksum(e.Data, castagnoli),
	}
	h.chain = chainHash(w.at.chain, &h)
	var head [frameHeaderBytes]byte
	h.encode(head[:])
	if err := l.put(off, head[:]); err != nil {
		return spot{}, err
	}
	if err := l.put(off+frameHeaderBytes, e.Data); err != nil {
		return spot{}, err
	}
	w.at = cursor{end: off + size, index: e.Index, term: e.Term, chain: h.chain}
	return spot{off, off + size}, nil
}

// put copies p into the tail cache at off, which is where the cached bytes end, and writes older bytes out before the cache wraps.
func (l *Log) put(off int64, p []byte) error {
	w := &l.w
	for len(p) > 0 {
		if off-w.written >= l.tail.capacity()/2 {
			if err := l.writeOut(off); err != nil {
				return err
			}
		}
		n := copy(l.tail.buffer(off), p)
		p = p[n:]
		off += int64(n)
	}
	return nil
}

// writeOut writes the bytes between written and end, which the tail cache holds, to the active segment.
func (l *Log) writeOut(end int64) error {
	w := &l.w
	seg := l.segment()
	for w.written < end {
		b := l.tail.buffer(w.written)
		b = b[:min(int64(len(b)), end-w.written)]
		op := l.watch.begin("write", seg.path)
		_, err := seg.f.WriteAt(b, seg.filePos(w.written))
		l.watch.end(op)
		if err != nil {
			return fmt.Errorf("write %s at offset %d: %w", seg.path, w.written, err)
		}
		w.written += int64(len(b))
	}
	return nil
}

// fillAhead writes zeros behind the end when this sync has to extend the file anyway: the next syncs overwrite them, and an fsync
// that changes no file size costs little more than half. It pays for small syncs only. size is that of the present one.
func (l *Log) fillAhead(size int64) error {
	w := &l.w
	if w.at.end <= w.filled || size > fillSyncMax {
		return nil
	}
	seg := l.segment()
	to := min(w.at.end+fillBytes, seg.limit())
	op := l.watch.begin("write", seg.path)
	defer l.watch.end(op)
	for off := w.at.end; off < to; {
		n := min(to-off, int64(len(l.zeros)))
		if _, err := seg.f.WriteAt(l.zeros[:n], seg.filePos(off)); err != nil {
			return fmt.Errorf("write %s at offset %d: %w", seg.path, off, err)
		}
		off += n
	}
	w.filled = to
	return nil
}

// roll ends the active segment, if there is one, and begins the next at base with frame index.
func (l *Log) roll(index uint64, base int64) error {
	w := &l.w
	if seg := l.segment(); seg != nil {
		if err := l.seal(seg); err != nil {
			return err
		}
	}
	op := l.watch.begin("create segment in", l.dir)
	next, err := createSegment(l.fs, l.dir, segmentHead{
		base: base, segmentBytes: l.o.SegmentBytes, firstIndex: index,
		prevEnd: w.at.end, prevTerm: w.at.term, prevChain: w.at.chain,
	}, l.nodeID)
	l.watch.end(op)
	if err != nil {
		return err
	}
	segs := *l.segs.Load()
	if len(segs) == 0 && !l.node.HasLog {
		l.node.HasLog = true
		if err := saveNode(l.fs, l.dir, l.node); err != nil {
			return err
		}
	}
	segs = append(segs[:len(segs):len(segs)], next)
	l.segs.Store(&segs)
	l.index.addSegment(base, index, w.at.end)
	w.at.end, w.written = base, base
	if len(segs) == 1 {
		w.synced = base
	}
	return nil
}

// seal fills the rest of the active segment, with a pad if one fits and zeros, and leaves it to the next sync.
func (l *Log) seal(seg *segment) error {
	w := &l.w
	off := w.at.end
	if room := seg.limit() - off; room >= frameHeaderBytes {
		h := frameHeader{length: uint32(room - frameHeaderBytes), kind: framePad, index: w.at.index, chain: w.at.chain}
		var head [frameHeaderBytes]byte
		h.encode(head[:])
		if err := l.put(off, head[:]); err != nil {
			return err
		}
		off += frameHeaderBytes
	}
	for off < seg.limit() {
		n := min(int64(len(l.zeros)), seg.limit()-off)
		if err := l.put(off, l.zeros[:n]); err != nil {
			return err
		}
		off += n
	}
	if err := l.writeOut(off); err != nil {
		return err
	}
	w.unsynced = append(w.unsynced, seg)
	return nil
}

// syncLocked makes everything written durable while the writer waits.
func (l *Log) syncLocked() error {
	w := &l.w
	for len(w.unsynced) > 0 {
		seg := w.unsynced[0]
		if err := l.syncSegment(seg); err != nil {
			return err
		}
		if err := l.markSealed(seg); err != nil {
			return err
		}
		w.unsynced = w.unsynced[1:]
	}
	seg := l.segment()
	if seg == nil || w.synced >= w.at.end {
		return nil
	}
	if err := l.syncSegment(seg); err != nil {
		return err
	}
	return l.markSynced(seg, w.at.end, w.at.index)
}

func (l *Log) syncSegment(seg *segment) error {
	op := l.watch.begin("fsync", seg.path)
	err := seg.sync()
	l.stats.syncNanos.Add(uint64(l.watch.end(op)))
	l.stats.syncs.Add(1)
	if err != nil {
		return &Fault{ExitStoreFailed, "STORE_FSYNC_FAILED", fmt.Errorf("fsync %s: %w", seg.path, err)}
	}
	return nil
}

// markSynced notes that the segment is durable below end. The note itself becomes durable with the next sync of the file; after a
// crash of the process alone it is exact.
func (l *Log) markSynced(seg *segment, end int64, index uint64) error {
	l.w.synced = max(l.w.synced, end)
	l.durable.Store(max(l.durable.Load(), index))
	if end <= seg.mark.synced {
		return nil
	}
	return seg.writeMark(mark{synced: end})
}

func (l *Log) markSealed(seg *segment) error {
	end := seg.limit()
	for _, s := range *l.segs.Load() {
		if s.base == seg.limit() {
			end = s.prevEnd
			l.durable.Store(max(l.durable.Load(), s.firstIndex-1))
		}
	}
	l.w.synced = max(l.w.synced, end)
	return seg.writeMark(mark{synced: end, sealed: true})
}

// segment returns the active segment, nil if the log has none.
func (l *Log) segment() *segment {
	segs := *l.segs.Load()
	if len(segs) == 0 {
		return nil
	}
	return segs[len(segs)-1]
}
