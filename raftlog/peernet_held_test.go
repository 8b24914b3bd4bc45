package raftlog

import (
	"testing"

	"github.com/hashicorp/raft"
)

// A leader that knew this replica when its log was empty goes on from the first entry after the replica has been filled.
func TestEntriesThatAreHeldAreSkipped(t *testing.T) {
	entries := func(from, to uint64) (list []*raft.Log) {
		for i := from; i <= to; i++ {
			list = append(list, &raft.Log{Index: i, Term: 2})
		}
		return list
	}
	for _, c := range []struct {
		name           string
		follows        uint64
		prev, from, to uint64
		wantPrev, want uint64 // first of the entries that are left, 0 for none
	}{
		{"a log from the first entry on", 0, 0, 1, 5, 0, 1},
		{"behind what is held", 61, 61, 62, 70, 61, 62},
		{"further on", 61, 70, 71, 72, 70, 71},
		{"all held", 61, 0, 1, 61, 61, 0},
		{"half of it", 61, 40, 41, 104, 61, 62},
	} {
		var tr peerTransport
		tr.setFollows(func() (uint64, uint64) { return c.follows, 2 })
		m := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, PrevLogTerm: 2, Entries: entries(c.from, c.to)}
		tr.skipHeld(m)
		var first uint64
		if len(m.Entries) > 0 {
			first = m.Entries[0].Index
		}
		if m.PrevLogEntry != c.wantPrev || first != c.want {
			t.Errorf("%s: previous entry %d, first %d; want %d, %d", c.name, m.PrevLogEntry, first, c.wantPrev, c.want)
		}
	}
	m := &raft.AppendEntriesRequest{}
	var tr peerTransport
	tr.setFollows(func() (uint64, uint64) { return 61, 2 })
	if tr.skipHeld(m); m.PrevLogEntry != 0 {
		t.Error("a heartbeat was changed")
	}
}
