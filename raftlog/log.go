package raftlog

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"
)

var errUnfinished = errors.New("raftlog: not built yet")

// Log is the log of one broker group. All methods may be called by any goroutine.
type Log struct{}

// Open recovers the log in dir, which is created if it is missing. A torn tail is cut; a directory that must not be used is
// refused with a *Fault and left as it is.
func Open(dir string, o Options) (*Log, error) { return nil, errUnfinished }

// ReadAt reads bytes below EndOffset. It answers ErrTrimmed below MinOffset and io.EOF when it reaches the end.
func (l *Log) ReadAt(p []byte, off int64) (int, error) { return 0, errUnfinished }

// MinOffset returns the lowest readable offset, EndOffset the first one not yet written, CommittedOffset the end of what is
// known to be committed, SizeBytes what lies between MinOffset and EndOffset.
func (l *Log) MinOffset() int64       { return 0 }
func (l *Log) EndOffset() int64       { return 0 }
func (l *Log) CommittedOffset() int64 { return 0 }
func (l *Log) SizeBytes() int64       { return 0 }

// Identity names this replica's directory.
type Identity struct {
	Incarnation string // UUID, made when the directory was created
	ClusterID   string
}

func (l *Log) Identity() Identity { return Identity{} }

// Timings are Raft's. The zero value means 300/300/150/5 ms.
type Timings struct {
	Heartbeat, Election, Lease, Commit time.Duration
}

// Member is this replica's place in its group.
type Member struct {
	ServerID  string
	Address   string
	Transport raft.Transport // nil for a group of one voter
	Timings   Timings
}

// Bootstrap founds a group: it writes the first configuration. Every founding member must write the same servers in the same
// order. It fails if there is state already.
func (l *Log) Bootstrap(servers []raft.Server) error { return errUnfinished }

// HasState reports whether this directory has ever been part of a group.
func (l *Log) HasState() (bool, error) { return false, errUnfinished }

// Start joins the group. It returns once Raft runs; who leads comes later, by Leadership.
func (l *Log) Start(sm StateMachine, m Member) error { return errUnfinished }

// Leadership delivers true when this replica has become leader and false when it no longer is. Only the newest value is kept.
func (l *Log) Leadership() <-chan bool { return nil }
func (l *Log) IsLeader() bool          { return false }
func (l *Log) Term() uint64            { return 0 }

// Barrier returns when everything proposed before it is applied here. Leader only.
func (l *Log) Barrier(ctx context.Context) error { return errUnfinished }

// SetFlush changes the flush mode. A switch to SyncFlush takes effect with the next entry, whose fsync covers all before it.
func (l *Log) SetFlush(m FlushMode) {}

// Snapshot takes a snapshot now and unlinks what it makes superfluous.
func (l *Log) Snapshot() error { return errUnfinished }

// Close stops Raft, answers every waiter, fsyncs, writes the clean-stop mark and waits for every goroutine. It may be called in
// any state and more than once.
func (l *Log) Close() error { return nil }
