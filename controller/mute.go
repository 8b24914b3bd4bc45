package controller

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// muted reports whether this replica must begin without a vote: the machine has stopped before what was appended in the last moments
// reached the disk, and there are others who vote and count on it. The only voter leads at once, whatever learners there are.
func (g *Group) muted() bool {
	if g.o.Net == nil || !g.o.Log.Recovery().MayHaveLost {
		return false
	}
	conf, err := g.o.Log.Configuration()
	return err == nil && slices.ContainsFunc(conf.Servers, func(s raft.Server) bool {
		return s.Suffrage == raft.Voter && s.ID != g.self.ServerID()
	})
}

// togetherAfter is how many times in a row the voters must be found without a leader, and without a majority that may elect one.
const togetherAfter = 3

// settle runs on a muted replica until it may vote again: it holds what a leader held that has committed in its term, or nobody can
// lead without those that are muted, and every data replica that votes is there.
func (g *Group) settle(ctx context.Context) {
	tick := time.NewTicker(g.o.Pace.Ask)
	defer tick.Stop()
	var goal SettleAnswer
	stuck := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		status := g.o.Log.Status()
		if status.LeaderAddr != "" && status.LeaderID != string(g.self.ServerID()) {
			stuck = 0
			var a SettleAnswer
			if Ask(ctx, g.o.Net, status.LeaderAddr, CallSettle, SettleRequest{ServerID: string(g.self.ServerID())}, &a) != nil {
				continue
			}
			if a.Term != goal.Term {
				goal = a
			}
			if completed(goal, a, status.LastIndex) {
				g.o.Logger.Info("this replica has caught up and votes again", "group", g.o.Name, "index", a.Match)
				g.unmute(false)
				return
			}
			continue
		}
		if !g.nobodyElse(ctx) {
			stuck = 0
			continue
		}
		if stuck++; stuck >= togetherAfter {
			g.o.Logger.Warn("so many replicas have stopped before their last bytes reached the disk that nobody else can lead: the longest log counts, what was appended in the last moments may be lost",
				"group", g.o.Name, "index", status.LastIndex)
			g.unmute(true)
			return
		}
	}
}

// completed reports whether a replica whose log ends at last holds what its leader held at goal. That the leader has seen it there is not
// enough: that may have been before the replica lost its end, and the leader does not forget within its term.
func completed(goal, now SettleAnswer, last uint64) bool {
	return now.Match >= goal.LastIndex && last >= goal.LastIndex
}

// unmute gives the vote back. That the loss no longer matters is noted first: a crash in between mutes once more, at most.
func (g *Group) unmute(together bool) {
	g.settled.Store(together)
	g.o.Net.SetMuted(false)
	if err := g.o.Log.LossSettled(); err != nil {
		g.o.Logger.Warn("it is not noted that this replica is complete: it will be without a vote after the next start, for a while", "group", g.o.Name, "error", err)
	}
}

// nobodyElse reports whether every data replica that votes answers, none knows a leader, and those that have a vote are no majority.
// Those that have it back for the same reason count as if they had none.
func (g *Group) nobodyElse(ctx context.Context) bool {
	all := greetAll(ctx, &g.o, g.hello(), g.addresses())
	byID := map[string]Hello{string(g.self.ServerID()): g.hello()}
	for _, h := range all {
		byID[string(h.ServerID())] = h
	}
	voters := make(map[string]bool) // by anybody's configuration
	for _, h := range byID {
		if h.Leader != "" || h.Leads {
			return false
		}
		for _, s := range h.Servers {
			if s.Voter {
				voters[s.ID] = true
			}
		}
	}
	free := 0
	for id := range voters {
		if IsArbiter(id) {
			free++
			continue
		}
		h, ok := byID[id]
		if !ok {
			return false
		}
		if !h.Muted && !h.Settled {
			free++
		}
	}
	return free <= len(voters)/2
}
