package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rmq/raftlog"
)

// three starts replicas 0, 1 and 2, all voters, with something in their logs.
func three(t *testing.T, adapt func(o *Options)) *site {
	s := newSite(t, adapt)
	s.replica(0).start()
	s.put(20, 4000)
	s.replica(1).start()
	s.replica(2).start()
	s.await("three vote", func() bool { return s.members() == "0 voter, 1 voter, 2 voter" })
	return s
}

// A replica that comes back with an empty directory is filled and takes its own old place, at once.
func TestWipedReplicaIsReplaced(t *testing.T) {
	s := three(t, nil)
	r := s.all[2]
	r.stop()
	r.wipe()
	s.put(10, 4000)
	began := time.Now()
	r.start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.put(10, 4000)
	s.same()
	// The request of its former self to join must not bring that back.
	if took := time.Since(began); !r.filled || took > 8*time.Second {
		t.Errorf("filled %v after %v", r.filled, took)
	}
}

// A replica on another machine takes the number of one that is gone; not of one that is there.
func TestNumberOfAnother(t *testing.T) {
	s := three(t, nil)
	other := s.replica(7)
	other.number = 2
	err := other.try(t.Context(), nil)
	var f *raftlog.Fault
	if !errors.As(err, &f) || f.Code != raftlog.ExitConfigMismatch || !strings.Contains(err.Error(), other.addr) || !strings.Contains(err.Error(), s.all[2].addr) {
		t.Fatalf("a number was taken twice: %v", err)
	}
	other.stop()
	s.all[2].stop()
	other.start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.put(10, 4000)
	s.same()
}

// A member with another address is found there again.
func TestMemberMoves(t *testing.T) {
	s := three(t, nil)
	r := s.all[1]
	r.stop()
	old := r.addr
	r.addr = ""
	s.put(10, 4000)
	r.start()
	if r.filled || r.addr == old {
		t.Fatalf("filled %v, at %s after %s", r.filled, r.addr, old)
	}
	s.put(10, 4000)
	s.same()
	s.await("the leader has its address", func() bool {
		for _, m := range s.leader().group.Replication() {
			if m.Number == 1 {
				return m.Address == r.addr && m.Connected
			}
		}
		return false
	})
}

// The only voter of a group moves: nobody else could tell.
func TestSoleVoterMoves(t *testing.T) {
	s := newSite(t, nil)
	s.replica(0).start()
	s.put(1, 10)
	s.all[0].stop()
	s.all[0].addr = ""
	s.all[0].start()
	s.await("its address is in the configuration", func() bool {
		conf, err := s.all[0].log.Configuration()
		return err == nil && string(conf.Servers[0].Address) == s.all[0].addr
	})
	s.replica(1).start()
	s.awaitMembers("0 voter, 1 learner")
	s.put(10, 10)
	s.same()
}

// The lead goes where it is asked to, also by a replica that does not lead, and not where it cannot.
func TestElectMaster(t *testing.T) {
	s := three(t, func(o *Options) { o.Async = o.Replica == 3 })
	s.replica(3).start()
	s.await("there is an asynchronous learner", func() bool { return strings.Contains(s.members(), "3 learner") })
	for _, n := range []int{2, 0, 1} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := s.all[0].group.ElectMaster(ctx, n); err != nil {
			t.Fatal(err)
		}
		cancel()
		s.await(fmt.Sprintf("replica %d leads", n), func() bool { return s.all[n].group.Leading() })
		s.put(5, 100)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var no *Refusal
	for _, n := range []int{3, 9} {
		if err := s.all[0].group.ElectMaster(ctx, n); !errors.As(err, &no) || no.Code != CodeRefused {
			t.Errorf("elected %d: %v", n, err)
		}
	}
	s.same()
	if r := s.leader().replicas; r.Data() != 3 {
		t.Errorf("an asynchronous learner counts: %d", r.Data())
	}
}

// A replica is removed as asked; a leader hands the lead on first. What remains goes on.
func TestRemoveReplica(t *testing.T) {
	removed := make(chan int, 3)
	s := three(t, func(o *Options) { o.Removed = func(error) { removed <- o.Replica } })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.all[1].group.RemoveReplica(ctx, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case n := <-removed:
		if n != 0 {
			t.Errorf("replica %d says that it was removed", n)
		}
	case <-ctx.Done():
		t.Error("the replica has not noticed that it was removed")
	}
	<-time.After(500 * time.Millisecond) // it must not come back by itself
	// Without an arbiter one of two votes.
	s.await("two are left", func() bool { m := s.members(); return m == "1 voter, 2 learner" || m == "1 learner, 2 voter" })
	s.put(10, 100)
	if err := s.leader().group.RemoveReplica(ctx, 5); err == nil {
		t.Error("a replica was removed that there is not")
	}
	s.all[0].stop()
	s.same()
	// Started anew it asks to join.
	s.all[0].start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")
}

