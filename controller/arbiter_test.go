package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog"
	"rmq/remoting/protocol"
)

// notes is a state machine that remembers every record, for as long as the process lives.
type notes struct {
	mu      sync.Mutex
	records []string
	applied int64
}

func (n *notes) Stamp([]byte, int64) error { return nil }
func (n *notes) Rewind() int64             { return n.AppliedOffset() }

func (n *notes) Apply(record []byte, offset int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if offset >= n.applied {
		n.records = append(n.records, string(record))
	}
}

func (n *notes) Applied(end int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.applied = max(n.applied, end)
}

func (n *notes) AppliedOffset() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applied
}

func (n *notes) Snapshot() (raftlog.Snapshot, error) { return nil, errors.New("there are none") }
func (n *notes) Floor() int64                        { return 0 }

func (n *notes) has(record string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.records {
		if r == record {
			return true
		}
	}
	return false
}

// dataNode is a data replica.
type dataNode struct {
	number int
	dir    string
	id     string
	addr   string
	net    *raftlog.PeerNet
	log    *raftlog.Log
	state  *notes
}

// trio is a group of two data replicas and an arbiter.
type trio struct {
	t        *testing.T
	dir      string
	arbiters *Arbiters
	offer    protocol.ArbiterOffer
	nodes    [2]*dataNode
	acked    []string
	change   func(o *ArbiterOptions)
}

const (
	trioCluster = "C"
	trioGroup   = "b-a"
)

func trioRequest() protocol.ArbiterRequest {
	return protocol.ArbiterRequest{Cluster: trioCluster, Group: trioGroup, EntryBytesMax: 32 << 10}
}

// openArbiters opens the arbiters of dir, quick and small.
func openArbiters(t *testing.T, dir string, change func(o *ArbiterOptions)) *Arbiters {
	t.Helper()
	o := ArbiterOptions{Listen: "127.0.0.1", Advertise: "127.0.0.1", SegmentBytes: 128 << 10,
		HandOver: 500 * time.Millisecond, MutedFor: time.Minute,
		Timings: raftlog.Timings{Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 200 * time.Millisecond}}
	if change != nil {
		change(&o)
	}
	h, err := OpenArbiters(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() }) //nolint:errcheck // the test has closed it if that matters
	return h
}

// startTrio founds a group of one and makes it a group of three votes, as a leader does.
func startTrio(t *testing.T, change func(o *ArbiterOptions)) *trio {
	g := &trio{t: t, dir: t.TempDir(), change: change}
	g.arbiters = openArbiters(t, g.dir, change)
	t.Cleanup(func() {
		for i := range g.nodes {
			g.stop(i)
		}
	})
	g.nodes[0] = &dataNode{number: 0, dir: t.TempDir()}
	g.start(0, true)
	g.leader(0)
	g.put(3)
	g.seed(0)
	g.nodes[1] = &dataNode{number: 1, dir: t.TempDir()}
	g.start(1, false)
	lead, second := g.nodes[0], g.nodes[1]
	ctx := g.ctx()
	for _, err := range []error{
		lead.log.AddNonvoter(ctx, g.offer.ServerID, g.offer.Address), lead.log.AddNonvoter(ctx, second.id, second.addr),
		lead.log.AddVoter(ctx, g.offer.ServerID, g.offer.Address), lead.log.AddVoter(ctx, second.id, second.addr),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g.settle()
	return g
}

// seed asks for the arbiter and seeds it.
func (g *trio) seed(leader int) {
	g.t.Helper()
	lead := g.nodes[leader]
	var err error
	if g.offer, err = g.arbiters.Offer(g.ctx(), trioRequest()); err != nil {
		g.t.Fatal(err)
	}
	p, err := lead.log.FillPoint(math.MaxInt64)
	if err != nil {
		g.t.Fatal(err)
	}
	if err := SeedArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, p); err != nil {
		g.t.Fatal(err)
	}
}

func (g *trio) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	g.t.Cleanup(cancel)
	return ctx
}

