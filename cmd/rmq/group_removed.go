package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rmq/compat/broker"
	"rmq/controller"
	"rmq/raftlog"
)

// A replica that was removed from its group: it says so, stops serving, and its directory is not started again.

// removedFile in a replica's directory says that it was removed from its group, and why.
const removedFile = "removed"

// refuseRemoved fails for the directory of a replica that was removed.
func refuseRemoved(c *BrokerConfig) error {
	path := filepath.Join(replicaDir(c), removedFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%s says: %s. To let this replica join as a new one, remove the directory %s", path, text, replicaDir(c))
	}
	return &raftlog.Fault{Code: raftlog.ExitRemoved, ID: "NODE_REMOVED", Err: err}
}

// removed is told that this replica is out of its group.
func (g *group) removed(why error) {
	var f *raftlog.Fault
	if errors.As(why, &f) && f.Code == raftlog.ExitRemoved {
		if err := writeWhole(filepath.Join(replicaDir(g.config), removedFile), []byte(f.Err.Error())); err != nil {
			g.logger.Error("the directory of a removed replica is not marked, its next start asks the leader", "error", err)
		}
	}
	g.o.removed(g, why)
}

// groupRemovals is the group's memory of who was removed, in its state.
type groupRemovals struct{ g *group }

// Removed is asked of a leader, which has a broker.
func (r groupRemovals) Removed(serverID string) bool { return r.g.broker.Removed(serverID) }

func (r groupRemovals) RememberRemoved(ctx context.Context, serverID string) error {
	return r.g.broker.RememberRemoved(ctx, serverID)
}

// removeReplica takes a replica out of the group, for compat.Options.
func (g *group) removeReplica(ctx context.Context, number int, living bool) error {
	control := g.control.Load()
	remove := control.RemoveDead
	if living {
		remove = control.RemoveReplica
	}
	err := remove(ctx, number)
	var no *controller.Refusal
	if errors.As(err, &no) && no.Code == controller.CodeRefused {
		return &broker.Refusal{Reason: broker.InvalidParameter, Text: no.Text}
	}
	return err
}

// removed closes a replica that is out of its group, whether it is up already or not.
func (s *groupSet) removed(g *group, why error) {
	g.expel(why) // a start that waits for a leader ends
	s.mu.Lock()
	defer s.mu.Unlock()
	g.out = why
	if s.groups[g.config] == g {
		s.drop(g)
	}
}

// drop closes such a replica; s.mu is held.
func (s *groupSet) drop(g *group) {
	if s.running.Err() != nil {
		return // everything is being closed
	}
	delete(s.groups, g.config)
	last := len(s.groups) == 0
	s.refills.Go(func() {
		s.logger.Error("this replica is out of its group, it passes requests on for a moment and ends", "group", g.config.BrokerName, "address", g.addr, "directory", replicaDir(g.config), "error", g.out)
		g.processors.GoAway()
		g.linger()
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		g.close(ctx)
		if last && s.emptied != nil {
			s.emptied(g.out)
		}
	})
}
