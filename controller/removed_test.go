package controller

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"rmq/raftlog"
)

// removals is a group's memory, which all replicas of a test share.
type removals struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (r *removals) Removed(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids[id]
}

func (r *removals) RememberRemoved(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids[id] = true
	return nil
}

// A replica that was removed does not come back, however often it is started, and knows why; with an empty directory it does.
func TestRemovedForGood(t *testing.T) {
	memory := &removals{ids: make(map[string]bool)}
	out := make(chan error, 3)
	s := three(t, func(o *Options) {
		o.Removals = memory
		o.Removed = func(why error) { out <- why }
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	isOut := func(what string) {
		t.Helper()
		var f *raftlog.Fault
		select {
		case why := <-out:
			if !errors.As(why, &f) || f.Code != raftlog.ExitRemoved {
				t.Errorf("%s: %v", what, why)
			}
		case <-ctx.Done():
			t.Fatalf("%s: it has not noticed", what)
		}
	}
	var no *Refusal
	if err := s.all[1].group.RemoveDead(ctx, 2); !errors.As(err, &no) || no.Code != CodeRefused || !strings.Contains(err.Error(), "is in contact") {
		t.Errorf("a live replica as a dead one: %v", err)
	}
	if err := s.all[1].group.RemoveDead(ctx, 0); !errors.As(err, &no) || no.Code != CodeRefused {
		t.Errorf("the leader as a dead one: %v", err)
	}
	// Removed while it is down: its own log still says that it is a member.
	s.all[2].stop()
	s.await("it is out of contact", func() bool { return s.leader().group.RemoveDead(ctx, 2) == nil })
	s.await("the other two stay", func() bool { m := s.members(); return m == "0 voter, 1 learner" || m == "0 learner, 1 voter" })
	s.put(5, 100)
	for range 2 {
		s.all[2].start()
		isOut("after it was down")
		if !s.all[2].net.Muted() {
			t.Error("it would vote")
		}
		s.all[2].stop()
	}
	s.all[2].wipe()
	s.all[2].start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")

	// Removed while it runs, and the leader at that.
	leader := s.leader()
	if err := leader.group.RemoveReplica(ctx, leader.number); err != nil {
		t.Fatal(err)
	}
	isOut("while it ran")
	leader.stop()
	leader.start()
	isOut("started anew")
	s.put(5, 100)
}

// A replica whose place another one has taken while it was down is refused, with both addresses.
func TestReplacedReplicaIsRefused(t *testing.T) {
	out := make(chan error, 3)
	s := three(t, func(o *Options) { o.Removed = func(why error) { out <- why } })
	old := s.all[2]
	old.stop()
	delete(s.all, 2)
	next := s.replica(22)
	next.number = 2
	next.start()
	s.await("it has taken the place", func() bool { return s.members() == "0 voter, 1 voter, 2 voter" && s.has(next) })
	s.all[23] = old
	old.start()
	select {
	case why := <-out:
		var f *raftlog.Fault
		if !errors.As(why, &f) || f.Code != raftlog.ExitConfigMismatch || !strings.Contains(why.Error(), next.addr) || !strings.Contains(why.Error(), old.addr) {
			t.Errorf("refused with %v", why)
		}
	case <-time.After(10 * time.Second):
		t.Error("it has not noticed")
	}
}

// has reports whether the leader's configuration has a replica.
func (s *site) has(r *rep) bool {
	for _, m := range s.leader().group.Replication() {
		if m.Address == r.addr {
			return true
		}
	}
	return false
}
