package namesrv

import (
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"
)

// LeaderID is the broker id under which clients look for the replica that takes writes.
const LeaderID = 0

// Permission bits of a topic on a broker group, as on the wire.
const (
	PermWrite = 2
	PermRead  = 4
)

// Bits of a topic's system flag.
const (
	sysFlagUnit    = 1 // the topic belongs to one unit of a multi-site deployment
	sysFlagUnitSub = 2 // some consumer group of a unit subscribes to it
)

// DefaultExpiry is how long a replica is believed to live after its last registration if it names no time itself.
const DefaultExpiry = 120 * time.Second

// expiryMax bounds what a registration may ask for.
const expiryMax = 24 * time.Hour

// Errors of RouteTable. Callers compare with errors.Is.
var (
	// ErrUnknownReplica refuses a registration of a single topic by a replica that is not in the table: such a body is
	// incremental, and taking it would advertise a broker with one topic. The replica has to register in full.
	ErrUnknownReplica = errors.New("incremental registration of a broker that is not registered")
	// ErrUnknownBroker says that no group of that name is registered.
	ErrUnknownBroker = errors.New("broker is not registered")
	// ErrLimit says that one of Limits is reached; nothing was changed.
	ErrLimit = errors.New("route table limit reached")
	// ErrInvalid says that a name, id or address is not acceptable; nothing was changed.
	ErrInvalid = errors.New("invalid registration")
)

// Limits bounds the table, whatever registers. Zero fields take the defaults named.
type Limits struct {
	Brokers          int // broker groups; default 4,096
	ReplicasOfBroker int // replicas of one group; default 64
	TopicsOfBroker   int // topics served by one group; default 50,000
	Queues           int // (topic, group) pairs altogether; default 2,000,000
}

func (l *Limits) setDefaults() {
	def := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	def(&l.Brokers, 4096)
	def(&l.ReplicasOfBroker, 64)
	def(&l.TopicsOfBroker, 50_000)
	def(&l.Queues, 2_000_000)
}

// Version is the state of a group's topic table as its replica reports it (on the wire: DataVersion). StateVersion is the
// Raft term of an rmq group, the epoch of an Apache group in controller mode, 0 otherwise.
type Version struct {
	StateVersion int64
	Timestamp    int64
	Counter      int64
}

// Topic is one topic as one broker group serves it.
type Topic struct {
	Name        string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32
	SysFlag     int32
}

// TopicRoute is the answer to "who serves this topic". It is a copy that belongs to the caller.
type TopicRoute struct {
	Brokers []BrokerData // sorted by name
	Queues  []QueueData  // one for each of Brokers, same order
	// Leaderless holds the names of those brokers that have no replica under LeaderID.
	Leaderless []string
}

// BrokerData is a broker group and its replicas.
type BrokerData struct {
	Cluster      string
	Name         string
	Zone         string
	ActingMaster bool
	Addresses    map[int64]string // by broker id; a copy
}

// QueueData is a topic's queues on one broker group.
type QueueData struct {
	BrokerName  string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32
	SysFlag     int32
}

// TableStats counts what the table holds and what happened to registrations since it was made.
type TableStats struct {
	Brokers, Replicas, Topics, Queues             int
	Registrations, Ignored, Refused, Disconnected uint64
	Expired, Unregistered                         uint64
}

// RouteTable knows the live broker groups and their topics. It does no I/O and starts no goroutine: its owner tells it of
// registrations, closed connections and the passage of time. All methods are safe for concurrent use, and nothing that
// they return is shared with the table.
type RouteTable struct {
	now    func() time.Time
	limits Limits

	mu     sync.RWMutex
	groups map[string]*group   // by broker name; each has at least one replica
	topics map[string][]*group // who serves a topic: sorted by name, never empty
	queues int                 // sum of len(group.topics)
	// wipes are the withdrawals of write permission that nothing has undone, by broker name. That of a group which has left
	// the table stays until the group comes back.
	wipes map[string]wipe
	// lost are the topics whose last group vanished with its connection, and when: its broker may be about to come back.
	lost  map[string]time.Time
	stats TableStats
}

