package raftlog

import (
	"errors"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

var errNoTransport = errors.New("raftlog: this replica has no transport")

// kickTransport puts requests of its own into the stream that Raft receives from another transport. A group of one voter uses it
// to start its election at once, by the request that a leader sends when it hands over, instead of waiting for a heartbeat that
// cannot come.
type kickTransport struct {
	raft.Transport
	rpcs chan raft.RPC

	stop chan struct{}
	once sync.Once
	done chan struct{}
}

func newKickTransport(inner raft.Transport) *kickTransport {
	t := &kickTransport{Transport: inner, rpcs: make(chan raft.RPC), stop: make(chan struct{}), done: make(chan struct{})}
	go t.pump()
	return t
}

// pump forwards what the inner transport receives.
func (t *kickTransport) pump() {
	defer close(t.done)
	in := t.Transport.Consumer()
	for {
		select {
		case <-t.stop:
			return
		case rpc := <-in:
			select {
			case t.rpcs <- rpc:
			case <-t.stop:
				return
			}
		}
	}
}

// kick delivers a TimeoutNow request and waits until Raft has taken it.
func (t *kickTransport) kick() {
	rpc := raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	select {
	case t.rpcs <- rpc:
	case <-t.stop:
	}
}

func (t *kickTransport) Consumer() <-chan raft.RPC { return t.rpcs }

func (t *kickTransport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if pv, ok := t.Transport.(raft.WithPreVote); ok {
		return pv.RequestPreVote(id, target, args, resp)
	}
	return errNoTransport
}

// Close stops the pump and closes the inner transport.
func (t *kickTransport) Close() error {
	t.once.Do(func() { close(t.stop) })
	<-t.done
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// soloTransport is the transport of a replica that has no peers.
type soloTransport struct {
	addr raft.ServerAddress
	rpcs chan raft.RPC // nothing ever comes
}

func (t soloTransport) Consumer() <-chan raft.RPC     { return t.rpcs }
func (t soloTransport) LocalAddr() raft.ServerAddress { return t.addr }

func (t soloTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t soloTransport) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return errNoTransport
}

func (t soloTransport) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return errNoTransport
}

func (t soloTransport) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return errNoTransport
}

func (t soloTransport) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte {
	return []byte(addr)
}
func (t soloTransport) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }
func (t soloTransport) SetHeartbeatHandler(func(raft.RPC))     {}

func (t soloTransport) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return errNoTransport
}
