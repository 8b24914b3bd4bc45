package raftlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/raftlog/crashfs"
)

// members is a group over TCP that grows: replica 0 founds it, the others are filled and join.
type members struct {
	*peerCluster
	timings Timings
	offered []atomic.Uint64 // by replica: the index of the last snapshot it was offered
	started []bool
}

func found(t testing.TB, size int, timings Timings) *members {
	m := &members{timings: timings, started: make([]bool, size), offered: make([]atomic.Uint64, size)}
	m.peerCluster = &peerCluster{cluster: &cluster{t: t, nodes: make([]*node, size), disks: make([]*crashfs.FS, size)}, nets: make([]*PeerNet, size)}
	for i := range size {
		m.disks[i] = crashfs.New()
		m.listen(i, "127.0.0.1:0")
		m.servers = append(m.servers, raft.Server{ID: raft.ServerID(m.id(i)), Address: raft.ServerAddress(m.nets[i].Addr().String())})
	}
	t.Cleanup(func() {
		for i := range size {
			m.stop(i)
			if err := m.nets[i].Close(); err != nil {
				t.Error(err)
			}
		}
	})
	l := m.open(0, Options{})
	if err := l.Bootstrap(m.servers[:1]); err != nil {
		t.Fatal(err)
	}
	m.run(0, l, nil)
	return m
}

func (m *members) id(i int) string   { return fmt.Sprintf("%d-x", i) }
func (m *members) addr(i int) string { return string(m.servers[i].Address) }

func (m *members) listen(i int, addr string) {
	m.t.Helper()
	var err error
	m.nets[i], err = ListenPeers(PeerNetOptions{Listen: addr, ServerID: m.id(i), ClusterID: "c", Group: "g",
		OnSnapshotOffered: func(_, _ string, _, index uint64) { m.offered[i].Store(index) }})
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *members) options(i int, o Options) Options {
	f := fillOptions(m.disks[i])
	if o.SegmentBytes > 0 {
		f.SegmentBytes = o.SegmentBytes
	}
	f.Flush = o.Flush
	f.Logger = o.Logger
	return f
}