// group is one broker group: replicas that share a log, or an Apache master with its slaves.
type group struct {
	cluster      string
	name         string
	zone         string
	actingMaster bool
	replicas     map[int64]*replica
	topics       map[string]Topic
	// fence is the newest state version under which a replica was accepted as leader, and that replica's address. Another
	// address that claims the leadership with an older one has been deposed without knowing it yet.
	fence        int64
	fenceAddress string
	leaderlessAt time.Time // since when there is no leader; zero while there is one
	elects       bool      // its leader, by a registration with a state version: Apache's groups without a controller do not
}

type replica struct {
	address   string
	haAddress string
	version   Version
	expiry    time.Duration
	seen      time.Time
	owner     uint64
}

// NewRouteTable returns an empty table. now is called under the table's lock and must not call back.
func NewRouteTable(now func() time.Time, limits Limits) *RouteTable {
	limits.setDefaults()
	return &RouteTable{
		now:    now,
		limits: limits,
		groups: map[string]*group{},
		topics: map[string][]*group{},
		wipes:  map[string]wipe{},
		lost:   map[string]time.Time{},
	}
}

func (g *group) idOf(address string) (int64, bool) {
	for id, r := range g.replicas {
		if r.address == address {
			return id, true
		}
	}
	return 0, false
}

// smallestWith returns the group's smallest id if id were one of them. g may be nil.
func (g *group) smallestWith(id int64) int64 {
	if g != nil {
		for other := range g.replicas {
			id = min(id, other)
		}
	}
	return id
}

func (g *group) serves(topic string) bool { _, ok := g.topics[topic]; return ok }

// putQueue and dropQueue keep group.topics and RouteTable.topics in step.
func (t *RouteTable) putQueue(g *group, topic Topic) {
	if !g.serves(topic.Name) {
		t.queues++
		serving := t.topics[topic.Name]
		at := sort.Search(len(serving), func(i int) bool { return serving[i].name >= g.name })
		serving = append(serving, nil)
		copy(serving[at+1:], serving[at:])
		serving[at] = g
		t.topics[topic.Name] = serving
		delete(t.lost, topic.Name)
	}
	g.topics[topic.Name] = topic
}

func (t *RouteTable) dropQueue(g *group, topic string) {
	if !g.serves(topic) {
		return
	}
	delete(g.topics, topic)
	t.queues--
	serving := t.topics[topic]
	for i := range serving {
		if serving[i] == g {
			serving = append(serving[:i], serving[i+1:]...)
			break
		}
	}
	if len(serving) == 0 {
		delete(t.topics, topic)
		return
	}
	t.topics[topic] = serving
}

// removeReplica takes one replica out but leaves the group in place, even without any.
func (t *RouteTable) removeReplica(g *group, id int64) {
	delete(g.replicas, id)
	if id == LeaderID {
		g.leaderlessAt = t.now()
	}
}

// forgetIfEmpty removes a group that has lost its last replica, with all that it served. gone says that the replica did not take its
// leave.
func (t *RouteTable) forgetIfEmpty(g *group, gone bool) {
	if len(g.replicas) > 0 {
		return
	}
	now := t.now()
	for topic := range g.topics {
		t.dropQueue(g, topic)
		if gone && g.elects && len(t.topics[topic]) == 0 {
			t.lost[topic] = now
		}
	}
	delete(t.groups, g.name)
}

// Unregister takes the replica at address out of its group, under whatever id it stands there. It reports whether it was
// in the table.
func (t *RouteTable) Unregister(brokerName, address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[brokerName]
	if g == nil {
		return false
	}
	id, ok := g.idOf(address)
	if !ok {
		return false
	}
	t.removeReplica(g, id)
	t.forgetIfEmpty(g, false)
	t.stats.Unregistered++
	return true
}

