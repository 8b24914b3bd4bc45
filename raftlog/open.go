package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
)

// Recovery says what Open found.
type Recovery struct {
	Fresh       bool  // the directory was empty
	CleanStop   bool  // the last run closed the log in order
	BootChanged bool  // the machine has restarted since
	TornBytes   int64 // bytes of the torn tail that was cut
	Filling     bool  // a Seeder has begun to fill the directory and not finished: Start refuses until one has
	// MayHaveLost is set if bytes that were written may never have reached the disk: the boot changed, the stop was not clean and
	// the flush mode was not SyncFlush. It stays set over restarts until LossSettled.
	MayHaveLost bool
}

// open recovers everything in the directory.
func (l *Log) open() error {
	names, err := l.enter()
	if err != nil {
		return err
	}
	if _, filling, err := loadFill(l.fs, l.dir); err != nil || filling {
		return errors.Join(err, l.openFilling())
	}
	return l.recover(survey(names))
}

// enter makes the directory this process's own and lists it.
func (l *Log) enter() (names []string, err error) {
	if err := makeDir(l.fs, l.dir); err != nil {
		return nil, err
	}
	if locker, ok := l.fs.(Locker); ok {
		if l.lock, err = locker.Lock(filepath.Join(l.dir, lockFile)); err != nil {
			return nil, err
		}
	}
	return l.fs.List(l.dir)
}

// surveyed is what the names in a directory tell.
type surveyed struct {
	names                              []string
	bases                              []int64 // of segments
	firstVote, secondVote, hasManifest bool
}

func survey(names []string) surveyed {
	in := surveyed{names: names}
	for _, name := range names {
		if base, ok := parseSegmentName(name); ok {
			in.bases = append(in.bases, base)
		}
		in.firstVote = in.firstVote || name == voteBolt || name == votePrimary
		in.secondVote = in.secondVote || name == voteFile
		in.hasManifest = in.hasManifest || strings.HasSuffix(name, manifestSuffix)
	}
	return in
}

// identify finds out who the directory is; a fresh one gets an identity. filling says that it may lack its log.
func (l *Log) identify(in surveyed, filling bool) (fresh bool, err error) {
	hasLog := len(in.bases) > 0
	node, fresh, err := loadNode(l.fs, l.dir, l.o.ClusterID, hasLog || filling, in.firstVote || in.secondVote || in.hasManifest)
	if err != nil {
		return false, err
	}
	if hasLog && (!in.firstVote || !in.secondVote) { // Bootstrap writes a term before it writes a log
		return false, stableCorrupt(errors.New("a copy of the vote record is gone"))
	}
	l.node = node
	if l.nodeID, err = parseUUID(node.Incarnation); err != nil {
		return false, err
	}
	if fresh {
		err = saveNode(l.fs, l.dir, l.node)
	}
	return fresh, err
}

// mayHaveLost says whether a log that the run before left may lack bytes of its end.
func mayHaveLost(run runState, sameBoot bool) bool {
	return run.MayHaveLost || !sameBoot && !run.Clean && run.Flush != SyncFlush.String()
}

// recover reads first and writes only when nothing is left to refuse.
func (l *Log) recover(in surveyed) error {
	fresh, err := l.identify(in, false)
	if err != nil {
		return err
	}
	run := loadRun(l.fs, l.dir)
	sameBoot := l.bootID != "" && l.bootID == run.BootID
	r, err := recoverSegments(l.fs, l.dir, in.bases, &l.o, l.nodeID, run, sameBoot)
	if err != nil {
		return err
	}
	l.segs.Store(&r.all)
	manifests, bad := loadManifests(l.fs, l.dir, in.names)
	for _, err := range bad {
		l.log.Error("snapshot manifest is bad and not used", "error", err)
	}
	l.snapshots.list = manifests
	if err := l.openStable(); err != nil {
		return err
	}
	l.found = Recovery{Fresh: fresh, CleanStop: run.Clean, BootChanged: !fresh && !sameBoot}
	l.found.MayHaveLost = run.MayHaveLost || !fresh && len(r.all) > 0 && mayHaveLost(run, sameBoot)
	return l.adopt(r, in.names)
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
		l.index.setPoints(r.segs[n-1].base, r.points, r.at.index, r.at.term)
		l.sidecarBase = r.segs[n-1].base
		l.w.synced = r.segs[n-1].mark.synced
		for i, seg := range r.segs[:n-1] {
			if !seg.mark.sealed {
				if err := l.fillUp(seg, &r.segs[i+1].segmentHead); err != nil {
					return err
				}
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
	if len(r.segs) > 0 && !l.node.HasLog { // a crash between the first segment and the note of it
		l.node.HasLog = true
		if err := saveNode(l.fs, l.dir, l.node); err != nil {
			return err
		}
	}
	if err := l.saveRun(func(run *runState) {
		*run = runState{BootID: l.bootID, Flush: l.o.Flush.String(), MayHaveLost: l.found.MayHaveLost}
	}); err != nil {
		return err
	}
	// What was found unsynced becomes durable before anything is built on it.
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if err := l.syncLocked(); err != nil {
		return err
	}
	l.durable.Store(r.at.index)
	return nil
}

// fillUp writes the end of a segment again that was not sealed: what lies behind its last frame is not verified, and a power cut may have
// taken it although the next segment is there.
func (l *Log) fillUp(seg *segment, next *segmentHead) error {
	rest := make([]byte, seg.limit()-next.prevEnd)
	if len(rest) >= frameHeaderBytes {
		pad := frameHeader{length: uint32(len(rest) - frameHeaderBytes), kind: framePad, index: next.firstIndex - 1, chain: next.prevChain}
		pad.encode(rest)
	}
	op := l.watch.begin("write", seg.path)
	defer l.watch.end(op)
	if _, err := seg.f.WriteAt(rest, seg.filePos(next.prevEnd)); err != nil {
		return fmt.Errorf("write %s at offset %d: %w", seg.path, next.prevEnd, err)
	}
	return nil
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

// Recovery returns what Open found.
func (l *Log) Recovery() Recovery { return l.found }

// LossSettled notes that a possible loss no longer matters: the replica has caught up with a leader, or it is the whole group.
// Start calls it for a group of one voter.
func (l *Log) LossSettled() error {
	return l.saveRun(func(run *runState) { run.MayHaveLost = false })
}
