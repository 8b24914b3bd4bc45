package compat_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"rmq/compat"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// follower serves the copy of a replica that the others take for the leader, as one that does not lead.
type follower struct {
	leaderAt                       string // "": the replica itself
	*replica                              // call and its kin ask the follower
	known, slaveRead, acting, told atomic.Bool
}

func (f *follower) Leading() bool { return false }

func (f *follower) LeaderAddr(context.Context) (string, error) {
	if f.leaderAt != "" {
		return f.leaderAt, nil
	}
	return f.replica.server.Addrs()[0].String(), nil
}

func (f *follower) LeaderAddrOrHere(ctx context.Context) (string, error) { return f.LeaderAddr(ctx) }

func startFollower(t *testing.T, leader *replica) *follower {
	t.Helper()
	own := *leader
	f := &follower{replica: &own}
	f.known.Store(true)
	serveBeside(t, &own, compat.Options{
		Leadership: f,
		Identity: func() compat.Identity {
			return compat.Identity{Cluster: "DefaultCluster", BrokerName: "broker-a", BrokerID: 1}
		},
		LeaderView:    func() compat.LeaderView { return compat.LeaderView{Known: f.known.Load(), Term: 1} },
		SlaveRead:     f.slaveRead.Load,
		ActingMaster:  f.acting.Load,
		ActingChanged: func() { f.told.Store(true) },
	})
	return f
}

// serveBeside serves a replica a second time, in another role; its calls go there then.
func serveBeside(t *testing.T, r *replica, o compat.Options) {
	t.Helper()
	o.Broker, o.Peers = r.broker, remoting.NewClient(remoting.ClientOptions{})
	r.procs = compat.New(o)
	mux := remoting.NewMux()
	r.procs.Register(mux)
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	r.addr = server.Addrs()[0].String()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.procs.Close()
		if err := errors.Join(server.Close(ctx), o.Peers.Close()); err != nil {
			t.Error(err)
		}
	})
}

// here makes a request and says whether the follower has answered it by itself.
func (f *follower) here(do func()) bool {
	before := f.procs.Forwarded()
	do()
	return f.procs.Forwarded() == before
}

