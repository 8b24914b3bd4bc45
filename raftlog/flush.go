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
	w := &l.w
	w.mu.Lock()
	w.armed = false
	full, active := slices.Clone(w.unsynced), l.segment()
	end := w.at.end
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
		return l.markSynced(active, end)
	}
	return nil
}

// SetFlush changes the flush mode. A switch to SyncFlush takes effect with the next entry, whose fsync covers all before it.
func (l *Log) SetFlush(m FlushMode) {
	w := &l.w
	w.mu.Lock()
	changed := w.flush != m
	w.flush = m
	w.mu.Unlock()
	if !changed {
		return
	}
	if err := saveRun(l.fs, l.dir, runState{BootID: l.bootID, Flush: m.String()}); err != nil {
		l.log.Warn("flush mode not recorded", "error", err)
	}
}

// String returns the word that is kept in runFile.
func (m FlushMode) String() string {
	if m == SyncFlush {
		return "sync"
	}
	return "async"
}
