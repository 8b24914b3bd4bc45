package golang

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func TestPushConcurrent(t *testing.T) {
	t.Parallel()
	const count = 1_000
	topic := newTopic(t, 4)
	var in inbox
	startPush(t, name(t, "g"), topic, "*", in.listener)
	p := newProducer(t)
	for i := range count {
		send(t, p, message(topic, fmt.Sprint("c", i)))
	}
	bodies := make(map[string]bool)
	for _, m := range in.awaitExactly(t, count) {
		bodies[string(m.Body)] = true
	}
	equal(t, "different bodies", len(bodies), count)
}

func TestPushBatches(t *testing.T) {
	t.Parallel()
	const count = 200
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t)
	for i := range count {
		send(t, p, messageTo(q, fmt.Sprint("b", i)))
	}
	var in inbox
	startPush(t, name(t, "g"), q.Topic, "*", func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		if len(ms) > 16 {
			t.Errorf("a batch of %d", len(ms))
		}
		return in.listener(ctx, ms...)
	}, consumer.WithConsumeMessageBatchMaxSize(16))
	in.awaitExactly(t, count)
}

// TestPushOrderly requires the sequence of every key, and that the listener is never twice in one queue at the same time.
func TestPushOrderly(t *testing.T) {
	t.Parallel()
	const keys, each = 8, 50
	topic := newTopic(t, 4)
	var (
		in     inbox
		mu     sync.Mutex
		inside = make(map[int]bool)
	)
	startPush(t, name(t, "g"), topic, "*", func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		q := ms[0].Queue.QueueId
		mu.Lock()
		if inside[q] {
			t.Errorf("two listeners inside queue %d", q)
		}
		inside[q] = true
		mu.Unlock()
		quiet(time.Millisecond)
		in.add(ms...)
		mu.Lock()
		inside[q] = false
		mu.Unlock()
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumerOrder(true))
	p := newProducer(t)
	for i := range each {
		for k := range keys {
			send(t, p, messageTo(queue(topic, k%4), fmt.Sprintf("%d:%d", k, i)))
		}
	}
	var next [keys]int
	for _, m := range in.awaitExactly(t, keys*each) {
		var k, i int
		fmt.Sscanf(string(m.Body), "%d:%d", &k, &i)
		equal(t, fmt.Sprint("sequence of key ", k), i, next[k])
		next[k]++
	}
}

func TestPushBroadcast(t *testing.T) {
	t.Parallel()
	const count = 100
	topic := newTopic(t, 4)
	p := newProducer(t)
	var boxes [3]inbox
	for i := range boxes {
		startPush(t, name(t, "g"), topic, "*", boxes[i].listener, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	for i := range count {
		send(t, p, message(topic, fmt.Sprint("r", i)))
	}
	for i := range boxes {
		boxes[i].awaitExactly(t, count)
	}
}

func TestPushTags(t *testing.T) {
	t.Parallel()
	topic := newTopic(t, 2)
	p := newProducer(t)
	var some, all, collided inbox
	startPush(t, name(t, "some"), topic, "TagA || TagC", some.listener)
	startPush(t, name(t, "all"), topic, "*", all.listener)
	startPush(t, name(t, "collided"), topic, "Aa", collided.listener)
	tags := []string{"TagA", "TagB", "TagC", "", "Aa", "BB"} // the last two have the same hash
	for i := range 30 {
		for _, tag := range tags {
			m := message(topic, fmt.Sprint(tag, i))
			if tag != "" {
				m.WithTag(tag)
			}
			send(t, p, m)
		}
	}
	all.awaitExactly(t, 30*len(tags))
	for _, m := range some.awaitExactly(t, 60) {
		if tag := m.GetTags(); tag != "TagA" && tag != "TagC" {
			t.Errorf("tag %q passed the filter", tag)
		}
	}
	for _, m := range collided.awaitExactly(t, 30) {
		equal(t, "tag", m.GetTags(), "Aa")
	}
}

// TestPushFromWhere starts new groups on a queue that still has message 0: they begin there, whichever end they asked for.
func TestPushFromWhere(t *testing.T) {
	t.Parallel()
	topic := newTopic(t, 2)
	p := newProducer(t)
	for i := range 20 {
		send(t, p, message(topic, fmt.Sprint("w", i)))
	}
	for what, where := range map[string]consumer.ConsumeFromWhere{"first": consumer.ConsumeFromFirstOffset, "last": consumer.ConsumeFromLastOffset} {
		var in inbox
		startPush(t, name(t, what), topic, "*", in.listener, consumer.WithConsumeFromWhere(where))
		in.awaitExactly(t, 20)
	}
}

func TestPushResume(t *testing.T) {
	t.Parallel()
	topic := newTopic(t, 2)
	p := newProducer(t)
	for round := range 2 {
		var in inbox
		stop := startPush(t, name(t, "g"), topic, "*", in.listener)
		for i := range 50 {
			send(t, p, message(topic, fmt.Sprintf("%d:%d", round, i)))
		}
		for _, m := range in.awaitExactly(t, 50) {
			if m.Body[0] != byte('0'+round) {
				t.Errorf("round %d received %s", round, m.Body)
			}
		}
		stop()
	}
}

// TestPushRebalance runs a group of 1, 2 and again 1 members: every queue has one owner, and the members hear of each other from the broker.
func TestPushRebalance(t *testing.T) {
	t.Parallel()
	const queues = 4
	topic := newTopic(t, queues)
	p := newProducer(t)
	var (
		mu     sync.Mutex
		owners = make(map[int]string)
	)
	member := func(who string) func() {
		return startPush(t, name(t, "g"), topic, "*", func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range ms {
				owners[m.Queue.QueueId] = who
			}
			return consumer.ConsumeSuccess, nil
		})
	}
	// shares sends a message to each queue and returns how many of them went to each member.
	shares := func() map[string]int {
		mu.Lock()
		clear(owners)
		mu.Unlock()
		for q := range queues {
			send(t, p, messageTo(queue(topic, q), "probe"))
		}
		count := make(map[string]int)
		defer func() {
			if t.Failed() {
				t.Logf("queue and the member that received its probe: %v", owners)
			}
		}()
		await(t, "probes of all queues", patience, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(owners) == queues
		})
		mu.Lock()
		defer mu.Unlock()
		for _, who := range owners {
			count[who]++
		}
		return count
	}
	member("a")
	await(t, "a owns all queues", patience, func() bool { return shares()["a"] == queues })
	stop := member("b")
	await(t, "two queues each", patience, func() bool { s := shares(); return s["a"] == 2 && s["b"] == 2 })
	stop()
	await(t, "a owns all queues again", patience, func() bool { return shares()["a"] == queues })
}
