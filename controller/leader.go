package controller

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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

// Answer answers the question of another replica who this one is; it is the Handler of the Raft port.
func Answer(o Options) []byte {
	return EncodeAnswer(Self(o), nil)
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
		changed := leader != g.leader
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
	number, _, _ := strings.Cut(g.leader, "-")
	n, err := strconv.Atoi(number)
	return n, err == nil
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
