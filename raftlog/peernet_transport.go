package raftlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	appendBytesMax = 8 << 20 // entries of one AppendEntries; one entry may be larger
	idleConnsMax   = 4       // kept for each replica
)

var (
	errMuted           = errors.New("raftlog: this replica takes no part in elections at present")
	errTransportClosed = errors.New("raftlog: the transport is closed")
	errSnapshotOffered = errors.New("raftlog: a replica is filled with the log before Raft runs, not with a snapshot")
)

// remoteError is an answer that says that the request failed there; the connection is in order.
type remoteError struct{ text string }

func (e *remoteError) Error() string { return "raftlog: the other replica answers: " + e.text }

// peerTransport is what one life of Raft uses of a PeerNet. A request has a connection to itself until it is answered, so that a
// heartbeat never waits behind entries.
type peerTransport struct {
	n         *PeerNet
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	rpcs      chan raft.RPC
	heartbeat atomic.Pointer[func(raft.RPC)]
	tasks     taskGroup // readers of pipelines
	contacts  contactTable
	follows   atomic.Pointer[func() (index, term uint64)] // see setFollows

	mu    sync.Mutex
	peers map[peerKey]*peerConns
}

var (
	_ raft.Transport   = (*peerTransport)(nil)
	_ raft.WithPreVote = (*peerTransport)(nil)
	_ raft.WithClose   = (*peerTransport)(nil)
)

// peerKey names a replica. One that comes back with another id at the same address is another replica.
type peerKey struct {
	id   raft.ServerID
	addr raft.ServerAddress
}

// peerConns are the connections to one replica.
type peerConns struct {
	idle []*peerConn
	all  map[*peerConn]struct{}
}

func newPeerTransport(n *PeerNet) *peerTransport {
	t := &peerTransport{n: n, rpcs: make(chan raft.RPC), peers: make(map[peerKey]*peerConns)}
	t.ctx, t.cancel = context.WithCancel(n.ctx)
	return t
}

func (t *peerTransport) Consumer() <-chan raft.RPC     { return t.rpcs }
func (t *peerTransport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.n.o.Advertise) }

func (t *peerTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}
func (t *peerTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler lets heartbeats past whatever Raft is doing.
func (t *peerTransport) SetHeartbeatHandler(cb func(raft.RPC)) {
	if cb == nil {
		t.heartbeat.Store(nil)
		return
	}
	t.heartbeat.Store(&cb)
}

// AppendEntries sends entries, or what follows from there being none. It shortens args.Entries to appendBytesMax, which Raft allows
// for: it looks at what is left to see what was sent.
func (t *peerTransport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	shorten(args)
	timeout := t.n.o.AppendTimeout
	heartbeat := isHeartbeat(args)
	if heartbeat {
		timeout = t.n.o.ControlTimeout
	}
	t.leads(args)
	err := t.call(id, target, args, resp, timeout)
	if heartbeat && errors.Is(err, os.ErrDeadlineExceeded) {
		// The other connections there wait for the same silence, some of them with TCP's growing patience.
		t.hangUp(peerKey{id, target})
	}
	if err == nil {
		if heartbeat {
			t.contacts.note(id)
		}
		t.n.progress.answered(id, target, args, resp)
	} else if !heartbeat {
		err = t.failed(id, err)
	}
	return err
}

// failed returns err, and does so only when there is a point in trying again.
func (t *peerTransport) failed(id raft.ServerID, err error) error {
	var remote *remoteError
	if !errors.As(err, &remote) {
		t.contacts.await(t.ctx, id)
	}
	return err
}

// shorten cuts args.Entries to appendBytesMax, one entry at least.
func shorten(args *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range args.Entries {
		size += len(e.Data) + len(e.Extensions)
		if size > appendBytesMax && i > 0 {
			clear(args.Entries[i:])
			args.Entries = args.Entries[:i]
			return
		}
	}
}

// leads notes that this replica leads in the term of args, and counts.
func (t *peerTransport) leads(args *raft.AppendEntriesRequest) {
	if t.n.progress.lead(args.Term) {
		t.contacts.noteAll()
		t.n.leader.forget(args.Term)
	}
	if isHeartbeat(args) {
		t.n.stats.heartbeats.Add(1)
		return
	}
	t.n.stats.appends.Add(1)
	t.n.stats.entries.Add(uint64(len(args.Entries)))
}

func (t *peerTransport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.election(id, target, args, resp)
}

func (t *peerTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.election(id, target, args, resp)
}

func (t *peerTransport) election(id raft.ServerID, target raft.ServerAddress, args, resp any) error {
	if t.n.Muted() {
		t.n.stats.votesMuted.Add(1)
		return errMuted
	}
	return t.call(id, target, args, resp, t.n.o.ControlTimeout)
}

func (t *peerTransport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.call(id, target, args, resp, t.n.o.ControlTimeout)
}

// call sends one request and waits for its answer. A connection that was kept may have died unseen, so a failure on one is tried
// again on a new one: Raft's requests may come twice.
func (t *peerTransport) call(id raft.ServerID, target raft.ServerAddress, args, resp any, timeout time.Duration) error {
	key := peerKey{id, target}
	for {
		c, kept, err := t.lease(key)
		if err != nil {
			return err
		}
		var remote *remoteError
		err = t.roundTrip(c, args, resp, timeout)
		if err == nil || errors.As(err, &remote) {
			t.giveBack(key, c)
			return err
		}
		t.drop(key, c)
		if !kept || t.ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("raftlog: %s at %s: %w", id, target, err)
		}
		t.dropIdle(key)
	}
}

