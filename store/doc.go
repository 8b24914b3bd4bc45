// Package store holds all state of a broker group that must outlive a leader, but for the message bytes themselves, which
// lie in the log: topics, consumer groups, consumer offsets, queue locks, settings, consume queues, the key index and the
// messages that wait for their delivery time.
//
// The state changes in Apply alone, and Apply is deterministic: it reads no clock, chance, configuration or map order.
// Whoever leads stamps time into the commands (PutTopic and its siblings encode them) and messages. Byte offset is the
// store's only clock: a record below the applied offset is skipped, so the log may be replayed from any earlier point. The
// store knows nothing of Raft, and the log nothing of messages: they meet in Stamp, Rewind, Apply, Applied, Snapshot and
// Floor on one side, and in Log on the other.
//
// # Files
//
// A checkpoint is the state as of one applied offset; the two newest are kept. Consume queue blocks and key index runs are
// derived from the log: damage there is found by checksum and repaired from the log. FORMAT.md has the layouts.
//
// # Concurrency
//
// Stamp and Rewind come from one goroutine, Apply, Applied and Snapshot from one other; all else may be called by anybody
// at any time. Readers see applied data only. The locks, in the order in which they are taken:
//
//	persistMu          one checkpoint is written at a time
//	applyMu            the writer, against Rewind and Digest
//	rebuildMu          one damaged block is rebuilt at a time
//	waitTable.mu       parked callers of Await
//	the tables' mu     topics, groups, offsets, locks, settings, queues, timers: each for itself
//	queue.mu           one consume queue's bounds, blocks and tail
//	blockStore.mu      the block files
//	keyIndex.mu        the key index
//
// Readers hold none of them while they read the log or a file; only rebuilding a block does, and Digest.
package store
