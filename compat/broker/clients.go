package broker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Connection is a client's connection, as far as the broker needs it.
type Connection interface {
	ID() uint64
	RemoteAddr() netip.AddrPort
}

// Heartbeat is what a client says of itself every 30 s.
type Heartbeat struct {
	ClientID  string
	Language  string
	Version   int32
	Producers []string
	Consumers []ConsumerInfo
	// KeepAlive heartbeats carry no subscriptions; they must not erase those that are known.
	KeepAlive bool
}

// ConsumerInfo is one consumer group of a client.
type ConsumerInfo struct {
	Group         string
	Type          string // CONSUME_ACTIVELY, CONSUME_PASSIVELY, CONSUME_POP
	Model         string // CLUSTERING, BROADCASTING
	FromWhere     string
	UnitMode      bool
	Subscriptions []Subscription
}

// same reports whether two heartbeats of a group say the same of it, apart from subscriptions.
func (c *ConsumerInfo) same(o ConsumerInfo) bool {
	return c.Type == o.Type && c.Model == o.Model && c.FromWhere == o.FromWhere && c.UnitMode == o.UnitMode
}

// Member is one client of a group.
type Member struct {
	Conn     Connection // nil: it is connected to other replicas only
	Remote   netip.AddrPort
	ClientID string
	Language string
	Version  int32
	LastSeen time.Time
	kept     bool // without Conn: it was connected to the leader when that last told of it
}

// broadcasting is the message model in which each member consumes everything.
const broadcasting = "BROADCASTING"

const (
	subscriptionsPerHeartbeatMax = 2000
	clientsPerGroupMax           = 10_000
	groupsPerClientMax           = 1000
)

// consumerGroup is the live side of a consumer group.
type consumerGroup struct {
	info          ConsumerInfo       // of the last heartbeat; Subscriptions unused
	members       map[uint64]*Member // by connection
	absent        map[string]*Member // that have none here, by client id
	subscriptions map[string]Subscription
}

// groupRef names one group of a client.
type groupRef struct {
	name     string
	producer bool
}

// ClientTable knows the connected producers and consumers. It is soft state: clients repeat themselves.
type ClientTable struct {
	broker *Broker
	notify func(c Connection, group string)

	mu        sync.RWMutex
	consumers map[string]*consumerGroup
	producers map[string]map[uint64]*Member
	groups    map[uint64]map[groupRef]bool // connection -> its groups
	version   uint64                       // of consumers
	changes   chan struct{}                // closed and replaced with each version
	losses    uint64
}

func newClientTable(b *Broker) *ClientTable {
	return &ClientTable{
		broker: b, notify: b.opts.NotifyMembership,
		consumers: make(map[string]*consumerGroup), producers: make(map[string]map[uint64]*Member), groups: make(map[uint64]map[groupRef]bool),
		changes: make(chan struct{}),
	}
}

// Heartbeat registers a client's groups on its connection, creating consumer groups and their retry topics where they
// are missing. It reports whether subscriptions are needed that a KeepAlive heartbeat did not bring.
func (t *ClientTable) Heartbeat(ctx context.Context, conn Connection, hb Heartbeat) (needSubscriptions bool, err error) {
	if hb.ClientID == "" {
		return false, refuse(InvalidParameter, "heartbeat without clientID")
	}
	count := 0
	for _, c := range hb.Consumers {
		count += len(c.Subscriptions)
	}
	if count > subscriptionsPerHeartbeatMax || len(hb.Consumers)+len(hb.Producers) > groupsPerClientMax {
		return false, refuse(InvalidParameter, "heartbeat of %s: %d subscriptions in %d groups, the limits are %d and %d",
			hb.ClientID, count, len(hb.Consumers)+len(hb.Producers), subscriptionsPerHeartbeatMax, groupsPerClientMax)
	}
	var firstErr error
	for _, c := range hb.Consumers {
		if !hb.KeepAlive {
			if err := t.broker.ensureGroup(ctx, c.Group, c.UnitMode); err != nil {
				// The other groups of the client must not suffer; the caller tells the client of the first refusal. A
				// group that must not be created is passed over: its pulls say why, and the heartbeat counts.
				if firstErr == nil && AsRefusal(err).Reason != GroupNotExist {
					firstErr = err
				}
				continue
			}
		}
		changed, known, err := t.registerConsumer(conn, hb, c)
		needSubscriptions = needSubscriptions || !known
		if err != nil && firstErr == nil {
			firstErr = err
		}
		if changed {
			t.membersChanged(c.Group)
		}
	}
	for _, group := range hb.Producers {
		if CheckGroupName(group) == nil {
			t.registerProducer(conn, hb, group)
		}
	}
	return needSubscriptions, firstErr
}

func (t *ClientTable) member(conn Connection, hb Heartbeat) *Member {
	return &Member{Conn: conn, Remote: conn.RemoteAddr(), ClientID: hb.ClientID, Language: hb.Language, Version: hb.Version, LastSeen: t.broker.clock.Now()}
}

