package raftlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Log is the log of one broker group. All methods may be called by any goroutine.
type Log struct {
	o      Options
	fs     FS
	dir    string
	log    *slog.Logger
	lock   io.Closer // of the directory, nil if the FS has no locks
	node   nodeState
	nodeID [16]byte
	bootID string
	found  Recovery
	runMu  sync.Mutex
	run    runState // as in runFile

	w           writer
	segs        atomic.Pointer[[]*segment] // ordered; replaced, never changed
	end         atomic.Int64               // readable bytes end here
	cuts        atomic.Uint64              // odd while a truncation is at work, higher after each
	index       logIndex
	tail        *tailCache
	zeros       [16 << 10]byte // never written to
	switching   sync.Mutex     // one SetFlush at a time; taken before flushing
	flushing    sync.Mutex     // one background sync or truncation at a time; taken before w.mu
	sidecarBase int64          // segments below it have their sidecar
	sidecarEnd  int64          // where the newest sidecar of the active segment ends

	stable    *stableStore
	snapshots snapshotStore
	fsm       fsm
	queue     queue
	watch     watchdog
	stats     counters

	sm   StateMachine // set by Start before Raft runs
	raft atomic.Pointer[raft.Raft]

	halt func() raft.Future // shuts Raft down; the first call's future is what counts

	poison   atomic.Pointer[Fault]
	poisonCh chan struct{} // closed with the first fault

	leadership     chan bool
	appendedWanted chan struct{}
	flushWanted    chan struct{}
	snapshotWanted chan struct{}

	stop    chan struct{} // closed by Close
	tasks   sync.WaitGroup
	life    sync.Mutex // Start against Close
	started bool
	closed  bool
	closing error // what the first Close returned
}

// Recovery says what Open found.
type Recovery struct {
	Fresh       bool  // the directory was empty
	CleanStop   bool  // the last run closed the log in order
	BootChanged bool  // the machine has restarted since
	TornBytes   int64 // bytes of the torn tail that was cut
	// MayHaveLost is set if bytes that were written may never have reached the disk: the boot changed, the stop was not clean and
	// the flush mode was not SyncFlush. It stays set over restarts until LossSettled.
	MayHaveLost bool
}

// Open recovers the log in dir, which is created if it is missing. A torn tail is cut; a directory that must not be used is
// refused with a *Fault and left as it is.
func Open(dir string, o Options) (*Log, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := &Log{
		o: o, fs: o.FS, dir: dir, log: o.Logger, bootID: o.BootID(),
		tail:           newTailCache(o.TailCacheBytes),
		watch:          watchdog{limit: o.StallTimeout},
		poisonCh:       make(chan struct{}),
		leadership:     make(chan bool, 1),
		appendedWanted: make(chan struct{}, 1),
		flushWanted:    make(chan struct{}, 1),
		snapshotWanted: make(chan struct{}, 1),
		stop:           make(chan struct{}),
	}
	l.queue.empty = make(chan struct{}, 1)
	l.queue.l, l.fsm.l, l.snapshots.l = l, l, l
	l.index.read, l.index.load = l.readRaw, l.loadPoints
	l.w.flush = o.Flush
	l.segs.Store(&[]*segment{})
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("raftlog: open %s: %w", dir, errors.Join(refusal(err), l.closeFiles()))
	}
	l.tasks.Go(l.runWatchdog)
	l.tasks.Go(l.runFlusher)
	return l, nil
}

func (l *Log) open() (err error) {
	if err := makeDir(l.fs, l.dir); err != nil {
		return err
	}
	if locker, ok := l.fs.(Locker); ok {
		if l.lock, err = locker.Lock(filepath.Join(l.dir, lockFile)); err != nil {
			return err
		}
	}
	return l.recover()
}

// recover reads first and writes only when nothing is left to refuse.
func (l *Log) recover() error {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	var bases []int64
	var firstVote, secondVote, hasManifest bool
	for _, name := range names {
		if base, ok := parseSegmentName(name); ok {
			bases = append(bases, base)
		}
		firstVote = firstVote || name == voteBolt || name == votePrimary
		secondVote = secondVote || name == voteFile
		hasManifest = hasManifest || strings.HasSuffix(name, manifestSuffix)
	}
	node, fresh, err := loadNode(l.fs, l.dir, l.o.ClusterID, len(bases) > 0, firstVote || secondVote || hasManifest)
	if err != nil {
		return err
	}
	if len(bases) > 0 && (!firstVote || !secondVote) { // Bootstrap writes a term before it writes a log
		return stableCorrupt(errors.New("a copy of the vote record is gone"))
	}
	l.node = node
	if l.nodeID, err = parseUUID(node.Incarnation); err != nil {
		return err
	}
	if fresh {
		if err := saveNode(l.fs, l.dir, l.node); err != nil {
			return err
		}
	}
	run := loadRun(l.fs, l.dir)
	sameBoot := l.bootID != "" && l.bootID == run.BootID
	r, err := recoverSegments(l.fs, l.dir, bases, &l.o, l.nodeID, run, sameBoot)
	if err != nil {
		return err
	}
	l.segs.Store(&r.all)
	manifests, bad := loadManifests(l.fs, l.dir, names)
	for _, err := range bad {
		l.log.Error("snapshot manifest is bad and not used", "error", err)
	}
	l.snapshots.list = manifests
	if err := l.openStable(); err != nil {
		return err
	}
	l.found = Recovery{Fresh: fresh, CleanStop: run.Clean, BootChanged: !fresh && !sameBoot}
	l.found.MayHaveLost = run.MayHaveLost ||
		l.found.BootChanged && !run.Clean && run.Flush != SyncFlush.String() && len(r.all) > 0
	return l.adopt(r, names)
}

