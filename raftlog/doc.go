// Package raftlog is the log of one broker group: a Raft log whose bytes are the CommitLog.
//
// A Log keeps the entries of one hashicorp/raft group in segment files and serves them by byte offset. The bytes are a pure
// function of the Raft entries, so every replica of the group holds the same bytes at the same offset; FORMAT.md has the layout.
// What the entries mean is the business of a StateMachine, which this package calls at three moments only: Stamp when an entry
// reaches the log and its order is final, Apply when it is committed, Snapshot when its state is to be made durable.
//
// Order of calls: Open recovers the bytes and needs no network, Bootstrap founds a group once in its life, Start joins it,
// Append proposes, Close ends. ReadAt works from Open to Close. A replica that joins a group that exists, or has fallen behind what the
// group keeps, is filled before: a Seeder brings its directory to a FillPoint of the leader.
//
// # Durability
//
// With SyncFlush an entry is on stable storage before Raft counts this replica for it. With AsyncFlush it is in the operating
// system and a background fsync follows within FlushInterval. The first failed or hanging write or fsync closes the log for good
// and is reported through Options.Fatal; nothing is acknowledged after it.
//
// # Goroutines
//
// Raft's main goroutine writes (StoreLogs, DeleteRange), its FSM goroutine applies and answers. The package adds four: the flusher,
// the watchdog, and from Start on the one that follows leadership and the one that takes snapshots. Close waits for all of them.
//
// # Locks
//
// From outer to inner: Log.life, Log.snapshotting, Log.switching, Log.flushing, queue.answering, writer.mu, leases.mu, queue.mu,
// logIndex.loading, logIndex.mu, segment.mu. No lock is held while a callback runs, except: Stamp and Rewind run under writer.mu, Options.Prepare under
// queue.mu, and the answers to Append under queue.answering, which is why those must not call Close.
package raftlog
