package raftlog

// Ack says when an Append is answered.
type Ack uint8

const (
	// AckCommitted: committed by the group and applied here.
	AckCommitted Ack = iota
	// AckAppended: in the leader's log (and fsynced under SyncFlush).
	AckAppended
)

// AppendResult answers one Append.
type AppendResult struct {
	Offset int64  // byte position of the record in the log
	Record []byte // the record as stamped; valid only during the callback
	Err    error  // nil, ErrNotLeader (nothing appended), ErrUncertain or ErrClosed
}

// Append queues record, which is copied, and calls done exactly once unless it returns an error, which means that nothing was
// or will be appended. Callbacks of the same Ack come in the order of the Append calls; they must not block.
func (l *Log) Append(record []byte, ack Ack, done func(AppendResult)) error { return errUnfinished }
