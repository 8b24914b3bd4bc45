package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"rmq/store/message"
)

const (
	// memRunEntriesDefault is how many entries gather in memory before they are written: 4 MiB.
	memRunEntriesDefault = 256 << 10
	// frozenRunsMax bounds the full ones that wait for the disk; Apply waits beyond it.
	frozenRunsMax = 4
	// mergeFanIn runs of one level become one of the next, up to keyLevelMax.
	mergeFanIn  = 8
	keyLevelMax = 3
	// mergeStep is how many entries are merged between two looks at the work that cannot wait.
	mergeStep = 16 << 10
	// rebuildStep is the same for the messages scanned to rebuild a run.
	rebuildStep = 1 << 10
	// keyCandidatesMax bounds the messages that one query reads.
	keyCandidatesMax = 16384
)

// memRun is a run in memory, in log order.
type memRun struct {
	keyRange
	entries []keyEntry
}

// keyJob is work for the index's goroutine: write a run or answer a barrier, in order; or, when there is nothing of that to
// do, rebuild a run.
type keyJob struct {
	write   *memRun
	rebuild *keyRun
	barrier chan<- barrierResult
}

type barrierResult struct {
	runs []keyRange
	err  error
}

// logScan calls fn for each message in [from, to) of the log that is still there.
type logScan func(from, to int64, fn func(v message.View, pos int64) error) error

// keyIndex finds messages by key. Apply appends to a run in memory; full ones, and at each checkpoint whatever there is,
// are written as files by the index's own goroutine, which also merges them and rebuilds damaged ones. Runs lie end to end
// in log order.
type keyIndex struct {
	fs            FS
	dir           string
	logger        *slog.Logger
	enabled       bool
	memRunEntries int
	scan          logScan
	fail          func(error) // told of a failed write

	mu       sync.Mutex
	changed  sync.Cond // jobs, frozen, runs, err or closed have changed
	active   *memRun
	frozen   []*memRun // being written, oldest first
	runs     []*keyRun // oldest first; the slice is replaced, never changed
	jobs     []keyJob
	writing  map[string]bool // files being made, not in runs yet
	floor    int64
	err      error
	closed   bool
	finished chan struct{} // closed when the goroutine has ended
}

func newKeyIndex(dir string, o Options, scan logScan, fail func(error)) *keyIndex {
	x := &keyIndex{fs: o.FS, dir: dir, logger: o.Logger, enabled: o.KeyIndex, memRunEntries: o.keyRunEntries, scan: scan, fail: fail,
		writing: make(map[string]bool), finished: make(chan struct{})}
	x.changed.L = &x.mu
	return x
}

// start opens the runs that a checkpoint names and starts the index's goroutine. A run that cannot be opened is rebuilt.
// applied is where the index goes on.
func (x *keyIndex) start(ranges []keyRange, applied int64) {
	x.active = &memRun{keyRange: emptyKeyRange(applied)}
	if !x.enabled {
		close(x.finished)
		return
	}
	for _, r := range ranges {
		run, err := openRun(x.fs, x.dir, r)
		if err != nil {
			run = &keyRun{keyRange: r}
			x.damage(run, err)
		}
		x.runs = append(x.runs, run)
	}
	go x.work()
}

// close ends the goroutine and closes all files.
func (x *keyIndex) close() {
	x.mu.Lock()
	x.closed = true
	x.changed.Broadcast()
	x.mu.Unlock()
	<-x.finished
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range x.runs {
		r.retire()
	}
}

