package raftlog

// Status is where this replica stands.
type Status struct {
	State        string // Leader, Follower, Candidate, Shutdown
	Term         uint64
	LeaderID     string
	LeaderAddr   string
	FirstIndex   uint64
	LastIndex    uint64
	CommitIndex  uint64
	AppliedIndex uint64
}

func (l *Log) Status() Status { return Status{} }

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
}

func (l *Log) Stats() Stats { return Stats{} }
