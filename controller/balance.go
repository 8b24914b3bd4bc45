package controller

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"rmq/raftlog"
)

// Node is a process with replicas of several groups. It spreads the leaders of its groups over the nodes.
type Node struct {
	name string

	mu     sync.Mutex
	leads  map[string]bool // by group
	moved  time.Time       // when the last lead was handed on for balance
	moving bool
}

// NewNode returns a node. The name must differ from that of every other node of the cluster.
func NewNode(name string) *Node { return &Node{name: name, leads: make(map[string]bool)} }

// Leads is how many groups this node leads.
func (n *Node) Leads() int {
	if n == nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.leads)
}

func (n *Node) note(group string, leads bool) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if leads {
		n.leads[group] = true
	} else {
		delete(n.leads, group)
	}
}

// take lets one group at a time hand its lead on, pause after the last one: the others must have told of that.
func (n *Node) take(now time.Time, pause time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.moving || now.Sub(n.moved) < pause {
		return false
	}
	n.moving = true
	return true
}

func (n *Node) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.moving, n.moved = false, time.Now()
}

// balancePolls is for how many polls a node rests after a lead was handed on.
const balancePolls = 3

// better returns how to hand the lead to a replica that should have it rather than this one; nil if there is none, or it is too early.
func (t *team) better(now time.Time) func(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.movedAt) < t.o.Pace.Moves {
		return nil
	}
	best, why := t.preferred(), "it has priority"
	free := func() {}
	if best == nil {
		if best = t.idlest(); best == nil || !t.o.Node.take(now, balancePolls*t.o.Pace.Poll) {
			return nil
		}
		why, free = "its node leads fewer groups", t.o.Node.give
	}
	t.movedAt = now
	id, addr := best.ID, best.Address
	return func(ctx context.Context) error {
		defer free()
		t.o.Logger.Info("the lead is handed on", "group", t.o.Name, "to", id, "why", why)
		return t.hand(ctx, id, addr)
	}
}

// hand hands the lead to a voter. That this replica's term ends is what is wanted.
func (t *team) hand(ctx context.Context, id, addr string) error {
	err := t.o.Log.TransferLeadershipTo(ctx, id, addr)
	if err != nil && t.o.Log.Status().LeaderID == id {
		return nil
	}
	return err
}

// heir reports whether a member could lead in a moment; t.mu is held.
func (t *team) heir(m *member) bool {
	return m.ID != t.self && m.Voter && !m.arbiter && m.caught && m.report != nil && !m.report.Muted
}

// rank makes "no wish" the last.
func rank(priority int) int {
	if priority <= 0 {
		return math.MaxInt
	}
	return priority
}

// preferred returns the heir whose priority is higher than this replica's and all others'; t.mu is held.
func (t *team) preferred() *member {
	if t.o.Prefer != nil && !t.o.Prefer() {
		return nil
	}
	var best *member
	least := rank(t.o.Priority)
	for _, m := range t.members {
		if t.heir(m) && rank(m.report.Priority) < least {
			best, least = m, rank(m.report.Priority)
		}
	}
	return best
}

// idlest returns an heir on the node that leads fewest groups, if that is at least two fewer than this node: so a move never makes
// another necessary. t.mu is held.
func (t *team) idlest() *member {
	if t.o.Node == nil || t.o.Balance != nil && !t.o.Balance() {
		return nil
	}
	var best *member
	for _, m := range t.members {
		if !t.heir(m) || m.report.Node == "" || m.report.Node == t.o.Node.name || rank(m.report.Priority) > rank(t.o.Priority) {
			continue
		}
		if best == nil || m.report.NodeLeads < best.report.NodeLeads {
			best = m
		}
	}
	if best == nil || t.o.Node.Leads()-best.report.NodeLeads < 2 {
		return nil
	}
	return best
}

// ElectMaster makes the replica with a number the leader. It waits until that has caught up, if need be, as long as ctx lasts. On a
// replica that does not lead it asks the leader.
func (g *Group) ElectMaster(ctx context.Context, number int) error {
	return g.led(ctx, CallElect, ElectRequest{Number: number}, func(t *team) error { return t.elect(ctx, number) })
}

// led has the leader do something, be it here or elsewhere, and goes on asking while it changes.
func (g *Group) led(ctx context.Context, kind Kind, request any, here func(t *team) error) error {
	for {
		err := errNoLeader
		status := g.o.Log.Status()
		if t := g.team.Load(); t != nil {
			err = here(t)
		} else if status.LeaderAddr != "" && status.LeaderAddr != g.o.Address {
			_, err = askRaw(ctx, g.o.Net, status.LeaderAddr, kind, request, nil)
		}
		var no *Refusal
		passing := errors.Is(err, errNoLeader) || errors.Is(err, raftlog.ErrNotLeader) || errors.Is(err, raftlog.ErrPeerNotSent) ||
			errors.As(err, &no) && no.Code != CodeRefused
		if err == nil || !passing || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("group %s: %w: %w", g.o.Name, err, ctx.Err())
		case <-time.After(leaderPoll):
		}
	}
}

func (t *team) elect(ctx context.Context, number int) error {
	if number == t.o.Replica {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.movedAt = time.Now() // it is wanted here: it is not moved on at once
		return nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn; t.nudge() }()
	case <-ctx.Done():
		return fmt.Errorf("the group's members are changing: %w", ctx.Err())
	}
	for {
		s, ready, err := t.electable(number)
		if err != nil {
			return err
		}
		if ready {
			return t.hand(ctx, s.ID, s.Address)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("replica %d has not caught up: %w", number, ctx.Err())
		case <-time.After(t.o.Pace.Look):
		}
	}
}