// start runs a data replica, the first one as the founder if it is new.
func (g *trio) start(i int, found bool) {
	g.t.Helper()
	n := g.nodes[i]
	var err error
	if n.log, err = raftlog.Open(filepath.Join(n.dir, "log"), raftlog.Options{SegmentBytes: 1 << 20, TailCacheBytes: 1 << 20, RecordBytesMax: 32 << 10, SnapshotEveryBytes: 1 << 40}); err != nil {
		g.t.Fatal(err)
	}
	n.id = fmt.Sprintf("%d-%s", n.number, n.log.Identity().Incarnation)
	listen := n.addr
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	if n.net, err = raftlog.ListenPeers(raftlog.PeerNetOptions{Listen: listen, ClusterID: trioCluster, Group: trioGroup, ServerID: n.id}); err != nil {
		g.t.Fatal(err)
	}
	n.addr = n.net.Addr().String()
	if found {
		if err := n.log.Bootstrap([]raft.Server{{ID: raft.ServerID(n.id), Address: raft.ServerAddress(n.addr)}}); err != nil {
			g.t.Fatal(err)
		}
	}
	n.state = &notes{}
	if err := n.log.Start(n.state, raftlog.Member{ServerID: n.id, Address: n.addr, Transport: n.net.Transport(),
		Timings: raftlog.Timings{Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, Lease: 200 * time.Millisecond}}); err != nil {
		g.t.Fatal(err)
	}
}

// stop ends a data replica: its connections first, as when a process dies.
func (g *trio) stop(i int) {
	g.t.Helper()
	n := g.nodes[i]
	if n == nil || n.log == nil {
		return
	}
	if err := errors.Join(n.net.Close(), n.log.Close()); err != nil {
		g.t.Error(err)
	}
	n.log = nil
}

func (g *trio) await(what string, cond func() bool) {
	g.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			for _, n := range g.nodes {
				if n != nil && n.log != nil {
					g.t.Logf("replica %d: %+v", n.number, n.log.Status())
				}
			}
			g.t.Fatalf("not within 20 s: %s; the arbiter: %+v", what, g.arbiters.Status())
		}
		<-time.After(2 * time.Millisecond)
	}
}

// leader waits until the data replica leads and has applied what was committed before. If another one does, it hands over.
func (g *trio) leader(i int) {
	g.t.Helper()
	heir := g.nodes[i]
	g.await(fmt.Sprintf("replica %d leads", i), func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if n := g.leads(); n != nil && n != heir {
			n.log.TransferLeadershipTo(ctx, heir.id, heir.addr) //nolint:errcheck // who leads is looked at
		}
		return heir.log.IsLeader() && heir.log.Barrier(ctx) == nil
	})
}

// leads is the data replica that leads now, nil if none does.
func (g *trio) leads() *dataNode {
	for _, n := range g.nodes {
		if n != nil && n.log != nil && n.log.IsLeader() {
			return n
		}
	}
	return nil
}

// put appends records at the leader, and waits for each.
func (g *trio) put(count int) {
	g.t.Helper()
	for range count {
		record := fmt.Sprintf("%d-%s", len(g.acked), bytes.Repeat([]byte("x"), 3000))
		g.append([]byte(record))
		g.acked = append(g.acked, record)
	}
}

func (g *trio) append(record []byte) {
	g.t.Helper()
	g.await("a record is committed", func() bool {
		n := g.leads()
		if n == nil {
			return false
		}
		answered := make(chan error, 1)
		err := n.log.Append(record, raftlog.AckCommitted, func(r raftlog.AppendResult) { answered <- r.Err })
		if err == nil {
			err = <-answered
		}
		return err == nil
	})
}

// settle waits until all servers hold what the leader does.
func (g *trio) settle() {
	g.t.Helper()
	g.await("all have everything", func() bool {
		lead := g.leads()
		if lead == nil {
			return false
		}
		last := lead.log.Status().LastIndex
		for _, n := range g.nodes {
			if n == nil || n.log == nil {
				continue
			}
			if at := n.log.Status(); at.LastIndex < last || at.CommitIndex < last {
				return false
			}
		}
		return g.status().LastIndex >= last
	})
}

func (g *trio) status() ArbiterStatus {
	g.t.Helper()
	for _, s := range g.arbiters.Status() {
		if s.ServerID == g.offer.ServerID {
			return s
		}
	}
	return ArbiterStatus{} // it is being opened
}

// wantAll checks that a replica has applied everything that was acknowledged.
func (g *trio) wantAll(i int) {
	g.t.Helper()
	for k, record := range g.acked {
		g.await(fmt.Sprintf("replica %d has record %d of %d", i, k, len(g.acked)), func() bool { return g.nodes[i].state.has(record) })
	}
}