// add indexes one message. Apply's only.
func (x *keyIndex) add(topic []byte, k indexedProperties, phys, storeTime int64) error {
	if !x.enabled {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.active
	m.index(topic, k, phys, storeTime)
	if len(m.entries) >= x.memRunEntries {
		return x.freeze(phys + 1)
	}
	return nil
}

func (m *memRun) index(topic []byte, k indexedProperties, phys, storeTime int64) {
	before := len(m.entries)
	if len(k.uniq) > 0 {
		m.entries = append(m.entries, keyEntry{keyHash(topic, k.uniq), phys})
	}
	for keys := k.keys; len(keys) > 0; {
		key := keys
		if i := bytes.IndexByte(keys, message.KeySeparator); i >= 0 {
			key, keys = keys[:i], keys[i+1:]
		} else {
			keys = nil
		}
		if len(key) > 0 {
			m.entries = append(m.entries, keyEntry{keyHash(topic, key), phys})
		}
	}
	if len(m.entries) > before {
		m.stretch(storeTime, storeTime)
	}
}

// freeze hands the active run, which ends at log position to, to the goroutine. x.mu is held; it may wait for the disk.
func (x *keyIndex) freeze(to int64) error {
	for len(x.frozen) >= frozenRunsMax && x.err == nil && !x.closed {
		x.changed.Wait()
	}
	if x.err != nil || x.closed {
		return x.err
	}
	m := x.active
	m.to = to
	x.active = &memRun{keyRange: emptyKeyRange(to)}
	if len(m.entries) == 0 {
		return nil
	}
	x.frozen = append(x.frozen, m)
	x.post(keyJob{write: m})
	return nil
}

func (x *keyIndex) post(j keyJob) {
	x.jobs = append(x.jobs, j)
	x.changed.Broadcast()
}

// capture freezes what is in memory, up to log position applied, and returns where the runs up to there will be reported
// once they are durable but for their names. Apply's only.
func (x *keyIndex) capture(applied int64) (<-chan barrierResult, error) {
	done := make(chan barrierResult, 1)
	if !x.enabled {
		done <- barrierResult{}
		return done, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.freeze(applied); err != nil {
		return nil, err
	}
	if x.closed {
		return nil, ErrClosed
	}
	x.post(keyJob{barrier: done})
	return done, nil
}

// retire takes out the runs that lie below the trim offset.
func (x *keyIndex) retire(floor int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.floor = floor
	n := 0
	for n < len(x.runs) && x.runs[n].to <= floor {
		x.runs[n].retire()
		n++
	}
	x.runs = slices.Clone(x.runs[n:])
}

// damage notes that a run is not what was written and asks for it to be rebuilt. x.mu is held, or x not started.
func (x *keyIndex) damage(r *keyRun, err error) {
	if r.damaged.Swap(true) {
		return
	}
	x.logger.Error("key index run is damaged and will be rebuilt from the log", "file", r.name(), "err", err)
	x.post(keyJob{rebuild: r})
}

// lookup calls visit with the log positions that may carry a key, newest first, until it returns false. Runs of other
// times than [begin, end] are left out.
func (x *keyIndex) lookup(hash uint64, begin, end int64, visit func(phys int64) (bool, error)) error {
	x.mu.Lock()
	memory := make([]memRun, 0, frozenRunsMax+1)
	memory = append(memory, *x.active)
	for i := len(x.frozen) - 1; i >= 0; i-- {
		memory = append(memory, *x.frozen[i])
	}
	runs := x.runs
	x.mu.Unlock()
	for i := range memory {
		m := &memory[i]
		if m.minTime > end || m.maxTime < begin {
			continue
		}
		for j := len(m.entries) - 1; j >= 0; j-- {
			if m.entries[j].hash == hash {
				if more, err := visit(m.entries[j].phys); !more || err != nil {
					return err
				}
			}
		}
	}
	for i := len(runs) - 1; i >= 0; i-- {
		r := runs[i]
		if r.minTime > end || r.maxTime < begin {
			continue
		}
		if r.damaged.Load() {
			return fmt.Errorf("%s is being rebuilt: %w", r.name(), errRunDamaged)
		}
		more, err := r.lookup(hash, visit)
		if err != nil && r.retired.Load() {
			return errRunGone
		}
		if errors.Is(err, errRunDamaged) {
			x.mu.Lock()
			x.damage(r, err)
			x.mu.Unlock()
		}
		if !more || err != nil {
			return err
		}
	}
	return nil
}
