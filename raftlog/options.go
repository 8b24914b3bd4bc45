package raftlog

import (
	"errors"
	"fmt"
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

	// VerifyBytes is how much of the end of the log Open verifies. Older bytes are verified when they are first read. Default 64 MiB.
	VerifyBytes int64

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
	// QuarantineBytesMax bounds the copies of what truncations cut off, of which there are 16 at most; the oldest go first. A negative
	// one turns them off. Default 256 MiB.
	QuarantineBytesMax int64
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

const (
	segmentBytesMin   = 64 << 10
	segmentBytesMax   = 1 << 40
	recordBytesMaxMax = 64 << 20
)

// complete sets defaults and checks what was set.
func (o *Options) complete() error {
	if o.FS == nil {
		o.FS = OSFS()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(int, string, error) {}
	}
	if o.BootID == nil {
		o.BootID = kernelBootID
	}
	o.SegmentBytes = orDefault(o.SegmentBytes, 1<<30)
	o.VerifyBytes = orDefault(o.VerifyBytes, 64<<20)
	o.FlushInterval = orDefault(o.FlushInterval, 500*time.Millisecond)
	o.StallTimeout = orDefault(o.StallTimeout, 3*time.Second)
	o.CoalesceBytesMax = orDefault(o.CoalesceBytesMax, 256<<10)
	o.RecordBytesMax = orDefault(o.RecordBytesMax, 16<<20)
	o.QueueBytesMax = orDefault(o.QueueBytesMax, 64<<20)
	o.QueueRecordsMax = orDefault(o.QueueRecordsMax, 65536)
	o.TailCacheBytes = orDefault(o.TailCacheBytes, 32<<20)
	o.SnapshotEveryBytes = orDefault(o.SnapshotEveryBytes, 64<<20)
	o.QuarantineBytesMax = orDefault(o.QuarantineBytesMax, 256<<20)
	switch {
	case o.SegmentBytes < segmentBytesMin || o.SegmentBytes > segmentBytesMax || o.SegmentBytes%4096 != 0:
		return fmt.Errorf("raftlog: SegmentBytes is %d, expected a multiple of 4096 from %d to %d", o.SegmentBytes, segmentBytesMin, int64(segmentBytesMax))
	case o.FlushInterval < 0 || o.StallTimeout < 0 || o.SnapshotEveryBytes < 0 || o.VerifyBytes < 0:
		return errors.New("raftlog: FlushInterval, StallTimeout, SnapshotEveryBytes and VerifyBytes must not be negative")
	case o.CoalesceBytesMax < 0 || o.QueueBytesMax < 0 || o.QueueRecordsMax < 0 || o.TailCacheBytes < 0:
		return errors.New("raftlog: CoalesceBytesMax, QueueBytesMax, QueueRecordsMax and TailCacheBytes must not be negative")
	case o.RecordBytesMax < 0 || o.RecordBytesMax > recordBytesMaxMax:
		return fmt.Errorf("raftlog: RecordBytesMax is %d, expected at most %d", o.RecordBytesMax, recordBytesMaxMax)
	}
	o.RecordBytesMax = int(min(int64(o.RecordBytesMax), o.SegmentBytes-frameHeaderBytes))
	o.CoalesceBytesMax = min(o.CoalesceBytesMax, o.RecordBytesMax)
	return nil
}
