package raftlog

import (
	"errors"
	"fmt"
)

// Answers to Append and ReadAt.
var (
	// ErrBusy: the proposal queue is full; nothing was appended.
	ErrBusy = errors.New("raftlog: append queue is full")
	// ErrNotLeader: this replica does not lead; nothing was appended.
	ErrNotLeader = errors.New("raftlog: not the leader")
	// ErrUncertain: the record may or may not become committed.
	ErrUncertain = errors.New("raftlog: outcome of the append is unknown")
	// ErrClosed: the log is closed, or not started; nothing was appended.
	ErrClosed = errors.New("raftlog: log is closed")
	// ErrTooLarge: the record exceeds RecordBytesMax; nothing was appended.
	ErrTooLarge = errors.New("raftlog: record is too large")
	// ErrTrimmed: the offset lies below MinOffset.
	ErrTrimmed = errors.New("raftlog: offset is below the start of the log")
	// ErrCorrupt marks bytes that are not what was written.
	ErrCorrupt = errors.New("raftlog: log is corrupt")
	// ErrPoisoned: an earlier write or fsync failed and the log takes no more.
	ErrPoisoned = errors.New("raftlog: log is closed after a storage failure")
)

// Exit codes that a Fault carries. They are part of the program's contract with its supervisor.
const (
	ExitStoreFailed    = 70 // a write or fsync failed
	ExitStalled        = 71 // a write or fsync hangs
	ExitCorrupt        = 72 // a record that was once written whole is bad; the directory is left as it is
	ExitStableCorrupt  = 73 // the vote record is bad; the node must come back as a new one
	ExitAmnesia        = 74 // the directory has lost its identity or its contents
	ExitConfigMismatch = 75 // segment size, cluster id or format differ
	ExitRemoved        = 76 // the replica was removed from its group; with an empty directory it may join again
)

// Fault is an error after which the process must end with Code. ID is the word that operators search for in the log.
type Fault struct {
	Code int
	ID   string
	Err  error
}

func (f *Fault) Error() string { return fmt.Sprintf("%s (exit %d): %v", f.ID, f.Code, f.Err) }
func (f *Fault) Unwrap() error { return f.Err }

// damaged marks err as corruption.
func damaged(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// refusal gives corruption its exit code; other errors stay what they are.
func refusal(err error) error {
	var f *Fault
	if errors.Is(err, ErrCorrupt) && !errors.As(err, &f) {
		return &Fault{ExitCorrupt, "STORE_CORRUPT_UNREPAIRABLE", err}
	}
	return err
}
