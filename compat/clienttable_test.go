package compat_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rmq/compat"
	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// consumers lists the client ids of group g at a replica, without asking the leader.
func consumers(r *replica) string { return fmt.Sprint(r.broker.Clients().ConsumerIDs("g")) }

// heartbeat tells one replica of a client in group g that wants messages of T, over a connection of its own.
func heartbeat(t *testing.T, r *replica, clientID string) *remoting.Client {
	t.Helper()
	c := remoting.NewClient(remoting.ClientOptions{})
	t.Cleanup(func() { _ = c.Close() })
	beat := protocol.NewRequest(protocol.HeartBeat, nil)
	beat.Body = heartbeatBody(t, "g", clientID, "T")
	if resp, err := c.Call(t.Context(), r.addr, beat); err != nil || resp.Code != protocol.Success {
		t.Fatal(resp, err)
	}
	return c
}

// The next leader serves consumers that it has never heard of: it knows them from the one before.
func TestNextLeaderKnowsConsumersOfTheLast(t *testing.T) {
	g := startTrio(t)
	old := g.leader()
	old.send("T", 0, "", "x")
	heartbeat(t, &old.replica, "before")
	for _, m := range g.members {
		if err := m.procs.TakeOverClients(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := consumers(&m.replica); got != "[before]" {
			t.Errorf("taken over: %s", got)
		}
	}
	everywhere := func(want string) {
		t.Helper()
		eventually(t, "everyone knows of "+want, func() bool {
			for _, m := range g.members {
				if consumers(&m.replica) != want {
					return false
				}
			}
			return true
		})
	}
	leaves := heartbeat(t, &old.replica, "leaves")
	heartbeat(t, &old.replica, "stays")
	everywhere("[before leaves stays]")
	if err := leaves.Close(); err != nil {
		t.Fatal(err)
	}
	everywhere("[before stays]")
	unregister := &protocol.UnregisterClientRequestHeader{ClientID: "before", ConsumerGroup: "g"}
	old.ask(protocol.UnregisterClient, unregister, nil, nil) // over another connection: only the followers' word of it is gone
	f := g.follower(old)
	f.ask(protocol.UnregisterClient, unregister, nil, nil)
	if got := consumers(&f.replica); got != "[stays]" {
		t.Errorf("after it has left: %s", got)
	}
	old.cutOff()
	next := g.leader(old)
	h := pullHeader("g", "T", 0, 0)
	h.SysFlag, h.Subscription = 0, "" // it relies on what the group has subscribed to
	if p := next.pull(h); p.bodies() != "x" {
		t.Errorf("pulled %d %s %q", p.code, p.remark, p.bodies())
	}
	var list protocol.GetConsumerListByGroupResponseBody
	next.ask(protocol.GetConsumerListByGroup, &protocol.GetConsumerListByGroupRequestHeader{ConsumerGroup: "g"}, nil, &list)
	if !strings.Contains(fmt.Sprint(list.ConsumerIDList), "stays") {
		t.Errorf("members %v", list.ConsumerIDList)
	}
	var online protocol.ConsumerConnection
	next.ask(protocol.GetConsumerConnectionList, &protocol.GetConsumerConnectionListRequestHeader{ConsumerGroup: "g"}, nil, &online)
	if len(online.ConnectionSet) == 0 || !strings.HasPrefix(online.ConnectionSet[0].ClientAddr, "127.0.0.1:") {
		t.Errorf("connections %+v", online.ConnectionSet)
	}
}

// A client whose connection to one replica breaks is known there from the leader.
func TestLostConnectionOfAClientThatTheLeaderHas(t *testing.T) {
	g := startTrio(t)
	leader := g.leader()
	f := g.follower(leader)
	heartbeat(t, &leader.replica, "c")
	own := heartbeat(t, &f.replica, "c")
	if err := f.procs.TakeOverClients(t.Context()); err != nil {
		t.Fatal(err)
	}
	connected := func() bool {
		m := f.broker.Clients().Consumers("g")
		return len(m) == 1 && m[0].Conn != nil
	}
	if !connected() {
		t.Fatal(f.broker.Clients().Consumers("g"))
	}
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is known from the leader", func() bool { return !connected() && consumers(&f.replica) == "[c]" })
}

// tableFollower starts a replica that takes the one at an address for its leader.
func tableFollower(t *testing.T, leaderAt string) *replica {
	t.Helper()
	r := startReplica(t, t.TempDir())
	own := *r
	serveBeside(t, &own, compat.Options{
		Leadership: &follower{replica: &own, leaderAt: leaderAt},
		Identity: func() compat.Identity {
			return compat.Identity{Cluster: "DefaultCluster", BrokerName: "broker-a", BrokerID: 1}
		},
	})
	return &own
}

// A table that does not fit into one answer comes in pages.
func TestLargeClientTable(t *testing.T) {
	leader := startReplica(t, t.TempDir())
	var groups []broker.GroupState
	for i := range 30 {
		s := broker.GroupState{Info: broker.ConsumerInfo{Group: fmt.Sprintf("g%02d", i), Type: "CONSUME_PASSIVELY", Model: "CLUSTERING"}}
		s.Info.Subscriptions = []broker.Subscription{{Topic: "T", Expression: strings.Repeat("x", 100_000), Version: 1}}
		for k := range 10 {
			s.Members = append(s.Members, broker.MemberState{ClientID: fmt.Sprint("c", k), Remote: netip.MustParseAddrPort("10.0.0.1:1")})
		}
		groups = append(groups, s)
	}
	leader.broker.Clients().TakeOver(groups)
	f := tableFollower(t, leader.addr)
	if err := f.procs.TakeOverClients(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(f.broker.Clients().ConsumerGroups()); got != len(groups) {
		t.Errorf("%d groups", got)
	}
	if s, ok := f.broker.Clients().GroupState("g29"); !ok || len(s.Members) != 10 || len(s.Info.Subscriptions[0].Expression) != 100_000 {
		t.Error("the last group is not complete")
	}
	page := func(request string) (p protocol.ClientTablePage) {
		t.Helper()
		leader.ask(protocol.ClientTable, nil, []byte(request), &p)
		return p
	}
	first := page(`{}`)
	if n := len(first.Groups); n < 10 || n > 12 || !first.More {
		t.Errorf("the first page has %d groups, more: %t", n, first.More)
	}
	if last := page(`{"after":"g28"}`); len(last.Groups) != 1 || last.More {
		t.Errorf("the last page has %d groups, more: %t", len(last.Groups), last.More)
	}
	if same := page(fmt.Sprintf(`{"known":%q,"waitMillis":1}`, first.State)); !same.Unchanged || len(same.Groups) != 0 {
		t.Errorf("nothing has changed: %t, %d groups", same.Unchanged, len(same.Groups))
	}
	f.refused(protocol.ServiceNotAvailable, protocol.ClientTable, nil, []byte(`{}`)) // it is not the leader
}

// A start does not wait for what an older version of rmq cannot tell.
func TestLeaderWithoutAClientTable(t *testing.T) {
	old, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: remoting.NewMux()})
	if err != nil {
		t.Fatal(err)
	}
	f := tableFollower(t, old.Addrs()[0].String())
	if err := f.procs.TakeOverClients(t.Context()); err == nil {
		t.Error("it has told its consumers")
	}
	if err := old.Close(t.Context()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := tableFollower(t, old.Addrs()[0].String()).procs.TakeOverClients(ctx); err == nil {
		t.Error("nobody has told anything")
	}
}