// Either data replica may be lost, with its machine, and the other goes on.
func TestArbiterReplacesEitherDataReplica(t *testing.T) {
	g := startTrio(t, nil)
	g.put(5)
	g.settle()
	g.stop(1)
	g.put(5)
	g.start(1, false)
	g.settle()
	g.stop(0)
	g.leader(1)
	g.put(5)
	g.wantAll(1)
	g.start(0, false)
	g.settle()
	g.wantAll(0)
}

// What only the arbiter holds reaches the data replica that lacked it, and that one leads.
func TestArbiterCompletesADataReplica(t *testing.T) {
	g := startTrio(t, nil)
	g.put(3)
	g.settle()
	g.stop(1)
	g.put(50)
	g.stop(0)
	g.start(1, false)
	g.leader(1)
	g.wantAll(1)
	g.put(3)
	g.await("the arbiter follows", func() bool { return g.hello().Leader == g.nodes[1].id })
	if s := g.status(); s.State != ArbiterRunning || s.Why != "" {
		t.Errorf("%+v", s)
	}
}

// hello asks the arbiter who it is, as members do.
func (g *trio) hello() Hello {
	g.t.Helper()
	for _, n := range g.nodes {
		if n == nil || n.log == nil {
			continue
		}
		var h Hello
		if err := Ask(g.ctx(), n.net, g.offer.Address, CallHello, Hello{Number: n.number}, &h); err != nil {
			g.t.Fatal(err)
		}
		return h
	}
	g.t.Fatal("nobody is there to ask")
	return Hello{}
}

// An arbiter that lacks what a data replica needs does not lead, keeps out of elections, and is back when there is a leader.
func TestArbiterThatCannotCompleteMustNotLead(t *testing.T) {
	g := startTrio(t, nil)
	g.settle()
	g.stop(1)
	g.put(150)
	lead := g.nodes[0]
	g.await("the arbiter has it all", func() bool { return g.status().LastIndex >= lead.log.Status().LastIndex })
	// As if the leader had believed that replica 1 holds everything.
	if _, err := DropArbiterBelow(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term(), lead.log.Status().LastIndex); err != nil {
		t.Fatal(err)
	}
	g.stop(0)
	g.start(1, false)
	g.await("the arbiter gives up", func() bool { return g.status().State == ArbiterMuted })
	if h := g.hello(); !h.Muted || !h.Arbiter || h.Leads {
		t.Errorf("%+v", h)
	}
	if g.status().Why == "" || g.nodes[1].log.IsLeader() {
		t.Errorf("%+v", g.status())
	}
	g.start(0, false)
	g.leader(0)
	g.settle()
	g.await("the arbiter votes again", func() bool { return g.status().State == ArbiterRunning })
	g.wantAll(1)
}

// Muted for long enough, it tries again.
func TestMutedArbiterTriesAgain(t *testing.T) {
	g := startTrio(t, func(o *ArbiterOptions) { o.MutedFor, o.HandOver = time.Millisecond, 50*time.Millisecond })
	g.stop(1)
	g.put(150)
	lead := g.nodes[0]
	g.await("the arbiter has it all", func() bool { return g.status().LastIndex >= lead.log.Status().LastIndex })
	if _, err := DropArbiterBelow(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term(), lead.log.Status().LastIndex); err != nil {
		t.Fatal(err)
	}
	g.stop(0)
	g.start(1, false)
	for range 2 {
		g.await("the arbiter gives up", func() bool { return g.status().State == ArbiterMuted })
		g.await("the arbiter tries again", func() bool { return g.status().State == ArbiterRunning })
	}
}

// It drops what all data replicas hold, and goes on from there after a restart, at its address and under its name.
func TestArbiterDropsAndRestarts(t *testing.T) {
	g := startTrio(t, nil)
	g.put(150)
	g.settle()
	lead := g.nodes[0]
	before := g.status().Bytes
	s, err := DropArbiterBelow(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term(), lead.log.Status().LastIndex)
	if err != nil || s.Bytes >= before || s.Bytes > 2*128<<10 {
		t.Fatalf("%d bytes were kept, now it is %+v, %v", before, s, err)
	}
	if err := g.arbiters.Close(); err != nil {
		t.Fatal(err)
	}
	g.put(5) // two data replicas are a majority
	g.arbiters = openArbiters(t, g.dir, nil)
	g.settle()
	if s := g.status(); s.State != ArbiterRunning || s.Bytes == 0 || s.BytesMax != 1<<30 {
		t.Errorf("%+v", s)
	}
	offer, err := g.arbiters.Offer(g.ctx(), trioRequest())
	if err != nil || offer != g.offer || !g.arbiters.Has(trioCluster, trioGroup) || g.arbiters.Has(trioCluster, "other") {
		t.Errorf("%+v, before %+v, %v", offer, g.offer, err)
	}
	g.stop(1)
	g.put(5)
}

