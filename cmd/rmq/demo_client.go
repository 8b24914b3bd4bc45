package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"rmq/compat/admin"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

const (
	demoTopic  = "demo"
	demoQueues = 4
	demoGroup  = "demo"
	// demoRoutePoll is how often the demo's client asks for the topic's route; stock clients ask every 30 s.
	demoRoutePoll = 100 * time.Millisecond
	// demoRetry is the pause after a failed attempt.
	demoRetry = 10 * time.Millisecond
	// demoPace is the least time between two messages.
	demoPace = time.Millisecond
	// demoSuspend is how long a pull waits at the broker for a message.
	demoSuspend = 500 * time.Millisecond
	// demoClient says what measured.
	demoClient = "rmq's own (package compat/admin): one message at a time, each sent again until acknowledged; route asked for every 100 ms"
)

// demoRoute is what the demo's client knows of the topic's queues: as old as the last poll.
type demoRoute struct {
	cluster *admin.Cluster
	mu      sync.Mutex
	queues  []admin.Queue // by id; never empty
}

// findDemoRoute creates the topic and waits for its route.
func findDemoRoute(ctx context.Context, cluster *admin.Cluster) (*demoRoute, error) {
	queues, err := cluster.EnsureTopic(ctx, demoTopic, demoQueues, admin.PermReadWrite)
	if err != nil {
		return nil, err
	}
	return &demoRoute{cluster: cluster, queues: queues}, nil
}

// poll keeps the route current until ctx ends.
func (r *demoRoute) poll(ctx context.Context) {
	for sleep(ctx, demoRoutePoll) {
		route, err := r.cluster.Route(ctx, demoTopic)
		if err != nil {
			continue
		}
		if queues := admin.RouteQueues(route, admin.PermReadWrite); len(queues) > 0 { // without a leader the old one is as good
			r.mu.Lock()
			r.queues = queues
			r.mu.Unlock()
		}
	}
}

func (r *demoRoute) queue(i int) admin.Queue {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queues[i%len(r.queues)]
}

// demoAck is an acknowledgement: of which message, by whom, when, and at which attempt.
type demoAck struct {
	number  int
	address string
	at      time.Time
	attempt int
}

// demoProducer sends numbered messages one after the other, each again and again until it is acknowledged.
type demoProducer struct {
	route *demoRoute

	mu     sync.Mutex
	acked  int                // messages 0 to acked-1 are acknowledged
	alone  int                // of these with SLAVE_NOT_AVAILABLE or FLUSH_SLAVE_TIMEOUT: no second node has confirmed
	failed int                // attempts without an acknowledgement
	first  map[string]demoAck // by address
	last   map[string]demoAck
}

// run sends until stop is closed and the message in hand is acknowledged, or ctx ends.
func (p *demoProducer) run(ctx context.Context, stop <-chan struct{}) {
	for number := 0; ; number++ {
		select {
		case <-stop:
			return
		default:
		}
		began := time.Now()
		if !p.deliver(ctx, number) || !sleep(ctx, demoPace-time.Since(began)) {
			return
		}
	}
}

func (p *demoProducer) deliver(ctx context.Context, number int) bool {
	for attempt := 1; ; attempt++ {
		q := p.route.queue(number)
		alone, err := demoSend(ctx, p.route.cluster, q, number)
		p.mu.Lock()
		if err == nil {
			p.acked++
			if alone {
				p.alone++
			}
			ack := demoAck{number, q.Address, time.Now(), attempt}
			if _, ok := p.first[q.Address]; !ok {
				p.first[q.Address] = ack
			}
			p.last[q.Address] = ack
		} else {
			p.failed++
		}
		p.mu.Unlock()
		if err == nil {
			return true
		}
		if !sleep(ctx, demoRetry) {
			return false
		}
	}
}

