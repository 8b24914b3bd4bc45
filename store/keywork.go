package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"rmq/store/message"
)

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
