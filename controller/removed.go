package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rmq/raftlog"
)

// Removals is what the group remembers of the replicas that were removed from it, in its state. A directory that was removed never
// becomes a member again; one that was emptied is another one.
type Removals interface {
	Removed(serverID string) bool
	// RememberRemoved returns once all later leaders know. Only the leader calls it.
	RememberRemoved(ctx context.Context, serverID string) error
}

// lostAfter is for how many questions' pause a replica has no leader before it asks whether it is still a member.
const lostAfter = 5

// outcast refuses the way back to a replica that was removed.
func (t *team) outcast(serverID string) error {
	if t.o.Removals == nil || !t.o.Removals.Removed(serverID) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(serverID) != nil {
		return nil // its removal has failed
	}
	return refuse(CodeRemoved, "replica %s was removed from group %s; with an empty directory it may join as a new one", serverID, t.o.Name)
}

// petition runs on a replica until ctx ends: while it is no member of its own group's configuration, or is there under another
// address, it asks the leader to change that. It tells Removed when a leader says that it was removed or replaced: one that was a
// member when it last heard of a leader, and is none any more, does not ask for its place again.
func (g *Group) petition(ctx context.Context) {
	tick := time.NewTicker(g.o.Pace.Ask)
	defer tick.Stop()
	p := petitioner{g: g, led: time.Now()}
	for {
		if done := p.look(ctx); done {
			g.guide(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// petitioner is what a replica knows of its place in the group.
type petitioner struct {
	g    *Group
	was  bool      // a member, in contact with a leader
	led  time.Time // when there was a leader last
	said time.Time
	text string
}

// look asks for a place if there is none. It returns true if this replica is out for good.
func (p *petitioner) look(ctx context.Context) (done bool) {
	g := p.g
	placed, settled := g.placed()
	if g.o.Log.Status().LeaderID != "" {
		p.led = time.Now()
		p.was = p.was || g.Leading() || placed && settled
	}
	var err error
	switch {
	case placed && time.Since(p.led) < lostAfter*g.o.Pace.Ask:
		return false
	case placed || p.was:
		out, lost := g.expelled(ctx)
		if err = lost; !out {
			break
		}
		if p.was {
			return p.end(&raftlog.Fault{Code: raftlog.ExitRemoved, ID: "NODE_REMOVED", Err: fmt.Errorf("replica %s has been removed from group %s", g.self.ServerID(), g.o.Name)})
		}
		fallthrough // it was replaced or removed while it was away
	default:
		if err = p.ask(ctx); err != nil {
			var f *raftlog.Fault
			if errors.As(err, &f) {
				return p.end(err)
			}
		}
	}
	if err != nil {
		p.text = err.Error()
	}
	if now := time.Now(); !placed && p.text != "" && ctx.Err() == nil && now.Sub(p.said) > sayEvery {
		p.said = now
		g.o.Logger.Info("this replica is not a member of its group yet", "group", g.o.Name, "replica", g.self.ServerID(), "reason", p.text)
	}
	return false
}

func (p *petitioner) end(why error) bool {
	g := p.g
	if g.o.Net != nil {
		g.o.Net.SetMuted(true)
	}
	g.o.Logger.Warn("this replica is out of its group", "group", g.o.Name, "replica", g.self.ServerID(), "error", why)
	g.o.Removed(why)
	return true
}

// ask asks the leader for a place. The error is a *raftlog.Fault if that is refused for good.
func (p *petitioner) ask(ctx context.Context) error {
	answer, err := p.g.askPlace(ctx)
	if err != nil {
		return refusedForGood(err)
	}
	p.text = answer.Text
	if answer.Do == JoinFill {
		p.g.refill("the leader no longer has the entries that this replica needs")
	}
	return nil
}

// refusedForGood makes a leader's refusal that asking again does not change an error that ends the replica.
func refusedForGood(err error) error {
	var no *Refusal
	if !errors.As(err, &no) {
		return err
	}
	switch no.Code {
	case CodeRemoved:
		return &raftlog.Fault{Code: raftlog.ExitRemoved, ID: "NODE_REMOVED", Err: err}
	case CodeRefused:
		return &raftlog.Fault{Code: raftlog.ExitConfigMismatch, ID: "CONFIG_MISMATCH", Err: err}
	}
	return err
}

// expelled reports whether there is a leader whose committed configuration does not have this replica.
func (g *Group) expelled(ctx context.Context) (bool, error) {
	h, err := g.greetLeader(ctx)
	if err != nil {
		return false, err
	}
	return h.Leads && !h.Pending && len(h.Members) > 0 && !slices.Contains(h.Members, string(g.self.ServerID())), nil
}

func (g *Group) greetLeader(ctx context.Context) (Hello, error) {
	self := g.hello()
	addr, _, err := findLeader(ctx, &g.o, self, g.addresses())
	if err != nil {
		return Hello{}, err
	}
	return ask(ctx, g.o.Net, addr, self)
}

// guide keeps the leader known on a replica that is out of the group until ctx ends, so that it can pass requests on to it: Raft does
// not tell it any more.
func (g *Group) guide(ctx context.Context) {
	tick := time.NewTicker(g.o.Pace.Ask)
	defer tick.Stop()
	for {
		if h, err := g.greetLeader(ctx); err == nil && h.Leads {
			g.mu.Lock()
			g.guided = true
			if id := string(h.ServerID()); g.leader != id || g.addr != h.ClientAddr {
				g.leader, g.addr = id, h.ClientAddr
				close(g.changed)
				g.changed = make(chan struct{})
			}
			g.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
