package raftlog

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

// noLeaks fails the test if it leaves goroutines behind. Call it first: cleanups run in reverse order.
func noLeaks(t testing.TB) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if !t.Failed() {
			goleak.VerifyNone(t, before)
		}
	})
}

// listenPeers opens a port for a test.
func listenPeers(t testing.TB, o PeerNetOptions) *PeerNet {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.ServerID == "" {
		o.ServerID = "0-test"
	}
	n, err := ListenPeers(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// recorder is a raft.FSM that keeps what is applied.
type recorder struct {
	mu   sync.Mutex
	sums []uint64 // of every entry, by its length and contents
}

func (f *recorder) Apply(l *raft.Log) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sums = append(f.sums, fingerprint(l.Data))
	return nil
}
func (f *recorder) Snapshot() (raft.FSMSnapshot, error) { return nil, errSnapshotOffered }
func (f *recorder) Restore(io.ReadCloser) error         { return errSnapshotOffered }

func (f *recorder) applied() []uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sums[:len(f.sums):len(f.sums)]
}

func fingerprint(b []byte) uint64 {
	return uint64(len(b))<<32 | uint64(crc32.Checksum(b, castagnoli))
}

// raftNode is one Raft with a store in memory behind a PeerNet.
type raftNode struct {
	net  *PeerNet
	raft *raft.Raft
	fsm  *recorder
	id   raft.ServerID
	addr raft.ServerAddress
	down chan string // OnPeerDown
}

// raftGroup is a group of them.
type raftGroup struct {
	t     testing.TB
	nodes []*raftNode
}

var testTimings = Timings{Heartbeat: 500 * time.Millisecond, Election: 500 * time.Millisecond, Lease: 400 * time.Millisecond, Commit: 2 * time.Millisecond}

// startRafts starts a group, with the options that adapt, if it is not nil, has changed.
func startRafts(t testing.TB, size int, adapt func(i int, o *PeerNetOptions)) *raftGroup {
	t.Helper()
	g := &raftGroup{t: t}
	var servers []raft.Server
	for i := range size {
		n := &raftNode{fsm: &recorder{}, id: raft.ServerID(fmt.Sprintf("%d-x", i)), down: make(chan string, 16)}
		o := PeerNetOptions{ServerID: string(n.id), ClusterID: "c", Group: "g",
			OnPeerDown: func(addr string, refused bool) { n.down <- fmt.Sprintf("%s %v", addr, refused) }}
		if adapt != nil {
			adapt(i, &o)
		}
		n.net = listenPeers(t, o)
		n.addr = n.net.Transport().LocalAddr()
		g.nodes = append(g.nodes, n)
		servers = append(servers, raft.Server{ID: n.id, Address: n.addr})
	}
	for _, n := range g.nodes {
		n.start(t, servers)
	}
	return g
}

func (n *raftNode) start(t testing.TB, servers []raft.Server) {
	t.Helper()
	c := raft.DefaultConfig()
	c.LocalID = n.id
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = testTimings.Heartbeat, testTimings.Election, testTimings.Lease, testTimings.Commit
	c.Logger = &raftLogger{out: discardLogger()}
	store := raft.NewInmemStore()
	if err := raft.BootstrapCluster(c, store, store, raft.NewDiscardSnapshotStore(), n.net.Transport(), raft.Configuration{Servers: servers}); err != nil {
		t.Fatal(err)
	}
	r, err := raft.NewRaft(c, n.fsm, store, store, raft.NewDiscardSnapshotStore(), n.net.Transport())
	if err != nil {
		t.Fatal(err)
	}
	n.raft = r
	t.Cleanup(func() {
		// The port first, so that nobody waits for an answer.
		if err := n.net.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	})
}