// With slaveReadEnable a follower answers from its copy what it can, and leaves to the leader what only the leader may say.
func TestFollowerReads(t *testing.T) {
	leader := startReplica(t, t.TempDir())
	leader.send("T", 0, props(message.PropertyKeys, "k"), "x")
	id := leader.send("T", 0, "", "y").MsgID
	f := startFollower(t, leader)
	queue0 := pullHeader("g", "T", 0, 0)
	cases := []struct {
		name   string
		code   int32
		header protocol.Header
		want   int32
		local  bool // with slaveReadEnable
	}{
		{"pull", protocol.PullMessage, queue0, protocol.Success, true},
		{"lite pull", protocol.LitePullMessage, queue0, protocol.Success, true},
		{"pull at the end", protocol.PullMessage, pullHeader("g", "T", 0, 2), protocol.PullNotFound, true},
		{"pull beyond the end", protocol.PullMessage, pullHeader("g", "T", 0, 9), protocol.PullOffsetMoved, false},
		{"pull before the beginning", protocol.PullMessage, pullHeader("g", "T", 0, -5), protocol.PullOffsetMoved, false},
		{"pull of an unknown topic", protocol.PullMessage, pullHeader("g", "nope", 0, 0), protocol.TopicNotExist, false},
		{"min offset", protocol.GetMinOffset, &protocol.GetMinOffsetRequestHeader{Topic: "T"}, protocol.Success, true},
		{"max offset", protocol.GetMaxOffset, &protocol.GetMaxOffsetRequestHeader{Topic: "T"}, protocol.Success, true},
		{"max offset of an unknown topic", protocol.GetMaxOffset, &protocol.GetMaxOffsetRequestHeader{Topic: "nope"}, protocol.Success, false},
		{"search", protocol.SearchOffsetByTimestamp, &protocol.SearchOffsetRequestHeader{Topic: "T"}, protocol.Success, true},
		{"query", protocol.QueryMessage, &protocol.QueryMessageRequestHeader{Topic: "T", Key: "k", MaxNum: 1, EndTimestamp: 1 << 60}, protocol.Success, true},
		{"query in vain", protocol.QueryMessage, &protocol.QueryMessageRequestHeader{Topic: "T", Key: "nope", MaxNum: 1, EndTimestamp: 1 << 60}, protocol.QueryNotFound, false},
		{"progress", protocol.QueryConsumerOffset, &protocol.QueryConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T"}, protocol.QueryNotFound, false},
		{"topic", protocol.GetTopicConfig, &protocol.GetTopicConfigRequestHeader{Topic: "T"}, protocol.Success, false},
	}
	for _, enabled := range []bool{false, true} {
		f.slaveRead.Store(enabled)
		for _, c := range cases {
			local := f.here(func() {
				if resp := f.call(c.code, c.header, nil); resp.Code != c.want {
					t.Errorf("%s: %d %s", c.name, resp.Code, resp.Remark)
				}
			})
			if want := enabled && c.local; local != want {
				t.Errorf("%s, slaveReadEnable=%v: answered here %v", c.name, enabled, local)
			}
		}
	}
	_, at, err := message.ParseOffsetID(id)
	if err != nil {
		t.Fatal(err)
	}
	f.slaveRead.Store(false)
	if !f.here(func() { f.ask(protocol.ViewMessageById, &protocol.ViewMessageRequestHeader{Offset: at}, nil, nil) }) {
		t.Error("a message that is here is the same everywhere")
	}
	if f.here(func() {
		f.refused(protocol.SystemError, protocol.ViewMessageById, &protocol.ViewMessageRequestHeader{Offset: 1 << 50}, nil)
	}) {
		t.Error("a message that is not here may be there")
	}
}

// A pull that a follower holds is answered when the message is committed, and progress that comes with it reaches the leader.
func TestFollowerHoldsPulls(t *testing.T) {
	leader := startReplica(t, t.TempDir())
	leader.send("T", 0, "", "x")
	f := startFollower(t, leader)
	f.slaveRead.Store(true)
	h := pullHeader("g", "T", 0, 1)
	h.SysFlag, h.CommitOffset, h.SuspendTimeoutMillis = pullCommits, 1, 20_000
	answers := make(chan *protocol.Command, 1)
	f.client.CallAsync(f.addr, protocol.NewRequest(protocol.PullMessage, h), time.Now().Add(time.Minute), func(c *protocol.Command, err error) {
		if err != nil {
			t.Error(err)
			c = &protocol.Command{}
		}
		answers <- remoting.Clone(c)
	})
	eventually(t, "the pull is parked", func() bool { return f.broker.Parked() == 1 })
	leader.send("T", 0, "", "y")
	if p := decodePull(t, <-answers); p.bodies() != "y" {
		t.Errorf("%d %s, %q", p.code, p.remark, p.bodies())
	}
	eventually(t, "the progress is at the leader", func() bool {
		o, _ := leader.broker.Offset("g", queue("T", 0))
		return o == 1
	})
	if f.procs.Forwarded() != 0 {
		t.Errorf("%d requests were passed on", f.procs.Forwarded())
	}
}

const pullCommits = 1 | 2 | 4 // has progress, may wait, has an expression

// A13: a replica that has known no leader for ten seconds answers reads, if it may, and refuses changes at once.
func TestActingMaster(t *testing.T) {
	leader := startReplica(t, t.TempDir())
	leader.send("T", 0, "", "x")
	commit := &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 1}
	leader.ask(protocol.UpdateConsumerOffset, commit, nil, nil)
	f := startFollower(t, leader)
	f.known.Store(false)
	f.procs.Age(time.Minute)
	refused := func(code int32, h protocol.Header, body string) {
		t.Helper()
		began := time.Now()
		f.refused(protocol.ServiceNotAvailable, code, h, []byte(body))
		if took := time.Since(began); took > time.Second { // 100 ms on a machine with nothing else to do
			t.Errorf("request %d was refused after %v", code, took)
		}
	}
	send := sendHeader("T", 0, "")
	eventually(t, "the leader is missed", func() bool {
		f.procs.Age(time.Minute)
		return f.call(protocol.UpdateConsumerOffset, commit, nil).Code == protocol.ServiceNotAvailable
	})
	if f.procs.Acting() {
		t.Fatal("it stands in for the leader though it must not")
	}
	f.acting.Store(true)
	eventually(t, "it stands in for the leader", f.procs.Acting)
	eventually(t, "and tells", f.told.Load)
	local := f.here(func() {
		if p := f.pull(pullHeader("g", "T", 0, 0)); p.bodies() != "x" {
			t.Errorf("pull: %d %s", p.code, p.remark)
		}
		f.ask(protocol.GetMaxOffset, &protocol.GetMaxOffsetRequestHeader{Topic: "T"}, nil, nil)
		f.ask(protocol.QueryConsumerOffset, &protocol.QueryConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T"}, nil, nil)
		f.ask(protocol.GetTopicStatsInfo, &protocol.GetTopicStatsInfoRequestHeader{Topic: "T"}, nil, nil)
	})
	if !local {
		t.Error("a read was passed on")
	}
	refused(protocol.SendMessageV2, send, "y")
	refused(protocol.LockBatchMq, nil, `{"consumerGroup":"g","clientId":"c","mqSet":[]}`)
	refused(protocol.UpdateConsumerOffset, commit, "")
	refused(protocol.UpdateAndCreateTopic, &protocol.CreateTopicRequestHeader{Topic: "U"}, "")

	beyond := pullHeader("g", "T", 0, 9) // the lost leader may have had it
	beyond.SysFlag, beyond.SuspendTimeoutMillis = 2|4, 50
	if p := f.pull(beyond); p.code != protocol.PullNotFound || p.header.NextBeginOffset != 9 {
		t.Errorf("pull beyond what is here: %d %s, next %d", p.code, p.remark, p.header.NextBeginOffset)
	}
	f.known.Store(true)
	eventually(t, "it gives way to a leader", func() bool { return !f.procs.Acting() })
	f.ask(protocol.SendMessageV2, send, []byte("y"), nil)
}
