package golang

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func TestPullFrom(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t)
	for i := range 40 {
		send(t, p, messageTo(q, fmt.Sprint("p", i)))
	}
	c := newPull(t, name(t, "g"), q.Topic)
	await(t, "message 39", patience, func() bool {
		r, err := c.PullFrom(context.Background(), q, 39, 1)
		return err == nil && r.Status == primitive.PullFound
	})
	pull := func(offset int64) *primitive.PullResult {
		r, err := c.PullFrom(context.Background(), q, offset, 32)
		if err != nil {
			t.Fatalf("pull at %d: %v", offset, err)
		}
		return r
	}
	r := pull(0)
	equal(t, "status at 0", r.Status, primitive.PullFound)
	equal(t, "messages at 0", len(r.GetMessageExts()), 32)
	equal(t, "next offset", r.NextBeginOffset, 32)
	equal(t, "min offset", r.MinOffset, 0)
	equal(t, "max offset", r.MaxOffset, 40)
	equal(t, "messages at 32", len(pull(32).GetMessageExts()), 8)
	r = pull(1_000)
	equal(t, "status beyond the end", r.Status, primitive.PullOffsetIllegal)
	equal(t, "next offset beyond the end", r.NextBeginOffset, 40)
}

func TestPullOffsets(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t)
	for i := range 10 {
		send(t, p, messageTo(q, fmt.Sprint("p", i)))
	}
	c := newPull(t, name(t, "g"), q.Topic)
	// The client persists offsets of queues that its rebalancing has given it, and Pull asks the broker for the offset.
	await(t, "a pull at the offset kept by the broker", patience, func() bool {
		if err := c.UpdateOffset(q, 7); err != nil {
			t.Fatal(err)
		}
		if err := c.PersistOffset(context.Background(), q.Topic); err != nil {
			t.Fatal(err)
		}
		r, err := c.Pull(context.Background(), 1)
		return err == nil && len(r.GetMessageExts()) == 1 && string(r.GetMessageExts()[0].Body) == "p7"
	})
}

func TestPullPoll(t *testing.T) {
	t.Parallel()
	const count = 100
	topic := newTopic(t, 4)
	p := newProducer(t)
	for i := range count {
		send(t, p, message(topic, fmt.Sprint("p", i)))
	}
	c := newPull(t, name(t, "g"), topic)
	var in inbox
	await(t, "all polled messages", patience, func() bool {
		r, err := c.Poll(context.Background(), 100*time.Millisecond)
		if err == nil {
			in.add(r.GetMsgList()...)
			c.ACK(context.Background(), r, consumer.ConsumeSuccess)
		}
		return in.len() >= count
	})
	in.awaitExactly(t, count)
}
