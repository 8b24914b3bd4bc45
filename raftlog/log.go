package raftlog

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Log is the log of one broker group. All methods may be called by any goroutine.
type Log struct {
	o      Options
	fs     FS
	dir    string
	log    *slog.Logger
	lock   io.Closer // of the directory, nil if the FS has no locks
	node   nodeState
	nodeID [16]byte
	bootID string
	found  Recovery
	runMu  sync.Mutex
	run    runState // as in runFile

	w           writer
	segs        atomic.Pointer[[]*segment] // ordered; replaced, never changed
	end         atomic.Int64               // readable bytes end here
	durable     atomic.Uint64              // entries up to here are on stable storage; written under w.mu
	cuts        atomic.Uint64              // odd while a truncation is at work, higher after each
	index       logIndex
	tail        *tailCache
	zeros       [16 << 10]byte // never written to
	switching   sync.Mutex     // one SetFlush at a time; taken before flushing
	flushing    sync.Mutex     // one background sync or truncation at a time; taken before w.mu
	sidecarBase int64          // segments below it have their sidecar
	sidecarEnd  int64          // where the newest sidecar of the active segment ends

	stable    *stableStore
	snapshots snapshotStore
	leases    leases
	fsm       fsm
	queue     queue
	watch     watchdog
	stats     counters

	sm   StateMachine // set by Start before Raft runs
	raft atomic.Pointer[raft.Raft]

	peers, trans raft.Transport // what Start was given, and what Raft was; set before raft
	snapshotting sync.Mutex     // one Snapshot at a time
	settled      atomic.Int64   // offset of the newest snapshot that Raft knows of

	halt func() raft.Future // shuts Raft down; the first call's future is what counts

	poison   atomic.Pointer[Fault]
	poisonCh chan struct{} // closed with the first fault

	leadership     chan bool
	appendedWanted chan struct{}
	flushWanted    chan struct{}
	snapshotWanted chan struct{}
	unlinkWanted   chan struct{}

	stop    chan struct{} // closed by Close
	tasks   sync.WaitGroup
	life    sync.Mutex // Start against Close
	started bool
	filling bool // this directory has no log yet: see Seeder
	closed  bool
	closing error // what the first Close returned
}

// Open recovers the log in dir, which is created if it is missing. A torn tail is cut; a directory that must not be used is
// refused with a *Fault and left as it is.
func Open(dir string, o Options) (*Log, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := newLog(dir, o)
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("raftlog: open %s: %w", dir, errors.Join(refusal(err), l.closeFiles()))
	}
	l.tasks.Go(l.runWatchdog)
	l.tasks.Go(l.runFlusher)
	return l, nil
}

// newLog returns a Log that is not open yet; o is complete.
func newLog(dir string, o Options) *Log {
	l := &Log{
		o: o, fs: o.FS, dir: dir, log: o.Logger, bootID: o.BootID(),
		tail:           newTailCache(o.TailCacheBytes),
		watch:          watchdog{limit: o.StallTimeout},
		poisonCh:       make(chan struct{}),
		leadership:     make(chan bool, 1),
		appendedWanted: make(chan struct{}, 1),
		flushWanted:    make(chan struct{}, 1),
		snapshotWanted: make(chan struct{}, 1),
		unlinkWanted:   make(chan struct{}, 1),
		stop:           make(chan struct{}),
	}
	l.queue.empty = make(chan struct{}, 1)
	l.queue.l, l.fsm.l, l.snapshots.l = l, l, l
	l.index.read, l.index.load = l.readRaw, l.loadPoints
	l.w.flush = o.Flush
	l.segs.Store(&[]*segment{})
	return l
}

// Identity returns who this directory is.
func (l *Log) Identity() Identity {
	return Identity{Incarnation: l.node.Incarnation, ClusterID: l.node.ClusterID}
}