func (t *ClientTable) registerConsumer(conn Connection, hb Heartbeat, c ConsumerInfo) (changed, known bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.consumers[c.Group]
	if g == nil {
		if hb.KeepAlive {
			return false, false, nil
		}
		g = newConsumerGroup()
		t.consumers[c.Group] = g
		defer t.dropEmpty(c.Group, g) // if it was refused
	}
	if m := g.members[conn.ID()]; m != nil && m.ClientID == hb.ClientID {
		m.LastSeen = t.broker.clock.Now()
	} else {
		if n := len(g.members) + len(g.absent); n >= clientsPerGroupMax && g.absent[hb.ClientID] == nil {
			return false, true, refuse(Busy, "group %s has %d clients already, which is the limit", c.Group, n)
		}
		if !t.remember(conn, groupRef{name: c.Group}) {
			return false, true, refuse(Busy, "client %s has %d groups already, which is the limit", hb.ClientID, groupsPerClientMax)
		}
		g.members[conn.ID()] = t.member(conn, hb)
		changed = g.absent[hb.ClientID] == nil // it was a member before
		delete(g.absent, hb.ClientID)
		t.changed()
	}
	if hb.KeepAlive {
		return changed, len(g.subscriptions) > 0, nil
	}
	topics, newer := g.update(c.Subscriptions)
	if c.Subscriptions = nil; newer || !g.info.same(c) {
		t.changed()
	}
	g.info = c
	return changed || topics, true, nil
}

// update takes over a member's subscriptions: the newest version wins for each topic, and topics that the newest
// heartbeat no longer names go. It reports whether a topic came or went, and whether anything changed.
func (g *consumerGroup) update(subs []Subscription) (topics, changed bool) {
	named := make(map[string]bool, len(subs))
	for _, s := range subs {
		named[s.Topic] = true
		old, ok := g.subscriptions[s.Topic]
		if !ok || s.Version > old.Version {
			g.subscriptions[s.Topic] = s
			changed = true
		}
		topics = topics || !ok
	}
	for topic := range g.subscriptions {
		if !named[topic] {
			delete(g.subscriptions, topic)
			topics = true
		}
	}
	return topics, topics || changed
}

func (t *ClientTable) registerProducer(conn Connection, hb Heartbeat, group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	members := t.producers[group]
	if m := members[conn.ID()]; m != nil && m.ClientID == hb.ClientID {
		m.LastSeen = t.broker.clock.Now()
		return
	}
	if len(members) >= clientsPerGroupMax || !t.remember(conn, groupRef{group, true}) {
		return
	}
	if members == nil {
		members = make(map[uint64]*Member)
		t.producers[group] = members
	}
	members[conn.ID()] = t.member(conn, hb)
}

// remember notes that a connection has a group; false means that it has too many. t.mu is held.
func (t *ClientTable) remember(conn Connection, group groupRef) bool {
	set := t.groups[conn.ID()]
	if !set[group] && len(set) >= groupsPerClientMax {
		return false
	}
	if set == nil {
		set = make(map[groupRef]bool)
		t.groups[conn.ID()] = set
	}
	set[group] = true
	return true
}

func (t *ClientTable) forget(id uint64, group groupRef) {
	set := t.groups[id]
	if delete(set, group); len(set) == 0 {
		delete(t.groups, id)
	}
}

// Unregister takes a client out of a producer and a consumer group; empty names mean none.
func (t *ClientTable) Unregister(conn Connection, clientID, producerGroup, consumerGroup string) {
	t.mu.Lock()
	t.dropProducer(conn.ID(), producerGroup)
	gone := t.dropConsumer(conn.ID(), consumerGroup)
	gone = t.dropAbsent(clientID, consumerGroup) || gone
	t.mu.Unlock()
	if gone {
		t.membersChanged(consumerGroup)
	}
}

// Disconnected forgets everything about a connection.
func (t *ClientTable) Disconnected(conn Connection) {
	t.mu.Lock()
	var changed []string
	for group := range t.groups[conn.ID()] {
		if group.producer {
			t.dropProducer(conn.ID(), group.name)
		} else if t.dropConsumer(conn.ID(), group.name) {
			changed = append(changed, group.name)
		}
	}
	if len(changed) > 0 {
		t.losses++
	}
	t.mu.Unlock()
	for _, group := range changed {
		t.membersChanged(group)
	}
}

func (t *ClientTable) dropProducer(id uint64, group string) {
	t.forget(id, groupRef{group, true})
	if members := t.producers[group]; members != nil {
		if delete(members, id); len(members) == 0 {
			delete(t.producers, group)
		}
	}
}

