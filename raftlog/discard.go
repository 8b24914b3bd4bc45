package raftlog

import (
	"errors"
	"sync/atomic"
)

// Discard returns a state machine without state, for a replica that only votes and keeps entries: an arbiter. Its log is freed by
// DropBelow alone. l is the open log that it will be started with.
func Discard(l *Log) StateMachine {
	d := &discard{l: l}
	if m, ok := l.snapshots.newest(); ok {
		d.applied.Store(m.Offset)
	}
	return d
}

type discard struct {
	l       *Log
	applied atomic.Int64
	floor   atomic.Int64
}

func (d *discard) Stamp([]byte, int64) error   { return nil }
func (d *discard) Rewind() int64               { return d.l.EndOffset() } // there is nothing to stamp
func (d *discard) Apply([]byte, int64)         {}
func (d *discard) Applied(end int64)           { d.applied.Store(end) }
func (d *discard) AppliedOffset() int64        { return d.applied.Load() }
func (d *discard) Snapshot() (Snapshot, error) { return discarded{}, nil }
func (d *discard) Floor() int64                { return d.floor.Load() }

type discarded struct{}

func (discarded) Persist() error { return nil }
func (discarded) Release()       {}

var errNotDiscard = errors.New("raftlog: entries are dropped only from a log whose state machine is Discard")

// DropBelow frees the whole segments that hold only entries below index-1: every replica with data has them durably, says the
// leader. It takes a snapshot if the newest one does not reach that far. Only a log started with Discard takes it.
func (l *Log) DropBelow(index uint64) error {
	d, ok := l.sm.(*discard)
	if !ok {
		return errNotDiscard
	}
	index = min(index, l.fsm.applied.Load()+1)
	if index < 2 {
		return nil
	}
	s, ok, err := l.index.find(index - 1)
	if err != nil || !ok {
		return err
	}
	floor := max(s.off, d.floor.Load())
	d.floor.Store(floor)
	if !l.limitOf(floor) {
		return nil // nothing to gain
	}
	if m, ok := l.snapshots.newest(); !ok || m.Offset < floor {
		if err := l.Snapshot(); err != nil {
			return err
		}
	}
	return l.unlinkBelow()
}

// limitOf reports whether a whole segment lies below off.
func (l *Log) limitOf(off int64) bool {
	segs := *l.segs.Load()
	return len(segs) > 1 && segs[0].limit() <= off
}
