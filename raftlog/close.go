package raftlog

import (
	"errors"

	"github.com/hashicorp/raft"
)

// closeFiles closes everything that is open; what is nil is not.
func (l *Log) closeFiles() error {
	errs := []error{l.closeSegments()}
	if l.stable != nil {
		errs = append(errs, l.stable.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}

func (l *Log) closeSegments() error {
	var errs []error
	for _, seg := range *l.segs.Load() {
		errs = append(errs, seg.close())
	}
	return errors.Join(errs...)
}

// Close stops Raft, answers every waiter, fsyncs, writes the clean-stop mark and waits for every goroutine. It may be called in
// any state and more than once.
func (l *Log) Close() error {
	l.life.Lock()
	defer l.life.Unlock()
	if l.closed {
		return l.closing
	}
	l.closed = true
	l.queue.close()
	if l.halt != nil {
		stopped := l.halt()
		// Raft waits for its requests to other replicas, and one that hangs can take its whole time-out.
		if c, ok := l.trans.(raft.WithClose); ok {
			if err := c.Close(); err != nil {
				l.log.Warn("transport shutdown", "error", err)
			}
		}
		if err := stopped.Error(); err != nil {
			l.log.Warn("raft shutdown", "error", err)
		}
	}
	l.queue.fail(ErrUncertain, ErrClosed)
	close(l.stop)
	l.tasks.Wait()
	err := l.poisoned()
	if err == nil {
		err = l.closeClean()
	}
	l.closing = errors.Join(err, l.closeFiles())
	return l.closing
}

// closeClean makes everything durable and notes that it is.
func (l *Log) closeClean() error {
	if err := l.flushBehind(); err != nil {
		return err
	}
	if l.filling {
		return nil
	}
	l.w.mu.Lock()
	seg, at := l.segment(), l.w.at
	l.w.mu.Unlock()
	if seg != nil {
		if err := seg.sync(); err != nil { // the mark
			return err
		}
		l.writeSidecar(seg, at)
	}
	return l.saveRun(func(run *runState) { run.Clean, run.End = true, at.end })
}

// saveRun changes the contents of runFile.
func (l *Log) saveRun(change func(*runState)) error {
	l.runMu.Lock()
	defer l.runMu.Unlock()
	change(&l.run)
	return saveJSON(l.fs, l.dir, runFile, l.run)
}
