package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// peerKeepAlive finds a machine that is gone while nothing is sent.
var peerKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// PeerNetOptions describes the Raft port of one replica. The zero value of a field means its default.
type PeerNetOptions struct {
	Listen    string // host:port to listen on; port 0 takes a free one
	Advertise string // host:port that the others dial and that stands in Raft's configuration; default: what is listened on
	ClusterID string // of this replica's cluster; a caller with another one is refused
	Group     string // of this replica; likewise
	ServerID  string // of this replica: "<number>-<incarnation>"; provisional until SetServerID if the number is not known yet
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

// PeerNet is the Raft port of one replica: it carries Raft's own traffic and calls between the replicas of a group, over TCP
// connections that begin with a handshake. PEERNET.md has the bytes.
type PeerNet struct {
	o        PeerNetOptions
	log      *slog.Logger
	listener net.Listener
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	tasks    taskGroup
	conns    connSet // accepted ones
	out      connSet // those of calls
	muted    atomic.Bool
	serverID atomic.Pointer[string]
	stats    peerCounters
	progress progressTable
	leader   leaderWatch
	calls    callTable
	handling handlerLimit

	mu        sync.Mutex
	transport *peerTransport // the present one, nil until the first
}

// ListenPeers opens the port.
func ListenPeers(o PeerNetOptions) (*PeerNet, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: peerKeepAlive}
	listener, err := lc.Listen(context.Background(), "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("raftlog: listen on the Raft port: %w", err)
	}
	if o.Advertise == "" {
		o.Advertise = listener.Addr().String()
	}
	n := &PeerNet{o: o, log: o.Logger, listener: listener}
	n.serverID.Store(&o.ServerID)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.conns.init(o.MaxConns)
	n.out.init(0)
	n.progress.init(o.OnProgress)
	n.leader.n = n
	n.calls.init(n)
	n.handling.init(o.CallsMax, 4*o.FrameBytesMax)
	n.tasks.spawn(n.accept)
	return n, nil
}

func (o *PeerNetOptions) complete() error {
	if o.ServerID == "" || o.Listen == "" {
		return errors.New("raftlog: the Raft port needs an address and a server id")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxConns = orDefault(o.MaxConns, 256)
	o.CallsMax = orDefault(o.CallsMax, 4096)
	o.CallsOutMax = orDefault(o.CallsOutMax, 4096)
	o.FrameBytesMax = orDefault(o.FrameBytesMax, peerFrameBytesMax)
	o.HandshakeTimeout = orDefault(o.HandshakeTimeout, 5*time.Second)
	o.DialTimeout = orDefault(o.DialTimeout, time.Second)
	o.ControlTimeout = orDefault(o.ControlTimeout, time.Second)
	o.AppendTimeout = orDefault(o.AppendTimeout, 10*time.Second)
	if o.MaxConns < 1 || o.CallsMax < 1 || o.CallsOutMax < 1 || o.FrameBytesMax < 1 || o.FrameBytesMax > peerFrameBytesMax {
		return fmt.Errorf("raftlog: a limit of the Raft port is out of range: %d connections, %d and %d calls, %d bytes",
			o.MaxConns, o.CallsMax, o.CallsOutMax, o.FrameBytesMax)
	}
	// The handshake would refuse it on every connection.
	_, err := (&peerHello{cluster: o.ClusterID, group: o.Group, from: o.ServerID, addr: o.Advertise, target: o.ServerID}).encode()
	return err
}

// Addr returns what is listened on.
func (n *PeerNet) Addr() net.Addr { return n.listener.Addr() }

// Transport returns Raft's transport. After its Close, which a Raft that shuts down does, the next Transport is a new one: calls go
// on meanwhile, and Raft streams are refused.
func (n *PeerNet) Transport() raft.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transport == nil || n.transport.ctx.Err() != nil && n.ctx.Err() == nil {
		n.transport = newPeerTransport(n)
	}
	return n.transport
}

// running returns the transport that takes Raft streams, nil if there is none.
func (n *PeerNet) running() *peerTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transport == nil || n.transport.ctx.Err() != nil {
		return nil
	}
	return n.transport
}

