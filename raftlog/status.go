package raftlog

import "sync/atomic"

// Status is where this replica stands.
type Status struct {
	State        string // Leader, Follower, Candidate, Shutdown; empty before Start
	Term         uint64
	LeaderID     string
	LeaderAddr   string
	FirstIndex   uint64
	LastIndex    uint64
	LastTerm     uint64 // of the last entry; without one, of what the log follows
	DurableIndex uint64 // last entry that is known to be fsynced
	CommitIndex  uint64
	AppliedIndex uint64
}

// Status returns a snapshot of where this replica stands.
func (l *Log) Status() Status {
	var s Status
	s.FirstIndex, s.LastIndex = l.index.bounds()
	s.LastTerm, s.DurableIndex = l.index.lastTerm(), min(l.durable.Load(), s.LastIndex)
	s.AppliedIndex = l.fsm.applied.Load()
	if r := l.raft.Load(); r != nil {
		addr, id := r.LeaderWithID()
		s.State, s.Term, s.CommitIndex = r.State().String(), r.CurrentTerm(), r.CommitIndex()
		s.LeaderID, s.LeaderAddr = string(id), string(addr)
	}
	return s
}

// EntryEnd returns where the frame of an entry ends; ok is false if the log does not hold it.
func (l *Log) EntryEnd(index uint64) (end int64, ok bool) {
	s, ok, err := l.index.find(index)
	if err != nil || !ok {
		return 0, false
	}
	return s.end, true
}

// CommittedOffset returns the end of the last entry that is known to be committed, 0 before Start.
func (l *Log) CommittedOffset() int64 {
	r := l.raft.Load()
	if r == nil {
		return 0
	}
	s, ok, err := l.index.find(r.CommitIndex())
	if err != nil || !ok {
		return 0
	}
	return s.end
}

// Stats are counters since Open and sizes now.
type Stats struct {
	EntriesAppended, RecordsAppended, BytesAppended uint64
	Syncs                                           uint64
	SyncNanos                                       uint64
	AppendsRefusedBusy                              uint64
	QueuedRecords, QueuedBytes                      int
	ReadsFromCache, ReadsFromFile                   uint64
	Segments                                        int
	Snapshots                                       uint64
	QuarantinedBytes                                uint64 // of truncated suffixes, copied to quarantine
}

type counters struct {
	entries, records, bytes, syncs, syncNanos, busy, fromCache, fromFile, snapshots, quarantined atomic.Uint64
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	c := &l.stats
	records, bytes := l.queue.size()
	return Stats{
		EntriesAppended: c.entries.Load(), RecordsAppended: c.records.Load(), BytesAppended: c.bytes.Load(),
		Syncs: c.syncs.Load(), SyncNanos: c.syncNanos.Load(),
		AppendsRefusedBusy: c.busy.Load(),
		QueuedRecords:      records, QueuedBytes: bytes,
		ReadsFromCache: c.fromCache.Load(), ReadsFromFile: c.fromFile.Load(),
		Segments:  len(*l.segs.Load()),
		Snapshots: c.snapshots.Load(), QuarantinedBytes: c.quarantined.Load(),
	}
}

func (l *Log) completedBatch() {
	if l.o.CompletedBatch != nil {
		l.o.CompletedBatch()
	}
}
