package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// obey is the Go client's side of what rmq.clients.Agent describes. pollMs is ignored: this client asks for routes every 30 s, come what may;
// and so is timeoutMs, for it gives every attempt 3 s.
func obey(in io.Reader, out io.Writer) error {
	rlog.SetLogger(quietLogger{})
	a := &goAgent{out: out, running: make(map[string]func())}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		words := strings.Split(lines.Text(), " ")
		o := make(order)
		for _, w := range words[1:] {
			name, value, _ := strings.Cut(w, "=")
			o[name] = value
		}
		tasks.Go(func() {
			if err := a.do(words[0], o); err != nil {
				a.say("error %s %s", o["id"], oneLine(err))
			}
		})
	}
	return lines.Err()
}

// order holds the values of one command.
type order map[string]string

func (o order) number(name string) int {
	n, _ := strconv.Atoi(o[name]) // the driver wrote it
	return n
}

type goAgent struct {
	outMu   sync.Mutex
	out     io.Writer
	mu      sync.Mutex
	running map[string]func()
}

func (a *goAgent) say(format string, args ...any) {
	a.outMu.Lock()
	defer a.outMu.Unlock()
	fmt.Fprintf(a.out, format+"\n", args...)
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func (a *goAgent) do(command string, o order) error {
	id := o["id"]
	var stop func()
	var err error
	switch command {
	case "produce":
		stop, err = a.produce(id, o)
	case "consume":
		stop, err = a.consume(id, o)
	case "stop":
		a.mu.Lock()
		stop := a.running[id]
		delete(a.running, id)
		a.mu.Unlock()
		if stop == nil {
			return fmt.Errorf("not running")
		}
		stop()
		a.say("stopped %s", id)
		return nil
	default:
		return fmt.Errorf("unknown command %s", command)
	}
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.running[id] = stop
	a.mu.Unlock()
	a.say("started %s", id)
	return nil
}

func (a *goAgent) produce(id string, o order) (stop func(), err error) {
	selector := producer.NewRoundRobinQueueSelector()
	if o["repeat"] == "true" {
		selector = byKey{}
	}
	p, err := rocketmq.NewProducer(
		producer.WithNameServer(primitive.NamesrvAddr{o["namesrv"]}),
		producer.WithGroupName("producer-"+id),
		producer.WithInstanceName(id),
		producer.WithRetry(o.number("retries")),
		producer.WithQueueSelector(selector))
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var threads sync.WaitGroup
	for first := range o.number("threads") {
		threads.Go(func() { a.send(ctx, p, id, o, first) })
	}
	return func() {
		cancel()
		threads.Wait()
		p.Shutdown()
	}, nil
}

// byKey sends messages of one key to one queue.
type byKey struct{}

func (byKey) Select(m *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	key, _ := strconv.Atoi(m.GetShardingKey())
	return queues[key%len(queues)]
}

// send sends for the keys first, first + threads and so on in turn. With "repeat" a message is sent until it is acknowledged, before its key goes on.
func (a *goAgent) send(ctx context.Context, p rocketmq.Producer, id string, o order, first int) {
	keys, step, pause := o.number("keys"), o.number("threads"), time.Duration(o.number("pauseMs"))*time.Millisecond
	next := make([]int, keys)
	for ctx.Err() == nil {
		for key := first; key < keys && ctx.Err() == nil; key += step {
			m := primitive.NewMessage(o["topic"], fmt.Appendf(nil, "%d:%d", key, next[key]))
			m.WithShardingKey(strconv.Itoa(key))
			begin := time.Now()
			r, err := p.SendSync(context.Background(), m)
			end := time.Now()
			if err != nil {
				a.say("failed %s %d %d %d %d %s", id, key, next[key], begin.UnixMicro(), end.UnixMicro(), oneLine(err))
			} else {
				a.say("sent %s %d %d %d %d %s %s %d %d", id, key, next[key], begin.UnixMicro(), end.UnixMicro(), sendStatus(r.Status),
					r.MessageQueue.BrokerName, r.MessageQueue.QueueId, r.QueueOffset)
			}
			if err == nil || o["repeat"] != "true" {
				next[key]++
			}
			<-time.After(pause)
		}
	}
}

// sendStatus names a status as the Java client does.
func sendStatus(s primitive.SendStatus) string {
	switch s {
	case primitive.SendOK:
		return "SEND_OK"
	case primitive.SendFlushDiskTimeout:
		return "FLUSH_DISK_TIMEOUT"
	case primitive.SendFlushSlaveTimeout:
		return "FLUSH_SLAVE_TIMEOUT"
	case primitive.SendSlaveNotAvailable:
		return "SLAVE_NOT_AVAILABLE"
	}
	return fmt.Sprintf("STATUS_%d", s)
}

func (a *goAgent) consume(id string, o order) (stop func(), err error) {
	c, err := rocketmq.NewPushConsumer(
		consumer.WithNameServer(primitive.NamesrvAddr{o["namesrv"]}),
		consumer.WithGroupName(o["group"]),
		consumer.WithInstance(id),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithConsumerOrder(o["orderly"] == "true"),
		consumer.WithMaxReconsumeTimes(int32(o.number("maxReconsume"))),
		consumer.WithConsumeGoroutineNums(4))
	if err != nil {
		return nil, err
	}
	work := time.Duration(o.number("workMs")) * time.Millisecond
	err = c.Subscribe(o["topic"], consumer.MessageSelector{Type: consumer.TAG, Expression: "*"},
		func(ctx context.Context, ms ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, m := range ms {
				begin := time.Now()
				if work > 0 {
					<-time.After(work)
				}
				a.say("got %s %s %d %d %d %v %d %d %s", id, m.Queue.BrokerName, m.Queue.QueueId, m.QueueOffset, m.ReconsumeTimes, m.GetProperty(primitive.PropertyRetryTopic) != "",
					begin.UnixMicro(), time.Now().UnixMicro(), m.Body)
			}
			if o["refuse"] != "true" {
				return consumer.ConsumeSuccess, nil
			}
			if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				c.DelayLevelWhenNextConsume = 1
			}
			return consumer.ConsumeRetryLater, nil
		})
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return func() { c.Shutdown() }, nil
}

// quietLogger drops what the client logs: the driver judges by results.
type quietLogger struct{}

func (quietLogger) Debug(string, map[string]any)   {}
func (quietLogger) Info(string, map[string]any)    {}
func (quietLogger) Warning(string, map[string]any) {}
func (quietLogger) Error(string, map[string]any)   {}
func (quietLogger) Fatal(string, map[string]any)   {}
func (quietLogger) Level(string)                   {}
func (quietLogger) OutputPath(string) error        { return nil }
