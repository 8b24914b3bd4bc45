package controller

import (
	"math"
	"time"
)

// Replication says how the servers of the group stand, in the configuration's order and then those that are being filled. Only the
// leader knows how far the others are; elsewhere the list says who is in the group.
func (g *Group) Replication() []ReplicaState {
	if t := g.team.Load(); t != nil {
		return t.replication()
	}
	conf, err := g.o.Log.Configuration()
	if err != nil {
		return nil
	}
	leader := g.o.Log.Status().LeaderID
	var list []ReplicaState
	for _, s := range conf.Servers {
		id := string(s.ID)
		r := ReplicaState{Number: NumberOf(id), ServerID: id, Address: string(s.Address), Role: roleOf(s.Suffrage == 0, IsArbiter(id), id == leader), LagBytes: -1}
		if s.ID == g.self.ServerID() {
			r.ClientAddr, r.Connected, r.Match = g.o.ClientAddr, true, g.o.Log.Status().LastIndex
		}
		list = append(list, r)
	}
	return list
}

func roleOf(voter, arbiter, leader bool) ReplicaRole {
	switch {
	case leader:
		return RoleLeader
	case arbiter:
		return RoleArbiter
	case voter:
		return RoleVoter
	}
	return RoleLearner
}

func (t *team) replication() []ReplicaState {
	filling := t.g.fills.progress()
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	var list []ReplicaState
	for _, m := range t.members {
		r := ReplicaState{
			Number: m.number, ServerID: m.ID, Address: m.Address, Role: roleOf(m.Voter, m.arbiter, m.ID == t.self),
			Match: m.match, LagBytes: m.lag, Connected: m.contact,
			InSync: m.contact && !m.caughtAt.IsZero() && now.Sub(m.caughtAt) <= t.o.Pace.InSync,
		}
		if m.ID == t.self {
			r.ClientAddr, r.LagBytes = t.o.ClientAddr, 0
			if t.o.Node != nil {
				r.Node = t.o.Node.name
			}
		} else if m.report != nil {
			r.ClientAddr, r.Muted, r.Node = m.report.ClientAddr, m.report.Muted, m.report.Node
		}
		if p, ok := filling[m.ID]; ok {
			r.Filling, r.Filled, r.FillBytes = true, p[0], p[1]
			delete(filling, m.ID)
		}
		list = append(list, r)
	}
	for id, p := range filling {
		r := ReplicaState{Number: NumberOf(id), ServerID: id, Role: RoleLearner, LagBytes: p[1] - p[0], Connected: true, Filling: true, Filled: p[0], FillBytes: p[1]}
		if j := t.joiners[id]; j != nil {
			r.Address, r.ClientAddr = j.Address, j.ClientAddr
		}
		list = append(list, r)
	}
	return list
}

// How long a replica that is not in contact holds the trimming of the log back, and one that has not reported to a new leader.
const (
	trimAbsent  = 10 * time.Minute
	trimUnknown = 10 * time.Second
)

// TrimLimit is the offset that retention may not pass: what a data replica lacks that is in contact or was within ten minutes, and
// what is being copied to one. A replica that does not lead sets none: it follows its leader.
func (g *Group) TrimLimit() int64 {
	t := g.team.Load()
	if t == nil {
		return math.MaxInt64
	}
	limit := g.fills.floor()
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, m := range t.members {
		if m.ID == t.self || m.arbiter {
			continue
		}
		heard := m.heard
		if heard.IsZero() {
			heard = m.addedAt
		}
		switch {
		case m.report != nil && now.Sub(heard) < trimAbsent:
			limit = min(limit, m.report.AppliedOffset)
		case m.report == nil && now.Sub(m.addedAt) < trimUnknown:
			return 0
		}
	}
	return limit
}
