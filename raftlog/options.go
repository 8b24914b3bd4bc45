package raftlog

import (
	"log/slog"
	"time"
)

// FlushMode says when an appended entry is on stable storage.
type FlushMode uint8

const (
	// AsyncFlush: written to the operating system at once, fsynced every FlushInterval.
	AsyncFlush FlushMode = iota
	// SyncFlush: fsynced before the entry counts.
	SyncFlush
)

// Options configure a Log. The zero value of a field means its default.
type Options struct {
	// FS holds the log. Default: OSFS().
	FS FS
	// Logger receives everything, Raft's own lines included. Default: discard.
	Logger *slog.Logger
	// ClusterID is written into a new directory and must match that of an existing one. Empty matches any.
	ClusterID string

	// SegmentBytes is the span of offsets per segment file, at least 64 KiB and a multiple of 4096. It is fixed for the life of a
	// group. Default 1 GiB.
	SegmentBytes int64

	// Flush is the mode to begin with; SetFlush changes it. Default AsyncFlush.
	Flush FlushMode
	// FlushInterval bounds the age of unsynced bytes under AsyncFlush. Default 500 ms.
	FlushInterval time.Duration
	// StallTimeout is how long one write or fsync may take before the log gives up and calls Fatal. Default 3 s.
	StallTimeout time.Duration

	// CoalesceBytesMax bounds the records put into one Raft entry. A larger record gets an entry of its own. Default 256 KiB.
	CoalesceBytesMax int
	// RecordBytesMax bounds one record. Default 16 MiB.
	RecordBytesMax int
	// QueueBytesMax and QueueRecordsMax bound what Append accepted and has not answered. Defaults 64 MiB and 65,536.
	QueueBytesMax   int
	QueueRecordsMax int

	// TailCacheBytes is the memory for the newest bytes of the log, filled as the log grows. Default 32 MiB.
	TailCacheBytes int
	// SnapshotEveryBytes is how many applied bytes lie between two snapshots. Default 64 MiB.
	SnapshotEveryBytes int64

	// Prepare is called once for each record, in proposing order, right before it is proposed, on raftlog's own copy of it; it may
	// change bytes in place. It must be fast. Default: nothing.
	Prepare func(record []byte)
	// CompletedBatch is called after a run of completion callbacks, so that their effects can be flushed together. It must not
	// block. Default: nothing.
	CompletedBatch func()

	// Fatal is called once, at the first error after which the log must not go on; code is one of the Exit constants. The program
	// should end itself. Default: log only.
	Fatal func(code int, id string, err error)

	// BootID identifies the current boot of the machine; a change tells that unsynced bytes may be gone. Default: the kernel's.
	BootID func() string
}
