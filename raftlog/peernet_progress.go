package raftlog

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// PeerProgress is what a leader knows of another replica.
type PeerProgress struct {
	ServerID   string
	Term       uint64    // of the leadership in which the rest was learnt
	MatchIndex uint64    // last entry that it holds
	LastAnswer time.Time // when it answered last, whatever it said
}

// progressTable follows how far the other replicas are, in the newest leadership of this one.
type progressTable struct {
	notify func(addr, serverID string, term, index uint64)

	mu   sync.Mutex
	term uint64
	all  map[raft.ServerAddress]*PeerProgress
}

func (t *progressTable) init(notify func(addr, serverID string, term, index uint64)) {
	t.notify, t.all = notify, make(map[raft.ServerAddress]*PeerProgress)
}

// lead notes that this replica leads in term; what was learnt before no longer holds. It reports whether that is new.
func (t *progressTable) lead(term uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if term <= t.term {
		return false
	}
	t.term = term
	clear(t.all)
	return true
}

// answered notes an answer to AppendEntries.
func (t *progressTable) answered(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) {
	index := args.PrevLogEntry
	if k := len(args.Entries); k > 0 {
		index = args.Entries[k-1].Index
	}
	grown := t.note(id, addr, args.Term, index, resp.Success)
	if grown && t.notify != nil {
		t.notify(string(addr), string(id), args.Term, index)
	}
}

func (t *progressTable) note(id raft.ServerID, addr raft.ServerAddress, term, index uint64, success bool) (grown bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if term != t.term {
		return false
	}
	p := t.all[addr]
	if p == nil || p.ServerID != string(id) {
		p = &PeerProgress{ServerID: string(id), Term: term}
		t.all[addr] = p
	}
	p.LastAnswer = time.Now()
	if success && index > p.MatchIndex {
		p.MatchIndex = index
		return true
	}
	return false
}

// Progress returns what is known of the replica at addr.
func (n *PeerNet) Progress(addr string) (PeerProgress, bool) {
	t := &n.progress
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.all[raft.ServerAddress(addr)]; p != nil {
		return *p, true
	}
	return PeerProgress{}, false
}

// MatchIndex returns the last entry that the replica at addr is known to hold just as this replica, the leader, does; 0 if there is
// none in this replica's newest leadership.
func (n *PeerNet) MatchIndex(addr string) uint64 {
	p, _ := n.Progress(addr)
	return p.MatchIndex
}
