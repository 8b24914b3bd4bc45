package raftlog

import (
	"errors"
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
}

var _ raft.BatchingFSM = (*fsm)(nil)

// ApplyBatch applies committed entries and answers the proposals among them.
func (f *fsm) ApplyBatch(logs []*raft.Log) []interface{} {
	l := f.l
	for _, e := range logs {
		s, ok, err := l.index.find(e.Index)
		if err != nil || !ok {
			l.fail(corrupt(errors.Join(errors.New("a committed entry is not in the log"), err)))
			return make([]interface{}, len(logs))
		}
		if e.Type == raft.LogCommand && len(e.Data) > 0 {
			l.sm.Apply(e.Data, s.off+frameHeaderBytes)
		}
		if e.Type == raft.LogConfiguration {
			l.queue.setAlone(voters(raft.DecodeConfiguration(e.Data)) == 1)
		}
		f.end = s.end
	}
	f.applied.Store(logs[len(logs)-1].Index)
	l.sm.Applied(f.end)
	l.queue.applied(logs)
	if f.end-f.snapAt >= l.o.SnapshotEveryBytes {
		f.snapAt = f.end
		notify(l.snapshotWanted)
	}
	return make([]interface{}, len(logs))
}

// Apply exists because raft.FSM asks for it; Raft uses ApplyBatch.
func (f *fsm) Apply(e *raft.Log) interface{} { return f.ApplyBatch([]*raft.Log{e})[0] }

// Snapshot captures the state; Persist of the result does the work.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	s, err := f.l.sm.Snapshot()
	if err != nil {
		return nil, err
	}
	f.snapAt = f.end
	return &captured{l: f.l, state: s, offset: f.l.sm.AppliedOffset()}, nil
}

// Restore is never called: NoSnapshotRestoreOnStart is set and installing is refused.
func (f *fsm) Restore(r io.ReadCloser) error { return errors.Join(errInstallRefused, r.Close()) }
