package golang

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func TestSendSync(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 2), 1)
	p := newProducer(t)
	properties := map[string]string{"plain": "value", "unicode": "Grüße 消息 🚀", "json": `{"a":[1,"x\"y"],"b":null}`}
	body := make([]byte, 512)
	for i := range body {
		body[i] = byte(i)
	}
	before := time.Now().UnixMilli()
	var results []*primitive.SendResult
	for range 3 {
		m := messageTo(q, string(body))
		m.WithTag("TagS")
		m.WithKeys([]string{"keyA", "keyB"})
		m.Flag = 0x5A5A
		for k, v := range properties {
			m.WithProperty(k, v)
		}
		results = append(results, send(t, p, m))
	}
	after := time.Now().UnixMilli()
	for i, m := range read(t, q, 3) {
		r := results[i]
		equal(t, "answered queue", r.MessageQueue.QueueId, 1)
		equal(t, "answered queue offset", r.QueueOffset, int64(i))
		equal(t, "body", bytes.Equal(m.Body, body), true)
		equal(t, "topic", m.Topic, q.Topic)
		equal(t, "flag", m.Flag, 0x5A5A)
		equal(t, "tags", m.GetTags(), "TagS")
		equal(t, "keys", m.GetKeys(), "keyA keyB")
		for k, v := range properties {
			equal(t, "property "+k, m.GetProperty(k), v)
		}
		equal(t, "queue", m.Queue.QueueId, 1)
		equal(t, "queue offset", m.QueueOffset, int64(i))
		equal(t, "unique key", m.MsgId, r.MsgID)
		equal(t, "offset id", m.OffsetMsgId, r.OffsetMsgID)
		equal(t, "length of offset id", len(r.OffsetMsgID), 32)
		equal(t, "born timestamp in range", m.BornTimestamp >= before && m.BornTimestamp <= after, true)
		equal(t, "store timestamp in range", m.StoreTimestamp >= before-5 && m.StoreTimestamp <= after+5, true)
		equal(t, "born host", strings.HasPrefix(m.BornHost, "127.0.0.1:"), true)
		equal(t, "reconsume times", m.ReconsumeTimes, 0)
	}
}

func TestSendBodySizes(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t, producer.WithCompressMsgBodyOverHowmuch(64<<20))
	var bodies [][]byte
	for _, size := range []int{1, 255, 1024, 4097, 65_537, 1 << 20, 4 << 20} {
		body := make([]byte, size)
		rand.New(rand.NewSource(int64(size))).Read(body)
		bodies = append(bodies, body)
		send(t, p, messageTo(q, string(body)))
	}
	for i, m := range read(t, q, len(bodies)) {
		if !bytes.Equal(m.Body, bodies[i]) {
			t.Errorf("body of %d bytes came back different, %d bytes", len(bodies[i]), len(m.Body))
		}
	}
}

func TestSendTooLarge(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t, producer.WithCompressMsgBodyOverHowmuch(64<<20))
	_, err := p.SendSync(context.Background(), messageTo(q, strings.Repeat("x", 4<<20+1)))
	if err == nil || !strings.Contains(err.Error(), "CODE: 13") {
		t.Errorf("4 MiB + 1: %v, want CODE: 13", err)
	}
	send(t, p, messageTo(q, "the connection still works"))
	read(t, q, 1)
}

func TestSendCompressed(t *testing.T) {
	t.Parallel()
	q := queue(newTopic(t, 1), 0)
	body := strings.Repeat("compress me, please. ", 20_000)
	send(t, newProducer(t), messageTo(q, body))
	m := read(t, q, 1)[0]
	equal(t, "body", string(m.Body) == body, true)
	if int(m.StoreSize) > len(body)/10 {
		t.Errorf("stored size %d: not stored as sent", m.StoreSize)
	}
}

