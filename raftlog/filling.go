package raftlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// fillFile is there from the moment on in which a fill begins to take away what was in the directory until it is complete.
const fillFile = "fill.json"

// fillState is the contents of fillFile.
type fillState struct {
	Version  int       `json:"version"`
	Point    FillPoint `json:"point"`
	Floor    uint64    `json:"floor"`    // last entry that the directory has held before any fill: a fill must reach it
	Clearing bool      `json:"clearing"` // segments and manifests in the directory are of no use
}

// loadFill returns the state of the fill in dir; filling is false if there is none. A bad one cannot be replaced by a new fill: what
// the directory has confirmed is not known then.
func loadFill(fsys FS, dir string) (state fillState, filling bool, err error) {
	path := filepath.Join(dir, fillFile)
	b, err := readFile(fsys, path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return fillState{}, false, nil
	}
	if err == nil {
		if err = decodeChecked(b, &state); err == nil && state.Version != 1 {
			err = fmt.Errorf("version is %d, this program knows 1", state.Version)
		}
		if err != nil {
			err = &Fault{ExitAmnesia, "NODE_AMNESIA", fmt.Errorf("%s: %w", path, err)}
		}
	}
	return state, err == nil, err
}

func (l *Log) saveFill(state fillState) error {
	b, err := encodeChecked(state)
	if err == nil {
		err = replaceFile(l.fs, l.dir, filepath.Join(l.dir, fillFile), b)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(l.dir, fillFile), err)
	}
	return nil
}

// openFilling opens a directory that is being filled as far as is possible: it has an identity and no log.
func (l *Log) openFilling() error {
	node, _, err := loadNode(l.fs, l.dir, l.o.ClusterID, true, true)
	if err != nil {
		return err
	}
	l.node, l.filling, l.run = node, true, loadRun(l.fs, l.dir)
	l.found = Recovery{Filling: true, MayHaveLost: l.run.MayHaveLost}
	l.nodeID, err = parseUUID(node.Incarnation)
	return err
}

// openSeeder brings the directory to where bytes are wanted for p.
func (l *Log) openSeeder(p FillPoint) error {
	names, err := l.enter()
	if err != nil {
		return err
	}
	state, filling, err := loadFill(l.fs, l.dir)
	if err != nil {
		return err
	}
	in := survey(names)
	fresh, err := l.identify(in, filling)
	if err != nil {
		return err
	}
	run := loadRun(l.fs, l.dir)
	sameBoot := l.bootID != "" && l.bootID == run.BootID
	l.found = Recovery{Fresh: fresh, Filling: true, MayHaveLost: run.MayHaveLost}
	if !filling && len(in.bases) > 0 {
		r, err := recoverSegments(l.fs, l.dir, in.bases, &l.o, l.nodeID, run, sameBoot)
		if err != nil {
			return err
		}
		state.Floor = r.at.index
		l.found.MayHaveLost = mayHaveLost(run, sameBoot)
		for _, seg := range r.all {
			if err := seg.close(); err != nil {
				return err
			}
		}
	}
	if p.EndIndex < state.Floor {
		return fmt.Errorf("%w: entry %d, the log held entry %d", ErrFillBehind, p.EndIndex, state.Floor)
	}
	if err := l.openStable(); err != nil {
		return err
	}
	resume := filling && !state.Clearing && p.continues(&state.Point)
	state.Version, state.Point = 1, p
	if resume {
		err := l.resumeFill(state, in, sameBoot)
		if !errors.Is(err, ErrCorrupt) {
			return err
		}
		l.log.Warn("what an interrupted fill left is not used", "error", err)
		if err := l.closeSegments(); err != nil {
			return err
		}
		l.segs.Store(&[]*segment{})
	}
	return l.beginFill(state)
}

// continues reports whether the bytes of an earlier fill may be used for this one.
func (p *FillPoint) continues(old *FillPoint) bool {
	return !p.Bare && !old.Bare && p.SegmentBytes == old.SegmentBytes && p.Min >= old.Min
}

