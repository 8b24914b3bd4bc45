package controller

import (
	"testing"
	"time"
)

// The replica with the highest priority leads, and gets the lead back after it was away.
func TestPriority(t *testing.T) {
	s := newSite(t, func(o *Options) {
		o.Priority = map[int]int{0: 3, 1: 1}[o.Replica]
		o.Pace.Moves = 300 * time.Millisecond
	})
	for i := range 3 {
		s.replica(i).start()
	}
	leads := func() bool { return s.all[1].group.Leading() }
	s.await("the preferred replica leads", leads)
	s.put(1, 1)
	s.all[1].stop()
	s.put(1, 1)
	s.all[1].start()
	s.await("the preferred replica leads again", leads)
	s.put(1, 1)
	s.same()
}

// Two groups on two nodes have a leader on each.
func TestBalance(t *testing.T) {
	nodes := []*Node{NewNode("a"), NewNode("b"), NewNode("c")}
	for _, name := range []string{"g1", "g2"} {
		s := newSite(t, func(o *Options) {
			o.Name, o.Node = name, nodes[o.Replica]
			o.Pace.Moves = 300 * time.Millisecond
		})
		for i := range 3 {
			s.replica(i).start()
		}
		s.awaitMembers("0 voter, 1 voter, 2 voter")
		defer s.put(1, 1)
	}
	deadline := time.Now().Add(20 * time.Second)
	for nodes[0].Leads() > 1 || nodes[1].Leads() > 1 || nodes[2].Leads() > 1 {
		if time.Now().After(deadline) {
			t.Fatalf("they lead %d, %d and %d groups", nodes[0].Leads(), nodes[1].Leads(), nodes[2].Leads())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A member that was listed, and was still on its way when the others founded the group, comes in though one of them is dead.
func TestListedMemberIsLate(t *testing.T) {
	s := newSite(t, nil)
	var peers []Peer
	for i := range 3 {
		s.replica(i).listen()
		peers = append(peers, Peer{Number: i, Address: s.all[i].addr})
	}
	listed := func(o *Options) {
		o.Founding, o.Listed, o.Find, o.Arbiters = Listed, true, nil, nil
		for _, p := range peers {
			if p.Number != o.Replica {
				o.Peers = append(o.Peers, p)
			}
		}
	}
	late := s.all[2]
	o := late.options(listed)
	late.calls.connect(greet(&o)) // it is there and no more
	errs := make(chan error, 2)
	for i := range 2 {
		go func() { errs <- s.all[i].run(t.Context(), listed) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	s.put(10, 100)
	s.leader().stop()
	if err := late.run(t.Context(), listed); err != nil {
		t.Fatal(err)
	}
	s.put(10, 100)
	s.same()
}
