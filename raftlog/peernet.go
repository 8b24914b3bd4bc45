package raftlog

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// PeerNetOptions describes the Raft port of one replica. The zero value of a field means its default.
type PeerNetOptions struct {
	Listen    string // host:port to listen on; port 0 takes a free one
	Advertise string // host:port that the others dial and that stands in Raft's configuration; default: what is listened on
	ClusterID string // of this replica's cluster; a caller with another one is refused
	Group     string // of this replica; likewise
	ServerID  string // of this replica: "<number>-<incarnation>"
	Logger    *slog.Logger

	// Handler answers calls from other replicas: from is the caller's ServerID, the result must not be changed afterwards. It runs
	// in a goroutine of its own; ctx ends with the caller's deadline, the caller's connection or this PeerNet. Nil refuses all calls.
	Handler func(ctx context.Context, from string, request []byte) []byte

	MaxConns      int // accepted connections, those in their handshake included; default 256
	CallsMax      int // calls that Handler runs at a time; one more is refused; default 4096
	CallsOutMax   int // calls to one replica that wait for their answer; one more fails; default 4096
	FrameBytesMax int // of one request or answer; default and maximum 64 MiB

	HandshakeTimeout time.Duration // for an accepted connection; default 5 s
	DialTimeout      time.Duration // for connecting, handshake included; default 1 s
	ControlTimeout   time.Duration // for a heartbeat, a vote or a TimeoutNow; default 1 s
	AppendTimeout    time.Duration // for entries to be stored by the other side; default 10 s

	// OnProgress is told when the last entry that a replica is known to hold has grown in this replica's leadership of term. It runs
	// before Raft learns of the answer and must not block.
	OnProgress func(addr, serverID string, term, index uint64)
	// OnPeerDown is told once when a connection over which the present leader's entries came has ended and the leader's port does
	// not answer: refused says that it was refused, which a live machine does when the process has gone; otherwise nothing answered
	// within DialTimeout. It runs in a goroutine of its own that Close waits for; it may be told again after the next entries from there.
	OnPeerDown func(addr string, refused bool)
	// OnSnapshotOffered is told when a leader lacks the entries that this replica needs, the newest of which is index: the replica
	// must be filled. It must not block.
	OnSnapshotOffered func(addr, serverID string, term, index uint64)
}

// Outcomes of a Call that failed.
var (
	// ErrPeerNotSent: the other replica's Handler has not seen the request and will not.
	ErrPeerNotSent = errors.New("raftlog: the call was not sent")
	// ErrPeerUncertain: the other replica's Handler may have seen the request.
	ErrPeerUncertain = errors.New("raftlog: the outcome of the call is unknown")
)

// PeerNet is the Raft port of one replica: it carries Raft's own traffic and calls between the replicas of a group, over TCP
// connections that begin with a handshake. PEERNET.md has the bytes.
type PeerNet struct{}

// ListenPeers opens the port.
func ListenPeers(o PeerNetOptions) (*PeerNet, error) { return nil, errors.New("raftlog: not there yet") }

// Addr returns what is listened on.
func (n *PeerNet) Addr() net.Addr { return nil }

// Transport returns Raft's transport. After its Close, which a Raft that shuts down does, the next Transport is a new one: calls go
// on meanwhile, and Raft streams are refused.
func (n *PeerNet) Transport() raft.Transport { return nil }

// Call sends request to the Handler of the replica at addr and returns the answer. Any number of calls share one connection. The
// error wraps ErrPeerNotSent or ErrPeerUncertain. request must not be changed afterwards, even if Call fails.
func (n *PeerNet) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	return nil, ErrPeerNotSent
}

// SetMuted says whether this replica takes no part in elections: RequestVote, RequestPreVote and TimeoutNow are refused and own
// requests for votes fail. It holds for all Transports, from the next request on.
func (n *PeerNet) SetMuted(muted bool) {}

// Muted returns what SetMuted has set.
func (n *PeerNet) Muted() bool { return false }

// MatchIndex returns the last entry that the replica at addr is known to hold just as this replica, the leader, does; 0 if there is
// none in this replica's newest leadership.
func (n *PeerNet) MatchIndex(addr string) uint64 { return 0 }

// PeerProgress is what a leader knows of another replica.
type PeerProgress struct {
	ServerID   string
	Term       uint64    // of the leadership in which the rest was learnt
	MatchIndex uint64    // last entry that it holds
	LastAnswer time.Time // when it answered last, successfully or not
}

// Progress returns what is known of the replica at addr.
func (n *PeerNet) Progress(addr string) (PeerProgress, bool) { return PeerProgress{}, false }

// TriggerElection makes the Raft of this replica start an election at once, by a TimeoutNow request of its own. Pre-votes are
// skipped, so it deposes a leader that is alive. It returns when Raft has taken the request.
func (n *PeerNet) TriggerElection(ctx context.Context) error { return nil }

// PeerStats counts since ListenPeers, but for what is named Now.
type PeerStats struct {
	ConnsNow, CallsNow                              int64
	ConnsAccepted, ConnsDialed                      uint64
	HandshakesRefused, HandshakesBad, FramesBad     uint64
	AppendsSent, EntriesSent, EntryBytesSent        uint64
	HeartbeatsSent, AppendsReceived, CallsSent      uint64
	CallsReceived, CallsRefused, VotesMuted, Probes uint64
}

// Stats returns the counters.
func (n *PeerNet) Stats() PeerStats { return PeerStats{} }

// Close closes the port and every connection, Transport's too, and waits for every goroutine, Handlers among them.
func (n *PeerNet) Close() error { return nil }
