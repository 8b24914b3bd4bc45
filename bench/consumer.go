package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store/message"
)

// What the stock push consumer does, and how often.
const (
	suspendTime       = 15 * time.Second      // how long the broker may hold a pull that finds nothing
	suspendTimeShared = 50 * time.Millisecond // the same, when a connection has more queues than pulls in flight
	pullPause         = time.Second           // before the next try after an error
	heartbeatInterval = 30 * time.Second
	commitInterval    = 5 * time.Second
	pullBytesMax      = 256 << 10
)

// Bits of a pull request's sysFlag.
const (
	pullCommits  = 1 << 0 // commitOffset is valid
	pullSuspends = 1 << 1 // the broker may hold the request until messages arrive
)

// consumer is the load of a consume run: connections that each own a share of the topic's queues and keep one pull per
// queue in flight, the next one sent from the answer to the one before.
type consumer struct {
	o        consumeOptions
	recorder *recorder
	conns    []*consumerConn
	started  time.Time // messages sent before it were a backlog, and have no latency
	version  int64     // of the subscription
	left     atomic.Int64
	enough   chan struct{} // closed when --count messages have arrived; nil without --count
	gaps     atomic.Int64
	repeats  atomic.Int64
	stopping atomic.Bool
	stop     chan struct{}
	busy     sync.WaitGroup // pulls in flight or waiting for their turn, and the heartbeat goroutine
}

// consumerConn is one member of the consumer group.
type consumerConn struct {
	c        *consumer
	clientID string
	client   *remoting.Client
	shard    *shard
	pulls    []*pull

	mu      sync.Mutex
	waiting []*pull // with fewer pulls in flight than queues: those whose turn has not come, in order
}

// pull reads one queue. It is used by one goroutine at a time: whoever sent the last request, or got its answer.
type pull struct {
	conn      *consumerConn
	queue     admin.Queue
	command   protocol.Command
	next      atomic.Int64 // offset to read from; everything below it counts as consumed
	latencies []time.Duration
}

func newConsumer(o consumeOptions, queues []admin.Queue, r *recorder, now time.Time) *consumer {
	c := &consumer{o: o, recorder: r, started: now, version: now.UnixMilli(), stop: make(chan struct{})}
	if o.count > 0 {
		c.enough = make(chan struct{})
		c.left.Store(o.count)
	}
	for i := range o.connections {
		c.conns = append(c.conns, &consumerConn{
			c: c, client: newClient(), shard: r.shard(i),
			clientID: fmt.Sprintf("127.0.0.1@%d#%d#%d", os.Getpid(), now.UnixNano(), i),
		})
	}
	for i, q := range queues {
		conn := c.conns[i%len(c.conns)]
		conn.pulls = append(conn.pulls, &pull{conn: conn, queue: q})
	}
	return c
}

// seek finds where each queue is to be read from, and the brokers' version.
func (c *consumer) seek(ctx context.Context, cl *admin.Cluster) (version int32, err error) {
	for _, conn := range c.conns {
		for _, p := range conn.pulls {
			var offset int64
			if offset, version, err = cl.MaxOffset(ctx, c.o.topic, p.queue); err != nil {
				return 0, err
			}
			if c.o.from == fromFirst {
				if offset, err = cl.MinOffset(ctx, c.o.topic, p.queue); err != nil {
					return 0, err
				}
			}
			p.next.Store(offset)
		}
	}
	return version, nil
}

func (c *consumer) begin(time.Time) {
	for _, conn := range c.conns {
		first := len(conn.pulls)
		if c.o.concurrency > 0 {
			first = min(first, c.o.concurrency)
		}
		conn.waiting = append(conn.waiting, conn.pulls[first:]...)
		for _, p := range conn.pulls[:first] {
			c.busy.Add(1)
			p.send()
		}
	}
	c.busy.Go(c.keepAlive)
}

func (c *consumer) halt() <-chan struct{} {
	if !c.stopping.Swap(true) {
		close(c.stop)
	}
	// A pull that found nothing is held by the broker for up to suspendTime; there is no outcome worth waiting for.
	for _, conn := range c.conns {
		conn.leave()
		conn.client.Close()
	}
	drained := make(chan struct{})
	go func() {
		c.busy.Wait()
		close(drained)
	}()
	return drained
}

