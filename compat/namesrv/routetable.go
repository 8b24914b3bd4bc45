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

// Registration is what a replica says of itself and of its group's topics.
type Registration struct {
	Cluster    string
	BrokerName string // names the group
	ID         int64  // LeaderID if the replica leads
	Address    string // where clients reach it
	HAAddress  string // told to the group's other replicas
	Zone       string // empty if none
	Expiry     time.Duration
	Version    Version
	Topics     []Topic
	// Complete says that Topics is the whole table, so that a topic it leaves out is no longer served. Otherwise topics
	// are only added and changed.
	Complete bool
	// SmallestIDSpeaks allows the replica with the smallest id to report topics while the group has no leader.
	SmallestIDSpeaks bool
	// ActingMaster says that the group wants its replica with the smallest id shown as a read-only leader while it has none.
	ActingMaster bool
	// Owner is the connection that the registration came over; Disconnect(Owner) takes the replica out at once.
	Owner uint64
}

// Registered is the outcome of a registration.
type Registered struct {
	LeaderAddress   string // of the group's leader, if the replica is not itself that and there is one
	LeaderHAAddress string
	NewReplica      bool // the replica was not in the table under this id
	Ignored         bool // an older term than the one in the table: nothing was changed
	SkippedTopics   int  // topics left out for their names
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
}

// wipe is a withdrawal of a group's write permission.
type wipe struct {
	at       Version // of the group's topics then
	restored bool    // remembered from before a restart; it waits for the leader's first registration
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
	}
}

