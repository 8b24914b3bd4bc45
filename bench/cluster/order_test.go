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
