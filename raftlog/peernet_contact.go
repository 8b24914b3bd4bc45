package raftlog

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// contactTable lets requests with entries wait until a replica that could not be reached answers heartbeats again. Raft would wait
// ten seconds between two attempts after a longer absence, and the group for as long if it needs that replica's vote.
type contactTable struct {
	mu   sync.Mutex
	next map[raft.ServerID]chan struct{} // closed with the next answer
	gone map[raft.ServerID]bool          // no longer members, in this leadership
}

// await returns when id has answered a heartbeat, when that does not matter any more, or when ctx ends.
func (t *contactTable) await(ctx context.Context, id raft.ServerID) {
	t.mu.Lock()
	if t.gone[id] {
		t.mu.Unlock()
		return
	}
	c := t.next[id]
	if c == nil {
		if t.next == nil {
			t.next = make(map[raft.ServerID]chan struct{})
		}
		c = make(chan struct{})
		t.next[id] = c
	}
	t.mu.Unlock()
	select {
	case <-c:
	case <-ctx.Done():
	}
}

// note lets those go on who wait for id.
func (t *contactTable) note(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.next[id]; c != nil {
		close(c)
		delete(t.next, id)
	}
}

// noteAll lets everybody go on: leadership has changed.
func (t *contactTable) noteAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.gone)
	for id, c := range t.next {
		close(c)
		delete(t.next, id)
	}
}

// member says whether id is, from now on, a member of the group that this replica leads. Requests to one that is not do not wait.
func (t *peerTransport) member(id string, is bool) {
	c := &t.contacts
	c.mu.Lock()
	if c.gone == nil {
		c.gone = make(map[raft.ServerID]bool)
	}
	if is {
		delete(c.gone, raft.ServerID(id))
	} else {
		c.gone[raft.ServerID(id)] = true
	}
	c.mu.Unlock()
	c.note(raft.ServerID(id))
}
