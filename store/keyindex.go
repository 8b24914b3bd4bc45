package store

import (
	"bytes"
	"cmp"
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

// work is the index's goroutine. Jobs go first; merging fills the time between.
func (x *keyIndex) work() {
	defer close(x.finished)
	var merge *runMerge
	for {
		job, ok, closed := x.nextJob(merge != nil)
		switch {
		case closed:
			if merge != nil {
				x.abandon(merge.out)
			}
			return
		case ok:
			if err := x.do(job); err != nil {
				x.stop(err)
			}
		default:
			var err error
			if merge, err = x.merge(merge); err != nil {
				x.stop(err)
			}
		}
	}
}

// nextJob waits for work. ok is false if there is only merging to do.
func (x *keyIndex) nextJob(merging bool) (job keyJob, ok, closed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for {
		switch {
		case x.closed:
			for _, j := range x.jobs {
				if j.barrier != nil {
					j.barrier <- barrierResult{err: ErrClosed}
				}
			}
			return keyJob{}, false, true
		case len(x.jobs) > 0:
			return x.take(max(0, slices.IndexFunc(x.jobs, keyJob.urgent))), true, false
		case merging || x.err == nil && x.mergeable() != nil:
			return keyJob{}, false, false
		}
		x.changed.Wait()
	}
}

// urgent tells the jobs that somebody waits for from the rebuilding of runs, which may take long.
func (j keyJob) urgent() bool { return j.rebuild == nil }

// take takes job i out. x.mu is held.
func (x *keyIndex) take(i int) keyJob {
	job := x.jobs[i]
	x.jobs = slices.Delete(x.jobs, i, i+1)
	return job
}

// doUrgent carries out the urgent jobs there are, in the middle of a rebuild. The error is ErrClosed if the index is.
func (x *keyIndex) doUrgent() error {
	for {
		x.mu.Lock()
		if x.closed {
			x.mu.Unlock()
			return ErrClosed
		}
		i := slices.IndexFunc(x.jobs, keyJob.urgent)
		if i < 0 {
			x.mu.Unlock()
			return nil
		}
		job := x.take(i)
		x.mu.Unlock()
		if err := x.do(job); err != nil {
			return err
		}
	}
}

// stop makes a failed write final.
func (x *keyIndex) stop(err error) {
	x.mu.Lock()
	x.err = err
	x.changed.Broadcast()
	x.mu.Unlock()
	x.fail(err)
}

func (x *keyIndex) do(job keyJob) error {
	x.mu.Lock()
	failed := x.err
	x.mu.Unlock()
	switch {
	case job.barrier != nil:
		if failed != nil {
			job.barrier <- barrierResult{err: failed}
			return nil
		}
		runs, err := x.sync()
		job.barrier <- barrierResult{runs: runs, err: err}
		return err
	case failed != nil:
		return nil
	case job.write != nil:
		run, err := x.write(job.write)
		if err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.runs = append(slices.Clone(x.runs), run)
		delete(x.writing, run.name())
		x.frozen = slices.Delete(x.frozen, 0, 1)
		x.changed.Broadcast()
		return nil
	default:
		return x.rebuild(job.rebuild)
	}
}

// create begins a run file. Its name stays registered as being written until the run is in the index or abandoned.
func (x *keyIndex) create(r keyRange) (*runWriter, error) {
	x.mu.Lock()
	x.writing[r.name()] = true
	x.mu.Unlock()
	w, err := newRunWriter(x.fs, x.dir, r)
	if err != nil {
		x.forget(r)
	}
	return w, err
}

func (x *keyIndex) forget(r keyRange) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.writing, r.name())
}

func (x *keyIndex) abandon(w *runWriter) {
	_ = w.file.Close()
	x.forget(w.run.keyRange)
}

// names returns the files in use.
func (x *keyIndex) names() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var names []string
	for name := range x.writing {
		names = append(names, name)
	}
	for _, r := range x.runs {
		names = append(names, r.name())
	}
	return names
}

