package raftlog

import "fmt"

// deleteRange is Raft's DeleteRange. Raft uses it for two purposes: to drop a conflicting suffix, which is done, and to compact
// what a snapshot covers, which is not: bytes are freed by retention alone (hazard H4).
func (l *Log) deleteRange(first, last uint64) error {
	_, end := l.index.bounds()
	if last < end || first > end {
		return nil
	}
	l.flushing.Lock()
	defer l.flushing.Unlock()
	w := &l.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := l.poisoned(); err != nil {
		return err
	}
	if applied := l.fsm.applied.Load(); first <= applied {
		return l.storageFailed(damaged(fmt.Errorf("asked to truncate the log from entry %d on, entry %d is applied", first, applied)))
	}
	if err := l.truncate(first); err != nil {
		return l.storageFailed(err)
	}
	if l.sm != nil {
		if err := l.restamp(); err != nil {
			return l.storageFailed(err)
		}
	}
	if l.queue.configurationAt() >= first {
		conf, index, err := l.lastConfiguration()
		if err != nil {
			return l.storageFailed(err)
		}
		l.queue.setAlone(voters(conf) == 1, index)
	}
	return nil
}

// truncate removes the entries from index on. After a crash at any point the log ends somewhere between the old end and the new.
func (l *Log) truncate(index uint64) error {
	w := &l.w
	cutAt, ok, err := l.index.find(index)
	if err != nil || !ok {
		return fmt.Errorf("truncate from entry %d: not found: %w", index, orEnd(err))
	}
	segs := *l.segs.Load()
	keep := len(segs)
	for keep > 0 && segs[keep-1].firstIndex >= index {
		keep--
	}
	keep = max(keep, 1) // the first one stays, empty: it says what the log follows
	at, err := l.cursorBefore(index, segs, keep)
	if err != nil {
		return err
	}
	h, err := l.header(index)
	if err != nil {
		return fmt.Errorf("truncate from entry %d: %w", index, err)
	}
	l.quarantine(cutAt.off, l.end.Load(), h.term)
	if err := l.index.truncate(index, at.term); err != nil { // while it can still read what stays
		return err
	}
	l.cuts.Add(1)
	defer l.cuts.Add(1)
	if err := l.cutFiles(segs, keep, at.end); err != nil {
		return err
	}
	l.tail.truncate(at.end)
	left := segs[:keep:keep]
	l.segs.Store(&left)
	l.end.Store(at.end)
	w.at, w.written, w.synced, w.filled = at, at.end, min(w.synced, at.end), at.end
	l.sidecarBase, l.sidecarEnd = min(l.sidecarBase, at.end), 0
	w.armedAt = min(w.armedAt, at.end)
	l.durable.Store(min(l.durable.Load(), at.index))
	for len(w.unsynced) > 0 && w.unsynced[len(w.unsynced)-1].base >= segs[keep-1].base {
		w.unsynced = w.unsynced[:len(w.unsynced)-1]
	}
	l.log.Warn("log suffix truncated", "from_index", index, "from_offset", cutAt.off, "end", at.end)
	return nil
}

// cursorBefore returns the cursor that the frame of index follows; keep is how many of segs begin below index.
func (l *Log) cursorBefore(index uint64, segs []*segment, keep int) (cursor, error) {
	if h := &segs[0].segmentHead; h.firstIndex == index {
		return cursor{end: h.base, index: index - 1, term: h.prevTerm, chain: h.prevChain}, nil
	}
	if keep < len(segs) && segs[keep].firstIndex == index {
		h := &segs[keep].segmentHead
		return cursor{end: h.prevEnd, index: index - 1, term: h.prevTerm, chain: h.prevChain}, nil
	}
	h, err := l.header(index - 1)
	if err != nil {
		return cursor{}, fmt.Errorf("truncate from entry %d: the entry before it: %w", index, err)
	}
	s, _, err := l.index.find(index - 1)
	if err != nil {
		return cursor{}, err
	}
	return cursor{end: s.end, index: h.index, term: h.term, chain: h.chain}, nil
}

// cutFiles removes the segments from keep on, which is at least 1, last first, and shortens the one before them to end at end. A mark goes down before the
// bytes it speaks of, or the successor it promises, so that a crash in between does not look like a loss.
func (l *Log) cutFiles(segs []*segment, keep int, end int64) error {
	for i := len(segs) - 1; i >= keep; i-- {
		if err := l.lowerMark(segs[i-1], segs[i-1].mark.synced); err != nil {
			return err
		}
		if err := l.removeSegment(segs[i]); err != nil {
			return err
		}
	}
	if err := l.lowerMark(segs[keep-1], end); err != nil {
		return err
	}
	seg := segs[keep-1]
	op := l.watch.begin("truncate", seg.path)
	defer l.watch.end(op)
	if err := seg.f.Truncate(seg.filePos(end)); err != nil {
		return fmt.Errorf("truncate %s: %w", seg.path, err)
	}
	if err := seg.sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", seg.path, err)
	}
	return nil
}

// lowerMark takes back, durably, that a segment is sealed and that more than what lies below end is synced.
func (l *Log) lowerMark(seg *segment, end int64) error {
	if err := l.removeSidecar(seg); err != nil {
		return err
	}
	if end >= seg.mark.synced && !seg.mark.sealed {
		return nil
	}
	op := l.watch.begin("fsync", seg.path)
	defer l.watch.end(op)
	if err := seg.writeMark(mark{synced: min(end, seg.mark.synced)}); err != nil {
		return err
	}
	if err := seg.sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", seg.path, err)
	}
	return nil
}

// removeSegment closes and unlinks a segment and its sidecar.
func (l *Log) removeSegment(seg *segment) error {
	op := l.watch.begin("unlink", seg.path)
	defer l.watch.end(op)
	if err := seg.close(); err != nil {
		return fmt.Errorf("close %s: %w", seg.path, err)
	}
	if err := l.removeSidecar(seg); err != nil {
		return err
	}
	if err := l.fs.Remove(seg.path); err != nil {
		return fmt.Errorf("unlink: %w", err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("fsync %s: %w", l.dir, err)
	}
	return nil
}

// removeSidecar makes sure that a sidecar does not outlive the bytes it describes.
func (l *Log) removeSidecar(seg *segment) error {
	if err := removeIfThere(l.fs, seg.path+indexSuffix); err != nil {
		return fmt.Errorf("unlink: %w", err)
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("fsync %s: %w", l.dir, err)
	}
	return nil
}
