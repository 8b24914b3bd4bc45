package broker

import (
	"net/netip"
	"slices"
	"time"
)

// Absent members are clients of consumer groups that have no connection to this replica, but had one to the leader when
// that last told of its table. They count as members, so that a replica which has just started, or which no client has
// reached for a while, knows what every client expects it to know as soon as it leads.

// absentMax is how long an absent member counts after the leader was last heard of. By then it has found this replica
// itself: stock clients ask for routes every 30 s, and send heartbeats to all replicas they know of every 30 s.
const absentMax = 70 * time.Second

// GroupState is the live side of a consumer group, as one replica tells it to another.
type GroupState struct {
	Info    ConsumerInfo // with its subscriptions
	Members []MemberState
}

// MemberState is a member of a group, as one replica tells it to another.
type MemberState struct {
	ClientID string
	Language string
	Version  int32
	Remote   netip.AddrPort
	// Absent members have no connection to the replica that tells of them either. Silent is for how long it has not known
	// them to have one to its leader.
	Absent bool
	Silent time.Duration
}

// changed notes that consumer groups, their members or their subscriptions changed. t.mu is held.
func (t *ClientTable) changed() {
	t.version++
	close(t.changes)
	t.changes = make(chan struct{})
}

// ConsumersVersion counts the changes of consumer groups, their members and their subscriptions; changed is closed at the
// next one.
func (t *ClientTable) ConsumersVersion() (version uint64, changed <-chan struct{}) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.version, t.changes
}

// Losses counts the connections of consumers that ended without a word. What such a client is now is up to the leader.
func (t *ClientTable) Losses() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.losses
}

// ConsumerGroups lists the consumer groups that have members, sorted.
func (t *ClientTable) ConsumerGroups() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	groups := make([]string, 0, len(t.consumers))
	for g := range t.consumers {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return groups
}

// GroupState describes a consumer group for another replica; ok is false when it has no member.
func (t *ClientTable) GroupState(group string) (s GroupState, ok bool) {
	if s.Info, ok = t.ConsumerGroup(group); !ok {
		return s, false
	}
	now := t.broker.clock.Now()
	for _, m := range t.Consumers(group) {
		state := MemberState{ClientID: m.ClientID, Language: m.Language, Version: m.Version, Remote: m.Remote}
		if m.Conn == nil {
			state.Absent, state.Silent = true, now.Sub(m.LastSeen)
		}
		s.Members = append(s.Members, state)
	}
	return s, len(s.Members) > 0
}

// TakeOver takes over what the leader has told of all its consumer groups. Its members that are not connected here become
// absent members, and those that it did not name are none any more. What clients that are connected here have said of
// their groups stands unless the leader knows newer subscriptions.
func (t *ClientTable) TakeOver(groups []GroupState) {
	now := t.broker.clock.Now()
	told := make(map[string]GroupState, len(groups))
	for _, s := range groups {
		told[s.Info.Group] = s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, s := range told {
		g := t.consumers[name]
		if g == nil {
			g = newConsumerGroup()
			t.consumers[name] = g
		}
		if len(g.members) == 0 || newest(s.Info.Subscriptions) > g.newest() {
			g.describe(s.Info)
		}
	}
	for name, g := range t.consumers {
		g.takeAbsent(told[name].Members, now)
		t.dropEmpty(name, g)
	}
	t.changed()
}

// StillThere notes that the leader's table is what it last told: whoever was connected there still is.
func (t *ClientTable) StillThere() {
	now := t.broker.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.consumers {
		for _, m := range g.absent {
			if m.kept {
				m.LastSeen = now
			}
		}
	}
}

func newConsumerGroup() *consumerGroup {
	return &consumerGroup{members: make(map[uint64]*Member), absent: make(map[string]*Member), subscriptions: make(map[string]Subscription)}
}

// dropEmpty forgets a group that has no members. t.mu is held.
func (t *ClientTable) dropEmpty(name string, g *consumerGroup) {
	if len(g.members)+len(g.absent) == 0 {
		delete(t.consumers, name)
	}
}

// describe takes over what a group says of itself as a whole.
func (g *consumerGroup) describe(info ConsumerInfo) {
	clear(g.subscriptions)
	for _, s := range info.Subscriptions {
		g.subscriptions[s.Topic] = s
	}
	g.info = info
	g.info.Subscriptions = nil
}

// takeAbsent makes the absent members those of a list that have no connection here.
func (g *consumerGroup) takeAbsent(list []MemberState, now time.Time) {
	clear(g.absent)
	connected := make(map[string]bool, len(g.members))
	for _, m := range g.members {
		connected[m.ClientID] = true
	}
	for _, s := range list {
		if !connected[s.ClientID] && s.Silent <= absentMax && len(g.members)+len(g.absent) < clientsPerGroupMax {
			g.absent[s.ClientID] = &Member{
				ClientID: s.ClientID, Language: s.Language, Version: s.Version, Remote: s.Remote, LastSeen: now.Add(-s.Silent), kept: !s.Absent,
			}
		}
	}
}

// newest is the version of the newest subscription.
func newest(subs []Subscription) (version int64) {
	for _, s := range subs {
		version = max(version, s.Version)
	}
	return version
}

func (g *consumerGroup) newest() (version int64) {
	for _, s := range g.subscriptions {
		version = max(version, s.Version)
	}
	return version
}

// dropAbsent forgets an absent member and reports whether it was one. t.mu is held.
func (t *ClientTable) dropAbsent(clientID, group string) bool {
	g := t.consumers[group]
	if g == nil || g.absent[clientID] == nil {
		return false
	}
	delete(g.absent, clientID)
	t.dropEmpty(group, g)
	t.changed()
	return true
}

// expireAbsent drops the absent members whose time is over and lists their groups. t.mu is held.
func (t *ClientTable) expireAbsent(now time.Time) (groups []string) {
	for name, g := range t.consumers {
		for id, m := range g.absent {
			if now.Sub(m.LastSeen) > absentMax && t.dropAbsent(id, name) {
				t.broker.logger.Info("a client that was known from the leader has not come here and is forgotten", "client", id, "group", name, "remote", m.Remote)
				groups = append(groups, name)
			}
		}
	}
	return groups
}
