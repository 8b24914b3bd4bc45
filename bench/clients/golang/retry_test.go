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

type delivery struct {
	body  string
	times int32
	m     *primitive.MessageExt
	at    time.Time
}

// refuseUntil consumes topic, sending back with delay level 1 (1 s) every delivery before the accept-th of a message.
func refuseUntil(t *testing.T, group, topic string, accept, maxReconsume int32) func() []delivery {
	t.Helper()
	// A first member makes the broker create the retry topic; one that starts before it is there looks again after 20 to 30 s only.
	introduce := startPush(t, group, topic, "*", new(inbox).listener)
	awaitRoute(t, "%RETRY%"+group)
	introduce()

	var (
		mu  sync.Mutex
		all []delivery
	)
	startPush(t, group, topic, "*", func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		m := ms[0]
		all = append(all, delivery{string(m.Body), m.ReconsumeTimes, m, time.Now()})
		if m.ReconsumeTimes >= accept {
			return consumer.ConsumeSuccess, nil
		}
		if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
			c.DelayLevelWhenNextConsume = 1
		}
		return consumer.ConsumeRetryLater, nil
	}, consumer.WithMaxReconsumeTimes(maxReconsume))
	return func() []delivery {
		mu.Lock()
		defer mu.Unlock()
		return append([]delivery(nil), all...)
	}
}

func TestRetryThenSuccess(t *testing.T) {
	t.Parallel()
	const count = 5
	topic := newTopic(t, 1)
	deliveries := refuseUntil(t, name(t, "g"), topic, 2, 16)
	p := newProducer(t)
	for i := range count {
		m := message(topic, fmt.Sprint("r", i))
		m.WithTag("TagR")
		m.WithKeys([]string{fmt.Sprint("key", i)})
		send(t, p, m)
	}
	await(t, "three deliveries of every message", patience, func() bool { return len(deliveries()) >= 3*count })
	quiet(1500 * time.Millisecond)
	got := deliveries()
	equal(t, "deliveries", len(got), 3*count)
	next := make(map[string]int32)
	last := make(map[string]time.Time)
	for _, d := range got {
		equal(t, "reconsume times of "+d.body, d.times, next[d.body])
		if d.times > 0 {
			if gap := d.at.Sub(last[d.body]); gap < 900*time.Millisecond || gap > 5*time.Second {
				t.Errorf("%s: retry %d after %v", d.body, d.times, gap)
			}
			if d.m.GetProperty(primitive.PropertyOriginMessageId) == "" {
				t.Errorf("%s: retry %d has no ORIGIN_MESSAGE_ID", d.body, d.times)
			}
		}
		next[d.body]++
		last[d.body] = d.at
		equal(t, "tags", d.m.GetTags(), "TagR")
		equal(t, "keys", d.m.GetKeys(), "key"+d.body[1:])
	}
}

func TestRetryThenDeadLetter(t *testing.T) {
	t.Parallel()
	const count = 3
	topic, group := newTopic(t, 1), name(t, "g")
	deliveries := refuseUntil(t, group, topic, 1<<30, 1)
	p := newProducer(t)
	ids := make(map[string]string)
	for i := range count {
		body := fmt.Sprint("d", i)
		ids[body] = send(t, p, message(topic, body)).OffsetMsgID
	}
	await(t, "two deliveries of every message", patience, func() bool { return len(deliveries()) >= 2*count })
	dead := "%DLQ%" + group
	a := newAdmin(t)
	await(t, "route of "+dead, patience, func() bool {
		q, err := a.FetchPublishMessageQueues(context.Background(), dead)
		return err == nil && len(q) > 0
	})
	for _, m := range read(t, queue(dead, 0), count) {
		equal(t, "ORIGIN_MESSAGE_ID", m.GetProperty(primitive.PropertyOriginMessageId), ids[string(m.Body)])
		equal(t, "RETRY_TOPIC", m.GetProperty(primitive.PropertyRetryTopic), topic)
	}
	equal(t, "deliveries", len(deliveries()), 2*count)
}