// That a follower's process is gone is known at once, not only when it has been silent for long.
func TestClosedPortIsNoContact(t *testing.T) {
	s := three(t, func(o *Options) { o.Pace.Contact = time.Hour })
	s.await("all are in contact", func() bool { return s.leader().replicas.Connected() == 3 })
	r := s.all[2]
	if s.leader() == r {
		r = s.all[1]
	}
	r.stop()
	s.await("one is not", func() bool { return s.leader().replicas.Connected() == 2 })
	s.put(5, 100)
	r.start()
	s.await("all are in contact again", func() bool { return s.leader().replicas.Connected() == 3 })
}

// A replica that is to be filled and finds no leader starts with what it has: its vote may be the one that is missing.
func TestRefillingWithoutLeader(t *testing.T) {
	s := three(t, nil)
	s.same()
	s.stopAll()
	s.all[0].start()
	s.all[1].startWith(func(o *Options) { o.Refilling = true })
	if s.all[1].filled {
		t.Error("somebody has filled it")
	}
	s.put(1, 1)
}

// A group with a leader is never founded again, and a replica that lost its directory does not go on without one.
func TestEmptiedWithoutLeader(t *testing.T) {
	s := three(t, nil)
	s.all[0].stop()
	s.all[1].stop()
	s.all[0].wipe()
	err := s.all[0].try(t.Context(), nil)
	var f *raftlog.Fault
	if !errors.Is(err, ErrAmnesia) || !errors.As(err, &f) || f.Code != raftlog.ExitAmnesia {
		t.Fatalf("%v", err)
	}
	s.all[0].stop()
	s.all[1].start()
	s.put(1, 1)
	s.all[0].start()
	s.put(1, 1)
	s.same()
}

// A second group is not founded when the name servers object, and the objection is told.
func TestFoundingIsGranted(t *testing.T) {
	s := newSite(t, nil)
	err := s.replica(0).try(t.Context(), func(o *Options) {
		o.Grant = func(_ context.Context, r GrantRequest) error {
			if r.Group != "g" || r.Cluster != "c" || !strings.HasPrefix(r.ServerID, "0-") {
				t.Errorf("%+v", r)
			}
			return fmt.Errorf("%w: it is 0-x's at elsewhere", ErrDenied)
		}
	})
	if !errors.Is(err, ErrAmnesia) || !strings.Contains(err.Error(), "0-x's at elsewhere") {
		t.Fatalf("%v", err)
	}
	s.all[0].stop()
	asked := 0
	s.all[0].startWith(func(o *Options) {
		o.Grant = func(context.Context, GrantRequest) error {
			if asked++; asked < 3 {
				return errors.New("no name server answers")
			}
			return nil
		}
	})
	s.put(1, 1)
}

// Replicas without numbers are given the lowest ones that are free, and the first founds the group.
func TestNumbersAreAllocated(t *testing.T) {
	s := newSite(t, func(o *Options) { o.Founding = Either })
	for i := range 3 {
		r := s.replica(10 + i)
		r.number = -1
		r.start()
		if r.number != i {
			t.Fatalf("number %d, want %d", r.number, i)
		}
	}
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.put(1, 1)
	r := s.all[11]
	r.stop()
	r.number = -1 // a crash has kept it from being noted
	if r.start(); r.number != 1 {
		t.Errorf("number %d, had 1", r.number)
	}
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.same()
	// One that was emptied gets its own again.
	r = s.all[11]
	r.stop()
	r.wipe()
	r.number = -1
	r.start()
	if r.number != 1 {
		t.Errorf("number %d after it was emptied", r.number)
	}
	s.awaitMembers("0 voter, 1 voter, 2 voter")
}

// A joiner that is cut off while it is filled goes on where it was, with the same leader and with the next.
func TestFillGoesOn(t *testing.T) {
	s := three(t, nil)
	s.put(200, 8000)
	r := s.replica(3)
	ctx, cancel := context.WithCancel(t.Context())
	var most int64
	read := func(o *Options) {
		sink := o.Sink
		o.Sink = func(f FillOffer) (LogSink, FileSink, error) {
			log, files, err := sink(f)
			if err == nil && most > 0 && log.Have() == f.Point.Min {
				t.Error("the fill begins from nothing")
			}
			return &limitedSink{LogSink: log, stop: func(have int64) {
				if most = have; have > 400<<10 {
					cancel()
				}
			}}, files, err
		}
	}
	if err := r.try(ctx, read); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	r.stop()
	if most < 400<<10 {
		t.Fatalf("stopped at %d", most)
	}
	leader := s.leader()
	leader.stop()
	s.leader()
	s.put(10, 1000)
	r.startWith(read)
	s.await("it is a member", func() bool { return strings.Contains(s.members(), "3 ") })
	leader.start()
	s.put(10, 1000)
	s.same()
}