// Seeding again leaves an arbiter alone that can catch up by itself: what it keeps may be needed.
func TestSeedingAgain(t *testing.T) {
	g := startTrio(t, nil)
	g.put(50)
	g.settle()
	before := g.status()
	g.seed(0)
	if after := g.status(); after.Bytes < before.Bytes || after.LastIndex < before.LastIndex {
		t.Errorf("%+v became %+v", before, after)
	}
	p, err := g.nodes[0].log.FillPoint(math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	// A leader whose log begins behind the arbiter's end has nothing that could complete it.
	p.EndIndex, p.First, p.Index = p.EndIndex+100, p.EndIndex+100, p.EndIndex+99
	p.Configuration, p.ConfigurationIndex, p.Term = p.EndConfiguration, p.EndConfigurationIndex, p.EndTerm
	lead := g.nodes[0]
	if err := SeedArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, p); err != nil {
		t.Fatal(err)
	}
	if s := g.status(); s.State != ArbiterRunning || s.Bytes > before.Bytes {
		t.Errorf("%+v became %+v", before, s)
	}
	p.EndIndex, p.First, p.Index = 3, 1, 0
	p.Configuration, p.ConfigurationIndex, p.Term = nil, 0, 0
	p.EndConfigurationIndex = 1
	if err := SeedArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, p); err != nil {
		t.Errorf("it runs, and is to be left alone: %v", err)
	}
}

// One whose log conflicts with the leader's further back than that reaches is seeded although its log is long enough.
func TestSeedingWhatHasConflicts(t *testing.T) {
	g := startTrio(t, nil)
	g.put(50)
	g.settle()
	before := g.status()
	g.arbiters.mu.Lock()
	for _, a := range g.arbiters.all {
		a.setLacks(true) // as its Raft port says when a leader offers a snapshot
	}
	g.arbiters.mu.Unlock()
	if !g.status().Lacks {
		t.Error("it does not say so")
	}
	g.leader(0)
	g.seed(0)
	if s := g.status(); s.Lacks || s.Bytes >= before.Bytes || s.State != ArbiterRunning {
		t.Errorf("%+v became %+v", before, s)
	}
	g.put(3)
	g.settle()
}

// The leader removes it; another one is another server.
func TestArbiterIsRemoved(t *testing.T) {
	g := startTrio(t, nil)
	lead := g.nodes[0]
	if err := RemoveArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term()-1); err == nil {
		t.Fatal("a deposed leader removed the arbiter")
	}
	if err := lead.log.RemoveServer(g.ctx(), g.offer.ServerID); err != nil {
		t.Fatal(err)
	}
	if err := RemoveArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term()); err != nil {
		t.Fatal(err)
	}
	if err := RemoveArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, lead.log.Term()); err != nil {
		t.Fatalf("again: %v", err)
	}
	if p, err := lead.log.FillPoint(math.MaxInt64); err != nil {
		t.Fatal(err)
	} else if err := SeedArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, p); err == nil {
		t.Error("an arbiter that was removed was seeded")
	}
	g.await("it is gone", func() bool {
		left, err := os.ReadDir(g.dir)
		return err == nil && len(left) == 0
	})
	was := g.offer
	g.seed(0)
	if g.offer.ServerID == was.ServerID {
		t.Error("the same server again")
	}
	for _, err := range []error{lead.log.AddNonvoter(g.ctx(), g.offer.ServerID, g.offer.Address), lead.log.AddVoter(g.ctx(), g.offer.ServerID, g.offer.Address)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	g.settle()
	g.stop(1)
	g.put(3)
	if err := g.arbiters.Forget(trioCluster, trioGroup); err != nil {
		t.Fatal(err)
	}
	if err := g.arbiters.Forget(trioCluster, trioGroup); err != nil {
		t.Fatal(err)
	}
	if g.arbiters.Has(trioCluster, trioGroup) {
		t.Error("still there")
	}
}