func (t *team) electable(number int) (s Server, ready bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.members {
		switch {
		case m.arbiter || m.number != number:
			continue
		case !m.Voter:
			return s, false, refuse(CodeRefused, "replica %d of group %s has no vote, it cannot lead", number, t.o.Name)
		case !m.contact && t.unheard(m, time.Now()):
			return s, false, nil
		case !m.contact:
			return s, false, refuse(CodeRefused, "replica %d of group %s is not in contact", number, t.o.Name)
		}
		t.movedAt = time.Now() // it is not moved back at once
		return m.Server, m.caught && (m.report == nil || !m.report.Muted), nil
	}
	return s, false, refuse(CodeRefused, "group %s has no replica %d", t.o.Name, number)
}

// unheard reports whether a member has not answered yet but may still: this replica has not led for long. t.mu is held.
func (t *team) unheard(m *member, now time.Time) bool {
	return m.heard.IsZero() && now.Sub(m.addedAt) <= t.o.Pace.Contact
}

// heard waits until it is known who is in contact, after a change of leader.
func (t *team) heard(ctx context.Context) error {
	for {
		t.mu.Lock()
		now, wait := time.Now(), false
		for _, m := range t.members {
			wait = wait || m.ID != t.self && t.unheard(m, now)
		}
		t.mu.Unlock()
		if !wait {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(t.o.Pace.Look):
		}
	}
}

// RemoveReplica takes the replica with a number out of the group. If that leads, it hands the lead on first. On a replica that does not
// lead it asks the leader.
func (g *Group) RemoveReplica(ctx context.Context, number int) error {
	return g.removeReplica(ctx, RemoveRequest{Number: number})
}

// RemoveDead is RemoveReplica for one that is not in contact; another one is refused.
func (g *Group) RemoveDead(ctx context.Context, number int) error {
	return g.removeReplica(ctx, RemoveRequest{Number: number, Dead: true})
}

func (g *Group) removeReplica(ctx context.Context, r RemoveRequest) error {
	return g.led(ctx, CallRemove, r, func(t *team) error { return t.removeOrLeave(ctx, r) })
}

// removeOrLeave removes another replica; this one it makes a follower, to be asked again elsewhere.
func (t *team) removeOrLeave(ctx context.Context, r RemoveRequest) error {
	switch {
	case r.Number != t.o.Replica:
		return t.removeNumber(ctx, r)
	case r.Dead:
		return refuse(CodeRefused, "replica %d leads group %s", r.Number, t.o.Name)
	}
	if err := t.handToAnyone(ctx); err != nil {
		return err
	}
	return refuse(CodeNotLeader, "replica %d has handed the lead on, to be removed", r.Number)
}

func (t *team) handToAnyone(ctx context.Context) error {
	if err := t.heard(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	var to *member
	for _, m := range t.members {
		if t.heir(m) {
			to = m
		}
	}
	t.mu.Unlock()
	if to == nil {
		return refuse(CodeRefused, "replica %d of group %s leads, and no other one can", t.o.Replica, t.o.Name)
	}
	return t.elect(ctx, to.number)
}

func (t *team) removeNumber(ctx context.Context, r RemoveRequest) error {
	number := r.Number
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn; t.nudge() }()
	case <-ctx.Done():
		return fmt.Errorf("the group's members are changing: %w", ctx.Err())
	}
	if err := t.heard(ctx); err != nil {
		return err
	}
	there := t.answering(ctx)
	t.mu.Lock()
	v := View{Self: t.self}
	var target *MemberView
	for _, m := range t.members {
		mv := MemberView{ID: m.ID, Address: m.Address, Voter: m.Voter, Contact: there[m.ID]}
		v.Members = append(v.Members, mv)
		if !m.arbiter && m.number == number {
			mv.Contact = mv.Contact || m.contact
			target = &mv
		}
	}
	for id, j := range t.joiners {
		if j.Number == number {
			delete(t.joiners, id)
		}
	}
	t.mu.Unlock()
	switch {
	case target == nil:
		return refuse(CodeRefused, "group %s has no replica %d", t.o.Name, number)
	case target.ID == t.self:
		return refuse(CodeNotNow, "replica %d leads again", number)
	case r.Dead && target.Contact:
		return refuse(CodeRefused, "replica %d of group %s at %s is in contact", number, t.o.Name, target.Address)
	case target.Voter && !(&planner{v}).holds(MemberView{ID: target.ID}, false):
		return refuse(CodeRefused, "without replica %d those in contact would be no majority of group %s", number, t.o.Name)
	}
	t.o.Logger.Info("a replica is removed as asked", "group", t.o.Name, "replica", target.ID, "address", target.Address)
	if t.o.Removals != nil {
		// First: nobody may let it in again afterwards.
		if err := t.o.Removals.RememberRemoved(ctx, target.ID); err != nil {
			return fmt.Errorf("its removal was not noted: %w", err)
		}
	}
	return t.remove(ctx, target.ID, target.Address)
}

// answering asks all other members now: a majority that is counted on must not rest on one that has just died. A removal that cannot be
// committed would leave the group without a leader.
func (t *team) answering(ctx context.Context) map[string]bool {
	self := t.g.hello()
	there := make(map[string]bool)
	var mu sync.Mutex
	var all sync.WaitGroup
	t.mu.Lock()
	for _, m := range t.members {
		id, addr := m.ID, m.Address
		if id == t.self {
			continue
		}
		all.Go(func() {
			var h Hello
			err := Ask(ctx, t.o.Net, addr, CallHello, self, &h)
			mu.Lock()
			defer mu.Unlock()
			there[id] = err == nil && (IsArbiter(id) && h.Arbiter || string(h.ServerID()) == id)
		})
	}
	t.mu.Unlock()
	all.Wait()
	return there
}