// leader waits for a leader that has committed something in its term, other than but.
func (g *raftGroup) leader(but *raftNode) *raftNode {
	g.t.Helper()
	var found *raftNode
	awaitCond(g.t, "a leader", func() bool {
		for _, n := range g.nodes {
			if n != but && n.raft.State() == raft.Leader && n.raft.Barrier(time.Second).Error() == nil {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

// propose gives count entries of random sizes to n and returns what was committed, in order; it stops at the first failure.
func propose(n *raftNode, r *rand.Rand, count, sizeMin, sizeMax int) ([]uint64, error) {
	type proposal struct {
		sum uint64
		f   raft.ApplyFuture
	}
	inFlight := make(chan proposal, 64)
	go func() {
		defer close(inFlight)
		for range count {
			b := make([]byte, sizeMin+r.IntN(sizeMax-sizeMin+1))
			b[0], b[len(b)-1] = byte(r.Uint32()), byte(r.Uint32())
			inFlight <- proposal{fingerprint(b), n.raft.Apply(b, time.Second)}
		}
	}()
	var done []uint64
	var err error
	for p := range inFlight {
		if e := p.f.Error(); e != nil && err == nil {
			err = e
		}
		if err == nil {
			done = append(done, p.sum)
		}
	}
	return done, err
}

func contains(t testing.TB, n *raftNode, want []uint64) {
	t.Helper()
	awaitCond(t, "all entries applied", func() bool { return len(n.fsm.applied()) >= len(want) })
	got := n.fsm.applied()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%s: entry %d differs", n.id, i)
		}
	}
}

func TestPeerNetReplicatesAndFailsOver(t *testing.T) {
	noLeaks(t)
	g := startRafts(t, 3, nil)
	old := g.leader(nil)
	r := rand.New(rand.NewPCG(1, 2))
	want, err := propose(old, r, 10_000, 1, 2<<10)
	if err != nil {
		t.Fatal(err)
	}
	more, err := propose(old, r, 500, 1<<10, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, more...)
	for _, n := range g.nodes {
		contains(t, n, want)
		if n == old {
			continue
		}
		last := old.raft.LastIndex()
		awaitCond(t, "the match index is the last index", func() bool { return old.net.MatchIndex(string(n.addr)) == last })
		if p, ok := old.net.Progress(string(n.addr)); !ok || p.ServerID != string(n.id) || p.Term != old.raft.CurrentTerm() || p.LastAnswer.IsZero() {
			t.Fatalf("progress %+v", p)
		}
	}
	if err := old.net.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range g.nodes {
		if n != old {
			select {
			case down := <-n.down:
				if down != string(old.addr)+" true" {
					t.Fatalf("told that %s", down)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("not told that the leader is gone")
			}
		}
	}
	next := g.leader(old)
	if m := next.net.MatchIndex(string(old.addr)); m != 0 {
		t.Fatalf("the new leader knows %d of the old one, which never answered", m)
	}
	more, err = propose(next, r, 500, 1, 64<<10)
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, more...)
	for _, n := range g.nodes {
		if n != old {
			contains(t, n, want)
			if len(n.down) > 0 {
				t.Fatalf("told again: %s", <-n.down)
			}
		}
	}
}

func TestPeerNetTransfersLeadership(t *testing.T) {
	noLeaks(t)
	g := startRafts(t, 3, nil)
	old := g.leader(nil)
	if err := old.raft.LeadershipTransfer().Error(); err != nil {
		t.Fatal(err)
	}
	next := g.leader(old)
	if _, err := propose(next, rand.New(rand.NewPCG(1, 2)), 100, 1, 100); err != nil {
		t.Fatal(err)
	}
	// A leader that lives on is not reported, whatever it does with its connections.
	for _, n := range g.nodes {
		if len(n.down) > 0 {
			t.Fatalf("told that %s", <-n.down)
		}
	}
	// Whom we trigger wins against a leader that is alive.
	for _, n := range g.nodes {
		if n != next {
			awaitCond(t, "the triggered replica leads", func() bool {
				if n.raft.State() == raft.Leader {
					return true
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if err := n.net.TriggerElection(ctx); err != nil {
					t.Fatal(err)
				}
				return false
			})
			break
		}
	}
}

func TestPeerNetMuted(t *testing.T) {
	noLeaks(t)
	g := startRafts(t, 3, nil)
	old := g.leader(nil)
	var muted []*raftNode
	for _, n := range g.nodes {
		if n != old {
			n.net.SetMuted(true)
			muted = append(muted, n)
		}
	}
	if err := muted[0].net.TriggerElection(t.Context()); err == nil {
		t.Fatal("a muted replica was made to start an election")
	}
	if err := old.raft.LeadershipTransfer().Error(); err == nil {
		t.Fatal("leadership went to a muted replica")
	}
	// It goes on storing and acknowledging entries.
	old = g.leader(nil)
	want, err := propose(old, rand.New(rand.NewPCG(1, 2)), 50, 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, muted[0], want)
	if err := old.net.Close(); err != nil {
		t.Fatal(err)
	}
	awaitCond(t, "both have tried to be elected", func() bool {
		return muted[0].net.Stats().VotesMuted > 3 && muted[1].net.Stats().VotesMuted > 3
	})
	for _, n := range muted {
		if n.raft.State() == raft.Leader {
			t.Fatal("a muted replica leads")
		}
	}
	muted[1].net.SetMuted(false)
	muted[0].net.SetMuted(false)
	g.leader(old)
}

func TestPeerNetOffersNoSnapshot(t *testing.T) {
	noLeaks(t)
	offered := make(chan string, 1)
	a := listenPeers(t, PeerNetOptions{ServerID: "1-a"})
	b := listenPeers(t, PeerNetOptions{ServerID: "2-b", OnSnapshotOffered: func(addr, id string, term, index uint64) {
		offered <- fmt.Sprint(addr, " ", id, " ", term, " ", index)
	}})
	addr := b.Transport().LocalAddr()
	err := a.Transport().InstallSnapshot("2-b", addr, &raft.InstallSnapshotRequest{Term: 7, LastLogIndex: 42, Size: 5}, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("state")))
	if err == nil {
		t.Fatal("a snapshot was taken")
	}
	if got, want := <-offered, fmt.Sprint(a.Addr(), " 1-a 7 42"); got != want {
		t.Fatalf("offered %s, expected %s", got, want)
	}
}

// TestPeerNetOneWayPartition cuts what goes to one follower: it must not depose the leader, and it must catch up afterwards.
func TestPeerNetOneWayPartition(t *testing.T) {
	noLeaks(t)
	var proxies []*deafProxy
	g := startRafts(t, 3, func(i int, o *PeerNetOptions) {
		p := newDeafProxy(t)
		proxies = append(proxies, p)
		o.Advertise = p.addr()
		o.ControlTimeout = 100 * time.Millisecond
	})
	for i, p := range proxies {
		p.to(g.nodes[i].net.Addr().String())
	}
	lead := g.leader(nil)
	at := 0
	for g.nodes[at] == lead {
		at++
	}
	follower := g.nodes[at]
	term := lead.raft.CurrentTerm()
	proxies[at].setDeaf(true)
	awaitCond(t, "the follower misses its leader", func() bool { return follower.raft.State() == raft.Candidate })
	want, err := propose(lead, rand.New(rand.NewPCG(1, 2)), 200, 1, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if lead.raft.State() != raft.Leader || lead.raft.CurrentTerm() != term {
		t.Fatal("a follower that hears nothing deposed the leader")
	}
	proxies[at].setDeaf(false)
	contains(t, follower, want)
	if len(follower.down) > 0 {
		t.Fatalf("told that %s", <-follower.down)
	}
}

// deafProxy forwards connections to one address. While it is deaf, what clients send is held back, on new connections too.
type deafProxy struct {
	l      net.Listener
	wg     sync.WaitGroup
	mu     sync.Mutex
	cond   *sync.Cond
	target string
	deaf   bool
	closed bool
	conns  []net.Conn
}

func newDeafProxy(t testing.TB) *deafProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &deafProxy{l: l}
	p.cond = sync.NewCond(&p.mu)
	p.wg.Go(p.run)
	t.Cleanup(p.close)
	return p
}

func (p *deafProxy) addr() string { return p.l.Addr().String() }

func (p *deafProxy) to(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	p.cond.Broadcast()
}

func (p *deafProxy) setDeaf(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
	p.cond.Broadcast()
}

func (p *deafProxy) close() {
	p.l.Close()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.Close()
	}
	p.cond.Broadcast()
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *deafProxy) run() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		for p.target == "" && !p.closed {
			p.cond.Wait()
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil || p.closed {
			in.Close()
			p.mu.Unlock()
			continue
		}
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(in, out, true) })
		p.wg.Go(func() { p.copy(out, in, false) })
	}
}

func (p *deafProxy) copy(from, to net.Conn, may bool) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		for may && p.deaf && !p.closed {
			p.cond.Wait()
		}
		p.mu.Unlock()
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}