func (t *ClientTable) dropConsumer(id uint64, group string) bool {
	g := t.consumers[group]
	if g == nil || g.members[id] == nil {
		return false
	}
	t.forget(id, groupRef{name: group})
	delete(g.members, id)
	t.dropEmpty(group, g)
	t.changed()
	return true
}

// expire drops members that have been silent for too long although their connection is still open. Each group counts for
// itself: a client that has left one of its groups, and whose word of it was lost, still speaks for the others.
func (t *ClientTable) expire(now time.Time) {
	silent := func(m *Member) bool {
		if now.Sub(m.LastSeen) <= t.broker.opts.ClientExpiry {
			return false
		}
		t.broker.logger.Info("a client sent no heartbeat for too long and is forgotten", "client", m.ClientID, "remote", m.Remote)
		return true
	}
	var changed []string
	t.mu.Lock()
	for group, g := range t.consumers {
		for id, m := range g.members {
			if silent(m) && t.dropConsumer(id, group) {
				changed = append(changed, group)
			}
		}
	}
	for group, members := range t.producers {
		for id, m := range members {
			if silent(m) {
				t.dropProducer(id, group)
			}
		}
	}
	changed = append(changed, t.expireAbsent(now)...)
	t.mu.Unlock()
	slices.Sort(changed)
	for _, group := range slices.Compact(changed) {
		t.membersChanged(group)
	}
}

// clientScan is how often silent clients are looked for.
const clientScan = 10 * time.Second

func (b *Broker) runClientExpiry(ctx context.Context) {
	every(ctx, b.clock, clientScan, func() { b.clients.expire(b.clock.Now()) })
}

// membersChanged tells every member of a group that its membership or its topics changed, so that they share out the
// queues anew.
func (t *ClientTable) membersChanged(group string) {
	if g, ok := t.broker.store.Group(group); ok && !g.NotifyConsumerIDsChangedEnable {
		return
	}
	t.mu.RLock()
	var conns []Connection
	if g := t.consumers[group]; g != nil && g.info.Model != broadcasting {
		for _, m := range g.members {
			conns = append(conns, m.Conn)
		}
	}
	t.mu.RUnlock()
	for _, c := range conns {
		t.notify(c, group)
	}
}

// ConsumerIDs lists the client ids of a group's members, sorted, each once.
func (t *ClientTable) ConsumerIDs(group string) []string {
	var ids []string
	for _, m := range t.Consumers(group) {
		ids = append(ids, m.ClientID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Consumers lists a group's members, by client id, those without a connection here too.
func (t *ClientTable) Consumers(group string) []Member {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.consumers[group]
	if g == nil {
		return nil
	}
	list := sortedMembers(g.members)
	if len(g.absent) > 0 {
		for _, m := range g.absent {
			list = append(list, *m)
		}
		slices.SortStableFunc(list, byClientID)
	}
	return list
}

// Producers lists the producers of a group, by client id.
func (t *ClientTable) Producers(group string) []Member {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return sortedMembers(t.producers[group])
}

// ProducerGroups lists the groups that have a producer.
func (t *ClientTable) ProducerGroups() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	groups := make([]string, 0, len(t.producers))
	for g := range t.producers {
		groups = append(groups, g)
	}
	slices.Sort(groups)
	return groups
}

func sortedMembers(members map[uint64]*Member) []Member {
	list := make([]Member, 0, len(members))
	for _, m := range members {
		list = append(list, *m)
	}
	slices.SortFunc(list, byClientID)
	return list
}

func byClientID(a, b Member) int { return strings.Compare(a.ClientID, b.ClientID) }

// ConsumerGroup describes the live side of a group: what it said of itself and what it subscribes to, by topic. ok is
// false when no member is connected.
func (t *ClientTable) ConsumerGroup(group string) (info ConsumerInfo, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.consumers[group]
	if g == nil {
		return ConsumerInfo{}, false
	}
	info = g.info
	for _, s := range g.subscriptions {
		info.Subscriptions = append(info.Subscriptions, s)
	}
	slices.SortFunc(info.Subscriptions, func(a, b Subscription) int { return strings.Compare(a.Topic, b.Topic) })
	return info, true
}

// SubscribersOf lists the groups with a connected member that subscribe to a topic.
func (t *ClientTable) SubscribersOf(topic string) []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var groups []string
	for name, g := range t.consumers {
		if _, ok := g.subscriptions[topic]; ok {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return groups
}

func (t *ClientTable) isBroadcast(group string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.consumers[group]
	return g != nil && g.info.Model == broadcasting
}

func (t *ClientTable) subscription(group, topic string) (Subscription, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	g := t.consumers[group]
	if g == nil {
		return Subscription{}, refuse(SubscriptionNotExist, "the consumer's group info not exist: %s", group)
	}
	s, ok := g.subscriptions[topic]
	if !ok {
		return s, refuse(SubscriptionNotExist, "the consumer's subscription not exist: group %s, topic %s", group, topic)
	}
	return s, nil
}