// Register takes in one replica's report. The rules, in order:
//
//   - An address stands under one id only: registering under another removes the old entry, unless the report is of an
//     older state version than that entry (a report from before a change of leader that was overtaken on its way).
//   - An id held by another address is taken over, unless a newer state version holds it. The leader's id keeps that
//     guard for as long as the group has any replica, even after the leader's own entry is gone.
//   - A report of exactly one topic by a replica that is not in the table is refused with ErrUnknownReplica.
//   - Topics are taken from the leader, or without one from the replica with the smallest id if SmallestIDSpeaks; and only
//     if the replica is new under its id, its version differs from the one before, or the topic is not in the table.
//
// An ignored report is no error: the replica is told who leads and will come back as a follower.
func (t *RouteTable) Register(r Registration) (Registered, error) {
	if err := r.check(); err != nil {
		t.mu.Lock()
		t.stats.Refused++
		t.mu.Unlock()
		return Registered{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()

	g := t.groups[r.BrokerName]
	if g != nil && g.overtaken(&r) {
		t.stats.Ignored++
		return g.answer(&r, Registered{Ignored: true}), nil
	}
	speaks := r.ID == LeaderID || (r.SmallestIDSpeaks && g.smallestWith(r.ID) == r.ID)
	topics, skipped := usableTopics(r.Topics, speaks)
	if err := t.admit(g, &r, topics); err != nil {
		t.stats.Refused++
		return Registered{}, err
	}

	if g == nil {
		g = &group{name: r.BrokerName, replicas: map[int64]*replica{}, topics: map[string]Topic{}, leaderlessAt: t.now()}
		t.groups[r.BrokerName] = g
		if !t.wipes[g.name].restored {
			delete(t.wipes, g.name) // a restart of the whole group undoes it
		}
	}
	g.cluster, g.zone, g.actingMaster = r.Cluster, r.Zone, r.ActingMaster
	if id, ok := g.idOf(r.Address); ok && id != r.ID {
		t.removeReplica(g, id)
	}
	before := g.replicas[r.ID]
	changed := before == nil || before.address != r.Address || before.version != r.Version
	if speaks {
		t.takeTopics(g, &r, topics, changed)
	}
	g.replicas[r.ID] = &replica{
		address: r.Address, haAddress: r.HAAddress, version: r.Version, expiry: clampExpiry(r.Expiry), seen: t.now(), owner: r.Owner,
	}
	if r.ID == LeaderID {
		g.fence, g.fenceAddress, g.leaderlessAt = r.Version.StateVersion, r.Address, time.Time{}
	}
	t.stats.Registrations++
	return g.answer(&r, Registered{NewReplica: before == nil, SkippedTopics: skipped}), nil
}

// check looks at what can be judged without the table.
func (r *Registration) check() error {
	switch {
	case !ValidName(r.Cluster):
		return fmt.Errorf("%w: cluster name %.100q", ErrInvalid, r.Cluster)
	case !ValidName(r.BrokerName):
		return fmt.Errorf("%w: broker name %.100q", ErrInvalid, r.BrokerName)
	case !ValidAddress(r.Address):
		return fmt.Errorf("%w: broker address %.100q", ErrInvalid, r.Address)
	case r.HAAddress != "" && !ValidAddress(r.HAAddress):
		return fmt.Errorf("%w: HA address %.100q", ErrInvalid, r.HAAddress)
	case r.Zone != "" && !ValidName(r.Zone):
		return fmt.Errorf("%w: zone name %.100q", ErrInvalid, r.Zone)
	case r.ID < 0:
		return fmt.Errorf("%w: broker id %d", ErrInvalid, r.ID)
	}
	return nil
}

// overtaken reports whether r comes from an older term than what the table knows of the group.
func (g *group) overtaken(r *Registration) bool {
	if id, ok := g.idOf(r.Address); ok && id != r.ID && g.replicas[id].version.StateVersion > r.Version.StateVersion {
		return true
	}
	if holder := g.replicas[r.ID]; holder != nil && holder.address != r.Address && holder.version.StateVersion > r.Version.StateVersion {
		return true
	}
	return r.ID == LeaderID && g.fenceAddress != r.Address && g.fence > r.Version.StateVersion
}

// admit checks the limits before anything is changed. g is nil for a new group; topics is what would be taken.
func (t *RouteTable) admit(g *group, r *Registration, topics []Topic) error {
	known := g != nil && g.replicas[r.ID] != nil
	if !known && len(r.Topics) == 1 {
		return fmt.Errorf("%w: %s of broker %s under id %d", ErrUnknownReplica, r.Address, r.BrokerName, r.ID)
	}
	if g == nil && len(t.groups) >= t.limits.Brokers {
		return fmt.Errorf("%w: %d brokers", ErrLimit, t.limits.Brokers)
	}
	if g != nil && !known && len(g.replicas) >= t.limits.ReplicasOfBroker {
		return fmt.Errorf("%w: %d replicas of broker %s", ErrLimit, t.limits.ReplicasOfBroker, r.BrokerName)
	}
	if len(topics) > t.limits.TopicsOfBroker {
		return fmt.Errorf("%w: %d topics of broker %s, %d are allowed", ErrLimit, len(topics), r.BrokerName, t.limits.TopicsOfBroker)
	}
	added := 0
	for i := range topics {
		if g == nil || !g.serves(topics[i].Name) {
			added++
		}
	}
	if g != nil && !r.Complete && len(g.topics)+added > t.limits.TopicsOfBroker {
		return fmt.Errorf("%w: %d topics of broker %s", ErrLimit, t.limits.TopicsOfBroker, r.BrokerName)
	}
	if t.queues+added > t.limits.Queues {
		return fmt.Errorf("%w: %d topics of all brokers", ErrLimit, t.limits.Queues)
	}
	return nil
}

// takeTopics updates the group's topics from a report of a replica that speaks for it.
func (t *RouteTable) takeTopics(g *group, r *Registration, topics []Topic, changed bool) {
	if r.Complete {
		reported := make(map[string]bool, len(topics))
		for i := range topics {
			reported[topics[i].Name] = true
		}
		for name := range g.topics {
			if !reported[name] {
				t.dropQueue(g, name)
			}
		}
	}
	for i := range topics {
		if changed || !g.serves(topics[i].Name) {
			t.putQueue(g, topics[i])
		}
	}
	if w, ok := t.wipes[g.name]; ok && changed {
		t.reviseWipe(g, r, w)
	}
}

// reviseWipe decides whether a withdrawal of write permission outlives a registration. Changed topics undo it, another
// leader with the same topics does not, and neither does a restart of this name server.
func (t *RouteTable) reviseWipe(g *group, r *Registration, w wipe) {
	if !w.at.sameTopics(r.Version) || (!w.restored && w.at.StateVersion == r.Version.StateVersion) {
		delete(t.wipes, g.name)
		return
	}
	g.wipe()
	t.wipes[g.name] = wipe{at: r.Version, restored: w.restored && r.ID != LeaderID}
}

// sameTopics reports whether w is v or v under a later leader who changed nothing.
func (v Version) sameTopics(w Version) bool {
	return v.Timestamp == w.Timestamp && v.Counter == w.Counter && v.StateVersion <= w.StateVersion
}

// answer fills in who leads, for a replica that does not.
func (g *group) answer(r *Registration, out Registered) Registered {
	if r.ID == LeaderID && !out.Ignored {
		return out
	}
	if leader := g.replicas[LeaderID]; leader != nil && leader.address != r.Address {
		out.LeaderAddress, out.LeaderHAAddress = leader.address, leader.haAddress
	}
	return out
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

func (g *group) wipe() {
	for name, topic := range g.topics {
		topic.Perm &^= PermWrite
		g.topics[name] = topic
	}
}

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

// forgetIfEmpty removes a group that has lost its last replica, with all that it served.
func (t *RouteTable) forgetIfEmpty(g *group) {
	if len(g.replicas) > 0 {
		return
	}
	for topic := range g.topics {
		t.dropQueue(g, topic)
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
	t.forgetIfEmpty(g)
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
		t.forgetIfEmpty(g)
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

// WipeWritePerm withdraws the write permission from all topics of a broker and returns how many there are; 0 if the
// broker is not in the table. The group's next registration with changed topics undoes it, a mere change of leader does
// not.
func (t *RouteTable) WipeWritePerm(brokerName string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.groups[brokerName]
	if g == nil {
		return 0
	}
	g.wipe()
	t.wipes[brokerName] = wipe{at: g.speaker().version}
	return len(g.topics)
}

// speaker is the replica whose reports count for the group's topics.
func (g *group) speaker() *replica {
	smallest := int64(-1)
	for id := range g.replicas {
		if smallest < 0 || id < smallest {
			smallest = id
		}
	}
	return g.replicas[smallest]
}

// AddWritePerm makes all topics of a broker readable and writable and returns how many there are; 0 if the broker is not
// in the table. The group's next changed registration undoes it.
func (t *RouteTable) AddWritePerm(brokerName string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.wipes, brokerName)
	g := t.groups[brokerName]
	if g == nil {
		return 0
	}
	for name, topic := range g.topics {
		topic.Perm = PermRead | PermWrite
		g.topics[name] = topic
	}
	return len(g.topics)
}

// Wipes returns the brokers whose write permission is withdrawn, each with the version of its topics then: what
// RestoreWipes needs after a restart.
func (t *RouteTable) Wipes() map[string]Version {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make(map[string]Version, len(t.wipes))
	for name, w := range t.wipes {
		out[name] = w.at
	}
	return out
}

// RestoreWipes says which brokers had their write permission withdrawn before a restart. Each is withdrawn again at the
// broker's first registration if its topics still have the version named, and forgotten otherwise.
func (t *RouteTable) RestoreWipes(wipes map[string]Version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, at := range wipes {
		t.wipes[name] = wipe{at: at, restored: true}
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

func clampExpiry(d time.Duration) time.Duration {
	if d <= 0 {
		return DefaultExpiry
	}
	return min(d, expiryMax)
}

// usableTopics drops topics whose names no client could use. Nothing is left if the replica does not speak for its group.
func usableTopics(topics []Topic, speaks bool) (usable []Topic, skipped int) {
	if !speaks {
		return nil, 0
	}
	for i := range topics {
		if !ValidName(topics[i].Name) {
			skipped++
		}
	}
	if skipped == 0 {
		return topics, 0
	}
	usable = make([]Topic, 0, len(topics)-skipped)
	for i := range topics {
		if ValidName(topics[i].Name) {
			usable = append(usable, topics[i])
		}
	}
	return usable, skipped
}
