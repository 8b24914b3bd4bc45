package golang

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// TestLoad sends -messages messages while a push consumer reads them: each acknowledged once, stored once, received once. It runs before
// the parallel tests, alone.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("the load test is not short")
	}
	const senders, queues = 16, 8
	count := *messages
	type place struct {
		queue  int
		offset int64
	}
	topic := newTopic(t, queues)
	var (
		mu         sync.Mutex
		received   = make([]int, count)
		places     = make(map[place]bool, count)
		acked      = make(map[place]bool, count)
		deliveries atomic.Int64
	)
	startPush(t, name(t, "g"), topic, "*", func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range ms {
			i, err := strconv.Atoi(string(m.Body[:8]))
			if err != nil || i >= count {
				t.Errorf("strange body %.20q", m.Body)
				continue
			}
			received[i]++
			places[place{m.Queue.QueueId, m.QueueOffset}] = true
		}
		deliveries.Add(int64(len(ms)))
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumeMessageBatchMaxSize(32), consumer.WithPullBatchSize(32))

	p := newProducer(t)
	var (
		next atomic.Int64
		wg   sync.WaitGroup
	)
	for range senders {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(count); i = next.Add(1) - 1 {
				r, err := p.SendSync(context.Background(), message(topic, fmt.Sprintf("%08d%0120d", i, 0)))
				if err != nil {
					t.Errorf("message %d: %v", i, err)
					return
				}
				mu.Lock()
				acked[place{r.MessageQueue.QueueId, r.QueueOffset}] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	await(t, "delivery of all messages", 2*patience, func() bool { return deliveries.Load() >= int64(count) })
	quiet(500 * time.Millisecond)

	mu.Lock()
	defer mu.Unlock()
	equal(t, "deliveries", deliveries.Load(), int64(count))
	equal(t, "places acknowledged", len(acked), count)
	equal(t, "places received", len(places), count)
	for i, n := range received {
		if n != 1 {
			t.Fatalf("message %d received %d times", i, n)
		}
	}
	for at := range acked {
		if !places[at] {
			t.Fatalf("acknowledged at %v, received elsewhere", at)
		}
	}
}