// What is not meant for it, or comes from a leader that was deposed, is refused.
func TestArbiterRefuses(t *testing.T) {
	g := startTrio(t, nil)
	lead := g.nodes[0]
	term := lead.log.Term()
	for what, call := range map[string]func() error{
		"another server": func() error { _, err := AskArbiter(g.ctx(), lead.net, g.offer.Address, "arbiter-x"); return err },
		"old term": func() error {
			_, err := DropArbiterBelow(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID, term-1, 5)
			return err
		},
		"no point": func() error {
			return Ask(g.ctx(), lead.net, g.offer.Address, CallArbiterSeed, ArbiterCall{ServerID: g.offer.ServerID}, nil)
		},
		"another call": func() error { return Ask(g.ctx(), lead.net, g.offer.Address, CallReport, ReportRequest{}, nil) },
		"no JSON":      func() error { return Ask(g.ctx(), lead.net, g.offer.Address, CallArbiterStatus, "x", nil) },
	} {
		var refusal *Refusal
		if err := call(); !errors.As(err, &refusal) || refusal.Code != CodeRefused {
			t.Errorf("%s: %v", what, err)
		}
	}
	if b, err := lead.net.Call(g.ctx(), g.offer.Address, []byte("x")); err != nil || b[0] != CodeRefused {
		t.Errorf("%q %v", b, err)
	}
	if s, err := AskArbiter(g.ctx(), lead.net, g.offer.Address, g.offer.ServerID); err != nil || s.State != ArbiterRunning || s.Term != term {
		t.Errorf("%+v %v", s, err)
	}
}

// One that nobody relieves gives up in the end, so that it does not fill the disk; it can be replaced.
func TestArbiterGivesUpAtItsLimit(t *testing.T) {
	g := startTrio(t, func(o *ArbiterOptions) { o.BytesMax, o.BytesLimit = 100<<10, 200<<10 })
	g.put(100)
	g.await("it gives up", func() bool { return g.status().State == ArbiterFailed })
	g.put(3)
	q := trioRequest()
	q.Exclude = []string{g.offer.ServerID}
	offer, err := g.arbiters.Offer(g.ctx(), q)
	if err != nil || offer.ServerID == g.offer.ServerID {
		t.Fatalf("%+v %v", offer, err)
	}
	q.Exclude = []string{offer.ServerID}
	var coded interface{ ResponseCode() int32 }
	if _, err := g.arbiters.Offer(g.ctx(), q); !errors.As(err, &coded) || coded.ResponseCode() != protocol.ArbiterFailed {
		t.Errorf("%v", err)
	}
}

// Memory does not grow with what is kept.
func TestArbiterMemory(t *testing.T) {
	g := startTrio(t, nil)
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	record := bytes.Repeat([]byte("y"), 30<<10)
	before := heap()
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			for range 60 {
				g.append(record)
			}
		})
	}
	wait.Wait()
	g.settle()
	for _, n := range g.nodes { // what they remember is not the arbiter's
		n.state.mu.Lock()
		n.state.records = nil
		n.state.mu.Unlock()
	}
	if kept, grown := g.status().Bytes, heap()-before; kept < 25<<20 || grown > 20<<20 {
		t.Errorf("the arbiter keeps %d bytes, the heap grew by %d", kept, grown)
	}
}

