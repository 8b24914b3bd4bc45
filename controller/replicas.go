package controller

import (
	"math"
	"slices"
	"sync"
	"time"
)

// ReplicaRole is what a server of the group is.
type ReplicaRole string

// The roles.
const (
	RoleLeader  ReplicaRole = "leader"
	RoleVoter   ReplicaRole = "voter"
	RoleLearner ReplicaRole = "learner"
	RoleArbiter ReplicaRole = "arbiter"
)

// ReplicaState is how a server of the group stands, as its leader sees it.
type ReplicaState struct {
	Number     int // -1 for an arbiter
	ServerID   string
	Address    string // of its Raft port
	ClientAddr string // where it answers clients; empty if it is not known
	Role       ReplicaRole
	Match      uint64 // last entry that it is known to hold as the leader does
	LagBytes   int64  // that it lacks of what is committed; -1 if that cannot be told
	InSync     bool
	Connected  bool
	Muted      bool
	Filling    bool  // it is being filled and no member yet; Filled of FillBytes are there
	Filled     int64 //
	FillBytes  int64
	Node       string // its process, if that is known
}

// Replicas follows how many data replicas hold what. The leader's answers to producers depend on it. It may be asked at any time; of
// a replica that does not lead it tells of that one alone.
type Replicas struct {
	last func() uint64 // end of this replica's log

	mu      sync.Mutex
	term    uint64 // of what is in match
	match   map[string]uint64
	leading bool
	members []replica // the other data replicas that count
	notify  func()
}

// replica is another data replica that counts.
type replica struct {
	id        string
	connected bool
	inSync    bool
}

// NewReplicas returns a Replicas; last returns the index of the newest entry in this replica's own log.
func NewReplicas(last func() uint64) *Replicas {
	return &Replicas{last: last, match: make(map[string]uint64), notify: func() {}}
}

// Progress takes what the Raft port learns of other replicas: it is its OnProgress.
func (r *Replicas) Progress(_, serverID string, term, index uint64) {
	r.mu.Lock()
	if term > r.term {
		r.term = term
		clear(r.match)
	}
	if term < r.term || index <= r.match[serverID] {
		r.mu.Unlock()
		return
	}
	r.match[serverID] = index
	for i := range r.members {
		if r.members[i].id == serverID {
			r.members[i].connected = true // it has just answered; the leader looks only now and then
		}
	}
	notify := r.notify
	r.mu.Unlock()
	notify()
}

// Match is the last entry that a server is known to hold.
func (r *Replicas) Match(serverID string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.match[serverID]
}

// lead says which other data replicas count, now that this one leads in term.
func (r *Replicas) lead(term uint64, members []replica) {
	r.mu.Lock()
	if term > r.term {
		r.term = term
		clear(r.match)
	}
	changed := !r.leading || !slices.Equal(r.members, members)
	r.leading, r.members = true, members
	notify := r.notify
	r.mu.Unlock()
	if changed {
		notify()
	}
}

// follow says that this replica leads no more.
func (r *Replicas) follow() {
	r.mu.Lock()
	r.leading, r.members = false, nil
	notify := r.notify
	r.mu.Unlock()
	notify()
}

// Data is how many data replicas the group has, this one included.
func (r *Replicas) Data() int { return r.count(func(replica) bool { return true }) }

// Connected is how many of them are in contact now, this one included.
func (r *Replicas) Connected() int { return r.count(func(m replica) bool { return m.connected }) }

// InSync is how many of those are not too far behind, this one included.
func (r *Replicas) InSync() int { return r.count(func(m replica) bool { return m.inSync }) }

func (r *Replicas) count(is func(m replica) bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 1
	for _, m := range r.members {
		if is(m) {
			n++
		}
	}
	return n
}

// Held is the highest index of an entry that at least n data replicas hold, this one included; 0 if there are not n.
func (r *Replicas) Held(n int) uint64 {
	if n <= 1 {
		return r.last()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var few [16]uint64
	held := few[:0]
	for _, m := range r.members {
		held = append(held, r.match[m.id])
	}
	if n-1 > len(held) {
		return 0
	}
	slices.Sort(held)
	return held[len(held)-(n-1)]
}

// OnHeld sets the one function that is called after Held or Connected may have changed. It must not block.
func (r *Replicas) OnHeld(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify = f
}

// Pace is how often and how long. The zero value of a field means its default.
type Pace struct {
	Look    time.Duration // between two looks at who is in contact; default 100 ms
	Poll    time.Duration // between two reports of a member; default 1 s
	Contact time.Duration // without an answer, after which a member is not in contact; default 1 s
	Silent  time.Duration // likewise, after which it is looked whether its port is open: if not, it is not in contact; default 200 ms
	Gone    time.Duration // likewise, after which it may be replaced; default 10 s, an arbiter after a third of that
	InSync  time.Duration // for which a member that counts as in sync may not have caught up; default 15 s
	Retry   time.Duration // between two questions for an arbiter in vain; default 5 s
	Moves   time.Duration // between two changes of the leader for priority or balance; default 1 min
	Petition
}

// Petition is the pace of a replica that wants something of a leader.
type Petition struct {
	Ask   time.Duration // between two questions; default 300 ms
	Known time.Duration // for which a group that is known to exist may have no leader; default 30 s
}

func (p *Pace) complete() {
	for _, d := range []struct {
		d   *time.Duration
		def time.Duration
	}{
		{&p.Look, 100 * time.Millisecond}, {&p.Poll, time.Second}, {&p.Contact, time.Second}, {&p.Silent, 200 * time.Millisecond}, {&p.Gone, 10 * time.Second},
		{&p.InSync, 15 * time.Second}, {&p.Retry, 5 * time.Second}, {&p.Moves, time.Minute},
		{&p.Ask, 300 * time.Millisecond}, {&p.Known, 30 * time.Second},
	} {
		if *d.d == 0 {
			*d.d = d.def
		}
	}
}

// noLimit is a TrimLimit that limits nothing.
const noLimit = math.MaxInt64
