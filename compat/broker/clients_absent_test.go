package broker

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// table is everything a replica tells of its consumers.
func (b *bench) table() (all []GroupState) {
	for _, g := range b.Clients().ConsumerGroups() {
		if s, ok := b.Clients().GroupState(g); ok {
			all = append(all, s)
		}
	}
	return all
}

// follow has one replica take over the table of another.
func (b *bench) follow(leader *bench) { b.Clients().TakeOver(leader.table()) }

// members lists the clients of a group, those without a connection in brackets.
func (b *bench) members(group string) string {
	var list []string
	for _, m := range b.Clients().Consumers(group) {
		if m.Conn == nil {
			m.ClientID = "(" + m.ClientID + ")"
		}
		list = append(list, m.ClientID)
	}
	return fmt.Sprint(list)
}

func subscribed(group string, version int64, topics ...string) Heartbeat {
	c := consumer(group, topics...)
	for i := range c.Subscriptions {
		c.Subscriptions[i].Version, c.Subscriptions[i].Expression = version, fmt.Sprint("v", version)
		c.Subscriptions[i].Tags, c.Subscriptions[i].Codes = []string{"a"}, []int32{97}
	}
	return Heartbeat{Language: "JAVA", Version: 399, Consumers: []ConsumerInfo{c}}
}

// A replica that takes over the leader's table knows what the leader knows, without a heartbeat.
func TestTableIsTakenOver(t *testing.T) {
	leader, b := newBench(t), newBench(t)
	leader.beat(t, 1, subscribed("g", 5, "T", "U"))
	leader.beat(t, 2, subscribed("g", 5, "T", "U"))
	broadcast := subscribed("h", 1, "T")
	broadcast.Consumers[0].Model = broadcasting
	leader.beat(t, 1, broadcast)
	b.follow(leader)
	if got := b.members("g") + b.members("h"); got != "[(c1) (c2)][(c1)]" {
		t.Errorf("members %s", got)
	}
	m := b.Clients().Consumers("g")[0]
	if m.Language != "JAVA" || m.Version != 399 || m.Remote != netip.MustParseAddrPort("127.0.0.1:1") {
		t.Errorf("member %+v", m)
	}
	s, err := b.Clients().subscription("g", "U")
	if want, _ := leader.Clients().subscription("g", "U"); err != nil || fmt.Sprint(s) != fmt.Sprint(want) {
		t.Errorf("subscription %+v %v, want %+v", s, err, want)
	}
	if !b.Clients().isBroadcast("h") || b.Clients().isBroadcast("g") {
		t.Error("message models are lost")
	}
	if got := b.Clients().SubscribersOf("T"); !slices.Equal(got, []string{"g", "h"}) {
		t.Errorf("subscribers %v", got)
	}
	// A third one learns it from this one.
	next := newBench(t)
	next.follow(b)
	if got := next.members("g") + next.members("h"); got != "[(c1) (c2)][(c1)]" {
		t.Errorf("members at the next one %s", got)
	}
}

// A member that comes by itself changes nothing for the others; what it says then stands.
func TestAbsentMemberComes(t *testing.T) {
	var n told
	leader, b := newBench(t), newBench(t, func(o *Options) { o.NotifyMembership = n.notify })
	leader.beat(t, 1, subscribed("g", 5, "T"))
	leader.beat(t, 2, subscribed("g", 5, "T"))
	b.follow(leader)
	b.beat(t, 1, subscribed("g", 5, "T"))
	if got := n.take(); got != "" || b.members("g") != "[c1 (c2)]" {
		t.Errorf("told %q, members %s", got, b.members("g"))
	}
	b.follow(leader) // it is no second member
	if got := b.members("g"); got != "[c1 (c2)]" {
		t.Errorf("members %s", got)
	}
	b.beat(t, 2, Heartbeat{KeepAlive: true, Consumers: []ConsumerInfo{consumer("g")}})
	if got := b.members("g"); got != "[c1 c2]" {
		t.Errorf("members %s", got)
	}
	// Older news from the leader undo nothing, newer ones count.
	b.beat(t, 1, subscribed("g", 6, "T", "U"))
	b.follow(leader)
	if s, err := b.Clients().subscription("g", "U"); err != nil || s.Version != 6 {
		t.Errorf("subscription %+v %v", s, err)
	}
	leader.beat(t, 1, subscribed("g", 7, "T"))
	b.follow(leader)
	if s, err := b.Clients().subscription("g", "T"); err != nil || s.Version != 7 {
		t.Errorf("subscription %+v %v", s, err)
	}
	if _, err := b.Clients().subscription("g", "U"); err == nil {
		t.Error("a topic that is no longer named is there")
	}
}