// beginFill removes what log there is and makes the first segment.
func (l *Log) beginFill(state fillState) error {
	state.Clearing = true
	if err := l.saveFill(state); err != nil {
		return err
	}
	names, err := l.fs.List(l.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, isSegment := parseSegmentName(strings.TrimSuffix(name, indexSuffix))
		if isSegment || strings.HasSuffix(name, manifestSuffix) {
			if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
				return err
			}
		}
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	state.Clearing = false
	if err := l.saveFill(state); err != nil {
		return err
	}
	if err := l.adopt(&recovered{}, names); err != nil {
		return err
	}
	p := &state.Point
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	base, next := p.Min, p.First
	l.w.at = cursor{end: p.PrevEnd, index: p.First - 1, term: p.PrevTerm, chain: p.PrevChain}
	if p.Bare {
		base, next = 0, p.EndIndex+1
		l.w.at = cursor{index: p.EndIndex, term: p.EndTerm, chain: p.EndChain}
	}
	if err := l.roll(next, base); err != nil {
		return err
	}
	l.end.Store(base)
	l.sidecarBase = base
	return nil
}

// resumeFill takes up the segments of an interrupted fill. It fails with ErrCorrupt if they are of no use.
func (l *Log) resumeFill(state fillState, in surveyed, sameBoot bool) error {
	if err := l.saveFill(state); err != nil {
		return err
	}
	p := &state.Point
	bases := in.bases
	for len(bases) > 0 && bases[0] < p.Min {
		path := filepath.Join(l.dir, segmentName(bases[0]))
		for _, name := range []string{path + indexSuffix, path} {
			if err := removeIfThere(l.fs, name); err != nil {
				return err
			}
		}
		bases = bases[1:]
	}
	if len(bases) == 0 || bases[0] != p.Min {
		return damaged(errors.New("there is no segment to continue with"))
	}
	r, err := recoverSegments(l.fs, l.dir, bases, &l.o, l.nodeID, runState{}, sameBoot)
	if err != nil {
		return err
	}
	l.segs.Store(&r.all)
	before := cursor{end: p.PrevEnd, index: p.First - 1, term: p.PrevTerm, chain: p.PrevChain}
	switch err := linked(before, &r.all[0].segmentHead); {
	case err != nil:
		return damaged(err)
	case r.at.end > p.End || r.at.index > p.EndIndex || r.at.index == p.EndIndex && r.at.chain != p.EndChain:
		return damaged(fmt.Errorf("it goes to entry %d at %d, the point to entry %d at %d", r.at.index, r.at.end, p.EndIndex, p.End))
	}
	return l.adopt(r, in.names)
}

// finishFill makes the directory a log.
func (l *Log) finishFill(p *FillPoint) error {
	if err := l.flushBehind(); err != nil {
		return err
	}
	if err := l.segment().sync(); err != nil { // the mark
		return err
	}
	// Raft holds that no entry has a later term than its own. The vote was for an earlier term, and goes with it.
	term, err := l.stable.GetUint64(keyTerm)
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	if term < p.EndTerm {
		if err := l.stable.SetUint64(keyTerm, p.EndTerm); err != nil {
			return err
		}
	}
	m := manifest{Version: manifestVersion, Index: p.Index, Term: p.Term, Offset: p.Offset,
		Configuration: p.Configuration, ConfigurationIndex: p.ConfigurationIndex}
	if p.Bare {
		m = manifest{Version: manifestVersion, Index: p.EndIndex, Term: p.EndTerm,
			Configuration: p.EndConfiguration, ConfigurationIndex: p.EndConfigurationIndex}
	}
	if m.Index > 0 {
		if err := l.snapshots.publish(m); err != nil {
			return err
		}
	}
	if err := removeIfThere(l.fs, filepath.Join(l.dir, fillFile)); err != nil {
		return err
	}
	return l.fs.SyncDir(l.dir)
}
