package raftlog

import (
	"context"

	"github.com/hashicorp/raft"
)

// serve answers Raft's requests on one connection, in order, until it ends.
func (t *peerTransport) serve(c *peerConn) error {
	defer context.AfterFunc(t.ctx, func() { c.Close() })() //nolint:errcheck // the reader finds out
	defer func() {
		if t.ctx.Err() == nil {
			t.n.leader.lost(c)
		}
	}()
	answers := make(chan raft.RPCResponse, 1)
	for {
		request, err := c.readRequest()
		if err != nil {
			return err
		}
		if err := t.answer(c, request, answers); err != nil {
			return err
		}
	}
}

// answer has Raft handle a request and writes what it says.
func (t *peerTransport) answer(c *peerConn, request any, answers chan raft.RPCResponse) error {
	var r raft.RPCResponse
	var err error
	switch m := request.(type) {
	case *raft.AppendEntriesRequest:
		t.n.stats.appendsIn.Add(1)
		t.skipHeld(m)
		if r, err = t.deliver(t.ctx, m, answers); err != nil {
			return err
		}
		t.noteLeader(c, m, r)
	case *raft.InstallSnapshotRequest:
		if cb := t.n.o.OnSnapshotOffered; cb != nil {
			cb(c.addr, c.id, m.Term, m.LastLogIndex)
		}
		r.Error = errSnapshotOffered
	default:
		if t.n.Muted() {
			t.n.stats.votesMuted.Add(1)
			r.Error = errMuted
			break
		}
		if r, err = t.deliver(t.ctx, m, answers); err != nil {
			return err
		}
	}
	if r.Error != nil {
		text := r.Error.Error()
		return c.writeFrame(rpcFailed, append(c.beginFrame(), text[:min(len(text), 1024)]...))
	}
	kind, b, err := encodeResponse(c.beginFrame(), r.Response)
	if err != nil {
		return err
	}
	return c.writeFrame(kind, b)
}

// setFollows says which entry this replica's log follows: that one and those before are committed, held by its snapshot, and no longer
// in the log. 0 is none.
func (t *peerTransport) setFollows(f func() (index, term uint64)) { t.follows.Store(&f) }

// skipHeld takes entries off a request that lie before what the log follows. A leader that knew this replica when its log was empty
// sends them from the first on, although it has been filled since; Raft here has no snapshot in mind when it looks for the entry
// before them, and would store them behind the end of the log or ask for ever earlier ones. They are the same entries: both sides
// have committed them.
func (t *peerTransport) skipHeld(m *raft.AppendEntriesRequest) {
	follows := t.follows.Load()
	if follows == nil || len(m.Entries) == 0 {
		return
	}
	index, term := (*follows)()
	if m.PrevLogEntry >= index {
		return
	}
	held := 0
	for held < len(m.Entries) && m.Entries[held].Index <= index {
		held++
	}
	// If all of them are held, Raft is asked about the entry that it knows alone, and the leader goes on behind the last one it sent.
	m.Entries = m.Entries[held:]
	m.PrevLogEntry, m.PrevLogTerm = index, term
}

// deliver gives a request to Raft and waits for the answer, on answers, which nobody else uses.
func (t *peerTransport) deliver(ctx context.Context, request any, answers chan raft.RPCResponse) (raft.RPCResponse, error) {
	rpc := raft.RPC{Command: request, RespChan: answers}
	fast := t.heartbeat.Load()
	if m, ok := request.(*raft.AppendEntriesRequest); ok && fast != nil && isHeartbeat(m) {
		(*fast)(rpc)
	} else {
		select {
		case t.rpcs <- rpc:
		case <-t.ctx.Done():
			return raft.RPCResponse{}, errTransportClosed
		case <-ctx.Done():
			return raft.RPCResponse{}, ctx.Err()
		}
	}
	select {
	case r := <-answers:
		return r, nil
	case <-t.ctx.Done():
		return raft.RPCResponse{}, errTransportClosed
	case <-ctx.Done():
		return raft.RPCResponse{}, ctx.Err()
	}
}

// noteLeader remembers that the present leader speaks over c, if Raft took the request for one of its.
func (t *peerTransport) noteLeader(c *peerConn, m *raft.AppendEntriesRequest, r raft.RPCResponse) {
	resp, ok := r.Response.(*raft.AppendEntriesResponse)
	if !ok || r.Error != nil || resp.Term != m.Term || c.leaderTerm == m.Term {
		return
	}
	c.leaderTerm = m.Term
	t.contacts.noteAll()
	addr := string(m.Addr)
	if addr == "" {
		addr = c.addr
	}
	t.n.leader.heard(addr, m.Term)
}
