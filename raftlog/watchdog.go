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

	mu   sync.Mutex
	ops  []watchedOp // few; a free place is one without a start
	last time.Time   // when stalled looked last
}

type watchedOp struct {
	what, path string
	since      time.Time
	ran        time.Duration // of it while this process ran, up to the last look
}

// begin notes that an operation starts; end must be called with the place it returns.
func (w *watchdog) begin(what, path string) (place int) {
	op := watchedOp{what: what, path: path, since: time.Now()}
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

// tick is how often stalled is to be called.
func (w *watchdog) tick() time.Duration { return max(w.limit/4, time.Millisecond) }

// stalled describes an operation that takes longer than the limit, nil if there is none. Time in which the whole process was
// stopped (SIGSTOP, a frozen machine) is not the disk's: between two looks no more than two ticks count.
func (w *watchdog) stalled(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	step := 2 * w.tick()
	if !w.last.IsZero() {
		step = min(step, now.Sub(w.last))
	}
	w.last = now
	for i := range w.ops {
		op := &w.ops[i]
		if op.since.IsZero() {
			continue
		}
		if op.ran += min(step, now.Sub(op.since)); op.ran > w.limit {
			return fmt.Errorf("%s %s has not returned for %s", op.what, op.path, now.Sub(op.since).Round(time.Millisecond))
		}
	}
	return nil
}

// runWatchdog looks four times per limit until stop.
func (l *Log) runWatchdog() {
	tick := time.NewTicker(l.watch.tick())
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case now := <-tick.C:
			if err := l.watch.stalled(now); err != nil {
				l.fail(&Fault{ExitStalled, "STORE_STALLED", err})
				return
			}
		}
	}
}