// adopt makes the recovered log the present one, cutting a torn tail and marking the directory as in use.
func (l *Log) adopt(r *recovered, names []string) error {
	if r.cut != nil {
		if err := l.cutTorn(r.cut); err != nil {
			return err
		}
		l.segs.Store(&r.segs)
	}
	for _, seg := range r.segs {
		l.index.addSegment(seg.base, seg.firstIndex, seg.prevEnd)
	}
	if n := len(r.segs); n > 0 {
		l.index.setPoints(r.segs[n-1].base, r.points, r.at.index)
		l.sidecarBase = r.segs[n-1].base
		l.node.HasLog = true
		l.w.synced = r.segs[n-1].mark.synced
		for _, seg := range r.segs[:n-1] {
			if !seg.mark.sealed {
				l.w.unsynced = append(l.w.unsynced, seg)
			}
		}
	}
	l.w.at, l.w.written = r.at, r.at.end
	l.end.Store(r.at.end)
	for _, name := range names {
		if strings.HasSuffix(name, tmpSuffix) {
			if err := removeIfThere(l.fs, filepath.Join(l.dir, name)); err != nil {
				return err
			}
		}
	}
	if err := saveNode(l.fs, l.dir, l.node); err != nil {
		return err
	}
	if err := l.saveRun(func(run *runState) {
		*run = runState{BootID: l.bootID, Flush: l.o.Flush.String(), MayHaveLost: l.found.MayHaveLost}
	}); err != nil {
		return err
	}
	// What was found unsynced becomes durable before anything is built on it.
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.syncLocked()
}

// cutTorn removes a torn tail from the files.
func (l *Log) cutTorn(c *cut) error {
	if c.reason != nil {
		size, err := c.seg.f.Size()
		if err != nil {
			return err
		}
		l.found.TornBytes = max(size-c.seg.filePos(c.at), 0)
		level := slog.LevelInfo
		if c.frames {
			level = slog.LevelWarn
		}
		l.log.Log(context.Background(), level, "STORE_TORN_TAIL: the log ends in bytes that were never completely written; they are cut",
			"offset", c.at, "bytes", l.found.TornBytes, "segments_behind", len(c.behind), "reason", c.reason)
	}
	segs := append([]*segment{c.seg}, c.behind...)
	return l.cutFiles(segs, 1, c.at)
}

// openStable opens the vote record.
func (l *Log) openStable() error {
	second, err := openSlotFile(l.fs, l.dir, voteFile, &l.watch)
	if err != nil {
		return err
	}
	first, err := l.openFirstCopy()
	if err != nil && l.neverVoted(second) {
		// A crash while the very first files were made: there is no vote to lose.
		if err = removeIfThere(l.fs, filepath.Join(l.dir, voteBolt)); err == nil {
			first, err = l.openFirstCopy()
		}
	}
	if err != nil {
		return joinClose(err, second)
	}
	l.stable, err = openStable(first, second, l.nodeID, l.storageFailed)
	if err != nil {
		return joinClose(joinClose(err, first), second)
	}
	return nil
}

func (l *Log) openFirstCopy() (recordStore, error) {
	if host, ok := l.fs.(recordHost); ok {
		return host.openRecord(filepath.Join(l.dir, voteBolt), &l.watch)
	}
	return openSlotFile(l.fs, l.dir, votePrimary, &l.watch)
}

// neverVoted reports whether nothing in the directory has ever depended on a term or a vote: a record counts once it is in both
// places.
func (l *Log) neverVoted(second recordStore) bool {
	b, err := second.load()
	return err == nil && b == nil && !l.node.HasLog && l.segment() == nil && len(l.snapshots.list) == 0
}

// loadPoints reads the sidecar of a sealed segment.
func (l *Log) loadPoints(base int64) []point {
	s, ok := readSidecar(l.fs, filepath.Join(l.dir, segmentName(base)), base)
	if !ok {
		return nil
	}
	return s.points
}

// Identity returns who this directory is.
func (l *Log) Identity() Identity {
	return Identity{Incarnation: l.node.Incarnation, ClusterID: l.node.ClusterID}
}

// Recovery returns what Open found.
func (l *Log) Recovery() Recovery { return l.found }

// LossSettled notes that a possible loss no longer matters: the replica has caught up with a leader, or it is the whole group.
// Start calls it for a group of one voter.
func (l *Log) LossSettled() error {
	return l.saveRun(func(run *runState) { run.MayHaveLost = false })
}

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

// closeFiles closes everything that is open; what is nil is not.
func (l *Log) closeFiles() error {
	var errs []error
	for _, seg := range *l.segs.Load() {
		errs = append(errs, seg.close())
	}
	if l.stable != nil {
		errs = append(errs, l.stable.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
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
		if err := l.halt().Error(); err != nil {
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

// Timings are Raft's. The zero value of a field means its default: 300, 300, 150 and 5 ms.
type Timings struct {
	Heartbeat, Election, Lease, Commit time.Duration
}
