package raftlog

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// fsm is the state machine as Raft sees it. Raft calls it from one goroutine.
type fsm struct {
	l       *Log
	applied atomic.Uint64 // index of the last entry applied
	end     int64         // where it ends
	snapAt  int64         // end at the last snapshot or attempt
	stopped bool          // Raft is shutting down and has left something out
}

var _ raft.BatchingFSM = (*fsm)(nil)

// ApplyBatch applies committed entries and answers the proposals among them.
func (f *fsm) ApplyBatch(logs []*raft.Log) []interface{} {
	l := f.l
	answers := make([]interface{}, len(logs))
	for _, e := range logs {
		s, err := f.due(e)
		if err != nil {
			l.fail(err)
		}
		if err != nil || f.stopped {
			return answers
		}
		if e.Type == raft.LogCommand && len(e.Data) > 0 {
			l.sm.Apply(e.Data, s.off+frameHeaderBytes)
		}
		f.end = s.end
		f.applied.Store(e.Index)
	}
	l.sm.Applied(f.end)
	l.queue.applied(logs)
	if f.end-f.snapAt >= l.o.SnapshotEveryBytes {
		f.snapAt = f.end
		notify(l.snapshotWanted)
	}
	return answers
}

// due returns where an entry lies and checks that it is the next one. While it shuts down, Raft may drop a batch on its way here
// and deliver the one behind it; from such a gap on nothing is applied any more.
func (f *fsm) due(e *raft.Log) (spot, error) {
	for i := f.applied.Load() + 1; i < e.Index; i++ {
		h, err := f.l.header(i)
		if err != nil {
			return spot{}, fmt.Errorf("committed entry %d: %w", i, err)
		}
		if kind := raft.LogType(h.kind); kind != raft.LogNoop && kind != raft.LogBarrier {
			f.stopped = true
			return spot{}, nil
		}
	}
	s, ok, err := f.l.index.find(e.Index)
	if err == nil && !ok {
		err = errors.New("not in the log")
	}
	if err != nil {
		return spot{}, fmt.Errorf("committed entry %d: %w", e.Index, err)
	}
	return s, nil
}

// Apply exists because raft.FSM asks for it; Raft uses ApplyBatch.
func (f *fsm) Apply(e *raft.Log) interface{} { return f.ApplyBatch([]*raft.Log{e})[0] }

// Snapshot captures the state; Persist of the result does the work.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.stopped {
		return nil, raft.ErrRaftShutdown
	}
	s, err := f.l.sm.Snapshot()
	if err != nil {
		return nil, err
	}
	f.snapAt = f.end
	return &captured{l: f.l, state: s, offset: f.l.sm.AppliedOffset()}, nil
}

// Restore is never called: NoSnapshotRestoreOnStart is set and installing is refused.
func (f *fsm) Restore(r io.ReadCloser) error { return errors.Join(errInstallRefused, r.Close()) }
