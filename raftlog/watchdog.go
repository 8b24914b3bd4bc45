package raftlog

import (
	"fmt"
	"sync"
	"time"
)

// watchdog notices a write or fsync that does not return (hazard H2: heartbeats do not touch the disk, so the group would keep a
// leader whose disk hangs).
type watchdog struct {
	limit time.Duration

	mu  sync.Mutex
	ops []watchedOp // few; a free place is one without a start
}

type watchedOp struct {
	what, path string
	since      time.Time
}

// begin notes that an operation starts; end must be called with the place it returns.
func (w *watchdog) begin(what, path string) (place int) {
	op := watchedOp{what, path, time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.ops {
		if w.ops[i].since.IsZero() {
			w.ops[i] = op
			return i
		}
	}
	w.ops = append(w.ops, op)
	return len(w.ops) - 1
}

// end says how long the operation took.
func (w *watchdog) end(place int) time.Duration {
	w.mu.Lock()
	since := w.ops[place].since
	w.ops[place] = watchedOp{}
	w.mu.Unlock()
	return time.Since(since)
}

// stalled describes an operation that takes longer than the limit, nil if there is none.
func (w *watchdog) stalled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, op := range w.ops {
		if op.since.IsZero() {
			continue
		}
		if d := time.Since(op.since); d > w.limit {
			return fmt.Errorf("%s %s has not returned for %s", op.what, op.path, d.Round(time.Millisecond))
		}
	}
	return nil
}

// runWatchdog looks four times per limit until stop.
func (l *Log) runWatchdog() {
	tick := time.NewTicker(max(l.watch.limit/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			if err := l.watch.stalled(); err != nil {
				l.fail(&Fault{ExitStalled, "STORE_STALLED", err})
				return
			}
		}
	}
}
