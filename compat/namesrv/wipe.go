package namesrv

// wipe is a withdrawal of a group's write permission.
type wipe struct {
	at       Version // of the group's topics then
	restored bool    // remembered from before a restart; it waits for the leader's first registration
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

func (g *group) wipe() {
	for name, topic := range g.topics {
		topic.Perm &^= PermWrite
		g.topics[name] = topic
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