func TestOffersAreLimited(t *testing.T) {
	h := openArbiters(t, t.TempDir(), func(o *ArbiterOptions) { o.Max = 1 })
	q := trioRequest()
	q.OtherHost = true
	for addr, shares := range map[string]bool{"192.0.2.7:10912": false, "127.0.0.1:10912": true, "nonsense": false} {
		q.DataAddrs = []string{addr}
		offer, err := h.Offer(t.Context(), q)
		var coded interface{ ResponseCode() int32 }
		if shares != (errors.As(err, &coded) && coded.ResponseCode() == protocol.ArbiterSharesHost) || !shares && err != nil {
			t.Errorf("%s: %+v %v", addr, offer, err)
		}
		if err == nil {
			if err := h.Forget(q.Cluster, q.Group); err != nil {
				t.Fatal(err)
			}
		}
	}
	q.OtherHost, q.DataAddrs = false, []string{"127.0.0.1:10912"}
	first, err := h.Offer(t.Context(), q)
	if err != nil || !first.SharesHost {
		t.Fatalf("%+v %v", first, err)
	}
	if h.Has(q.Cluster, q.Group) {
		t.Error("nobody has seeded it")
	}
	again, err := h.Offer(t.Context(), q)
	if err != nil || again != first {
		t.Errorf("%+v %v", again, err)
	}
	other := q
	other.Group = "b-b"
	var coded interface{ ResponseCode() int32 }
	if _, err := h.Offer(t.Context(), other); !errors.As(err, &coded) || coded.ResponseCode() != protocol.ArbiterLimit {
		t.Errorf("%v", err)
	}
	if err := h.Forget(q.Cluster, q.Group); err != nil {
		t.Fatal(err)
	}
	other.EntryBytesMax = 1 << 40
	if _, err := h.Offer(t.Context(), other); err == nil {
		t.Error("entries of a TiB")
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Offer(t.Context(), q); !errors.Is(err, errArbitersClosed) {
		t.Errorf("%v", err)
	}
}

// New arbiters take the first free port from a given one on, and keep it; one whose port is taken waits for it.
func TestArbiterPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := taken.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	h := openArbiters(t, dir, func(o *ArbiterOptions) { o.FirstPort = first })
	offer, err := h.Offer(t.Context(), trioRequest())
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := net.SplitHostPort(offer.Address)
	if err != nil {
		t.Fatal(err)
	}
	if port, err := strconv.Atoi(text); err != nil || port <= first || port > first+100 {
		t.Errorf("port %s, %v", text, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	squatter, err := net.Listen("tcp", offer.Address)
	if err != nil {
		t.Fatal(err)
	}
	h = openArbiters(t, dir, nil)
	state := func() ArbiterState { return h.Status()[0].State }
	g := &trio{t: t, arbiters: h}
	g.await("it cannot listen", func() bool { return state() == ArbiterFailed })
	if err := squatter.Close(); err != nil {
		t.Fatal(err)
	}
	g.await("it listens", func() bool { return state() == ArbiterEmpty })
	again, err := h.Offer(t.Context(), trioRequest())
	if err != nil || again != offer {
		t.Errorf("%+v, was %+v, %v", again, offer, err)
	}
}

// What cannot be read is left out, and what a crash has left is removed; the others work.
func TestArbitersWithBrokenDirectories(t *testing.T) {
	dir := t.TempDir()
	h := openArbiters(t, dir, nil)
	for _, group := range []string{"good", "broken", "later", "moved", "headless"} {
		q := trioRequest()
		q.Group = group
		if _, err := h.Offer(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	at := func(group string) string { return filepath.Join(dir, arbiterDir(trioCluster, group)) }
	for _, err := range []error{
		os.WriteFile(filepath.Join(at("broken"), arbiterFileName), []byte("{"), 0o600),
		os.WriteFile(filepath.Join(at("later"), arbiterFileName), []byte(`{"version":9}`), 0o600),
		os.Rename(at("moved"), at("elsewhere")),
		os.Remove(filepath.Join(at("headless"), arbiterFileName)),
		os.WriteFile(filepath.Join(dir, "README"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h = openArbiters(t, dir, nil)
	if all := h.Status(); len(all) != 1 || all[0].Group != "good" {
		t.Errorf("%+v", all)
	}
	if _, err := os.Stat(at("headless")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, group := range []string{"broken", "later"} {
		if _, err := os.Stat(at(group)); err != nil {
			t.Error(err)
		}
	}
	// A log that is damaged keeps its arbiter from running, and nothing else.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at("good"), "log", "node.json"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	h = openArbiters(t, dir, nil)
	g := &trio{t: t, arbiters: h}
	g.await("it says that it failed", func() bool { return h.Status()[0].State == ArbiterFailed })
	q := trioRequest()
	q.Group = "good"
	if _, err := h.Offer(t.Context(), q); err == nil {
		t.Error("an arbiter without a name was offered")
	}
}

func TestArbiterOptionsAreChecked(t *testing.T) {
	for _, o := range []ArbiterOptions{{}, {Listen: "a"}, {Listen: "a", Advertise: "b", FirstPort: -1}, {Listen: "a", Advertise: "b", Max: -1}} {
		if _, err := OpenArbiters(t.TempDir(), o); err == nil {
			t.Errorf("%+v", o)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenArbiters(file, ArbiterOptions{Listen: "127.0.0.1", Advertise: "127.0.0.1"}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// The bytes of calls are part of the contract between versions.
func TestArbiterCallBytes(t *testing.T) {
	b, err := json.Marshal(ArbiterCall{ServerID: "arbiter-x", Term: 3, Below: 9})
	if err != nil || string(b) != `{"serverId":"arbiter-x","term":3,"below":9}` {
		t.Errorf("%s %v", b, err)
	}
}
