package cluster

import (
	"testing"
	"time"
)

// pauseOf a stopped process: longer than any time-out of an election.
const pauseOf = 1500 * time.Millisecond

// faults that a server is put through, each as often as a test says.
func faults() map[string]func(r *rig, w *Workload, n *Node) {
	return map[string]func(r *rig, w *Workload, n *Node){
		"kill": func(r *rig, w *Workload, n *Node) {
			n.Kill()
			r.acked(w, 300)
			r.start(n)
		},
		"pause": func(r *rig, w *Workload, n *Node) {
			r.must(n.Stop())
			over := time.Now().Add(pauseOf)
			r.acked(w, 300)
			pause(r.ctx, time.Until(over))
			r.must(n.Cont())
		},
		"stop": func(r *rig, w *Workload, n *Node) {
			r.stop(n)
			r.acked(w, 300)
			r.start(n)
		},
	}
}

// A group of three goes through every way in which a leader or a follower goes, under load.
func TestListedGroup(t *testing.T) {
	for name, fault := range faults() {
		for _, role := range []string{"leader", "follower"} {
			t.Run(role+" "+name, func(t *testing.T) {
				r := listed(t, nil)
				w := r.load()
				for range 2 {
					n := r.followers()[0]
					if role == "leader" {
						n = r.leader()
					}
					fault(r, w, n)
					r.settled()
					r.acked(w, 200)
				}
				h, _ := r.finish(w, Evidence{AckedMin: 1000, DeliveredMin: 1000})
				if role == "follower" || name == "stop" {
					r.noFailures(h)
				}
			})
		}
	}
}

// One of two name servers is always there, and never the same: clients and brokers follow.
func TestNameServerKilled(t *testing.T) {
	r := newRig(t, nil, listedGroup)
	names := r.nameServers(2)
	var err error
	r.members, err = r.cluster.AddListed(dledgerSamples, 3)
	r.must(err)
	r.start(r.members...)
	w := r.load()
	names[0].Kill()
	r.acked(w, 300)
	r.leader().Kill() // the other one follows the leader
	r.acked(w, 300)
	r.start(names[0])
	names[1].Kill() // the one that is new knows everybody
	r.leader()
	r.acked(w, 300)
	for _, n := range r.members {
		if !n.Alive() {
			r.start(n)
		}
	}
	r.finish(w, Evidence{AckedMin: 1000, DeliveredMin: 1000})
}

// All members are killed at once: everything acknowledged is there when they are back.
func TestAllKilledAtOnce(t *testing.T) {
	r := listed(t, nil)
	w := r.load()
	for range 2 {
		for _, n := range r.members {
			go n.Kill()
		}
		for _, n := range r.members {
			n.Kill()
		}
		began := time.Now()
		r.start(r.members...)
		r.acked(w, 1)
		r.Logf("acknowledged again %v after the start", time.Since(began).Round(time.Millisecond))
		r.acked(w, 300)
	}
	r.finish(w, Evidence{AckedMin: 800, DeliveredMin: 800})
}

// Every member is stopped in order and started again, one after the other: no send of a stock producer fails.
func TestRollingRestart(t *testing.T) {
	r := listed(t, nil)
	w := r.load()
	for _, n := range r.members {
		r.stop(n)
		r.start(n)
		r.settled()
		r.acked(w, 200)
	}
	h, _ := r.finish(w, Evidence{AckedMin: 800, DeliveredMin: 800})
	r.noFailures(h)
}

// Of five replicas any two may go at once.
func TestFiveReplicas(t *testing.T) {
	r := newRig(t, nil, listedGroup)
	r.nameServers(1)
	var err error
	r.members, err = r.cluster.AddListed(dledgerSamples, 5)
	r.must(err)
	r.start(r.members...)
	w := r.load()
	for range 2 {
		gone := []*Node{r.leader(), r.followers()[0]}
		for _, n := range gone {
			n.Kill()
		}
		r.acked(w, 300)
		r.start(gone...)
		r.settled()
	}
	r.finish(w, Evidence{AckedMin: 800, DeliveredMin: 800})
}