// demoSend sends a message once. alone says that it is stored and acknowledged, but by no second data replica.
func demoSend(ctx context.Context, cluster *admin.Cluster, q admin.Queue, number int) (alone bool, err error) {
	cmd := protocol.NewRequest(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: demoGroup, Topic: demoTopic, DefaultTopic: admin.AutoCreateTopic, DefaultTopicQueueNums: demoQueues, QueueID: q.ID,
		BornTimestamp: time.Now().UnixMilli(),
	})
	cmd.Body = []byte(demoBody + strconv.Itoa(number))
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	resp, err := cluster.Client().Call(ctx, q.Address, cmd)
	if err != nil {
		return false, err
	}
	switch resp.Code {
	case protocol.Success:
		return false, nil
	case protocol.SlaveNotAvailable, protocol.FlushSlaveTimeout: // not an error to stock clients either
		return true, nil
	}
	return false, &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
}

const demoBody = "message "

// ackedUpTo is how many messages are acknowledged.
func (p *demoProducer) ackedUpTo() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// lastOf is the last acknowledgement that an address gave.
func (p *demoProducer) lastOf(address string) (demoAck, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ack, ok := p.last[address]
	return ack, ok
}

// firstElsewhere is the first acknowledgement that another address gave.
func (p *demoProducer) firstElsewhere(address string) (first demoAck, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for from, ack := range p.first {
		if from != address && (!ok || ack.at.Before(first.at)) {
			first, ok = ack, true
		}
	}
	return first, ok
}

// demoConsumer reads every queue from its start, each offset once, and counts how often it has met each message.
type demoConsumer struct {
	route *demoRoute

	mu   sync.Mutex
	seen map[int]int // times, by number
	all  int
}

// run reads until ctx ends.
func (c *demoConsumer) run(ctx context.Context) {
	var readers sync.WaitGroup
	for i := range demoQueues {
		readers.Go(func() {
			for offset := int64(0); ctx.Err() == nil; {
				next, err := c.pull(ctx, c.route.queue(i), offset)
				if err != nil {
					sleep(ctx, demoRetry)
					continue
				}
				offset = next
			}
		})
	}
	readers.Wait()
}

func (c *demoConsumer) pull(ctx context.Context, q admin.Queue, offset int64) (next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, demoSuspend+clientTimeout)
	defer cancel()
	resp, err := c.route.cluster.Client().Call(ctx, q.Address, protocol.NewRequest(protocol.PullMessage, &protocol.PullMessageRequestHeader{
		ConsumerGroup: demoGroup, Topic: demoTopic, QueueID: q.ID, QueueOffset: offset, MaxMsgNums: 32, SysFlag: pullSuspends | pullSubscribes,
		SuspendTimeoutMillis: demoSuspend.Milliseconds(), Subscription: "*", ExpressionType: "TAG",
	}))
	if err != nil {
		return offset, err
	}
	switch resp.Code {
	case protocol.Success:
		return c.take(resp.Body, offset)
	case protocol.PullNotFound, protocol.PullRetryImmediately:
		return offset, nil
	}
	return offset, &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
}

// take counts messages and returns the offset after the last one.
func (c *demoConsumer) take(messages []byte, offset int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for rest := messages; len(rest) > 0; {
		v, err := message.ParseView(rest)
		if err != nil {
			return offset, err
		}
		rest = rest[v.Size():]
		number, err := strconv.Atoi(strings.TrimPrefix(string(v.Body()), demoBody))
		if err != nil {
			return offset, fmt.Errorf("queue %d offset %d: %q is no message of the demo", v.QueueID(), v.QueueOffset(), v.Body())
		}
		c.seen[number]++
		c.all++
		offset = v.QueueOffset() + 1
	}
	return offset, nil
}

// tally compares what was acknowledged, messages 0 to acked-1, with what was consumed.
func (c *demoConsumer) tally(acked int) (consumed, lost, duplicated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for number := range acked {
		if c.seen[number] == 0 {
			lost++
		}
	}
	return c.all, lost, c.all - len(c.seen)
}