func (m *members) open(i int, o Options) *Log {
	m.t.Helper()
	l, err := Open("/d/log", m.options(i, o))
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

// run starts an open log, with the toy if sm is nil.
func (m *members) run(i int, l *Log, sm StateMachine) {
	m.t.Helper()
	n := &node{m.t, l, nil}
	if sm == nil {
		var err error
		if n.sm, err = openToy(l.fs, filepath.Join("/d", "sm")); err != nil {
			m.t.Fatal(err)
		}
		sm = n.sm
	}
	if err := l.Start(sm, Member{ServerID: m.id(i), Address: m.addr(i), Transport: m.nets[i].Transport(), Timings: m.timings}); err != nil {
		m.t.Fatal(err)
	}
	m.nodes[i] = n
}

// stop ends replica i in order; its port stays.
func (m *members) stop(i int) {
	m.t.Helper()
	if m.nodes[i] == nil {
		return
	}
	if err := m.nodes[i].log.Close(); err != nil {
		m.t.Error(err)
	}
	m.nodes[i] = nil
}

// point takes a snapshot of the leader's state and what a replica is filled with; release gives the lease back.
func (m *members) point(from int) (p FillPoint, state []byte, release func()) {
	m.t.Helper()
	leader := m.nodes[from].log
	release = leader.Lease()
	if err := leader.Snapshot(); err != nil {
		m.t.Fatal(err)
	}
	state, err := readFile(m.disks[from], "/d/sm/state", 4096)
	if err != nil {
		m.t.Fatal(err)
	}
	var st toyState
	if err := json.Unmarshal(state, &st); err != nil {
		m.t.Fatal(err)
	}
	if p, err = leader.FillPoint(st.End); err != nil {
		m.t.Fatal(err)
	}
	return p, state, release
}

// fill copies replica from's log and state to replica to.
func (m *members) fill(from, to int) {
	m.t.Helper()
	p, state, release := m.point(from)
	defer release()
	s := &source{node: m.nodes[from], point: p, state: state}
	if _, err := s.fill(m.disks[to], fillOptions(nil), 10_000); err != nil {
		m.t.Fatal(err)
	}
}

// learner makes replica i one, and waits until it has all that is committed.
func (m *members) learner(leader, i int) {
	m.t.Helper()
	ctx := deadline(m.t)
	if err := m.nodes[leader].log.AddNonvoter(ctx, m.id(i), m.addr(i)); err != nil {
		m.t.Fatal(err)
	}
	m.await("the learner has caught up", func() bool {
		return m.nets[leader].MatchIndex(m.addr(i)) >= m.nodes[leader].log.Status().CommitIndex
	})
}

func (m *members) promote(leader, i int) {
	m.t.Helper()
	if err := m.nodes[leader].log.AddVoter(deadline(m.t), m.id(i), m.addr(i)); err != nil {
		m.t.Fatal(err)
	}
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// grow appends count items on replica i, frees what is older than keep bytes, and says how much it has appended.
func (m *members) grow(i, count int, keep int64) {
	m.t.Helper()
	n := m.nodes[i]
	for k := range count {
		n.mustPut(bytes.Repeat([]byte{byte(k)}, 3000+k%7*100))
	}
	n.sm.setFloor(max(n.sm.AppliedOffset()-keep, 0))
	if err := n.log.Snapshot(); err != nil {
		m.t.Fatal(err)
	}
}

// TestMembersJoinByFilling founds a group of one, trims its log, and brings in two more under load: filled, as learners, as voters.
// They survive the founder, hold the same bytes, and the founder survives them.
func TestMembersJoinByFilling(t *testing.T) {
	noLeaks(t)
	m := found(t, 3, testTimings)
	m.leader(-1)
	m.grow(0, 100, 100<<10)
	if m.nodes[0].log.MinOffset() == 0 {
		t.Fatal("the log was not trimmed")
	}
	if err := m.nodes[0].log.AddVoter(deadline(t), m.id(1), m.addr(1)); err == nil {
		t.Fatal("a stranger was given a vote")
	}
	stop := (&cluster{t: t, nodes: []*node{m.nodes[0]}}).load(4)
	for i := 1; i < 3; i++ {
		m.fill(0, i)
		l := m.open(i, Options{})
		if r := l.Recovery(); r.Filling {
			t.Fatal("still filling")
		}
		m.run(i, l, nil)
		m.learner(0, i)
		if conf, err := m.nodes[0].log.Configuration(); err != nil || voters(conf) != i || len(conf.Servers) != i+1 {
			t.Fatalf("%+v, %v", conf, err)
		}
		at := m.nodes[0].log.ConfigurationIndex()
		var e raft.Log
		if err := m.nodes[0].log.getLog(at, &e); err != nil || e.Type != raft.LogConfiguration || m.nodes[i].log.ConfigurationIndex() != at {
			t.Fatalf("configuration at entry %d and %d: %v", at, m.nodes[i].log.ConfigurationIndex(), err)
		}
		m.promote(0, i)
	}
	before := m.nodes[0].log.EndOffset()
	m.await("progress of three", func() bool { return m.nodes[0].log.EndOffset() > before+30<<10 })
	acked := stop()
	m.settle()
	m.compare()
	m.sameFiles()
	if len(acked) < 20 {
		t.Fatalf("only %d items answered", len(acked))
	}
	for i := range m.nodes {
		if m.offered[i].Load() > 0 {
			t.Errorf("replica %d was offered a snapshot", i)
		}
		checkItems(t, m.nodes[i], acked)
	}

	// To a replica of choice, whoever leads now, and on without the founder.
	m.lead(2)
	m.stop(0)
	m.nodes[2].mustPut([]byte("without the founder"))
	if err := m.nodes[2].log.RemoveServer(deadline(t), m.id(0)); err != nil {
		t.Fatal(err)
	}
	if err := m.nodes[2].log.DemoteVoter(deadline(t), m.id(1)); err != nil {
		t.Fatal(err)
	}
	conf, err := m.nodes[2].log.Configuration()
	if err != nil || len(conf.Servers) != 2 || !soleVoterIs(conf, m.id(2)) {
		t.Fatalf("%+v, %v", conf, err)
	}
	if err := m.nodes[2].log.DemoteVoter(deadline(t), m.id(2)); err == nil {
		t.Fatal("the last voter was demoted")
	}
	m.stop(1)
	m.nodes[2].mustPut([]byte("alone"))
}

// lead has replica i lead.
func (m *members) lead(i int) {
	m.t.Helper()
	m.await("the replica leads", func() bool {
		at := m.leader(-1)
		if at == i {
			return true
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := m.nodes[at].log.TransferLeadershipTo(ctx, m.id(i), m.addr(i)); err != nil {
			m.t.Log(err) // an election came between on a busy machine
		}
		return false
	})
}

// sameFiles compares the segment files of all replicas, without the marks, over the segments that all have.
func (m *members) sameFiles() {
	m.t.Helper()
	for _, seg := range *m.nodes[0].log.segs.Load() {
		end := min(seg.limit(), m.nodes[0].log.EndOffset())
		var want []byte
		for i, n := range m.nodes {
			for _, s := range *n.log.segs.Load() {
				if s.base != seg.base {
					continue
				}
				got := make([]byte, seg.filePos(end))
				if _, err := readFull(s.f, got, 0); err != nil {
					m.t.Fatal(err)
				}
				clear(got[markSlotA:segmentPageBytes])
				if want == nil {
					want = got
				} else if !bytes.Equal(got, want) {
					m.t.Errorf("segment %d of replica %d differs", seg.base, i)
				}
			}
		}
	}
}

// TestFarBehindReplicaIsRefilled: a voter that was away for longer than the log reaches back is offered a snapshot, is filled, keeps its
// identity, and goes on as the voter it is.
func TestFarBehindReplicaIsRefilled(t *testing.T) {
	m := found(t, 3, testTimings)
	m.leader(-1)
	m.grow(0, 30, 0)
	for i := 1; i < 3; i++ {
		m.fill(0, i)
		m.run(i, m.open(i, Options{}), nil)
		m.learner(0, i)
		m.promote(0, i)
	}
	id := m.nodes[2].log.Identity()
	m.stop(2)
	m.grow(0, 100, 0)
	m.run(2, m.open(2, Options{}), nil)
	m.await("a snapshot is offered", func() bool { return m.offered[2].Load() > 0 })
	m.stop(2)
	m.fill(0, 2)
	l := m.open(2, Options{})
	if l.Identity() != id {
		t.Fatal("the identity changed")
	}
	m.run(2, l, nil)
	m.settle()
	m.compare()
	conf, err := m.nodes[2].log.Configuration()
	if err != nil || voters(conf) != 3 {
		t.Fatalf("%+v, %v", conf, err)
	}
	m.stop(1) // now it is needed
	m.nodes[0].mustPut([]byte("with its vote"))
}

// TestArbiterKeepsTheTail: an arbiter is seeded without bytes, drops what the data replicas hold, and when the one that has it all
// is gone, it leads for as long as it takes to complete the other.
func TestArbiterKeepsTheTail(t *testing.T) {
	noLeaks(t)
	const arbiter = 2
	m := found(t, 3, testTimings)
	m.leader(-1)
	m.grow(0, 60, 50<<10)

	p, _, release := m.point(0)
	seed, err := OpenSeeder("/d/log", m.options(arbiter, Options{SegmentBytes: 128 << 10}), p.WithoutBytes())
	if err != nil {
		t.Fatal(err)
	}
	if seed.Have() != p.End || seed.Commit() != nil || seed.Close() != nil {
		t.Fatal("not seeded")
	}
	release()
	own := Options{SegmentBytes: 128 << 10, Flush: SyncFlush}
	startArbiter := func() *Log {
		l := m.open(arbiter, own)
		m.run(arbiter, l, Discard(l))
		return l
	}
	l := startArbiter()
	if has, err := l.HasState(); !has || err != nil {
		t.Fatal(has, err)
	}
	m.learner(0, arbiter)
	m.fill(0, 1)
	m.run(1, m.open(1, Options{}), nil)
	m.learner(0, 1)
	m.promote(0, arbiter)
	m.promote(0, 1)
	if m.offered[arbiter].Load() > 0 {
		t.Error("the arbiter was offered a snapshot")
	}

	m.grow(0, 150, 50<<10)
	last := m.nodes[0].log.Status().LastIndex
	m.await("the arbiter has it all", func() bool { return l.Status().AppliedIndex >= last })
	size := l.SizeBytes()
	if err := l.DropBelow(last); err != nil {
		t.Fatal(err)
	}
	if got := l.SizeBytes(); got > 128<<10 || got >= size {
		t.Errorf("%d bytes are kept of %d", got, size)
	}
	if err := m.nodes[0].log.DropBelow(last); !errors.Is(err, errNotDiscard) {
		t.Errorf("a data replica drops entries: %v", err)
	}
	m.stop(arbiter) // it goes on from what it kept
	l = startArbiter()

	m.stop(1)
	var items []AppendResult
	for k := range 30 {
		items = append(items, m.nodes[0].mustPut(bytes.Repeat([]byte{byte(k)}, 2000)))
	}
	m.stop(0)
	m.run(1, m.open(1, Options{}), nil)
	m.await("somebody leads", func() bool { return l.IsLeader() || m.nodes[1].log.IsLeader() })
	if m.nodes[1].log.IsLeader() {
		t.Fatal("a replica leads that lacks what was answered")
	}
	ctx := deadline(t)
	m.await("what it holds is committed", func() bool { return l.Barrier(ctx) == nil })
	if err := l.TransferLeadershipTo(ctx, m.id(1), m.addr(1)); err != nil {
		t.Fatal(err)
	}
	m.await("the data replica leads", func() bool { return m.nodes[1].log.IsLeader() })
	for _, r := range items {
		got := make([]byte, len(r.Record))
		if _, err := m.nodes[1].log.ReadAt(got, r.Offset); err != nil || !bytes.Equal(got, r.Record) {
			t.Fatalf("item at %d: %v", r.Offset, err)
		}
	}
}

// TestBareLogGivesUpAllItHas: every entry of a bare log may conflict with the next leader's, also over a restart.
func TestBareLogGivesUpAllItHas(t *testing.T) {
	s := trimmedSource(t)
	disk := crashfs.New()
	o := fillOptions(disk)
	seed, err := OpenSeeder("/d/log", o, s.point.WithoutBytes())
	if err != nil {
		t.Fatal(err)
	}
	if seed.Commit() != nil || seed.Close() != nil {
		t.Fatal("not seeded")
	}
	open := func() *Log {
		l, err := Open("/d/log", o)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	next := s.point.EndIndex + 1
	store := func(l *Log, term uint64) {
		var logs []*raft.Log
		for i := range uint64(80) {
			logs = append(logs, &raft.Log{Index: next + i, Term: term, Data: bytes.Repeat([]byte{byte(term)}, 3000)})
		}
		if err := l.storeLogs(logs); err != nil {
			t.Fatal(err)
		}
	}
	l := open()
	store(l, 5)
	if err := l.deleteRange(next, next+79); err != nil {
		t.Fatal(err)
	}
	var e raft.Log
	if err := (logStore{l}).GetLog(next-1, &e); err != nil || e.Index != next-1 || e.Term != s.point.EndTerm {
		t.Fatalf("the entry before the first: %+v, %v", e, err)
	}
	if err := (logStore{l}).GetLog(next-2, &e); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatal(err)
	}
	if first, last := l.index.span(); first != next || last != next-1 || l.EndOffset() != 0 {
		t.Fatalf("entries %d to %d, end %d", first, last, l.EndOffset())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	store(l, 6)
	checkLog(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open()
	checkLog(t, l)
	if conf, err := l.Configuration(); err != nil || len(conf.Servers) != 1 {
		t.Fatal(conf, err)
	}
	if st := l.Status(); st.LastIndex != next+79 || st.LastTerm != 6 {
		t.Fatalf("%+v", st)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAloneFollowsTheLog: a leader answers AckAppended without the commit from the moment on in which it needs others for that.
func TestAloneFollowsTheLog(t *testing.T) {
	timings := testTimings
	timings.Heartbeat, timings.Election, timings.Lease = 4*time.Second, 4*time.Second, 4*time.Second
	m := found(t, 2, timings)
	m.leader(-1)
	m.grow(0, 10, 0)
	m.fill(0, 1)
	m.run(1, m.open(1, Options{}), nil)
	m.learner(0, 1)
	m.stop(1)
	m.promote(0, 1) // Raft commits this by the old configuration
	answered := make(chan AppendResult, 1)
	if err := m.nodes[0].log.Append(toyItem([]byte("x")), AckAppended, func(r AppendResult) { answered <- r }); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-answered:
		if r.Err != nil || r.Index == 0 {
			t.Fatalf("%+v", r)
		}
	case <-time.After(2 * time.Second):
		t.Fatal("an append that waits for nobody is not answered")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := m.nodes[0].log.DemoteVoter(ctx, m.id(1)); err != nil { // and this by the new one
		t.Fatal(err)
	}
	m.nodes[0].mustPut([]byte("alone again"))
}

// TestOneVoterWithLearnersStartsAtOnce, whether or not they are there.
func TestOneVoterWithLearnersStartsAtOnce(t *testing.T) {
	m := found(t, 2, testTimings)
	m.leader(-1)
	m.grow(0, 10, 0)
	if err := m.nodes[0].log.AddNonvoter(deadline(t), m.id(1), m.addr(1)); err != nil {
		t.Fatal(err)
	}
	m.stop(0)
	m.timings.Heartbeat, m.timings.Election, m.timings.Lease = time.Minute, time.Minute, time.Minute
	m.run(0, m.open(0, Options{}), nil)
	m.leader(-1)
}

// TestStopDoesNotWaitForOthers: requests that wait for a replica to come back end with this one, or with the other's removal.
func TestStopDoesNotWaitForOthers(t *testing.T) {
	noLeaks(t)
	m := found(t, 3, testTimings)
	m.leader(-1)
	m.grow(0, 10, 0)
	for i := 1; i < 3; i++ {
		m.fill(0, i)
		m.run(i, m.open(i, Options{}), nil)
		m.learner(0, i)
		m.stop(i)
	}
	m.nodes[0].mustPut([]byte("x"))
	m.await("the leader waits for both", func() bool { return m.waits(0, 1) && m.waits(0, 2) })
	if err := m.nodes[0].log.RemoveServer(deadline(t), m.id(1)); err != nil {
		t.Fatal(err)
	}
	if m.waits(0, 1) {
		t.Error("it waits for a replica that is no longer a member")
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		m.stop(0)
	}()
	select {
	case <-stopped:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not stop")
	}
}

// TestReplicaThatComesBackIsServedAtOnce: while it is away, entries wait for its first answer, where Raft by itself would wait
// longer after each attempt.
func TestReplicaThatComesBackIsServedAtOnce(t *testing.T) {
	m := found(t, 2, testTimings)
	m.leader(-1)
	m.grow(0, 10, 0)
	m.fill(0, 1)
	m.run(1, m.open(1, Options{}), nil)
	m.learner(0, 1)
	m.stop(1)
	m.nodes[0].mustPut([]byte("x"))
	m.await("the leader waits", func() bool { return m.waits(0, 1) })
	from := m.nets[1].Stats().HandshakesRefused
	m.await("heartbeats are refused", func() bool { return m.nets[1].Stats().HandshakesRefused > from+8 })
	if !m.waits(0, 1) {
		t.Error("the leader has gone on trying")
	}
	m.run(1, m.open(1, Options{}), nil)
	m.settle()
}

// waits reports whether entries of leader's for replica i wait for it.
func (m *members) waits(leader, i int) bool {
	c := &m.nets[leader].running().contacts
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next[m.servers[i].ID] != nil
}

// TestMemberThatCannotBeReached: a leader is not held up by a learner whose address leads nowhere, and gets rid of it.
func TestMemberThatCannotBeReached(t *testing.T) {
	noLeaks(t)
	m := found(t, 2, testTimings)
	m.leader(-1)
	m.grow(0, 10, 0)
	l := m.nodes[0].log
	for i, addr := range []string{"127.0.0.1:1", "no.such.host.invalid:1", "192.0.2.1:9", "not an address"} {
		if err := l.AddNonvoter(deadline(t), fmt.Sprint(i, "-gone"), addr); err != nil {
			t.Fatal(addr, err)
		}
		begin := time.Now()
		m.nodes[0].mustPut([]byte("x"))
		if d := time.Since(begin); d > time.Second {
			t.Errorf("with a member at %s an append took %s", addr, d)
		}
	}
	m.fill(0, 1)
	m.run(1, m.open(1, Options{}), nil)
	m.learner(0, 1)
	m.promote(0, 1)
	m.lead(1)
	for i := range 4 {
		if err := m.nodes[1].log.RemoveServer(deadline(t), fmt.Sprint(i, "-gone")); err != nil {
			t.Fatal(err)
		}
	}
	m.settle()
}