// write makes a file of a run in memory.
func (x *keyIndex) write(m *memRun) (*keyRun, error) {
	sorted := slices.Clone(m.entries)
	slices.SortFunc(sorted, func(a, b keyEntry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.phys, b.phys))
	})
	w, err := x.create(m.keyRange)
	if err != nil {
		return nil, err
	}
	for _, e := range sorted {
		if err := w.add(e); err != nil {
			x.abandon(w)
			return nil, err
		}
	}
	run, err := w.finish()
	if err != nil {
		x.abandon(w)
	}
	return run, err
}

// sync makes the runs there are durable and returns their ranges.
func (x *keyIndex) sync() ([]keyRange, error) {
	x.mu.Lock()
	runs := x.runs
	x.mu.Unlock()
	out := make([]keyRange, 0, len(runs))
	for _, r := range runs {
		if !r.synced && !r.damaged.Load() && !r.retired.Load() {
			if err := r.file.Sync(); err != nil && !r.retired.Load() {
				return nil, fmt.Errorf("sync key index run: %w", err)
			}
			r.synced = true
		}
		out = append(out, r.keyRange)
	}
	return out, nil
}

// mergeable returns neighbours to merge, or nil. x.mu is held.
func (x *keyIndex) mergeable() []*keyRun {
	for i, n := 0, 0; i < len(x.runs); i++ {
		r := x.runs[i]
		switch {
		case r.damaged.Load() || r.level >= keyLevelMax:
			n = 0
			continue
		case n > 0 && r.level == x.runs[i-1].level:
			n++
		default:
			n = 1
		}
		if n == mergeFanIn {
			return x.runs[i+1-n : i+1]
		}
	}
	return nil
}

// merge goes on with a merge, or starts one, and returns it unless it is complete.
func (x *keyIndex) merge(m *runMerge) (*runMerge, error) {
	if m == nil {
		x.mu.Lock()
		sources, floor := x.mergeable(), x.floor
		x.mu.Unlock()
		if sources == nil {
			return nil, nil
		}
		m = newRunMerge(sources, floor)
		out, err := x.create(m.covers)
		if err != nil {
			return nil, err
		}
		m.out = out
		return m, nil
	}
	done, bad, err := m.step(mergeStep)
	switch {
	case bad != nil:
		x.abandon(m.out)
		if !bad.retired.Load() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.damage(bad, err)
		}
		return nil, nil
	case err != nil:
		x.abandon(m.out)
		return nil, err
	case !done:
		return m, nil
	}
	run, err := m.out.finish()
	if err != nil {
		x.abandon(m.out)
		return nil, err
	}
	x.replace(m.sources, []*keyRun{run})
	return nil, nil
}

// replace puts runs in the place of others, if those are all still in the index.
func (x *keyIndex) replace(old, with []*keyRun) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range with {
		delete(x.writing, r.name())
	}
	i := slices.Index(x.runs, old[0])
	if i < 0 || i+len(old) > len(x.runs) {
		for _, r := range with {
			r.retire()
		}
		return
	}
	x.runs = slices.Replace(slices.Clone(x.runs), i, i+len(old), with...)
	x.changed.Broadcast()
	for _, r := range old {
		r.retire()
	}
}