func (c *consumer) close() { <-c.halt() }

// keepAlive sends heartbeats and commits offsets until the consumer stops.
func (c *consumer) keepAlive() {
	beat := time.NewTicker(heartbeatInterval)
	defer beat.Stop()
	commit := time.NewTicker(commitInterval)
	defer commit.Stop()
	ctx := context.Background() // each request has its own deadline
	for {
		select {
		case <-c.stop:
			return
		case <-beat.C:
			if err := c.heartbeat(ctx); err != nil {
				c.conns[0].shard.failed("heartbeat", 0)
			}
		case <-commit.C:
			for _, conn := range c.conns {
				conn.commit(ctx)
			}
		}
	}
}

// heartbeat makes every connection a member of the group on each broker it reads from.
func (c *consumer) heartbeat(ctx context.Context) error {
	for _, conn := range c.conns {
		body, err := conn.heartbeatBody()
		if err != nil {
			return err
		}
		for _, address := range conn.addresses() {
			request := protocol.NewRequest(protocol.HeartBeat, nil)
			request.Body = body
			resp, err := conn.call(ctx, address, request)
			if err == nil && resp.Code != protocol.Success {
				err = &admin.ReplyError{Code: resp.Code, Remark: resp.Remark}
			}
			if err != nil {
				return fmt.Errorf("heartbeat to %s: %w", address, err)
			}
		}
	}
	return nil
}

func (conn *consumerConn) call(ctx context.Context, address string, request *protocol.Command) (*protocol.Command, error) {
	ctx, cancel := context.WithTimeout(ctx, conn.c.o.timeout)
	defer cancel()
	return conn.client.Call(ctx, address, request)
}

func (conn *consumerConn) addresses() []string {
	seen := map[string]bool{}
	for _, p := range conn.pulls {
		seen[p.queue.Address] = true
	}
	return sortedKeys(seen)
}

// commit tells the brokers how far the connection's queues are consumed, without waiting for an answer.
func (conn *consumerConn) commit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, conn.c.o.timeout)
	defer cancel()
	for _, p := range conn.pulls {
		request := protocol.NewRequest(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{
			ConsumerGroup: conn.c.o.group, Topic: conn.c.o.topic, QueueID: p.queue.ID, CommitOffset: p.next.Load(),
		})
		request.MarkOneway()
		if err := conn.client.Oneway(ctx, p.queue.Address, request); err != nil {
			conn.shard.failed("commit", 0)
		}
	}
}

// leave commits and takes the connection out of the group, as a consumer that shuts down does.
func (conn *consumerConn) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.commit(ctx)
	for _, address := range conn.addresses() {
		request := protocol.NewRequest(protocol.UnregisterClient, &protocol.UnregisterClientRequestHeader{
			ClientID: conn.clientID, ConsumerGroup: conn.c.o.group,
		})
		if _, err := conn.call(ctx, address, request); err != nil {
			return // the broker forgets a closed connection anyway
		}
	}
}

// send starts the queue's next pull. The caller has counted it as busy.
func (p *pull) send() {
	conn := p.conn
	o := &conn.c.o
	next := p.next.Load()
	suspend := suspendTime
	if o.concurrency > 0 && len(conn.pulls) > o.concurrency {
		suspend = suspendTimeShared
	}
	h := protocol.PullMessageRequestHeader{
		ConsumerGroup: o.group, Topic: o.topic, QueueID: p.queue.ID, QueueOffset: next, MaxMsgNums: int32(o.batch),
		SysFlag: pullSuspends, SuspendTimeoutMillis: suspend.Milliseconds(), SubVersion: conn.c.version,
		ExpressionType: protocol.ExpressionTag, HasMaxMsgBytes: true, MaxMsgBytes: pullBytesMax,
	}
	if next > 0 {
		h.SysFlag |= pullCommits
		h.CommitOffset = next
	}
	h.BrokerName = p.queue.Broker
	p.command = protocol.Command{
		Code: protocol.PullMessage, Language: protocol.LanguageJava, Version: protocol.MQVersion,
		Ext: h.AppendFields(p.command.Ext[:0]),
	}
	conn.client.CallAsync(p.queue.Address, &p.command, time.Now().Add(o.timeout), p.answered)
}

