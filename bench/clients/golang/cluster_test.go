// Package golang runs the Apache Go client v2 against a name server and its broker.
//
// NAMESRV_ADDR and BROKER_ADDR (host:port, the broker's listen address) name the target; without them the tests fail. Topics, groups and
// client instances are named after test and run, so a run may be repeated against the same broker.
package golang

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const (
	brokerDefault = "broker-a"

	// patience bounds waits for consumers. It does not measure the broker: the client looks at its group every 20 s and at routes every 30 s.
	patience = 60 * time.Second
	lookEach = 5 * time.Millisecond
)

var (
	messages = flag.Int("messages", 100_000, "messages each way in TestLoad")

	namesrvAddr = os.Getenv("NAMESRV_ADDR")
	brokerAddr  = os.Getenv("BROKER_ADDR")
	run         = fmt.Sprintf("%x", time.Now().UnixMilli())
	instances   atomic.Int64
)

func TestMain(m *testing.M) {
	flag.Parse()
	if namesrvAddr == "" || brokerAddr == "" {
		fmt.Fprintln(os.Stderr, "NAMESRV_ADDR and BROKER_ADDR must name a running name server and broker; ../run.sh starts them")
		os.Exit(1)
	}
	rlog.SetLogger(quietLogger{})
	os.Exit(m.Run())
}

// quietLogger drops what the client logs, fatal messages included: the tests judge by results.
type quietLogger struct{}

func (quietLogger) Debug(string, map[string]any)   {}
func (quietLogger) Info(string, map[string]any)    {}
func (quietLogger) Warning(string, map[string]any) {}
func (quietLogger) Error(string, map[string]any)   {}
func (quietLogger) Fatal(string, map[string]any)   {}
func (quietLogger) Level(string)                   {}
func (quietLogger) OutputPath(string) error        { return nil }

// name returns a topic or group name that belongs to this test and run.
func name(t *testing.T, suffix string) string {
	return "go-" + strings.ReplaceAll(t.Name(), "/", "-") + "-" + suffix + "-" + run
}

func instance(t *testing.T) string {
	return fmt.Sprintf("%s-%d", name(t, "i"), instances.Add(1))
}

// newTopic creates a topic with as many read as write queues and waits for its route.
func newTopic(t *testing.T, queues int) string {
	t.Helper()
	topic := name(t, "t")
	a := newAdmin(t)
	err := a.CreateTopic(context.Background(), admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(brokerAddr),
		admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	if err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
	awaitRoute(t, topic)
	return topic
}

type adminClient interface {
	CreateTopic(ctx context.Context, opts ...admin.OptionCreate) error
	FetchPublishMessageQueues(ctx context.Context, topic string) ([]*primitive.MessageQueue, error)
	FetchAllTopicList(ctx context.Context) (*admin.TopicList, error)
	Close() error
}

func newAdmin(t *testing.T) adminClient {
	t.Helper()
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver([]string{namesrvAddr})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// awaitRoute waits until the name server hands out the topic's route and returns its writable queues.
func awaitRoute(t *testing.T, topic string) []*primitive.MessageQueue {
	t.Helper()
	a := newAdmin(t)
	var queues []*primitive.MessageQueue
	await(t, "route of "+topic, 10*time.Second, func() bool {
		var err error
		queues, err = a.FetchPublishMessageQueues(context.Background(), topic)
		return err == nil && len(queues) > 0
	})
	return queues
}

func queue(topic string, id int) *primitive.MessageQueue {
	return &primitive.MessageQueue{Topic: topic, BrokerName: brokerName(), QueueId: id}
}

func brokerName() string {
	if n := os.Getenv("BROKER_NAME"); n != "" {
		return n
	}
	return brokerDefault
}

// newProducer returns a started producer that sends a message to its Queue if it has one.
func newProducer(t *testing.T, opts ...producer.Option) rocketmq.Producer {
	t.Helper()
	opts = append([]producer.Option{
		producer.WithNameServer(primitive.NamesrvAddr{namesrvAddr}),
		producer.WithGroupName(name(t, "p")),
		producer.WithInstanceName(instance(t)),
		producer.WithSendMsgTimeout(10 * time.Second),
		producer.WithRetry(0),
		producer.WithQueueSelector(ownQueueOr{producer.NewRoundRobinQueueSelector()}),
	}, opts...)
	p, err := rocketmq.NewProducer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Shutdown() })
	return p
}