// rebuild writes a damaged run's entries anew, from the log. If the log cannot be scanned the damaged run stays, and
// queries that need it fail.
func (x *keyIndex) rebuild(r *keyRun) error {
	if r.retired.Load() {
		return nil
	}
	var with []*keyRun
	m := &memRun{keyRange: emptyKeyRange(r.from)}
	flush := func(to int64) error {
		m.to = to
		run, err := x.write(m)
		if err != nil {
			return err
		}
		with = append(with, run)
		m = &memRun{keyRange: emptyKeyRange(to)}
		return nil
	}
	var writeErr error
	scanned := 0
	err := x.scan(r.from, r.to, func(v message.View, pos int64) error {
		if scanned++; scanned%rebuildStep == 0 {
			if writeErr = x.doUrgent(); writeErr != nil {
				return writeErr
			}
		}
		if message.Transaction(v.SysFlag()) != message.SysFlagRollback {
			m.index(v.Topic(), messageKeys(v.Properties()), pos, v.StoreTimestamp())
		}
		if len(m.entries) >= x.memRunEntries {
			writeErr = flush(pos + 1)
		}
		return writeErr
	})
	if writeErr == nil && err == nil {
		writeErr = flush(r.to)
	}
	if writeErr != nil || err != nil {
		for _, run := range with {
			run.retire()
			x.forget(run.keyRange)
		}
	}
	switch {
	case errors.Is(writeErr, ErrClosed):
		return nil
	case writeErr != nil:
		return writeErr
	case err != nil:
		x.logger.Error("key index run cannot be rebuilt", "file", r.name(), "err", err)
		return nil
	}
	x.replace([]*keyRun{r}, with)
	x.logger.Info("key index run rebuilt", "file", r.name())
	return nil
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

// KeyQueryResult is the answer to QueryByKey.
type KeyQueryResult struct {
	Messages [][]byte // stored form, newest first
	LastTime int64    // store time up to which the index reaches, ms
	LastPhys int64    // log position of the last message in the index
}

// QueryByKey returns up to max messages of topic that carry key and were stored in [begin, end] ms, newest first.
// unique: only the UNIQ_KEY property counts; otherwise KEYS and UNIQ_KEY both do. Every message is compared, so hash
// collisions do not show. At most 16,384 candidates are read. Without Options.KeyIndex nothing is found.
func (s *Store) QueryByKey(topic, key string, unique bool, begin, end int64, max int) (KeyQueryResult, error) {
	for attempt := 0; ; attempt++ {
		res, err := s.queryByKey(topic, key, unique, begin, end, max)
		// A run that was merged away meanwhile fails with its closed file; its successor is in the index by now.
		if err != nil && errors.Is(err, errRunGone) && attempt < 3 {
			continue
		}
		return res, err
	}
}

var (
	errRunGone    = errors.New("key index run was replaced")
	errRunDamaged = fmt.Errorf("key index run: %w", ErrCorrupt)
)

func (s *Store) queryByKey(topic, key string, unique bool, begin, end int64, max int) (KeyQueryResult, error) {
	res := KeyQueryResult{LastTime: s.lastStoreTime.Load(), LastPhys: s.lastPhys.Load()}
	trim, applied := s.trim.Load(), s.applied.Load()
	last, candidates := applied, 0
	err := s.keys.lookup(keyHash([]byte(topic), []byte(key)), begin, end, func(phys int64) (bool, error) {
		if phys < trim || len(res.Messages) >= max || candidates >= keyCandidatesMax {
			return false, nil
		}
		if phys >= last {
			return true, nil // a key given twice, or a record applied after the query began
		}
		last = phys
		candidates++
		b, err := s.readMessage(phys)
		if errors.Is(err, ErrNotFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		v := message.View(b)
		if t := v.StoreTimestamp(); t >= begin && t <= end && string(v.Topic()) == topic && hasKey(v.Properties(), key, unique) {
			res.Messages = append(res.Messages, b)
		}
		return true, nil
	})
	if err != nil {
		return KeyQueryResult{}, fmt.Errorf("query %s by key: %w", topic, err)
	}
	return res, nil
}

func hasKey(p message.Properties, key string, unique bool) bool {
	k := messageKeys(p)
	if string(k.uniq) == key {
		return true
	}
	if unique {
		return false
	}
	for rest := k.keys; len(rest) > 0; {
		item := rest
		if i := bytes.IndexByte(rest, message.KeySeparator); i >= 0 {
			item, rest = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		if string(item) == key {
			return true
		}
	}
	return false
}