// Removal names a replica that was taken out of the table without asking for it.
type Removal struct {
	Cluster    string
	BrokerName string
	ID         int64
	Address    string
}

// Disconnect takes out every replica whose newest registration came over the connection owner.
func (t *RouteTable) Disconnect(owner uint64) []Removal {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.removeWhere(func(r *replica) bool { return r.owner == owner })
	t.stats.Disconnected += uint64(len(out))
	return out
}

// Expire takes out every replica that has been silent for longer than it said it would be.
func (t *RouteTable) Expire() []Removal {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	out := t.removeWhere(func(r *replica) bool { return now.Sub(r.seen) > r.expiry })
	for topic, at := range t.lost {
		if now.Sub(at) >= holdWithin {
			delete(t.lost, topic)
		}
	}
	t.stats.Expired += uint64(len(out))
	return out
}

func (t *RouteTable) removeWhere(gone func(*replica) bool) []Removal {
	var out []Removal
	for _, g := range t.groups {
		for id, r := range g.replicas {
			if gone(r) {
				out = append(out, Removal{g.cluster, g.name, id, r.address})
				t.removeReplica(g, id)
			}
		}
		t.forgetIfEmpty(g, true)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].BrokerName != out[j].BrokerName {
			return out[i].BrokerName < out[j].BrokerName
		}
		return out[i].ID < out[j].ID
	})
	return out
}

// Touch notes that the replica is alive. It reports whether it is in the table.
func (t *RouteTable) Touch(brokerName, address string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.replicaAt(brokerName, address)
	if r == nil {
		return false
	}
	r.seen = t.now()
	return true
}

// VersionOf returns the version of the replica's newest registration.
func (t *RouteTable) VersionOf(brokerName, address string) (Version, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r := t.replicaAt(brokerName, address)
	if r == nil {
		return Version{}, false
	}
	return r.version, true
}

func (t *RouteTable) replicaAt(brokerName, address string) *replica {
	g := t.groups[brokerName]
	if g == nil {
		return nil
	}
	id, ok := g.idOf(address)
	if !ok {
		return nil
	}
	return g.replicas[id]
}

// RegisterTopic adds or replaces one topic on the brokers named in queues. It fails with ErrUnknownBroker, changing
// nothing, if one of them is not in the table.
func (t *RouteTable) RegisterTopic(topic string, queues []QueueData) error {
	if !ValidName(topic) {
		return fmt.Errorf("%w: topic name %.100q", ErrInvalid, topic)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	added := 0
	for i := range queues {
		g := t.groups[queues[i].BrokerName]
		if g == nil {
			return fmt.Errorf("%w: %.100q", ErrUnknownBroker, queues[i].BrokerName)
		}
		if g.serves(topic) {
			continue
		}
		added++
		if len(g.topics) >= t.limits.TopicsOfBroker {
			return fmt.Errorf("%w: %d topics of broker %s", ErrLimit, t.limits.TopicsOfBroker, g.name)
		}
	}
	if t.queues+added > t.limits.Queues {
		return fmt.Errorf("%w: %d topics of all brokers", ErrLimit, t.limits.Queues)
	}
	for _, q := range queues {
		t.putQueue(t.groups[q.BrokerName], Topic{topic, q.ReadQueues, q.WriteQueues, q.Perm, q.SysFlag})
	}
	return nil
}

// DeleteTopic takes the topic off every broker of the cluster, or off all brokers if cluster is empty. The brokers'
// next changed registration brings it back if they still have it.
func (t *RouteTable) DeleteTopic(topic, cluster string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	serving := append([]*group(nil), t.topics[topic]...)
	for _, g := range serving {
		if cluster == "" || g.cluster == cluster {
			t.dropQueue(g, topic)
		}
	}
}

// Stats returns the table's counters.
func (t *RouteTable) Stats() TableStats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.stats
	s.Brokers, s.Topics, s.Queues = len(t.groups), len(t.topics), t.queues
	for _, g := range t.groups {
		s.Replicas += len(g.replicas)
	}
	return s
}
