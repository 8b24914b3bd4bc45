package controller

import (
	"bytes"
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/remoting/protocol"
)

// hosts are name servers with arbiters.
type hosts struct {
	t    *testing.T
	live []*Arbiters
}

func (h *hosts) Offer(ctx context.Context, r ArbiterRequest) (ArbiterOffer, error) {
	err := errors.New("no name server")
	for _, a := range h.live {
		offer, failed := a.Offer(ctx, protocol.ArbiterRequest{Cluster: r.Cluster, Group: r.Group, Exclude: r.Exclude, EntryBytesMax: 32 << 10})
		if failed == nil {
			return ArbiterOffer{ServerID: offer.ServerID, Address: offer.Address}, nil
		}
		err = errors.Join(err, failed)
	}
	return ArbiterOffer{}, err
}

func (s *site) host(name string, change func(o *ArbiterOptions)) *Arbiters {
	s.t.Helper()
	o := ArbiterOptions{Listen: "127.0.0.1", Advertise: "127.0.0.1", SegmentBytes: 128 << 10, Timings: testTimings}
	if change != nil {
		change(&o)
	}
	a, err := OpenArbiters(filepath.Join(s.dir, name), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := a.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return a
}

// pair is a group of two data replicas and an arbiter.
func pair(t *testing.T, change func(o *ArbiterOptions)) (*site, *hosts) {
	s := newSite(t, nil)
	h := &hosts{t: t}
	h.live = append(h.live, s.host("arbiters", change))
	s.arbiter = h
	s.replica(0).start()
	s.put(20, 4000)
	s.replica(1).start()
	s.awaitMembers("0 voter, 1 voter, arbiter voter")
	return s, h
}

// Either of two data replicas may be lost, and come back.
func TestPairSurvivesEither(t *testing.T) {
	s, _ := pair(t, nil)
	for range 2 {
		lost := s.leader()
		lost.stop()
		s.put(10, 4000)
		lost.start()
		s.put(10, 4000)
		s.same()
		s.awaitMembers("0 voter, 1 voter, arbiter voter")
	}
	s.all[1].stop()
	s.all[1].wipe()
	s.put(10, 4000)
	s.all[1].start()
	s.awaitMembers("0 voter, 1 voter, arbiter voter")
	s.put(1, 1)
	s.same()
}

// A third data replica takes the arbiter's place, and the arbiter goes.
func TestThirdReplicaReplacesArbiter(t *testing.T) {
	s, h := pair(t, nil)
	s.replica(2).start()
	s.awaitMembers("0 voter, 1 voter, 2 voter")
	s.await("the arbiter is gone", func() bool { return len(h.live[0].Status()) == 0 })
	s.put(10, 100)
	s.same()
}

// A dead arbiter is replaced by that of another name server.
func TestDeadArbiterIsReplaced(t *testing.T) {
	s, h := pair(t, nil)
	dead := s.leader().group.Replication()
	if err := h.live[0].Close(); err != nil {
		t.Fatal(err)
	}
	h.live = []*Arbiters{s.host("others", nil)}
	s.await("the arbiter is another one", func() bool {
		now := s.leader().group.Replication()
		return s.members() == "0 voter, 1 voter, arbiter voter" && !slices.ContainsFunc(now, func(r ReplicaState) bool {
			return r.Role == RoleArbiter && slices.ContainsFunc(dead, func(o ReplicaState) bool { return o.ServerID == r.ServerID })
		})
	})
	s.put(10, 100)
}

// An arbiter forgets what both data replicas have. When one of them is away for too long for it, the other goes on alone, and the pair
// is complete again when that one is back.
func TestArbiterIsRelieved(t *testing.T) {
	s, h := pair(t, func(o *ArbiterOptions) { o.BytesMax = 600 << 10 })
	for range 20 {
		s.put(10, 8000)
	}
	s.await("the arbiter has dropped what both have", func() bool {
		list := h.live[0].Status()
		return len(list) == 1 && list[0].State == ArbiterRunning && list[0].Bytes < 600<<10
	})
	if m := s.members(); m != "0 voter, 1 voter, arbiter voter" {
		t.Fatalf("the group is %s", m)
	}
	other := s.all[1]
	if s.leader() == other {
		other = s.all[0]
	}
	other.stop()
	alone := "0 voter, 1 learner"
	if other.number == 0 {
		alone = "0 learner, 1 voter"
	}
	s.await("it goes on alone", func() bool {
		s.put(2, 8000)
		return s.members() == alone
	})
	s.put(10, 100)
	other.start()
	s.awaitMembers("0 voter, 1 voter, arbiter voter")
	s.put(10, 100)
	s.same()
}

// An arbiter that has given up makes way for another, also on the same host.
func TestFailedArbiterIsReplaced(t *testing.T) {
	s, h := pair(t, func(o *ArbiterOptions) { o.BytesMax = 1000 << 10 })
	s.all[1].stop()
	s.await("the arbiter has given up", func() bool {
		for _, r := range s.all {
			if r.group != nil && r.log.IsLeader() {
				record := bytes.Repeat([]byte{'z'}, 8000)
				r.log.Append(record, raftlog.AckAppended, func(raftlog.AppendResult) {}) //nolint:errcheck // it is full, or leads no more
			}
		}
		list := h.live[0].Status()
		return len(list) == 1 && list[0].State == ArbiterFailed || s.members() == "0 voter, 1 learner"
	})
	s.all[1].start()
	s.awaitMembers("0 voter, 1 voter, arbiter voter")
	s.await("it runs", func() bool { list := h.live[0].Status(); return len(list) == 1 && list[0].State == ArbiterRunning })
	s.put(1, 1)
	s.same()
}

// An arbiter that was away for so long that the leader has let go of what it needs is told to begin anew.
func TestArbiterBeginsAnew(t *testing.T) {
	s, h := pair(t, nil)
	id := h.live[0].Status()[0].ServerID
	if err := h.live[0].Close(); err != nil {
		t.Fatal(err)
	}
	h.live = nil
	s.put(100, 8000)
	s.trim()
	a := s.host("arbiters", nil)
	s.await("it has what the leader has", func() bool {
		leader := s.leader()
		for _, r := range leader.group.Replication() {
			if r.ServerID == id {
				return r.Connected && r.Match >= leader.log.Status().CommitIndex && len(a.Status()) == 1
			}
		}
		return false
	})
	s.all[1].stop()
	s.put(1, 1)
}

// Joining must not be felt by those who send.
func TestJoiningDoesNotStall(t *testing.T) {
	s, _ := pair(t, nil)
	s.put(200, 8000)
	done := make(chan struct{})
	third := s.replica(2)
	go func() {
		defer close(done)
		third.start()
		s.awaitMembers("0 voter, 1 voter, 2 voter")
	}()
	leader := s.leader()
	var longest time.Duration
	for n := 0; ; n++ {
		select {
		case <-done:
			if longest > time.Second || n < 10 {
				t.Errorf("of %d sends one took %v", n, longest)
			}
			s.same()
			return
		default:
		}
		began := time.Now()
		putOn(t, leader, 4000)
		longest = max(longest, time.Since(began))
	}
}

// A name server whose directory was emptied has another arbiter at the address of the one that is gone.
func TestEmptiedArbiterIsReplaced(t *testing.T) {
	s, h := pair(t, nil)
	arbiter := func() ReplicaState {
		list := s.leader().group.Replication()
		i := slices.IndexFunc(list, func(r ReplicaState) bool { return r.Role == RoleArbiter })
		if i < 0 {
			return ReplicaState{}
		}
		return list[i]
	}
	lost := arbiter()
	if err := h.live[0].Close(); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(lost.Address)
	if err != nil {
		t.Fatal(err)
	}
	h.live[0] = s.host("emptied", func(o *ArbiterOptions) { o.FirstPort, err = strconv.Atoi(port) })
	if err != nil {
		t.Fatal(err)
	}
	s.await("the arbiter is another one", func() bool {
		now := arbiter()
		return now.ServerID != lost.ServerID && now.Address == lost.Address && s.members() == "0 voter, 1 voter, arbiter voter"
	})
	s.put(10, 100)
}
