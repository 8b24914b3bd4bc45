package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
)

// Log is what the store needs of the log. Any byte at or above MinOffset and below the applied offset can be read, by many
// goroutines at once. A Log that also has
//
//	Scan(from int64, fn func(record []byte, offset int64) error) error
//
// calling fn for each record that ends above from, in log order, until fn fails, lets the store rebuild damaged files.
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
	Logger   *slog.Logger // nil: discard
	KeyIndex bool         // keep an index of message keys

	// Fatal is told once, from the goroutine that noticed, when the store can no longer follow the log: a record that
	// cannot be applied, or a failed write. The store changes no more after it; readers keep working. It must not call
	// back into the store but for Err. Nil: only Err tells.
	Fatal func(err error)

	// For tests: smaller files show their seams sooner. 0: the format's own sizes.
	segmentBlocks uint64
	keyRunEntries int
}

func (o *Options) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.segmentBlocks == 0 {
		o.segmentBlocks = segmentBlocksDefault
	}
	if o.keyRunEntries == 0 {
		o.keyRunEntries = memRunEntriesDefault
	}
}

// Errors of the store; match with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrClosed   = errors.New("store is closed")
	// ErrCorrupt says that bytes in the store's directory or in the log are not what was written there.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrMismatch says that a record's filled offsets are not those that its place in the log gives.
	ErrMismatch = errors.New("stamped offset mismatch")
	// ErrBadCommand says that a metadata command cannot be decoded or has no meaning at its place in the log.
	ErrBadCommand = errors.New("bad command")
)

// Store is all replicated state of a group but the message bytes. See the package comment for what may be called when.
type Store struct {
	dir    string
	fs     FS
	log    Log
	logger *slog.Logger
	fatal  func(error)

	applyMu       sync.Mutex // Apply, Applied, Rewind, Snapshot, Digest, Close
	applied       atomic.Int64
	trim          atomic.Int64
	lastStoreTime atomic.Int64
	lastPhys      atomic.Int64
	chain         chain
	stamps        stampTable // Stamp's and Rewind's goroutine's
	touched       []*queue   // got messages since the last Applied
	deleted       []string   // topics deleted since the last Applied
	wakes         []func()   // scratch of Applied
	watcher       Watcher
	configChanged bool // since the last Applied

	topics   topicTable
	groups   groupTable
	offsets  offsetTable
	locks    lockTable
	settings settingTable
	timers   timerSet
	times    timeline
	queues   queueTable
	blocks   *blockStore
	keys     *keyIndex
	waits    waitTable

	scratch   sync.Pool  // of *scratch
	rebuildMu sync.Mutex // one block is rebuilt at a time
	persistMu sync.Mutex // one checkpoint is written at a time
	kept      []checkpointRefs
	exports   []*Export // under way
	floor     atomic.Int64

	failure atomic.Pointer[error]
	closed  atomic.Bool
}

func newStore(dir string, log Log, o Options) *Store {
	s := &Store{dir: dir, fs: o.FS, log: log, logger: o.Logger, fatal: o.Fatal, blocks: newBlockStore(o.FS, dir, o.segmentBlocks)}
	s.scratch.New = func() any { return new(scratch) }
	s.keys = newKeyIndex(dir, o, s.scanMessages, s.fail)
	s.topics.byName = make(map[string]TopicConfig)
	s.groups.byName = make(map[string]GroupConfig)
	s.offsets.byGroup = make(map[string]map[string]topicProgress)
	s.locks.owners = make(map[lockKey]string)
	s.settings.byKey = make(map[string]string)
	s.timers.parked = make(map[parkingQueue]int64)
	s.queues.byTopic = make(map[string]*topicQueues)
	s.waits.lists = make(map[QueueID]*waiter)
	return s
}

