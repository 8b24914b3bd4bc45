package raftlog

import (
	"context"
	"errors"
)

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
	Index  uint64 // of the entry that holds the record
	Record []byte // the record as stamped; valid only during the callback
	Err    error  // nil, ErrNotLeader (nothing appended), ErrUncertain or ErrClosed
}

var errEmptyRecord = errors.New("raftlog: record is empty")

// Append queues record, which is copied, and calls done exactly once unless it returns an error, which means that nothing was
// or will be appended. Callbacks of the same Ack come in the order of the Append calls, one at a time; they must not block and
// must not call Close, but may call Append.
func (l *Log) Append(record []byte, ack Ack, done func(AppendResult)) error {
	switch {
	case len(record) == 0:
		return errEmptyRecord
	case len(record) > l.o.RecordBytesMax:
		return ErrTooLarge
	}
	if err := l.queue.append(record, ack, done); err != nil {
		return err
	}
	l.stats.records.Add(1)
	return nil
}

// Barrier returns when everything proposed before it, by this leader or an earlier one, is applied here. Leader only.
func (l *Log) Barrier(ctx context.Context) error {
	answered := make(chan error, 1)
	// An empty entry passes through log, commit and answer like any other, and the state machine does not see it.
	if err := l.queue.append(nil, AckCommitted, func(r AppendResult) { answered <- r.Err }); err != nil {
		return err
	}
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