type ownQueueOr struct{ producer.QueueSelector }

func (s ownQueueOr) Select(m *primitive.Message, queues []*primitive.MessageQueue, last string) *primitive.MessageQueue {
	if m.Queue != nil {
		return m.Queue
	}
	return s.QueueSelector.Select(m, queues, last)
}

func message(topic, body string) *primitive.Message {
	return primitive.NewMessage(topic, []byte(body))
}

func messageTo(q *primitive.MessageQueue, body string) *primitive.Message {
	m := message(q.Topic, body)
	m.Queue = q
	return m
}

// send sends and requires the answer SendOK.
func send(t *testing.T, p rocketmq.Producer, ms ...*primitive.Message) *primitive.SendResult {
	t.Helper()
	r, err := p.SendSync(context.Background(), ms...)
	if err != nil {
		t.Fatalf("send to %s: %v", ms[0].Topic, err)
	}
	if r.Status != primitive.SendOK {
		t.Fatalf("send to %s: status %d", ms[0].Topic, r.Status)
	}
	return r
}

// inbox collects what listeners receive, in the order of their calls. Safe for concurrent use.
type inbox struct {
	mu       sync.Mutex
	received []*primitive.MessageExt
}

func (b *inbox) add(ms ...*primitive.MessageExt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, ms...)
}

func (b *inbox) all() []*primitive.MessageExt {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*primitive.MessageExt(nil), b.received...)
}

func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.received)
}

func (b *inbox) listener(_ context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	b.add(ms...)
	return consumer.ConsumeSuccess, nil
}

// awaitExactly waits for n messages, then a moment more, and requires exactly n, none twice.
func (b *inbox) awaitExactly(t *testing.T, n int) []*primitive.MessageExt {
	t.Helper()
	await(t, fmt.Sprintf("%d messages", n), patience, func() bool { return b.len() >= n })
	quiet(200 * time.Millisecond)
	all := b.all()
	seen := make(map[string]bool)
	for _, m := range all {
		at := fmt.Sprintf("%s/%d/%d", m.Topic, m.Queue.QueueId, m.QueueOffset)
		if seen[at] {
			t.Fatalf("received twice: %s", at)
		}
		seen[at] = true
	}
	if len(all) != n {
		t.Fatalf("received %d messages, want %d", len(all), n)
	}
	return all
}

type listener = func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

// startPush starts a push consumer that begins at the first message. It is shut down at the end of the test, or by the function returned.
func startPush(t *testing.T, group, topic, expression string, l listener, opts ...consumer.Option) (stop func()) {
	t.Helper()
	opts = append([]consumer.Option{
		consumer.WithNameServer(primitive.NamesrvAddr{namesrvAddr}),
		consumer.WithGroupName(group),
		consumer.WithInstance(instance(t)),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithConsumeGoroutineNums(4),
	}, opts...)
	c, err := rocketmq.NewPushConsumer(opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: expression}, l); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { c.Shutdown() })
	t.Cleanup(stop)
	return stop
}

// read pulls n messages of one queue, from its first.
func read(t *testing.T, q *primitive.MessageQueue, n int) []*primitive.MessageExt {
	t.Helper()
	c := newPull(t, name(t, "reader"), q.Topic)
	var all []*primitive.MessageExt
	await(t, fmt.Sprintf("%d messages of %s", n, q), patience, func() bool {
		r, err := c.PullFrom(context.Background(), q, int64(len(all)), 32)
		if err == nil && r.Status == primitive.PullFound {
			all = append(all, r.GetMessageExts()...)
		}
		return len(all) >= n
	})
	if len(all) != n {
		t.Fatalf("queue %s holds %d messages, want %d", q, len(all), n)
	}
	return all
}

func newPull(t *testing.T, group, topic string) rocketmq.PullConsumer {
	t.Helper()
	c, err := rocketmq.NewPullConsumer(
		consumer.WithNameServer(primitive.NamesrvAddr{namesrvAddr}),
		consumer.WithGroupName(group),
		consumer.WithInstance(instance(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Shutdown() })
	return c
}

// await looks every few milliseconds until cond holds.
func await(t *testing.T, what string, limit time.Duration, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for: %s", limit, what)
		}
		quiet(lookEach)
	}
}

// quiet lets d pass, for checks that something does not happen.
func quiet(d time.Duration) { <-time.After(d) }
