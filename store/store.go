package store

import (
	"errors"
	"io"
	"log/slog"
)

// Log is what the store needs of the log. Any byte below the applied offset and at or above MinOffset can be read, by
// many goroutines at once.
type Log interface {
	io.ReaderAt
	MinOffset() int64
}

// QueueID names a queue.
type QueueID struct {
	Topic string
	ID    int32
}

// Options configure a Store.
type Options struct {
	FS       FS           // required
	Logger   *slog.Logger // default: discard
	KeyIndex bool         // keep an index of message keys

	// Fatal is told once, from the goroutine that noticed, when the store can no longer follow the log: a record that
	// cannot be applied, or a failed write. The store changes no more after it; readers keep working. Nil: only Err tells.
	Fatal func(err error)
}

// Errors of the store; match with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrClosed   = errors.New("store is closed")
	// ErrCorrupt says that bytes in the store's directory or in the log are not what was written there.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrMismatch says that a record's filled offsets are not those that the log position gives.
	ErrMismatch = errors.New("stamped offset mismatch")
	// ErrBadCommand says that a metadata command cannot be decoded or has no meaning at its place in the log.
	ErrBadCommand = errors.New("bad command")
)

var errNotBuilt = errors.New("store: not built yet")

// Store is all replicated state of a group that is not message bytes.
type Store struct{}

// Open opens the store in dir at its newest valid checkpoint.
func Open(dir string, log Log, o Options) (*Store, error) { return nil, errNotBuilt }

// Close releases files and wakes all waiters. It writes nothing.
func (s *Store) Close() error { return errNotBuilt }

// Err returns why the store stopped following the log, or nil.
func (s *Store) Err() error { return errNotBuilt }

// Snapshot is a captured state; Persist makes it a checkpoint on disk.
type Snapshot = interface {
	Persist() error
	Release()
}

func (s *Store) Stamp(record []byte, offset int64) error { return errNotBuilt }
func (s *Store) Rewind() (applied int64)                 { return 0 }
func (s *Store) Apply(record []byte, offset int64)       {}
func (s *Store) Applied(end int64)                       {}
func (s *Store) AppliedOffset() int64                    { return 0 }
func (s *Store) Snapshot() (Snapshot, error)             { return nil, errNotBuilt }
func (s *Store) Floor() int64                            { return 0 }
func (s *Store) Digest() string                          { return "" }

// TrimOffset returns the replicated floor of the log as applied: messages below it are gone for readers.
func (s *Store) TrimOffset() int64 { return 0 }

// LastStoreTime returns the largest store timestamp applied so far, ms; 0 if none.
func (s *Store) LastStoreTime() int64 { return 0 }
