package cluster

import (
	"fmt"
	"testing"
	"time"
)

// offsetFlush is the window in which a leader gathers consumers' progress before it is in the log, and some more for the
// way there.
const offsetFlush = 200*time.Millisecond + 100*time.Millisecond

// Consumers' progress and topics are what they were when the leader was killed.
func TestProgressSurvivesLeaderKills(t *testing.T) {
	r := listed(t, nil)
	r.options.Consumers = 3
	w := r.load()
	topics := 0
	for range 3 {
		r.acked(w, 300)
		topics++
		created := fmt.Sprint("Created", topics)
		r.must(r.client.CreateTopic(r.ctx, created, topics))
		n := r.leader()
		killed := time.Now()
		n.Kill()
		r.leaderOtherThan(n)
		for i := 1; i <= topics; i++ {
			config, err := r.client.TopicConfig(r.ctx, fmt.Sprint("Created", i))
			r.must(err)
			if config.ReadQueueNums != int32(i) {
				t.Errorf("topic Created%d has %d queues after the kill", i, config.ReadQueueNums)
			}
		}
		found, err := w.Progress(r.ctx)
		r.must(err)
		for consumer, offsets := range found {
			for _, violation := range CheckProgress(w.Snapshot(), consumer, offsets, killed.Add(-offsetFlush)) {
				t.Errorf("consumer %d: %s; the leader was killed at %s", consumer, violation, killed.Format(clock))
			}
		}
		r.start(n)
		r.settled()
	}
	h, _ := r.finish(w, Evidence{AckedMin: 1000, DeliveredMin: 3000})
	if len(h.Commits) < 20 {
		t.Errorf("only %d commits were acknowledged: the run proves nothing", len(h.Commits))
	}
}