// answered takes the outcome of a pull. It runs on the connection's read loop, or wherever the client gave it up.
func (p *pull) answered(resp *protocol.Command, err error) {
	c := p.conn.c
	if c.stopping.Load() {
		c.busy.Done()
		return
	}
	if err != nil {
		p.command.Ext = nil // the request may still be on its way through the client
		p.fail(errorKey(nil, err))
		return
	}
	switch resp.Code {
	case protocol.Success, protocol.PullNotFound, protocol.PullRetryImmediately, protocol.PullOffsetMoved:
	default:
		p.fail(errorKey(resp, nil))
		return
	}
	var h protocol.PullMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil {
		p.fail("bad answer")
		return
	}
	switch resp.Code {
	case protocol.Success:
		if !p.take(resp.Body, h.NextBeginOffset) {
			p.fail("bad message")
			return
		}
	case protocol.PullOffsetMoved:
		p.conn.shard.failed("offset moved", 0)
		p.next.Store(h.NextBeginOffset)
	default:
		p.next.Store(h.NextBeginOffset)
	}
	p.conn.pass(p)
}

// fail counts an error and tries again after a pause.
func (p *pull) fail(cause string) {
	p.conn.shard.failed(cause, 0)
	time.AfterFunc(pullPause, func() {
		if p.conn.c.stopping.Load() {
			p.conn.c.busy.Done()
			return
		}
		p.conn.pass(p)
	})
}

// pass gives p's place in flight to the queue that has waited longest, which may be p itself.
func (conn *consumerConn) pass(p *pull) {
	conn.mu.Lock()
	if len(conn.waiting) > 0 {
		conn.waiting = append(conn.waiting, p)
		p = conn.waiting[0]
		conn.waiting = conn.waiting[1:]
	}
	conn.mu.Unlock()
	p.send()
}

// take counts the messages of a pull's body, checks their order and goes on to nextBegin; false means that the body
// cannot be read.
func (p *pull) take(body []byte, nextBegin int64) bool {
	c := p.conn.c
	now := time.Now()
	next := p.next.Load()
	messages, bytes := 0, 0
	p.latencies = p.latencies[:0]
	for len(body) > 0 {
		v, err := message.ParseView(body)
		if err != nil {
			return false
		}
		body = body[v.Size():]
		switch offset := v.QueueOffset(); {
		case offset < next:
			c.repeats.Add(1)
		case offset > next && c.o.tag == "*":
			c.gaps.Add(offset - next)
		}
		next = max(next, v.QueueOffset()+1)
		content := v.Body()
		messages++
		bytes += len(content)
		if stamp, ok := bodyStamp(content); ok && stamp >= c.started.UnixNano() {
			p.latencies = append(p.latencies, time.Duration(now.UnixNano()-stamp))
		}
	}
	p.conn.shard.pulled(messages, bytes, p.latencies)
	p.next.Store(nextBegin) // before the count: whoever sees it complete commits what was counted
	if c.enough != nil && messages > 0 {
		if left := c.left.Add(-int64(messages)); left <= 0 && left+int64(messages) > 0 {
			close(c.enough)
		}
	}
	return true
}

// heartbeatBody makes the heartbeat of a push consumer in clustering mode.
func (conn *consumerConn) heartbeatBody() ([]byte, error) {
	c := conn.c
	subscription := protocol.SubscriptionData{
		ExpressionType: protocol.ExpressionTag, SubString: c.o.tag, SubVersion: c.version, Topic: c.o.topic,
		TagsSet: []string{}, CodeSet: []int32{},
	}
	if c.o.tag != "*" {
		for _, tag := range strings.Split(c.o.tag, "||") {
			if tag = strings.TrimSpace(tag); tag != "" {
				subscription.TagsSet = append(subscription.TagsSet, tag)
				subscription.CodeSet = append(subscription.CodeSet, int32(message.TagsCode([]byte(tag))))
			}
		}
	}
	return fastjson.Marshal(&protocol.HeartbeatData{
		ClientID: conn.clientID,
		ConsumerDataSet: []protocol.ConsumerData{{
			GroupName: c.o.group, ConsumeType: protocol.ConsumePassively, MessageModel: protocol.Clustering,
			ConsumeFromWhere: protocol.ConsumeFromLastOffset, SubscriptionDataSet: []protocol.SubscriptionData{subscription},
		}},
	})
}
