package namesrv

import (
	"fmt"
	"time"
)

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
	NewLeader       bool // the group had no leader, and has one now
	Ignored         bool // an older term than the one in the table: nothing was changed
	SkippedTopics   int  // topics left out for their names
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
	g.elects = g.elects || r.Version.StateVersion > 0
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
	newLeader := r.ID == LeaderID && !g.leaderlessAt.IsZero()
	if r.ID == LeaderID {
		g.fence, g.fenceAddress, g.leaderlessAt = r.Version.StateVersion, r.Address, time.Time{}
	}
	t.stats.Registrations++
	return g.answer(&r, Registered{NewReplica: before == nil, NewLeader: newLeader, SkippedTopics: skipped}), nil
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
