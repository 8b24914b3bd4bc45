package cluster

import (
	"testing"
	"time"
)

// 64 keys over the queues of a topic, and a topic of one queue: while the leader is killed again and again the messages
// of a key are stored and read in the order of their sends, each again until it is acknowledged.
func TestOrderAcrossLeaderKills(t *testing.T) {
	for name, queues := range map[string]int32{"keys": 8, "one queue": 1} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, listedGroup)
			r.nameServers(1)
			var err error
			r.members, err = r.cluster.AddListed(dledgerSamples, 3)
			r.must(err)
			r.start(r.members...)
			r.options.Queues, r.options.Keys, r.options.UntilAcked, r.options.Producers, r.options.Consumers = queues, 64, true, 8, 2
			w := r.load()
			for range 5 {
				n := r.leader()
				n.Kill()
				killed := time.Now()
				r.acked(w, 1)
				if took := time.Since(killed); took > 3*time.Second {
					t.Errorf("writable again only %v after the kill", took)
				}
				r.acked(w, 400)
				r.start(n)
				r.settled()
			}
			h, v := r.finish(w, Evidence{AckedMin: 2000, DeliveredMin: 4000, InSequence: true})
			if v.Failed > r.options.Producers { // those that were under way in the end
				t.Errorf("%d of %d messages were given up", v.Failed, len(h.Sends))
			}
		})
	}
}

// A leader that was paused goes on with the sends that lie in its sockets, which their producers have long sent again.
// None of them may come behind what was sent since.
func TestOrderAcrossLeaderPauses(t *testing.T) {
	r := listed(t, nil)
	r.options.Keys, r.options.UntilAcked, r.options.Producers = 64, true, 16
	w := r.load()
	for range 2 {
		n := r.leader()
		r.must(n.Stop())
		r.acked(w, 500) // by another one, after the time-out of producers
		pause(r.ctx, pauseOf)
		r.must(n.Cont())
		r.acked(w, 500)
		r.settled()
	}
	r.finish(w, Evidence{AckedMin: 2000, DeliveredMin: 2000, InSequence: true})
}
