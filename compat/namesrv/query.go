package namesrv

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// memberTopicPrefix starts the names of the topics by which Apache brokers ask for the replicas of their own group. Those
// want the truth about who leads, never an acting master.
const memberTopicPrefix = "rmq_sys_SYNC_BROKER_MEMBER_"

// Route returns who serves the topic, and false if nobody does.
//
// A group that wants an acting master, and has been without a leader for at least actingAfter, shows its smallest id under
// LeaderID; a negative actingAfter shows none. Such a group's topics are never writable while it has no leader.
func (t *RouteTable) Route(topic string, actingAfter time.Duration) (TopicRoute, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	serving := t.topics[topic]
	if len(serving) == 0 {
		return TopicRoute{}, false
	}
	out := TopicRoute{Brokers: make([]BrokerData, 0, len(serving)), Queues: make([]QueueData, 0, len(serving))}
	for _, g := range serving {
		broker, served := g.data(), g.topics[topic]
		queue := QueueData{g.name, served.ReadQueues, served.WriteQueues, served.Perm, served.SysFlag}
		if g.replicas[LeaderID] == nil {
			out.Leaderless = append(out.Leaderless, g.name)
			if g.actingMaster {
				queue.Perm &^= PermWrite
				if actingAfter >= 0 && t.now().Sub(g.leaderlessAt) >= actingAfter && !strings.HasPrefix(topic, memberTopicPrefix) {
					broker.showActingMaster()
				}
			}
		}
		out.Brokers = append(out.Brokers, broker)
		out.Queues = append(out.Queues, queue)
	}
	return out, true
}

// holdWithin is how long after the loss of its leader, or of its only replica, a group is expected back at any moment.
const holdWithin = 5 * time.Second

// Awaited reports whether a group that serves the topic lost its leader a moment ago, or the only one that served it is gone since
// then: a better route is likely to come soon. It is false for groups that do not elect leaders.
func (t *RouteTable) Awaited(topic string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	now := t.now()
	if at, lost := t.lost[topic]; lost {
		return now.Sub(at) < holdWithin
	}
	return slices.ContainsFunc(t.topics[topic], func(g *group) bool {
		return !g.leaderlessAt.IsZero() && g.elects && now.Sub(g.leaderlessAt) < holdWithin
	})
}

func (g *group) data() BrokerData {
	b := BrokerData{Cluster: g.cluster, Name: g.name, Zone: g.zone, ActingMaster: g.actingMaster, Addresses: make(map[int64]string, len(g.replicas))}
	for id, r := range g.replicas {
		b.Addresses[id] = r.address
	}
	return b
}

func (b *BrokerData) showActingMaster() {
	smallest := int64(-1)
	for id := range b.Addresses {
		if smallest < 0 || id < smallest {
			smallest = id
		}
	}
	b.Addresses[LeaderID] = b.Addresses[smallest]
	delete(b.Addresses, smallest)
}

// InZone leaves in the route what a client of the given zone is to use: brokers of its zone, in any case, and brokers
// without a leader, which are worth reading from wherever they are.
func (r *TopicRoute) InZone(zone string) {
	var brokers []BrokerData
	var queues []QueueData
	for i, b := range r.Brokers {
		if b.Addresses[LeaderID] == "" || strings.EqualFold(b.Zone, zone) {
			brokers, queues = append(brokers, b), append(queues, r.Queues[i])
		}
	}
	r.Brokers, r.Queues = brokers, queues
}

// Brokers returns all groups, sorted by name.
func (t *RouteTable) Brokers() []BrokerData {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]BrokerData, 0, len(t.groups))
	for _, name := range slices.Sorted(maps.Keys(t.groups)) {
		out = append(out, t.groups[name].data())
	}
	return out
}

// Broker returns one group, and false if it is not in the table.
func (t *RouteTable) Broker(name string) (BrokerData, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.groups[name]
	if g == nil {
		return BrokerData{}, false
	}
	return g.data(), true
}

// Topics returns the names of all topics, sorted.
func (t *RouteTable) Topics() []string {
	return t.topicsWhere(func(string, []*group) bool { return true })
}

// TopicsOfCluster returns the names of the topics that some broker of the cluster serves, sorted.
func (t *RouteTable) TopicsOfCluster(cluster string) []string {
	return t.topicsWhere(func(_ string, serving []*group) bool {
		return slices.ContainsFunc(serving, func(g *group) bool { return g.cluster == cluster })
	})
}

// UnitTopics returns the names of the topics that belong to a unit, sorted.
func (t *RouteTable) UnitTopics() []string {
	return t.topicsByFlag(func(flag int32) bool { return flag&sysFlagUnit != 0 })
}

// UnitSubTopics returns the names of the topics that a unit's consumers subscribe to, sorted.
func (t *RouteTable) UnitSubTopics() []string {
	return t.topicsByFlag(func(flag int32) bool { return flag&sysFlagUnitSub != 0 })
}

// UnitSubUnunitTopics is UnitSubTopics without UnitTopics.
func (t *RouteTable) UnitSubUnunitTopics() []string {
	return t.topicsByFlag(func(flag int32) bool { return flag&sysFlagUnitSub != 0 && flag&sysFlagUnit == 0 })
}

// topicsByFlag goes by the flag on the topic's first broker, as brokers are to agree on it.
func (t *RouteTable) topicsByFlag(match func(sysFlag int32) bool) []string {
	return t.topicsWhere(func(topic string, serving []*group) bool { return match(serving[0].topics[topic].SysFlag) })
}

// topicsWhere is never nil: a list without entries is still a list in JSON.
func (t *RouteTable) topicsWhere(match func(topic string, serving []*group) bool) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := []string{}
	for topic, serving := range t.topics {
		if match(topic, serving) {
			out = append(out, topic)
		}
	}
	slices.Sort(out)
	return out
}

// SystemTopics returns the names of all clusters and brokers, each of which is also the name of a topic that its brokers
// keep for themselves, and the address of some replica ("" if the table is empty) that can tell the other system topics.
func (t *RouteTable) SystemTopics() (names []string, address string) {
	names = []string{}
	for _, b := range t.Brokers() {
		names = append(names, b.Cluster, b.Name)
		if address == "" {
			address = b.Addresses[slices.Min(slices.Collect(maps.Keys(b.Addresses)))]
		}
	}
	slices.Sort(names)
	return slices.Compact(names), address
}
