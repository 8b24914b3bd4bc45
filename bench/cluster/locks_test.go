package cluster

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"rmq/compat/admin"
)

// Two consumers in order contend for one queue while leaders come and go: never do both have it.
func TestQueueLockAcrossLeaders(t *testing.T) {
	r := listed(t, nil)
	_, err := r.client.EnsureTopic(r.ctx, r.topic, 1, admin.PermReadWrite)
	r.must(err)
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	var holds []Hold
	for i := range 2 {
		all.Go(func() {
			c := NewClient(r.cluster.NameServers(), listedGroup)
			defer c.Close()
			own := c.Contend(ctx, fmt.Sprint("client", i), "orderly", r.topic, 20)
			mu.Lock()
			defer mu.Unlock()
			holds = append(holds, own...)
		})
	}
	pause(r.ctx, pauseOf)
	for round := range 4 {
		n := r.leader()
		if round%2 == 0 {
			n.Kill()
		} else {
			r.stop(n)
		}
		r.leaderOtherThan(n)
		pause(r.ctx, pauseOf)
		r.start(n)
		r.settled()
	}
	cancel()
	all.Wait()
	for _, violation := range CheckHolds(holds) {
		t.Error(violation)
	}
	turns := map[string]int{}
	for _, h := range holds {
		turns[h.Client]++
	}
	if len(turns) < 2 || len(holds) < 10 {
		t.Errorf("the lock was taken %v times: the run proves nothing", turns)
	}
	t.Logf("the lock was taken %v times", turns)
}

func TestCheckHolds(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for name, c := range map[string]struct {
		holds      []Hold
		violations int
	}{
		"in turns":      {[]Hold{{Client: "a", From: at(0), To: at(5)}, {Client: "b", From: at(6), To: at(9)}, {Client: "a", From: at(9), To: at(12)}}, 0},
		"both":          {[]Hold{{Client: "b", From: at(4), To: at(9)}, {Client: "a", From: at(0), To: at(5)}}, 1},
		"one in other":  {[]Hold{{Client: "a", From: at(0), To: at(50)}, {Client: "b", From: at(4), To: at(9)}, {Client: "b", From: at(14), To: at(19)}}, 2},
		"taken away":    {[]Hold{{Client: "a", From: at(0), To: at(5), Refused: true}}, 1},
		"one's own way": {[]Hold{{Client: "a", From: at(0), To: at(5)}, {Client: "a", From: at(4), To: at(9)}}, 0},
	} {
		if got := CheckHolds(c.holds); len(got) != c.violations {
			t.Errorf("%s: %q", name, got)
		}
	}
}