// limitedSink tells how far it is.
type limitedSink struct {
	LogSink
	stop func(have int64)
}

func (s *limitedSink) Write(b []byte) error {
	const part = 64 << 10
	for len(b) > 0 {
		n := min(part, len(b))
		if err := s.LogSink.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		s.stop(s.Have())
	}
	return nil
}

// trim lets most of the log go, everywhere.
func (s *site) trim() {
	s.t.Helper()
	s.await("the bytes are gone", func() bool {
		leader := s.leader()
		done := make(chan error, 1)
		record := fmt.Appendf(nil, "trim %d", leader.log.EndOffset()-64<<10)
		if leader.log.Append(record, raftlog.AckCommitted, func(r raftlog.AppendResult) { done <- r.Err }) != nil || <-done != nil {
			return false
		}
		for _, r := range s.all {
			if r.group != nil && (r.log.Snapshot() != nil || r.log.MinOffset() < 200<<10) {
				return false
			}
		}
		return true
	})
}

// A replica that was away for so long that the leader has let go of what it needs is filled again, as the same server.
func TestFarBehindIsFilledAgain(t *testing.T) {
	s := three(t, nil)
	r := s.all[2]
	id := r.log.Identity()
	r.stop()
	s.put(100, 8000)
	s.trim()
	r.start()
	select {
	case <-r.refill:
	case <-time.After(20 * time.Second):
		t.Fatal("it is not told to be filled")
	}
	r.stop()
	r.startWith(func(o *Options) { o.Refilling = true })
	s.put(5, 100)
	s.same()
	if !r.filled || r.log.Identity() != id || s.members() != "0 voter, 1 voter, 2 voter" {
		t.Errorf("filled %v, %v was %v, %s", r.filled, r.log.Identity(), id, s.members())
	}
}

// Retention stops short of what a replica lacks that is in contact, and of what is being copied.
func TestTrimLimit(t *testing.T) {
	s := three(t, nil)
	s.same()
	leader := s.leader()
	s.await("all have reported", func() bool { return leader.group.TrimLimit() == leader.toy.AppliedOffset() })
	offer, err := leader.group.fills.begin(FillRequest{ServerID: "9-x"}, time.Now())
	if err != nil || leader.group.TrimLimit() != offer.Point.Min {
		t.Fatalf("%v, limit %d, copied from %d", err, leader.group.TrimLimit(), offer.Point.Min)
	}
	leader.group.fills.finish(FillEnd{Fill: offer.Fill}, time.Now())
	if limit := leader.group.TrimLimit(); limit <= offer.Point.Min {
		t.Errorf("the limit stays at %d", limit)
	}
	if follower := s.all[1].group.TrimLimit(); follower != noLimit {
		t.Errorf("a follower has a limit of its own: %d", follower)
	}
}

// A copy of a replica's directory does not take that one's place while it runs: the two would vote as one.
func TestCopyOfDirectoryIsRefused(t *testing.T) {
	s := three(t, nil)
	s.same()
	at := s.all[2].addr
	s.all[2].stop()
	twin := &rep{s: s, number: 2, dir: filepath.Join(s.dir, "twin"), boot: "one"}
	if err := os.CopyFS(twin.dir, os.DirFS(s.all[2].dir)); err != nil {
		t.Fatal(err)
	}
	s.all[2].start()
	s.put(5, 100)
	s.same()
	s.all[3] = twin
	refused := make(chan error, 1)
	twin.startWith(func(o *Options) { o.Removed = func(why error) { refused <- why } })
	var f *raftlog.Fault
	select {
	case err := <-refused:
		if !errors.As(err, &f) || f.Code != raftlog.ExitConfigMismatch {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	for _, m := range s.leader().group.Replication() {
		if m.Number == 2 && m.Address != at {
			t.Errorf("replica 2 is at %s now", m.Address)
		}
	}
	twin.stop()
	delete(s.all, 3)
}

// While nobody can tell whether the group exists it is not founded.
func TestFoundingWaitsForKnowledge(t *testing.T) {
	s := newSite(t, nil)
	var asked atomic.Int32
	var granted atomic.Int32
	s.replica(0).startWith(func(o *Options) {
		o.Grant = func(context.Context, GrantRequest) error { granted.Store(asked.Load()); return nil }
		o.Find = func(context.Context) ([]string, error) {
			if asked.Add(1) <= 3 {
				return nil, errors.New("no name server answers")
			}
			return nil, nil
		}
	})
	if granted.Load() != 4 {
		t.Errorf("the grant was asked for after %d questions", granted.Load())
	}
}
