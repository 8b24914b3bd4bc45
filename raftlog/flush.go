package raftlog

import (
	"slices"
	"time"
)

// runFlusher makes bytes durable in the background: FlushInterval after the first unsynced one, and at once for a full segment.
func (l *Log) runFlusher() {
	for {
		select {
		case <-l.stop:
			return
		case <-l.flushWanted:
		}
		wait := time.NewTimer(l.o.FlushInterval)
		select {
		case <-l.stop:
			wait.Stop()
			return
		case <-wait.C:
		}
		if err := l.flushBehind(); err != nil {
			l.fail(err)
			return
		}
		l.saveSidecar()
	}
}

// flushBehind syncs everything written so far while the writer goes on. A truncation waits for it and it for a truncation.
func (l *Log) flushBehind() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	if err := l.poisoned(); err != nil {
		return err
	}
	w := &l.w
	w.mu.Lock()
	w.armed = false
	full, active := slices.Clone(w.unsynced), l.segment()
	end, index := w.at.end, w.at.index
	if w.synced >= end {
		active = nil
	}
	w.mu.Unlock()

	for _, seg := range full {
		if err := l.syncSegment(seg); err != nil {
			return err
		}
	}
	if active != nil {
		if err := l.syncSegment(active); err != nil {
			return err
		}
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	for _, seg := range full {
		if len(w.unsynced) == 0 || w.unsynced[0] != seg {
			break // a sync by the writer came first
		}
		if err := l.markSealed(seg); err != nil {
			return err
		}
		w.unsynced = w.unsynced[1:]
	}
	if active != nil && !active.mark.sealed {
		return l.markSynced(active, end, index)
	}
	return nil
}

// SetFlush changes the flush mode. A switch to SyncFlush takes effect with the next entry, whose fsync covers all before it. The
// record of the mode, which the next start after a power cut goes by, is never stricter than what was done.
func (l *Log) SetFlush(m FlushMode) {
	l.switching.Lock()
	defer l.switching.Unlock()
	l.w.mu.Lock()
	changed := l.w.flush != m
	if changed && m == SyncFlush {
		l.w.flush = m
	}
	l.w.mu.Unlock()
	if !changed {
		return
	}
	var err error
	if m == SyncFlush {
		err = l.flushBehind()
	}
	if err == nil {
		err = l.saveRun(func(run *runState) { run.Flush = m.String() })
	}
	if err != nil {
		l.fail(err)
		return
	}
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.flush = m
}

// String returns the word that is kept in runFile.
func (m FlushMode) String() string {
	if m == SyncFlush {
		return "sync"
	}
	return "async"
}