// ServerID returns who this replica says it is.
func (n *PeerNet) ServerID() string { return *n.serverID.Load() }

// SetServerID gives a replica its name that has joined without a number: until then it is known by a provisional one, under which it
// can call others and be called, and probed. It must come before the first Transport, under whose life the name is fixed. Calls on
// connections that were made under the old name may fail.
func (n *PeerNet) SetServerID(id string) error {
	if _, err := (&peerHello{cluster: n.o.ClusterID, group: n.o.Group, from: id, addr: n.o.Advertise, target: id}).encode(); err != nil || id == "" {
		return errors.Join(fmt.Errorf("raftlog: %q cannot be a server id", id), err)
	}
	n.mu.Lock()
	if n.transport != nil && n.transport.ctx.Err() == nil {
		n.mu.Unlock()
		return errors.New("raftlog: the server id cannot change while Raft runs")
	}
	n.serverID.Store(&id)
	n.mu.Unlock()
	n.calls.reset()
	return nil
}

// Probe returns the ServerID of the replica of this group that listens at addr, whether or not its Raft runs.
func (n *PeerNet) Probe(ctx context.Context, addr string) (serverID string, err error) {
	c, err := n.dial(ctx, addr, streamProbe, "")
	if err != nil {
		return "", fmt.Errorf("raftlog: who listens at %s: %w", addr, err)
	}
	return c.id, c.Close()
}

// SetMuted says whether this replica takes no part in elections: RequestVote, RequestPreVote and TimeoutNow are refused and own
// requests for votes fail. It holds for all Transports, from the next request on.
func (n *PeerNet) SetMuted(muted bool) { n.muted.Store(muted) }

// Muted returns what SetMuted has set.
func (n *PeerNet) Muted() bool { return n.muted.Load() }

// TriggerElection makes the Raft of this replica start an election at once, by a TimeoutNow request of its own. Pre-votes are
// skipped, so it deposes a leader that is alive. It returns when Raft has taken the request.
func (n *PeerNet) TriggerElection(ctx context.Context) error {
	t := n.running()
	switch {
	case t == nil:
		return ErrClosed
	case n.Muted():
		return errMuted
	}
	r, err := t.deliver(ctx, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}},
		make(chan raft.RPCResponse, 1))
	return errors.Join(err, r.Error)
}

// accept takes connections until the port is closed.
func (n *PeerNet) accept() {
	const pauseMax = time.Second
	pause := time.Duration(0)
	for {
		c, err := n.listener.Accept()
		if err != nil {
			if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			pause = min(max(2*pause, 5*time.Millisecond), pauseMax)
			n.log.Warn("the Raft port cannot take a connection", "error", err)
			select {
			case <-time.After(pause):
			case <-n.ctx.Done():
				return
			}
			continue
		}
		pause = 0
		if !n.conns.add(c) {
			c.Close() //nolint:errcheck // it has not been used
			continue
		}
		n.stats.accepted.Add(1)
		if !n.tasks.spawn(func() { n.serve(c) }) {
			n.conns.drop(c)
		}
	}
}

// serve runs an accepted connection.
func (n *PeerNet) serve(raw net.Conn) {
	defer n.conns.drop(raw)
	hello := n.receive(raw)
	c := newPeerConn(raw, hello.from, hello.addr, n.o.FrameBytesMax)
	var err error
	switch hello.stream {
	case streamRaft:
		if t := n.running(); t != nil {
			err = t.serve(c)
		}
	case streamCalls:
		err = n.serveCalls(c)
	}
	var bad *badFrame
	if errors.As(err, &bad) {
		n.stats.badFrames.Add(1)
		n.log.Warn("a replica sent what cannot be read; the connection is closed", "from", c.id, "remote", c.RemoteAddr(), "error", err)
	}
}

// Close closes the port and every connection, Transport's too, and waits for every goroutine, Handlers among them.
func (n *PeerNet) Close() error {
	n.cancel()
	// The port first: who sees a connection end must find it closed.
	err := n.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	n.conns.close()
	n.out.close()
	n.mu.Lock()
	t := n.transport
	n.mu.Unlock()
	if t != nil {
		err = errors.Join(err, t.Close())
	}
	n.tasks.close()
	return err
}
