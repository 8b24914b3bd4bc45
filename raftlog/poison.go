package raftlog

import (
	"errors"
	"fmt"
	"time"
)

// poisoned returns an error once the log is closed by a failure.
func (l *Log) poisoned() error {
	if f := l.poison.Load(); f != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, f)
	}
	return nil
}

// storageFailed closes the log for good (hazard H6: Raft goes on after a failed StoreLogs, and a later fsync may lie) and returns
// the error for Raft.
func (l *Log) storageFailed(err error) error {
	l.fail(err)
	return l.poisoned()
}

// fail latches the first failure and reports it.
func (l *Log) fail(err error) {
	var f *Fault
	if !errors.As(refusal(err), &f) {
		f = &Fault{ExitStoreFailed, "STORE_WRITE_FAILED", err}
	}
	if !l.poison.CompareAndSwap(nil, f) {
		return
	}
	l.log.Error(f.ID, "exit", f.Code, "error", f.Err)
	close(l.poisonCh)
	if f.Code == ExitStoreFailed {
		l.distrust()
	}
	l.o.Fatal(f.Code, f.ID, f.Err)
}

// distrustWait is how long distrust may hold up the end of the process on a disk that is failing.
const distrustWait = 250 * time.Millisecond

// distrust makes the next start treat what was not synced as after a power cut: a failed fsync may have thrown it away although the
// machine goes on.
func (l *Log) distrust() {
	done := make(chan struct{})
	go func() { // ends with the disk's answer, or with the process
		defer close(done)
		if err := l.saveRun(func(run *runState) { run.BootID = "" }); err != nil {
			l.log.Error("could not note that unsynced bytes may be lost", "error", err)
		}
	}()
	select {
	case <-done:
	case <-time.After(distrustWait):
	}
}