func (t *peerTransport) roundTrip(c *peerConn, args, resp any, timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if err := t.send(c, args); err != nil {
		return err
	}
	if err := c.readResponse(requestKind(args)); err != nil {
		return err
	}
	return c.resp.fill(resp)
}

// send writes one request.
func (t *peerTransport) send(c *peerConn, args any) error {
	kind, b, err := encodeRequest(c.beginFrame(), args)
	if err != nil {
		return err
	}
	m, ok := args.(*raft.AppendEntriesRequest)
	if !ok || len(m.Entries) == 0 {
		return c.writeFrame(kind, b)
	}
	var few [64][]byte
	bodies, size := entryBodies(few[:0], m.Entries)
	if size > t.n.o.FrameBytesMax {
		return fmt.Errorf("raftlog: entries of %d bytes, the limit is %d", size, t.n.o.FrameBytesMax)
	}
	t.n.stats.bytes.Add(uint64(size))
	return c.writeFrame(kind, b, bodies...)
}

func requestKind(args any) byte {
	switch args.(type) {
	case *raft.AppendEntriesRequest:
		return rpcAppendEntries
	case *raft.RequestVoteRequest:
		return rpcRequestVote
	case *raft.RequestPreVoteRequest:
		return rpcRequestPreVote
	case *raft.TimeoutNowRequest:
		return rpcTimeoutNow
	}
	return rpcInstallSnapshot
}

// readResponse reads the answer to a request into c.resp.
func (c *peerConn) readResponse(request byte) error {
	head, size, err := c.readHead(0)
	if err != nil {
		return err
	}
	p, err := c.readRest(head, size, false)
	kind := head[8]
	switch {
	case err != nil:
		return err
	case kind == rpcFailed:
		return &remoteError{string(p)}
	case kind != request|rpcAnswer:
		return &badFrame{fmt.Errorf("an answer of kind %d to a request of kind %d", kind, request)}
	}
	return c.resp.decode(p)
}

// lease returns a connection that nobody else uses until it is given back or dropped, and whether it has been used before.
func (t *peerTransport) lease(key peerKey) (c *peerConn, kept bool, err error) {
	t.mu.Lock()
	if p := t.peers[key]; p != nil && len(p.idle) > 0 {
		c = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		t.mu.Unlock()
		return c, true, nil
	}
	t.mu.Unlock()
	c, err = t.n.dial(t.ctx, string(key.addr), streamRaft, string(key.id))
	if err != nil {
		return nil, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return nil, false, joinClose(errTransportClosed, c)
	}
	p := t.peers[key]
	if p == nil {
		p = &peerConns{all: make(map[*peerConn]struct{})}
		t.peers[key] = p
	}
	p.all[c] = struct{}{}
	return c, false, nil
}

func (t *peerTransport) giveBack(key peerKey, c *peerConn) {
	t.mu.Lock()
	p := t.peers[key]
	keep := p != nil && len(p.idle) < idleConnsMax && t.ctx.Err() == nil
	if keep {
		_, keep = p.all[c] // not if it was hung up meanwhile
	}
	if keep {
		p.idle = append(p.idle, c)
	}
	t.mu.Unlock()
	if !keep {
		t.drop(key, c)
	}
}

// drop closes a leased connection.
func (t *peerTransport) drop(key peerKey, c *peerConn) {
	t.mu.Lock()
	if p := t.peers[key]; p != nil {
		delete(p.all, c)
		if len(p.all) == 0 {
			delete(t.peers, key)
		}
	}
	t.mu.Unlock()
	c.Close() //nolint:errcheck // what was not answered is sent again
}

// dropIdle closes the kept connections to a replica.
func (t *peerTransport) dropIdle(key peerKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[key]
	if p == nil {
		return
	}
	for _, c := range p.idle {
		delete(p.all, c)
		c.Close() //nolint:errcheck // as in drop
	}
	p.idle = nil
	if len(p.all) == 0 {
		delete(t.peers, key)
	}
}

// hangUp closes all connections to a replica, those in use too.
func (t *peerTransport) hangUp(key peerKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[key]; p != nil {
		for c := range p.all {
			c.Close() //nolint:errcheck // as in drop
		}
		delete(t.peers, key)
	}
}

// Close ends everything that is under way and waits for it. The PeerNet goes on.
func (t *peerTransport) Close() error {
	t.mu.Lock()
	t.cancel()
	for _, p := range t.peers {
		for c := range p.all {
			c.Close() //nolint:errcheck // as in drop
		}
	}
	clear(t.peers)
	t.mu.Unlock()
	t.tasks.close()
	return nil
}
