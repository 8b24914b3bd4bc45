package compat_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/raftlog"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store"
)

// trio is a group of three replicas over real Raft ports, without a controller: the test drives their terms itself.
type trio struct {
	t       *testing.T
	members [3]*member
}

// member is one replica of a trio; call and its kin ask that one.
type member struct {
	replica
	trio      *trio
	id        string
	net       *raftlog.PeerNet
	ready     atomic.Bool // it leads and has taken over
	slaveRead atomic.Bool
	stopTerms context.CancelFunc
	terms     sync.WaitGroup
	stopped   bool
}

func (m *member) Leading() bool { return m.ready.Load() && m.log.IsLeader() }

func (m *member) LeaderAddr(ctx context.Context) (string, error) { return m.leaderAddr(ctx, false) }

func (m *member) LeaderAddrOrHere(ctx context.Context) (string, error) {
	return m.leaderAddr(ctx, true)
}

func (m *member) leaderAddr(ctx context.Context, here bool) (string, error) {
	for {
		if here && m.Leading() {
			return "", nil
		}
		if leader := m.log.Status().LeaderID; leader != "" && leader != m.id {
			i := slices.IndexFunc(m.trio.members[:], func(o *member) bool { return o.id == leader })
			return m.trio.members[i].addr, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func startTrio(t *testing.T) *trio {
	t.Helper()
	g := &trio{t: t}
	var servers []raft.Server
	for i := range g.members {
		m := g.open(i, t.TempDir())
		g.members[i] = m
		servers = append(servers, raft.Server{ID: raft.ServerID(m.id), Address: raft.ServerAddress(m.net.Addr().String())})
	}
	for _, m := range g.members {
		if err := errors.Join(
			m.log.Bootstrap(servers),
			m.log.Start(m.store, raftlog.Member{ServerID: m.id, Address: m.net.Addr().String(), Transport: m.net.Transport()}),
		); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		m.stopTerms = cancel
		m.terms.Go(func() { m.runTerms(ctx) })
	}
	return g
}

func (g *trio) open(i int, dir string) *member {
	t := g.t
	t.Helper()
	m := &member{trio: g, id: fmt.Sprintf("%d-x", i)}
	m.t = t
	var err error
	fatal := func(err error) { t.Errorf("replica %d: %v", i, err) }
	if m.log, err = raftlog.Open(filepath.Join(dir, "log"), raftlog.Options{
		SegmentBytes: 1 << 20, Prepare: func(rec []byte) { m.broker.Prepare(rec) }, CompletedBatch: func() { m.procs.FlushReplies() },
		Fatal: func(_ int, _ string, err error) { fatal(err) },
	}); err != nil {
		t.Fatal(err)
	}
	if m.store, err = store.Open(filepath.Join(dir, "state"), m.log, store.Options{FS: raftlog.OSFS(), KeyIndex: true, Fatal: fatal}); err != nil {
		t.Fatal(err)
	}
	if m.net, err = raftlog.ListenPeers(raftlog.PeerNetOptions{Listen: "127.0.0.1:0", ClusterID: "C", Group: "broker-a", ServerID: m.id}); err != nil {
		t.Fatal(err)
	}
	if m.broker, err = broker.New(m.log, m.store, broker.Options{
		Cluster: "C", Group: "broker-a", Host: netip.MustParseAddrPort("127.0.0.1:10911"), Permission: 6, AutoCreateTopic: true, AutoCreateGroup: true,
		LongPolling: true, SegmentBytes: 1 << 20, NotifyMembership: compat.NotifyMembership,
	}); err != nil {
		t.Fatal(err)
	}
	m.client = remoting.NewClient(remoting.ClientOptions{})
	peers := remoting.NewClient(remoting.ClientOptions{})
	m.procs = compat.New(compat.Options{
		Broker: m.broker, Leadership: m, Peers: peers, SlaveRead: m.slaveRead.Load,
		Identity: func() compat.Identity { return compat.Identity{Cluster: "C", BrokerName: "broker-a"} },
		LeaderView: func() compat.LeaderView {
			s := m.log.Status()
			return compat.LeaderView{Known: s.LeaderID != "", Term: s.Term}
		},
	})
	mux := remoting.NewMux()
	m.procs.Register(mux)
	if m.server, err = remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux}); err != nil {
		t.Fatal(err)
	}
	m.addr = m.server.Addrs()[0].String()
	t.Cleanup(func() {
		m.cutOff()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		m.broker.EndParking()
		m.procs.Close()
		m.stopTerms()
		m.terms.Wait()
		if err := errors.Join(m.server.Close(ctx), m.client.Close(), peers.Close(), m.log.Close(), m.store.Close()); err != nil {
			t.Error(err)
		}
		m.broker.Close()
	})
	return m
}

// runTerms carries out the leader's duties while this replica leads.
func (m *member) runTerms(ctx context.Context) {
	end, term := context.CancelFunc(func() {}), &sync.WaitGroup{}
	for {
		leads := false
		select {
		case <-ctx.Done():
		case leads = <-m.log.Leadership():
		}
		m.ready.Store(false)
		end()
		term.Wait()
		if ctx.Err() != nil {
			return
		}
		if !leads {
			m.broker.StepDown()
			continue
		}
		var termCtx context.Context
		termCtx, end = context.WithCancel(ctx)
		term.Go(func() {
			if m.log.Barrier(termCtx) != nil || m.broker.TakeOver(termCtx) != nil {
				return
			}
			m.ready.Store(true)
			_ = m.broker.Lead(termCtx)
		})
	}
}

// cutOff takes a member's Raft port away: it reaches no other member, and no other reaches it.
func (m *member) cutOff() {
	m.t.Helper()
	if m.stopped {
		return
	}
	m.stopped = true
	if err := m.net.Close(); err != nil {
		m.t.Error(err)
	}
}

// leader waits for a member that leads, other than those given.
func (g *trio) leader(except ...*member) *member {
	g.t.Helper()
	var leader *member
	eventually(g.t, "somebody leads", func() bool {
		for _, m := range g.members {
			if m.Leading() && !slices.Contains(except, m) {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

func (g *trio) follower(leader *member) *member {
	i := slices.Index(g.members[:], leader)
	return g.members[(i+1)%len(g.members)]
}

// B5: a leader that is cut off from its group answers 14 to everything that changes something, soon, and keeps nothing of
// it; the others go on.
func TestDeposedLeader(t *testing.T) {
	g := startTrio(t)
	old := g.leader()
	old.send("T", 0, "", "x")
	old.ask(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 1}, nil, nil)
	old.cutOff()
	changes := map[string]func() *protocol.Command{
		"send": func() *protocol.Command {
			return old.call(protocol.SendMessageV2, sendHeader("T", 0, ""), []byte("lost"))
		},
		"lock": func() *protocol.Command {
			return old.call(protocol.LockBatchMq, nil, []byte(`{"consumerGroup":"g","clientId":"c","mqSet":[{"topic":"T","brokerName":"broker-a","queueId":0}]}`))
		},
		"topic": func() *protocol.Command {
			return old.call(protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{Topic: "U", ReadQueueNums: 1, WriteQueueNums: 1, Perm: 6}, nil)
		},
		"offset": func() *protocol.Command {
			return old.call(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 0}, nil)
		},
	}
	var all sync.WaitGroup
	for what, do := range changes {
		all.Go(func() {
			if resp := do(); resp.Code != protocol.ServiceNotAvailable {
				t.Errorf("%s as the leader was cut off: %d %s", what, resp.Code, resp.Remark)
			}
		})
	}
	all.Wait()
	for what, do := range changes {
		began := time.Now()
		resp := do()
		if took := time.Since(began); resp.Code != protocol.ServiceNotAvailable || took > 2*time.Second {
			t.Errorf("%s when it was cut off: %d %s, after %v", what, resp.Code, resp.Remark, took)
		}
	}
	next := g.leader(old)
	if sent := next.send("T", 0, "", "y"); sent.QueueOffset != 1 {
		t.Errorf("the next message lies at %d", sent.QueueOffset)
	}
	if _, ok := next.store.Topic("U"); ok {
		t.Error("a topic was created by nobody")
	}
}

// A consumer that pulls from a follower gets the message that the next leader takes, whether its pull was passed on or
// waits there.
func TestFollowersPullOutlivesTheLeader(t *testing.T) {
	for _, slaveRead := range []bool{false, true} {
		t.Run(fmt.Sprint("slaveReadEnable=", slaveRead), func(t *testing.T) {
			g := startTrio(t)
			old := g.leader()
			old.send("T", 0, "", "x")
			f := g.follower(old)
			eventually(t, "the follower has what is committed", func() bool { return f.store.MaxOffset(queue("T", 0)) == 1 })
			f.slaveRead.Store(slaveRead)
			h := pullHeader("g", "T", 0, 1)
			h.SysFlag, h.SuspendTimeoutMillis = 2|4, 60_000
			answers := make(chan *protocol.Command, 1)
			ask := func() {
				f.client.CallAsync(f.addr, protocol.NewRequest(protocol.PullMessage, h), time.Now().Add(time.Minute), func(c *protocol.Command, err error) {
					if err != nil {
						t.Error(err)
						c = &protocol.Command{}
					}
					answers <- remoting.Clone(c)
				})
			}
			ask()
			at := old
			if slaveRead {
				at = f
			}
			eventually(t, "the pull is parked", func() bool { return at.broker.Parked() == 1 })
			old.cutOff()
			next := g.leader(old)
			next.send("T", 0, "", "y")
			p := decodePull(t, <-answers)
			for p.code == protocol.PullNotFound { // the old leader let go of it: stock clients ask again at once
				ask()
				p = decodePull(t, <-answers)
			}
			if p.bodies() != "y" {
				t.Errorf("%d %s %q", p.code, p.remark, p.bodies())
			}
		})
	}
}

// The next leader knows who consumes and who holds which queue, and has the holders look again at once.
func TestConsumersOfTheNextLeader(t *testing.T) {
	g := startTrio(t)
	old := g.leader()
	old.send("T", 0, "", "x")
	told := make(chan string, 10) // addresses of members that push
	mux := remoting.NewMux()
	mux.Handle(protocol.NotifyConsumerIdsChanged, &remoting.Class{Name: "push", Limit: 10}, func(r *remoting.Request) {
		told <- r.Conn.RemoteAddr().String()
		r.Done()
	})
	consumer := remoting.NewClient(remoting.ClientOptions{Mux: mux})
	defer consumer.Close()
	beat := protocol.NewRequest(protocol.HeartBeat, nil)
	beat.Body = heartbeatBody(t, "g", "c", "T")
	for _, m := range append([]*member{old}, g.members[:]...) { // the leader first: it creates the group
		if resp, err := consumer.Call(t.Context(), m.addr, beat); err != nil || resp.Code != protocol.Success {
			t.Fatal(resp, err)
		}
	}
	lock := func(m *member, client string) string {
		t.Helper()
		var locked protocol.LockBatchResponseBody
		m.ask(protocol.LockBatchMq, nil, fmt.Appendf(nil, `{"consumerGroup":"g","clientId":%q,"mqSet":[{"topic":"T","brokerName":"broker-a","queueId":0}]}`, client), &locked)
		return fmt.Sprint(len(locked.LockOKMQSet))
	}
	if got := lock(old, "c") + lock(g.follower(old), "c"); got != "11" { // whichever it asks
		t.Fatal(got)
	}
	for len(told) > 0 {
		<-told
	}
	old.cutOff()
	next := g.leader(old)
	for at := ""; at != next.addr; {
		select {
		case at = <-told:
		case <-time.After(10 * time.Second):
			t.Fatal("the next leader tells its consumers nothing")
		}
	}
	if got := lock(next, "c") + lock(next, "other"); got != "10" {
		t.Errorf("queues that the holder and another one got: %s", got)
	}
	var list protocol.GetConsumerListByGroupResponseBody
	next.ask(protocol.GetConsumerListByGroup, &protocol.GetConsumerListByGroupRequestHeader{ConsumerGroup: "g"}, nil, &list)
	if fmt.Sprint(list.ConsumerIDList) != "[c]" {
		t.Errorf("members %v", list.ConsumerIDList)
	}
}
