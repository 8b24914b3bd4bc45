package raftlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// changeWait bounds how long a change of the configuration waits to be appended when its context has no deadline: Raft takes one
// change at a time, and none before the leader has committed an entry of its own term.
const changeWait = 10 * time.Second

// AddNonvoter makes id a learner of the group: it receives entries and has no vote. If it is in the configuration already, only
// its address changes. Leader only, like all changes of the configuration; they return when the change is committed. ErrNotLeader:
// nothing was appended; ErrUncertain: it may yet be committed, as after an error of ctx.
func (l *Log) AddNonvoter(ctx context.Context, id, addr string) error {
	if l.raft.Load() == nil {
		return ErrClosed
	}
	l.member(id, true)
	return l.changeConfiguration(ctx, "add learner "+id, func(r *raft.Raft, wait time.Duration) raft.Future {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), 0, wait)
	})
}

// AddVoter gives a learner its vote, or changes the address of a voter. A server that is not in the configuration is refused: a
// vote counts from the moment the change is appended, and one that cannot be reached can stop the group.
func (l *Log) AddVoter(ctx context.Context, id, addr string) error {
	conf, err := l.Configuration()
	if err != nil {
		return err
	}
	if _, ok := serverOf(conf, id); !ok {
		return fmt.Errorf("raftlog: make %s a voter: it is not a member of the group", id)
	}
	return l.changeConfiguration(ctx, "make voter "+id, func(r *raft.Raft, wait time.Duration) raft.Future {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(addr), 0, wait)
	})
}

// DemoteVoter takes a voter's vote; it stays a learner. The last voter is refused.
func (l *Log) DemoteVoter(ctx context.Context, id string) error {
	return l.changeConfiguration(ctx, "demote "+id, func(r *raft.Raft, wait time.Duration) raft.Future {
		return r.DemoteVoter(raft.ServerID(id), 0, wait)
	})
}

// RemoveServer takes id out of the group; one that is not in it is no error. A leader that removes itself steps down once that is
// committed.
func (l *Log) RemoveServer(ctx context.Context, id string) error {
	err := l.changeConfiguration(ctx, "remove "+id, func(r *raft.Raft, wait time.Duration) raft.Future {
		return r.RemoveServer(raft.ServerID(id), 0, wait)
	})
	if err == nil {
		l.member(id, false)
	}
	return err
}

// member tells the transport who is a member.
func (l *Log) member(id string, is bool) {
	if t, ok := l.peers.(interface{ member(id string, is bool) }); ok {
		t.member(id, is)
	}
}

// changeConfiguration runs one change and waits for it.
func (l *Log) changeConfiguration(ctx context.Context, what string, change func(r *raft.Raft, wait time.Duration) raft.Future) error {
	r := l.raft.Load()
	if r == nil {
		return ErrClosed
	}
	wait := changeWait
	if deadline, ok := ctx.Deadline(); ok {
		if wait = time.Until(deadline); wait <= 0 {
			return context.DeadlineExceeded
		}
	}
	answered := make(chan error, 1)
	go func() { answered <- change(r, wait).Error() }() // ends with the change or with Raft
	var err error
	select {
	case err = <-answered:
	case <-ctx.Done():
		return fmt.Errorf("raftlog: %s: %w: %w", what, ErrUncertain, ctx.Err())
	case <-l.stop:
		err = raft.ErrRaftShutdown
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		err = errors.Join(ErrNotLeader, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
		err = errors.Join(ErrUncertain, err)
	}
	return fmt.Errorf("raftlog: %s: %w", what, err)
}

func serverOf(conf raft.Configuration, id string) (raft.Server, bool) {
	for _, s := range conf.Servers {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}