func TestAbsentMembersLeave(t *testing.T) {
	var n told
	leader, b := newBench(t), newBench(t, func(o *Options) { o.NotifyMembership = n.notify })
	for i := range 3 {
		leader.beat(t, link(1+i), subscribed("g", 5, "T"))
	}
	b.beat(t, 1, subscribed("g", 5, "T"))
	b.follow(leader)
	n.take()
	b.Clients().Unregister(link(7), "c2", "", "g")
	if got := n.take(); got != "1g" || b.members("g") != "[c1 (c3)]" {
		t.Errorf("unregistered: told %q, members %s", got, b.members("g"))
	}
	leader.Clients().Unregister(link(2), "c2", "", "g")
	leader.Clients().Disconnected(link(3))
	b.follow(leader)
	if got := b.members("g"); got != "[c1]" {
		t.Errorf("members after the leader's news %s", got)
	}
	// A connection here that ends says nothing of the client: the leader does.
	before := b.Clients().Losses()
	b.Clients().Disconnected(link(1))
	if b.Clients().Losses() == before || b.members("g") != "[]" {
		t.Errorf("losses %d, members %s", b.Clients().Losses(), b.members("g"))
	}
	b.follow(leader)
	if got := b.members("g"); got != "[(c1)]" {
		t.Errorf("members %s", got)
	}
	leader.Clients().Disconnected(link(1))
	b.follow(leader)
	if _, ok := b.Clients().ConsumerGroup("g"); ok {
		t.Error("a group without members is there")
	}
}

// An absent member counts for a while after the leader was last heard of; the next leader's followers give it no more time.
func TestAbsentMembersExpire(t *testing.T) {
	var n told
	leader, b := newBench(t), newBench(t, func(o *Options) { o.NotifyMembership = n.notify })
	leader.beat(t, 1, subscribed("g", 5, "T"))
	b.beat(t, 2, subscribed("g", 5, "T"))
	b.follow(leader)
	b.clock.advance(absentMax)
	b.Clients().StillThere()
	b.clock.advance(absentMax / 2)
	b.Clients().expire(b.clock.Now())
	if got := b.members("g"); got != "[(c1) c2]" {
		t.Errorf("members %s", got)
	}
	next := newBench(t)
	next.follow(b)
	next.Clients().StillThere() // c1 has no connection to the one that was asked
	b.beat(t, 2, subscribed("g", 5, "T"))
	n.take()
	b.clock.advance(absentMax/2 + time.Second)
	next.clock.advance(absentMax/2 + time.Second)
	b.Clients().expire(b.clock.Now())
	next.Clients().expire(next.clock.Now())
	if got := b.members("g") + next.members("g"); got != "[c2][(c2)]" {
		t.Errorf("members %s", got)
	}
	settle(t, "the other member is told", func() bool { return n.take() == "2g" }) // the broker's own scan may have been faster
}

// The version of the table counts what another replica would have to know, and no heartbeat that says nothing new.
func TestTableVersion(t *testing.T) {
	b := newBench(t)
	steps := []struct {
		what    string
		do      func()
		changes bool
	}{
		{"a member", func() { b.beat(t, 1, subscribed("g", 5, "T")) }, true},
		{"the same again", func() { b.beat(t, 1, subscribed("g", 5, "T")) }, false},
		{"a producer", func() { b.beat(t, 1, Heartbeat{Producers: []string{"p"}}) }, false},
		{"another expression", func() { b.beat(t, 1, subscribed("g", 6, "T")) }, true},
		{"another topic", func() { b.beat(t, 1, subscribed("g", 6, "T", "U")) }, true},
		{"another consume type", func() {
			hb := subscribed("g", 6, "T", "U")
			hb.Consumers[0].Type = "CONSUME_ACTIVELY"
			b.beat(t, 1, hb)
		}, true},
		{"gone", func() { b.Clients().Disconnected(link(1)) }, true},
		{"gone again", func() { b.Clients().Disconnected(link(1)) }, false},
	}
	for _, step := range steps {
		before, changed := b.Clients().ConsumersVersion()
		step.do()
		after, _ := b.Clients().ConsumersVersion()
		told := false
		select {
		case <-changed:
			told = true
		default:
		}
		if told != step.changes || (after != before) != step.changes {
			t.Errorf("%s: version %d became %d, told: %t", step.what, before, after, told)
		}
	}
}

func TestAbsentMembersAreBounded(t *testing.T) {
	b := newBench(t)
	s := GroupState{Info: consumer("g", "T")}
	for i := range clientsPerGroupMax + 10 {
		s.Members = append(s.Members, MemberState{ClientID: fmt.Sprint("c", i)})
	}
	b.Clients().TakeOver([]GroupState{s})
	if n := len(b.Clients().Consumers("g")); n != clientsPerGroupMax {
		t.Errorf("%d members", n)
	}
	hb := subscribed("g", 1, "T")
	hb.ClientID = "one more"
	if _, err := b.Clients().Heartbeat(t.Context(), link(1), hb); reason(err) != fmt.Sprint(Busy) {
		t.Errorf("one more: %v", err)
	}
	hb.ClientID = "c0"
	if _, err := b.Clients().Heartbeat(t.Context(), link(1), hb); err != nil {
		t.Errorf("one of them: %v", err)
	}
}
