package controller

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// crash makes the stopped replica one whose machine has lost power.
func (r *rep) crash() {
	r.s.t.Helper()
	path := filepath.Join(r.dir, "log", "run.json")
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, bytes.Replace(b, []byte(`"clean": true`), []byte(`"clean": false`), 1), 0o600)
	}
	if err != nil {
		r.s.t.Fatal(err)
	}
	r.boot += "+"
}

// quietFor fails the test if somebody leads within d.
func (s *site) quietFor(d time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if m := s.members(); m != "nobody leads" {
			s.t.Fatalf("somebody leads: %s", m)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (s *site) stopAll() {
	for _, r := range s.all {
		r.stop()
	}
}

// A replica that may have lost its tail does not vote before a leader has completed it.
func TestMutedUntilComplete(t *testing.T) {
	s := three(t, nil)
	s.same()
	s.stopAll()
	r := s.all[2]
	r.crash()
	s.all[0].start()
	r.start()
	if !r.net.Muted() || !r.log.Recovery().MayHaveLost {
		t.Fatal("it votes")
	}
	s.quietFor(3 * time.Second) // replica 1 may know better
	s.all[1].start()
	s.leader()
	s.await("it votes again", func() bool { return !r.net.Muted() })
	s.put(1, 1)
	s.same()
	r.stop()
	r.start()
	if r.net.Muted() {
		t.Error("that it is complete was not noted")
	}
}

// When the power fails everywhere the replicas get their votes back together, and not before all of them are there.
func TestAllMuted(t *testing.T) {
	s := three(t, nil)
	s.same()
	s.stopAll()
	for i := range 3 {
		s.all[i].crash()
	}
	s.all[0].start()
	s.all[1].start()
	s.quietFor(2 * time.Second)
	s.all[2].start()
	s.put(1, 1)
	for _, r := range s.all {
		s.await("it votes again", func() bool { return !r.net.Muted() })
	}
	s.same()
}

// Two of three are muted: the third cannot be elected by itself, so they count again once all are there.
func TestMostMuted(t *testing.T) {
	s := three(t, nil)
	s.same()
	s.stopAll()
	s.all[0].crash()
	s.all[1].crash()
	for i := range 3 {
		s.all[i].start()
	}
	s.put(1, 1)
	s.same()
}

// The only voter of a group starts at once, whatever it may have lost.
func TestSoleVoterIsNotMuted(t *testing.T) {
	s := newSite(t, nil)
	s.replica(0).start()
	s.put(1, 1)
	s.all[0].stop()
	s.all[0].crash()
	s.all[0].start()
	s.put(1, 1)
}

// Learners make no difference to that.
func TestSoleVoterWithLearnerIsNotMuted(t *testing.T) {
	s := newSite(t, nil)
	s.replica(0).start()
	s.replica(1).start()
	s.awaitMembers("0 voter, 1 learner")
	s.same()
	s.stopAll()
	s.all[0].crash()
	s.all[0].start()
	s.all[1].start()
	s.put(1, 1)
	if s.all[0].net.Muted() {
		t.Error("the only voter takes no part in elections")
	}
}

// What the leader saw of a replica before that lost its end does not count.
func TestCompleted(t *testing.T) {
	goal := SettleAnswer{Term: 2, LastIndex: 100}
	for _, c := range []struct {
		match, last uint64
		want        bool
	}{{100, 100, true}, {120, 100, true}, {100, 90, false}, {99, 100, false}, {120, 99, false}} {
		if got := completed(goal, SettleAnswer{Term: 2, LastIndex: 120, Match: c.match}, c.last); got != c.want {
			t.Errorf("seen up to %d, ends at %d: %v", c.match, c.last, got)
		}
	}
}
