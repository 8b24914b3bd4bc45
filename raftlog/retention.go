package raftlog

// unlinkBelow removes the segments that lie wholly below the state machine's floor, the newest snapshot and every lease, lowest
// first, so that a crash leaves no gap. The active segment stays.
func (l *Log) unlinkBelow() error {
	below := min(l.sm.Floor(), l.settled.Load())
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if err := l.poisoned(); err != nil {
		return err
	}
	l.w.mu.Lock()
	below = l.leases.limit(below)
	segs := *l.segs.Load()
	n := 0
	for n < len(segs)-1 && segs[n].limit() <= below && segs[n].mark.sealed {
		n++
	}
	if n > 0 {
		left := segs[n:]
		l.segs.Store(&left)
		l.index.dropSegments(left[0].base)
	}
	l.w.mu.Unlock()
	for _, seg := range segs[:n] {
		if err := l.removeSegment(seg); err != nil {
			return l.storageFailed(err)
		}
		l.log.Info("segment unlinked", "segment", seg.path, "floor", below)
	}
	return nil
}
