package raftlog

// StateMachine is what the entries of a group mean. raftlog calls it as follows; no method may call back into the Log except
// ReadAt, MinOffset and EndOffset.
//
//   - Stamp and Rewind come from one goroutine at a time, but at the same time as Apply.
//   - Apply, Applied and Snapshot come from one goroutine at a time.
//   - AppliedOffset and Floor may come at any time.
type StateMachine interface {
	// Stamp sees each record as its entry reaches this replica's log, in log order. It fills the fields that depend on the final
	// order (all-ones means blank) in place and verifies the ones that are filled. It must not keep record. An error means that
	// this replica disagrees with its leader and ends the process with ExitCorrupt.
	Stamp(record []byte, offset int64) error

	// Rewind resets Stamp's counters to the applied state and returns the byte offset below which everything is applied. The log
	// then stamps again every record from there to its end.
	Rewind() (applied int64)

	// Apply executes one committed record. Calls come in offset order; after a restart they begin at or below AppliedOffset, and
	// a record below it must be skipped. offset is the byte position of record[0], which lies behind the frame header.
	// The record must not be kept.
	Apply(record []byte, offset int64)

	// Applied is called after a run of Apply calls: everything below byte position end has been applied.
	Applied(end int64)

	// AppliedOffset returns the byte position below which everything is applied.
	AppliedOffset() int64

	// Snapshot captures the state as of the last Apply. It must return quickly; the work belongs in Persist.
	Snapshot() (Snapshot, error)

	// Floor returns the offset below which bytes may be unlinked, as of the last persisted snapshot.
	Floor() int64
}

// Snapshot is a captured state. Persist runs at the same time as later Apply calls and returns when the state is durable in the
// state machine's own directory. Release is called exactly once, after Persist or instead of it.
type Snapshot = interface {
	Persist() error
	Release()
}
