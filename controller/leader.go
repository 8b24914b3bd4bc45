package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Self is what this replica tells the others of itself.
func Self(o Options) Hello {
	h := Hello{Number: o.Replica, Incarnation: o.Log.Identity().Incarnation, Address: o.Address, ClientAddr: o.ClientAddr}
	if conf, err := o.Log.Configuration(); err == nil {
		for _, s := range conf.Servers {
			h.Members = append(h.Members, string(s.ID))
			h.Servers = append(h.Servers, Server{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
		}
	}
	return h
}

// hello is what this replica tells of itself now.
func (g *Group) hello() Hello {
	h := Self(g.o)
	s := g.o.Log.Status()
	h.Leader, h.LeaderAddr, h.Term, h.LastIndex, h.LastTerm = s.LeaderID, s.LeaderAddr, s.Term, s.LastIndex, s.LastTerm
	h.Leads, h.Settled = g.team.Load() != nil, g.settled.Load()
	h.Pending = g.o.Log.ConfigurationIndex() > s.CommitIndex
	if g.o.Net != nil {
		h.Muted = g.o.Net.Muted()
	}
	return h
}

// report is where this replica stands.
func (g *Group) report() Report {
	s := g.o.Log.Status()
	r := Report{
		Hello: g.hello(), FirstIndex: s.FirstIndex, LastIndex: s.LastIndex, DurableIndex: s.DurableIndex, AppliedOffset: g.o.State.AppliedOffset(),
		Async: g.o.Async, Priority: g.o.Priority, NodeLeads: g.o.Node.Leads(),
	}
	if g.o.Node != nil {
		r.Node = g.o.Node.name
	}
	return r
}

// answer answers a call of another server of the group.
func (g *Group) answer(ctx context.Context, m Message) (any, []byte, error) {
	switch Kind(m.Head) {
	case CallHello:
		return g.hello(), nil, nil
	case CallReport:
		return g.report(), nil, nil
	case CallFillEnd:
		var r FillEnd
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		g.fills.finish(r, time.Now())
		return nil, nil, nil
	}
	t := g.team.Load()
	if t == nil {
		no := refuse(CodeNotLeader, "this replica does not lead group %s", g.o.Name)
		no.Leader = g.o.Log.Status().LeaderAddr
		return nil, nil, no
	}
	return t.answer(ctx, m)
}

// answer answers a call that is for the leader.
func (t *team) answer(ctx context.Context, m Message) (any, []byte, error) {
	switch Kind(m.Head) {
	case CallJoin:
		var r JoinRequest
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		a, err := t.join(ctx, r)
		return a, nil, err
	case CallFillBegin:
		var r FillRequest
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		offer, err := t.g.fills.begin(r, time.Now())
		return offer, nil, err
	case CallFillRead:
		var r FillRead
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		b, err := t.g.fills.read(ctx, r)
		return nil, b, err
	case CallSettle:
		var r SettleRequest
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		return t.settle(r), nil, nil
	case CallElect:
		var r ElectRequest
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		return nil, nil, t.elect(ctx, r.Number)
	case CallRemove:
		var r RemoveRequest
		if err := decode(m, &r); err != nil {
			return nil, nil, err
		}
		return nil, nil, t.removeOrLeave(ctx, r)
	}
	return nil, nil, refuse(CodeRefused, "a call of kind %d is not known here", m.Head)
}

func decode(m Message, v any) error {
	if err := json.Unmarshal(m.Body, v); err != nil {
		return refuse(CodeRefused, "a call of kind %d cannot be read: %v", m.Head, err)
	}
	return nil
}

// refill has this replica started anew, to be filled.
func (g *Group) refill(why string) {
	if g.refilled.CompareAndSwap(false, true) {
		g.o.Logger.Warn("this replica has to be filled again", "group", g.o.Name, "why", why)
		g.o.Refill()
	}
}

// SnapshotOffered is for raftlog.PeerNetOptions.OnSnapshotOffered.
func (g *Group) SnapshotOffered(_, serverID string, _, index uint64) {
	g.refill(fmt.Sprintf("its leader %s no longer has the entries after the last one here, it offers a snapshot of entry %d", serverID, index))
}

// leaderPoll is how often a replica looks whether it knows of another leader: Raft tells only the leader itself.
const leaderPoll = 20 * time.Millisecond

// watchLeader tells LeaderChanged until ctx ends.
func (g *Group) watchLeader(ctx context.Context) {
	tick := time.NewTicker(leaderPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		leader := g.o.Log.Status().LeaderID
		g.mu.Lock()
		changed := leader != g.leader && !g.guided
		if changed {
			g.leader, g.addr = leader, ""
			close(g.changed)
			g.changed = make(chan struct{})
		}
		g.mu.Unlock()
		if changed {
			g.o.LeaderChanged()
		}
	}
}

// LeaderNumber is the replica number of the leader that this replica knows of.
func (g *Group) LeaderNumber() (int, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := NumberOf(g.leader)
	return n, n >= 0
}

// LeaderAddr is where the leader answers clients. It waits until another replica is known to lead and has told, or ctx
// ends.
func (g *Group) LeaderAddr(ctx context.Context) (string, error) { return g.leaderAddr(ctx, false) }

// LeaderAddrOrHere is LeaderAddr, and returns "" as soon as this replica itself leads and is ready.
func (g *Group) LeaderAddrOrHere(ctx context.Context) (string, error) { return g.leaderAddr(ctx, true) }

func (g *Group) leaderAddr(ctx context.Context, here bool) (string, error) {
	for {
		g.mu.Lock()
		leading, leader, addr, changed := g.leading, g.leader, g.addr, g.changed
		g.mu.Unlock()
		switch {
		case here && leading:
			return "", nil
		case addr != "":
			return addr, nil
		}
		if addr := g.askLeader(ctx, leader); addr != "" {
			return addr, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("group %s: no leader answers: %w", g.o.Name, context.Cause(ctx))
		case <-changed:
		case <-time.After(leaderPoll):
		}
	}
}

// askLeader asks another replica that leads where it answers clients, once for all who want to know; "" if it cannot.
func (g *Group) askLeader(ctx context.Context, leader string) string {
	status := g.o.Log.Status()
	if leader == "" || status.LeaderID != leader || status.LeaderAddr == g.o.Address {
		return ""
	}
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
	default:
		return "" // another one asks
	}
	h, err := ask(ctx, g.o.Net, status.LeaderAddr, g.self)
	if err != nil || string(h.ServerID()) != leader {
		return ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leader == leader {
		g.addr = h.ClientAddr
	}
	return h.ClientAddr
}

// WaitLeader returns nil once this replica leads, or knows who does.
func (g *Group) WaitLeader(ctx context.Context) error {
	id := g.self.ServerID()
	for {
		g.mu.Lock()
		known, changed := g.leading || g.leader != "" && g.leader != string(id), g.changed
		g.mu.Unlock()
		if known {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s has no leader yet: %w", g.o.Name, context.Cause(ctx))
		case <-changed:
		}
	}
}
