package cluster

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the faults of TestSwarm; without it another one each time")
	steps = flag.Int("steps", 12, "how many faults TestSwarm makes")
)

// swarmPause is how long a fault of the swarm lasts at most.
const swarmPause = 1200 * time.Millisecond

// Faults at random, of any number of members at a time, one after the other.
func TestSwarm(t *testing.T) {
	needsProgram(t)
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	r := listed(t, Proxies())
	r.ctx = t.Context() // as long as it takes
	r.options.Keys, r.options.Producers = 64, 8
	w := r.load()
	began := time.Now()
	for step := range *steps {
		var undo []func()
		for _, i := range random.Perm(len(r.members))[:1+random.IntN(len(r.members))] {
			n := r.members[i]
			var what string
			switch random.IntN(4) {
			case 0:
				what = "kill"
				n.Kill()
				undo = append(undo, func() { r.must(r.cluster.Launch(n)) })
			case 1:
				what = "pause"
				r.must(n.Stop())
				undo = append(undo, func() { r.must(n.Cont()) })
			case 2:
				what = "cut"
				r.must(r.cluster.Isolate(n))
				undo = append(undo, func() { r.must(r.cluster.Heal(n)) })
			case 3:
				what = "restart"
				n.Kill()
				r.must(r.cluster.Launch(n))
			}
			t.Logf("%s step %d: %s %s", time.Since(began).Round(time.Millisecond), step, what, n.Name)
			pause(r.ctx, rand.N(swarmPause/4))
		}
		pause(r.ctx, time.Duration(random.Int64N(int64(swarmPause))))
		for _, i := range random.Perm(len(undo)) {
			undo[i]()
		}
		if random.IntN(3) > 0 { // else the next fault comes while they find each other
			r.recovered(w, began)
		}
	}
	r.recovered(w, began)
	r.finish(w, Evidence{AckedMin: 20 * *steps, DeliveredMin: 20 * *steps})
}

// swarmBack is how long a group may take to acknowledge again when the last fault is over: back-offs of replicas that were
// away, and a producer's time-out.
const swarmBack = 20 * time.Second

func (r *rig) recovered(w *Workload, began time.Time) {
	r.Helper()
	from := time.Now()
	r.acked(w, 20)
	if took := time.Since(from); took > swarmBack {
		r.Errorf("%s: acknowledged again only after %v", time.Since(began).Round(time.Millisecond), took)
	}
}
