package compat

// Replication is what a replica knows of its group's copies.
type Replication struct {
	Term               uint64
	ConfigurationIndex uint64         // of the log entry with the present members
	Committed          int64          // end of what is committed here: a position in the log
	Replicas           []ReplicaState // of all members; complete on the leader only
}

// ReplicaState is one replica, as the leader of its group sees it.
type ReplicaState struct {
	Number     int
	ServerID   string
	Address    string // of its Raft port
	ClientAddr string // where it answers clients; "" for an arbiter
	Role       string // leader, voter, learner or arbiter
	Match      uint64 // index of the last entry that it is known to hold
	LagBytes   int64
	InSync     bool
	Connected  bool
	Muted      bool
	Filling    bool
}

// Epoch is a term that wrote to the log, and the position of its first byte.
type Epoch struct {
	Term  uint64
	Start int64
}