// Open opens the store in dir at its newest valid checkpoint; without one it is empty, and the log is to be applied from
// its start. A damaged checkpoint is passed over for the one before. Derived files that are damaged are rebuilt from the
// log. The error wraps ErrImporting if an import into the directory is not complete, ErrCorrupt if the state that the log
// goes on from is nowhere to be had, ErrVersion if a newer release wrote the directory.
func Open(dir string, log Log, o Options) (*Store, error) {
	if o.FS == nil {
		return nil, errors.New("open store: Options.FS is missing")
	}
	o.setDefaults()
	if err := o.FS.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if filling, err := Importing(o.FS, dir); err != nil || filling {
		return nil, fmt.Errorf("open store: %w", cmp.Or(err, ErrImporting))
	}
	names, err := checkpoints(o.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, keys, err := openNewest(dir, log, o, names)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s.keys.start(keys, s.applied.Load())
	s.Rewind()
	return s, nil
}

func openNewest(dir string, log Log, o Options, names []string) (*Store, []keyRange, error) {
	var failures []error
	for _, name := range names {
		s := newStore(dir, log, o)
		keys, err := s.load(name)
		if err == nil && s.applied.Load() < log.MinOffset() {
			err = fmt.Errorf("the log starts at %d, behind the checkpoint: %w", log.MinOffset(), ErrCorrupt)
		}
		if err == nil {
			if len(failures) > 0 {
				s.logger.Error("newest checkpoint is damaged, going on from the one before", "checkpoint", name, "err", errors.Join(failures...))
			}
			return s, keys, nil
		}
		s.blocks.close()
		err = fmt.Errorf("%s: %w", name, err)
		if errors.Is(err, ErrVersion) {
			return nil, nil, err
		}
		failures = append(failures, err)
	}
	if start := log.MinOffset(); start > 0 {
		failures = append(failures, fmt.Errorf("no usable checkpoint and the log starts at %d: %w", start, ErrCorrupt))
		return nil, nil, errors.Join(failures...)
	}
	s := newStore(dir, log, o)
	if len(failures) > 0 {
		s.logger.Error("no usable checkpoint, rebuilding everything from the log", "err", errors.Join(failures...))
	}
	return s, nil, nil
}

// Close wakes all waiters, ends the store's goroutine and closes its files. It writes nothing: what follows the newest
// checkpoint is applied again after the next Open. It must not run at the same time as the methods of Stamp's and Apply's
// goroutines.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.waits.close()
	s.keys.close()
	s.persistMu.Lock()
	defer s.persistMu.Unlock()
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.blocks.close()
	return nil
}

// fail makes the first error final.
func (s *Store) fail(err error) {
	if s.failure.CompareAndSwap(nil, &err) {
		s.logger.Error("store stopped", "err", err)
		if s.fatal != nil {
			s.fatal(err)
		}
	}
}

// Err returns why the store stopped following the log, or nil.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Floor returns the log position below which bytes may be unlinked: the trim offset of the newest checkpoint on disk, but
// never past the applied offset of the one before, which may be needed again. It is 0 until two checkpoints are there.
func (s *Store) Floor() int64 { return s.floor.Load() }

// TrimOffset returns the replicated floor of the log as applied: messages below it are gone for readers.
func (s *Store) TrimOffset() int64 { return s.trim.Load() }

// LastStoreTime returns the largest store timestamp applied so far, ms; 0 if none.
func (s *Store) LastStoreTime() int64 { return s.lastStoreTime.Load() }

// Stats is a look at the store's size.
type Stats struct {
	Topics       int
	Groups       int
	Queues       int
	Timers       int   // parked messages
	Waiters      int   // parked callers of Await
	BlockFiles   int   // consume queue files
	KeyRuns      int   // key index files
	KeysInMemory int   // key index entries not in a file yet
	Applied      int64 // log position
	Trim         int64 // log position
	Floor        int64 // log position
}

// Stats returns the store's present sizes.
func (s *Store) Stats() Stats {
	st := Stats{Timers: s.TimerCount(), Applied: s.AppliedOffset(), Trim: s.TrimOffset(), Floor: s.Floor()}
	s.topics.mu.RLock()
	st.Topics = len(s.topics.byName)
	s.topics.mu.RUnlock()
	s.groups.mu.RLock()
	st.Groups = len(s.groups.byName)
	s.groups.mu.RUnlock()
	s.queues.mu.RLock()
	st.Queues = s.queues.count
	s.queues.mu.RUnlock()
	s.waits.mu.Lock()
	st.Waiters = s.waits.count
	s.waits.mu.Unlock()
	s.blocks.mu.RLock()
	st.BlockFiles = len(s.blocks.segments)
	s.blocks.mu.RUnlock()
	s.keys.mu.Lock()
	st.KeyRuns = len(s.keys.runs)
	st.KeysInMemory = len(s.keys.active.entries)
	for _, m := range s.keys.frozen {
		st.KeysInMemory += len(m.entries)
	}
	s.keys.mu.Unlock()
	return st
}