func TestSendAsync(t *testing.T) {
	t.Parallel()
	const count = 300
	topic := newTopic(t, 4)
	p := newProducer(t)
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		places = make(map[string]bool)
	)
	wg.Add(count)
	for i := range count {
		err := p.SendAsync(context.Background(), func(_ context.Context, r *primitive.SendResult, err error) {
			defer wg.Done()
			if err != nil {
				t.Errorf("callback: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			places[fmt.Sprintf("%s/%d/%d", r.MsgID, r.MessageQueue.QueueId, r.QueueOffset)] = true
		}, message(topic, fmt.Sprint("a", i)))
		if err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	var in inbox
	startPush(t, name(t, "g"), topic, "*", in.listener)
	for _, m := range in.awaitExactly(t, count) {
		at := fmt.Sprintf("%s/%d/%d", m.MsgId, m.Queue.QueueId, m.QueueOffset)
		if !places[at] {
			t.Errorf("%s was stored but not acknowledged there", at)
		}
	}
	equal(t, "acknowledged places", len(places), count)
}

func TestSendOneway(t *testing.T) {
	t.Parallel()
	const count = 100
	q := queue(newTopic(t, 1), 0)
	p := newProducer(t)
	for i := range count {
		if err := p.SendOneWay(context.Background(), messageTo(q, fmt.Sprint("o", i))); err != nil {
			t.Fatal(err)
		}
	}
	bodies := make(map[string]bool)
	for _, m := range read(t, q, count) {
		bodies[string(m.Body)] = true
	}
	equal(t, "different bodies", len(bodies), count)
}

func TestSendBatch(t *testing.T) {
	t.Parallel()
	const count = 100
	q := queue(newTopic(t, 2), 1)
	p := newProducer(t)
	send(t, p, messageTo(q, "before"))
	var batch []*primitive.Message
	for i := range count {
		m := messageTo(q, fmt.Sprint("b", i))
		m.WithTag(fmt.Sprint("Tag", i%3))
		m.WithKeys([]string{fmt.Sprint("key", i)})
		m.Flag = int32(i)
		batch = append(batch, m)
	}
	r := send(t, p, batch...)
	send(t, p, messageTo(q, "after"))

	equal(t, "offset of the first", r.QueueOffset, 1)
	ids := strings.Split(r.OffsetMsgID, ",")
	equal(t, "offset ids in the answer", len(ids), count)
	got := read(t, q, count+2)
	for i, m := range got[1 : count+1] {
		equal(t, "order", string(m.Body), fmt.Sprint("b", i))
		equal(t, "queue offset", m.QueueOffset, int64(i+1))
		equal(t, "tags", m.GetTags(), fmt.Sprint("Tag", i%3))
		equal(t, "keys", m.GetKeys(), fmt.Sprint("key", i))
		equal(t, "flag", m.Flag, int32(i))
		equal(t, "offset id", m.OffsetMsgId, ids[i])
	}
	equal(t, "after the batch", string(got[count+1].Body), "after")
}

// TestSendShardingKey sends by hash of a key: a key stays in one queue, in order.
func TestSendShardingKey(t *testing.T) {
	t.Parallel()
	const keys, each = 8, 30
	topic := newTopic(t, 4)
	p := newProducer(t, producer.WithQueueSelector(producer.NewHashQueueSelector()))
	for i := range each {
		for k := range keys {
			m := message(topic, fmt.Sprintf("%d:%d", k, i))
			m.WithShardingKey(fmt.Sprint("key", k))
			send(t, p, m)
		}
	}
	var in inbox
	startPush(t, name(t, "g"), topic, "*", in.listener, consumer.WithConsumerOrder(true))
	var next [keys]int
	queues := make(map[int]int)
	for _, m := range in.awaitExactly(t, keys*each) {
		var k, i int
		fmt.Sscanf(string(m.Body), "%d:%d", &k, &i)
		if q, ok := queues[k]; ok && q != m.Queue.QueueId {
			t.Errorf("key %d in queues %d and %d", k, q, m.Queue.QueueId)
		}
		queues[k] = m.Queue.QueueId
		equal(t, fmt.Sprint("sequence of key ", k), i, next[k])
		next[k]++
	}
}

// TestSendDelay sends with levels 1 (1 s) and 2 (5 s): never early, not much late.
func TestSendDelay(t *testing.T) {
	t.Parallel()
	const each, late = 10, 2 * time.Second
	delays := map[int]time.Duration{1: time.Second, 2: 5 * time.Second}
	q := queue(newTopic(t, 2), 1)
	type arrival struct {
		m  *primitive.MessageExt
		at time.Time
	}
	var (
		mu       sync.Mutex
		arrivals []arrival
	)
	startPush(t, name(t, "g"), q.Topic, "*", func(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range ms {
			arrivals = append(arrivals, arrival{m, time.Now()})
		}
		return consumer.ConsumeSuccess, nil
	}, consumer.WithConsumerOrder(true))
	p := newProducer(t)
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(arrivals)
	}
	send(t, p, messageTo(q, "warm"))
	await(t, "a first message: an orderly consumer may start slowly", patience, func() bool { return count() == 1 })
	mu.Lock()
	arrivals = nil
	mu.Unlock()
	for i := range each {
		for level := range delays {
			m := messageTo(q, fmt.Sprintf("%d:%d", level, i))
			m.WithTag("TagD")
			m.WithDelayTimeLevel(level)
			m.WithProperty("sent", fmt.Sprint(time.Now().UnixMilli()))
			send(t, p, m)
		}
	}
	await(t, "all delayed messages", patience, func() bool { return count() >= 2*each })
	quiet(300 * time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	equal(t, "deliveries", len(arrivals), 2*each)
	var next [3]int
	for _, a := range arrivals {
		var level, i int
		var sent int64
		fmt.Sscanf(string(a.m.Body), "%d:%d", &level, &i)
		fmt.Sscan(a.m.GetProperty("sent"), &sent)
		took := a.at.Sub(time.UnixMilli(sent))
		if took < delays[level]-10*time.Millisecond || took > delays[level]+late {
			t.Errorf("level %d took %v", level, took)
		}
		equal(t, fmt.Sprint("order in level ", level), i, next[level])
		next[level]++
		equal(t, "topic", a.m.Topic, q.Topic)
		equal(t, "queue", a.m.Queue.QueueId, 1)
		equal(t, "tags", a.m.GetTags(), "TagD")
	}
}

func TestTopicAutoCreate(t *testing.T) {
	t.Parallel()
	topic := name(t, "t")
	r := send(t, newProducer(t), message(topic, "first"))
	equal(t, "queues of the new topic", len(awaitRoute(t, topic)), 4)
	equal(t, "body", string(read(t, r.MessageQueue, 1)[0].Body), "first")
	list, err := newAdmin(t).FetchAllTopicList(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(" "+strings.Join(list.TopicList, " ")+" ", " "+topic+" ") {
		t.Errorf("%s is not in the topic list", topic)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
