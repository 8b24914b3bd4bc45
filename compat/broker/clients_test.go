package broker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// link is a client's connection.
type link uint64

func (l link) ID() uint64                 { return uint64(l) }
func (l link) RemoteAddr() netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:1") }

// told notes who was told of a change of membership.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (n *told) notify(c Connection, group string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprint(c.ID(), group))
}

// take returns what was told since the last time.
func (n *told) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.lines)
	all := strings.Join(n.lines, " ")
	n.lines = nil
	return all
}

func consumer(group string, topics ...string) ConsumerInfo {
	c := ConsumerInfo{Group: group, Type: "CONSUME_PASSIVELY", Model: "CLUSTERING"}
	for _, topic := range topics {
		c.Subscriptions = append(c.Subscriptions, Subscription{Topic: topic, Expression: "*", Version: 1})
	}
	return c
}

func (b *bench) beat(t *testing.T, conn link, hb Heartbeat) (needSubscriptions bool) {
	t.Helper()
	if hb.ClientID == "" {
		hb.ClientID = fmt.Sprint("c", conn)
	}
	need, err := b.Clients().Heartbeat(t.Context(), conn, hb)
	if err != nil {
		t.Fatal(err)
	}
	return need
}

func TestMembershipIsAnnounced(t *testing.T) {
	var n told
	b := newBench(t, func(o *Options) { o.NotifyMembership = n.notify })
	expect := func(what, want string) {
		t.Helper()
		if got := n.take(); got != want {
			t.Errorf("%s: told %q, want %q", what, got, want)
		}
	}
	hb := Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T")}}
	b.beat(t, 1, hb)
	expect("the first member", "1g")
	b.beat(t, 2, hb)
	expect("the second member", "1g 2g")
	b.beat(t, 1, hb)
	expect("nothing new", "")
	b.beat(t, 2, Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T", "U")}})
	expect("one more topic", "1g 2g")
	b.Clients().Unregister(link(1), "c1", "", "g")
	expect("unregistered", "2g")
	b.Clients().Disconnected(link(2))
	expect("the last one left", "")
	if _, ok := b.Clients().ConsumerGroup("g"); ok {
		t.Error("a group without members is there")
	}
}

func TestKeepAliveHeartbeats(t *testing.T) {
	b := newBench(t)
	alive := Heartbeat{KeepAlive: true, Consumers: []ConsumerInfo{consumer("g")}}
	if !b.beat(t, 1, alive) {
		t.Error("subscriptions that were never sent are not asked for")
	}
	b.beat(t, 1, Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T")}})
	if b.beat(t, 1, alive) {
		t.Error("subscriptions that are known are asked for")
	}
	if _, err := b.Clients().subscription("g", "T"); err != nil {
		t.Errorf("a heartbeat without subscriptions erased them: %v", err)
	}
}

func TestSubscriptionsFollowTheNewestHeartbeat(t *testing.T) {
	b := newBench(t)
	version := func(v int64, topics ...string) Heartbeat {
		c := consumer("g", topics...)
		for i := range c.Subscriptions {
			c.Subscriptions[i].Version, c.Subscriptions[i].Expression = v, fmt.Sprint("v", v)
		}
		return Heartbeat{Consumers: []ConsumerInfo{c}}
	}
	b.beat(t, 1, version(2, "T", "U"))
	b.beat(t, 2, version(1, "T")) // older, and without U
	if s, err := b.Clients().subscription("g", "T"); err != nil || s.Expression != "v2" {
		t.Errorf("subscription %+v %v", s, err)
	}
	if _, err := b.Clients().subscription("g", "U"); reason(err) != fmt.Sprint(SubscriptionNotExist) {
		t.Errorf("a topic that is no longer named: %v", err)
	}
	if got := b.Clients().SubscribersOf("T"); !slices.Equal(got, []string{"g"}) {
		t.Errorf("subscribers %v", got)
	}
}

// Each group of a client expires by itself: the word that a client left one of them may be lost.
func TestSilentMembersExpire(t *testing.T) {
	var n told
	b := newBench(t, func(o *Options) { o.NotifyMembership = n.notify })
	both := Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T"), consumer("h", "T")}, Producers: []string{"p", "q"}}
	b.beat(t, 1, both)
	b.beat(t, 2, both)
	n.take()
	b.clock.advance(100 * time.Second)
	b.beat(t, 1, Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T")}, Producers: []string{"p"}})
	b.clock.advance(20 * time.Second)
	b.Clients().expire(b.clock.Now())
	if got := b.Clients().ConsumerIDs("h"); len(got) != 2 {
		t.Errorf("after 120 s: %v", got)
	}
	b.clock.advance(time.Second)
	b.Clients().expire(b.clock.Now())
	ids := fmt.Sprint(b.Clients().ConsumerIDs("g"), b.Clients().ConsumerIDs("h"), b.Clients().ProducerGroups(), len(b.Clients().Producers("p")))
	if ids != "[c1] [] [p] 1" {
		t.Errorf("left are %s", ids)
	}
	if got := n.take(); got != "1g" {
		t.Errorf("told %q", got)
	}
	if len(b.Clients().groups) != 1 || len(b.Clients().groups[1]) != 2 {
		t.Errorf("groups by connection: %v", b.Clients().groups)
	}
}

// Names that a client makes up and leaves again do not pile up, and it cannot have any number at a time.
func TestGroupsOfAClientAreBounded(t *testing.T) {
	b := newBench(t)
	for i := range 3 {
		var names []string
		for k := range groupsPerClientMax {
			names = append(names, fmt.Sprint("p", i, "-", k))
		}
		b.beat(t, 1, Heartbeat{Producers: names})
	}
	if n := len(b.Clients().ProducerGroups()); n != groupsPerClientMax {
		t.Errorf("one connection has %d producer groups", n)
	}
	for i := range groupsPerClientMax {
		b.Clients().Unregister(link(1), "c1", fmt.Sprint("p0-", i), "")
	}
	if len(b.Clients().groups) != 0 || len(b.Clients().producers) != 0 {
		t.Errorf("%d connections, %d groups are left", len(b.Clients().groups), len(b.Clients().producers))
	}
	if _, err := b.Clients().Heartbeat(t.Context(), link(1), Heartbeat{ClientID: "c", Producers: make([]string, groupsPerClientMax+1)}); reason(err) != fmt.Sprint(InvalidParameter) {
		t.Errorf("too many groups: %v", err)
	}
}

func TestHeartbeatOfAGroupThatMustNotBeCreated(t *testing.T) {
	b := newBench(t, func(o *Options) { o.AutoCreateGroup = false })
	b.beat(t, 1, Heartbeat{Consumers: []ConsumerInfo{consumer("g", "T")}, Producers: []string{"p"}})
	if _, ok := b.Clients().ConsumerGroup("g"); ok || len(b.Clients().Producers("p")) != 1 {
		t.Error("the group is there, or the producer is not")
	}
}
