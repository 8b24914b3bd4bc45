package raftlog

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// peerPair is a transport that asks and one whose requests the test answers.
func peerPair(t *testing.T, o PeerNetOptions) (a raft.Transport, b *PeerNet, addr raft.ServerAddress) {
	o.ServerID = "1-a"
	n := listenPeers(t, o)
	b = listenPeers(t, PeerNetOptions{ServerID: "2-b"})
	return n.Transport(), b, b.Transport().LocalAddr()
}

// answerAppends has every AppendEntries succeed until the test ends.
func answerAppends(t *testing.T, tr raft.Transport) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case rpc := <-tr.Consumer():
				m := rpc.Command.(*raft.AppendEntriesRequest)
				rpc.Respond(&raft.AppendEntriesResponse{Term: m.Term, Success: true}, nil)
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func someEntries(first uint64, count, size int) []*raft.Log {
	var list []*raft.Log
	for i := range count {
		list = append(list, &raft.Log{Index: first + uint64(i), Term: 1, Data: make([]byte, size)})
	}
	return list
}

// TestPeerHeartbeatPassesEntries answers a heartbeat while Raft at the other side is stuck with entries.
func TestPeerHeartbeatPassesEntries(t *testing.T) {
	noLeaks(t)
	a, b, addr := peerPair(t, PeerNetOptions{})
	b.Transport().SetHeartbeatHandler(func(rpc raft.RPC) {
		rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	})
	entries := make(chan error, 1)
	go func() {
		entries <- a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1, Entries: someEntries(1, 4, 1<<20)}, &raft.AppendEntriesResponse{})
	}()
	stuck := <-b.Transport().Consumer()
	var resp raft.AppendEntriesResponse
	for range 10 {
		if err := a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1}, &resp); err != nil || !resp.Success {
			t.Fatal(resp, err)
		}
	}
	stuck.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
	if err := <-entries; err != nil {
		t.Fatal(err)
	}
	if s := b.Stats(); s.ConnsAccepted != 2 {
		t.Fatalf("%d connections", s.ConnsAccepted)
	}
}

// TestPeerSilenceHangsUp lets a heartbeat go unanswered: the entries that wait at the same replica fail with it.
func TestPeerSilenceHangsUp(t *testing.T) {
	noLeaks(t)
	a, b, addr := peerPair(t, PeerNetOptions{ControlTimeout: 50 * time.Millisecond})
	b.Transport().SetHeartbeatHandler(func(raft.RPC) {})
	entries := make(chan error, 1)
	go func() {
		entries <- a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1, Entries: someEntries(1, 1, 1)}, &raft.AppendEntriesResponse{})
	}()
	<-b.Transport().Consumer()
	if err := a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err == nil {
		t.Fatal("a heartbeat without an answer succeeded")
	}
	a.(*peerTransport).member("2-b", false) // else they would wait for the next heartbeat
	if err := <-entries; err == nil {
		t.Fatal("entries without an answer succeeded")
	}
}

// TestPeerConnectionKeptTooLong restarts the other side between two requests: the second must not fail for it.
func TestPeerConnectionKeptTooLong(t *testing.T) {
	noLeaks(t)
	a, b, addr := peerPair(t, PeerNetOptions{})
	answerAppends(t, b.Transport())
	ask := func(index uint64) {
		t.Helper()
		var resp raft.AppendEntriesResponse
		if err := a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1, Entries: someEntries(index, 1, 1)}, &resp); err != nil || !resp.Success {
			t.Fatal(resp, err)
		}
	}
	ask(1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = listenPeers(t, PeerNetOptions{ServerID: "2-b", Listen: string(addr)})
	answerAppends(t, b.Transport())
	ask(2)
	// Another incarnation at the same address is not taken for the one that was there.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	listenPeers(t, PeerNetOptions{ServerID: "2-new", Listen: string(addr)}).Transport()
	err := a.AppendEntries("2-b", addr, &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{})
	var refusal *PeerRefusal
	if !errors.As(err, &refusal) || refusal.Code != PeerWrongServer {
		t.Fatal(err)
	}
}

func TestPeerPipeline(t *testing.T) {
	noLeaks(t)
	type step struct{ term, index uint64 }
	var steps []step
	a, b, addr := peerPair(t, PeerNetOptions{AppendTimeout: 5 * time.Second,
		OnProgress: func(_, id string, term, index uint64) { steps = append(steps, step{term, index}) }}) // before the future is ready
	p, err := a.AppendEntriesPipeline("2-b", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	// More than may be under way: the sender must wait, and find room again.
	sent := make(chan error, 1)
	const count = 3 * pipelineSlots
	go func() {
		for i := range uint64(count) {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 3, Entries: someEntries(10+i, 1, 1<<20)}, &raft.AppendEntriesResponse{}); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	first := <-b.Transport().Consumer()
	first.Respond(&raft.AppendEntriesResponse{Term: 3, Success: true}, nil)
	answerAppends(t, b.Transport())
	for i := range uint64(count) {
		f := <-p.Consumer()
		if err := f.Error(); err != nil || f.Request().Entries[0].Index != 10+i || !f.Response().Success || f.Start().IsZero() {
			t.Fatal(i, err, f.Request().Entries[0].Index)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if len(steps) != count || steps[0] != (step{3, 10}) || steps[count-1] != (step{3, 10 + count - 1}) {
		t.Fatal(len(steps), steps)
	}
	// The connection ends: the next request says so, at the latest the one after it, and nothing comes to Consumer.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	awaitCond(t, "the pipeline fails", func() bool {
		f, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 3}, &raft.AppendEntriesResponse{})
		if err == nil && f.Error() == nil {
			t.Fatal("a request without an answer succeeded")
		}
		return err != nil
	})
	select {
	case <-p.Consumer():
		t.Fatal("a failed request was delivered")
	default:
	}
}

// TestPeerProgressOfTerms forgets what was learnt in an earlier leadership, and of an earlier replica at the same address.
func TestPeerProgressOfTerms(t *testing.T) {
	var p progressTable
	p.init(nil)
	n := &PeerNet{}
	answered := func(id string, term, prev uint64, entries []*raft.Log, success bool) uint64 {
		p.answered(raft.ServerID(id), "x", &raft.AppendEntriesRequest{Term: term, PrevLogEntry: prev, Entries: entries}, &raft.AppendEntriesResponse{Success: success})
		n.progress.all = p.all
		return n.MatchIndex("x")
	}
	p.lead(4)
	for i, test := range []struct{ got, want uint64 }{
		{answered("a", 4, 0, nil, true), 0},                      // a heartbeat
		{answered("a", 4, 7, nil, true), 7},                      // it has what went before
		{answered("a", 4, 7, someEntries(8, 3, 0), true), 10},    //
		{answered("a", 4, 10, someEntries(11, 3, 0), false), 10}, //
		{answered("a", 4, 8, nil, true), 10},                     // an answer that is late
		{answered("a", 3, 20, nil, true), 10},                    // of an earlier term
		{answered("b", 4, 5, nil, true), 5},                      // another replica
	} {
		if test.got != test.want {
			t.Fatalf("step %d: %d, expected %d", i, test.got, test.want)
		}
	}
	if p.lead(4) || !p.lead(5) || n.MatchIndex("x") != 0 {
		t.Fatal("a new term begins with nothing known")
	}
}

// TestPeerDown tells of a leader's port that refuses, once, and not of one that is open.
func TestPeerDown(t *testing.T) {
	noLeaks(t)
	down := make(chan string, 8)
	b := listenPeers(t, PeerNetOptions{ServerID: "2-b", OnPeerDown: func(addr string, refused bool) {
		if !refused {
			addr += " silent"
		}
		down <- addr
	}})
	answerAppends(t, b.Transport())
	lead := func(a *PeerNet, term uint64) {
		t.Helper()
		var resp raft.AppendEntriesResponse
		m := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: []byte(a.Addr().String())}, Term: term, Entries: someEntries(1, 1, 1)}
		if err := a.Transport().AppendEntries("2-b", raft.ServerAddress(b.Addr().String()), m, &resp); err != nil {
			t.Fatal(err)
		}
	}
	old := listenPeers(t, PeerNetOptions{ServerID: "1-a"})
	lead(old, 1)
	// Raft stops there, the port stays.
	if err := old.Transport().(raft.WithClose).Close(); err != nil {
		t.Fatal(err)
	}
	awaitCond(t, "the port was looked at", func() bool { return b.Stats().LeaderProbes == 1 })
	lead(old, 1)
	next := listenPeers(t, PeerNetOptions{ServerID: "3-c"})
	lead(next, 2)
	// The end of an earlier leader is of no interest.
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if got := <-down; got != next.Addr().String() {
		t.Fatalf("told of %s, expected %s", got, next.Addr())
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(down) > 0 {
		t.Fatalf("told again, of %s", <-down)
	}
}
