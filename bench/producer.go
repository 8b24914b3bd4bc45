package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rmq/compat/admin"
	"rmq/remoting"
	"rmq/remoting/protocol"
)

// errorPause is how long a slot rests after a failed request, so that a broker that refuses at once is not asked the
// same thing 100,000 times a second.
const errorPause = 10 * time.Millisecond

// producer is the load of a produce run: connections with slots, each slot with at most one request in flight. In closed
// loop a slot sends its next message from the answer to the one before, on the connection's own read loop; with a fixed
// rate one goroutine per connection gives due messages to free slots.
type producer struct {
	o        produceOptions
	recorder *recorder
	conns    []*producerConn
	keys     *uniqueKeys
	stopping atomic.Bool
	stop     chan struct{}  // closed with stopping
	busy     sync.WaitGroup // slots with a request in flight or a pause, and the pacing goroutines
}

// producerConn is one connection to each broker of the topic.
type producerConn struct {
	p      *producer
	client *remoting.Client
	shard  *shard
	slots  []*slot
	free   chan *slot // with a fixed rate: slots without a request in flight
	pace   *schedule  // with a fixed rate
	turn   atomic.Uint32
	queues []admin.Queue
}

// slot sends one request after the other. It is used by one goroutine at a time: whoever started the last request, or
// got its answer.
type slot struct {
	conn       *producerConn
	code       int32
	command    protocol.Command
	body       []byte // of one message
	properties []byte
	batch      []byte
	intended   time.Time
}

func newProducer(o produceOptions, queues []admin.Queue, r *recorder, now time.Time) *producer {
	p := &producer{o: o, recorder: r, keys: newUniqueKeys(now), stop: make(chan struct{})}
	slots := o.concurrency
	if o.mode == modeOneway {
		slots = 1 // nothing is ever in flight: one goroutine fills the connection
	}
	for i := range o.connections {
		c := &producerConn{p: p, client: newClient(), shard: r.shard(i), queues: queues, free: make(chan *slot, slots)}
		c.turn.Store(uint32(i)) // connections start at different queues
		for j := range slots {
			s := &slot{conn: c, body: fillBody(o.size, uint64(i)<<16|uint64(j))}
			s.code = protocol.SendMessageV2
			if o.mode == modeBatch {
				s.code = protocol.SendBatchMessage
			}
			s.command.Ext = s.sendHeader()
			c.slots = append(c.slots, s)
		}
		p.conns = append(p.conns, c)
	}
	return p
}

func (p *producer) begin(now time.Time) {
	for i, c := range p.conns {
		switch {
		case p.o.rate > 0:
			perRequest := 1.0
			if p.o.mode == modeBatch {
				perRequest = float64(p.o.batch)
			}
			c.pace = newSchedule(now, p.o.rate/perRequest, i, len(p.conns))
			for _, s := range c.slots {
				c.free <- s
			}
			p.busy.Go(c.runPaced)
		case p.o.mode == modeOneway:
			p.busy.Go(func() { c.slots[0].runOneway() })
		default:
			for _, s := range c.slots {
				p.busy.Add(1)
				s.send(time.Now())
			}
		}
	}
}

func (p *producer) halt() <-chan struct{} {
	if !p.stopping.Swap(true) {
		close(p.stop)
	}
	drained := make(chan struct{})
	go func() {
		p.busy.Wait()
		close(drained)
	}()
	return drained
}

// close ends the connections. Requests in flight fail.
func (p *producer) close() {
	p.halt()
	for _, c := range p.conns {
		c.client.Close()
	}
	p.busy.Wait()
}

// runPaced gives messages to free slots as they fall due, until the producer stops.
func (c *producerConn) runPaced() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var s *slot
		select {
		case s = <-c.free:
		case <-c.p.stop:
			return
		}
		for {
			intended, ok := c.pace.take(time.Now())
			if ok {
				c.p.busy.Add(1)
				s.send(intended)
				break
			}
			timer.Reset(time.Until(intended))
			select {
			case <-timer.C:
			case <-c.p.stop:
				return
			}
		}
	}
}

// runOneway sends until the producer stops.
func (s *slot) runOneway() {
	for !s.conn.p.stopping.Load() {
		if !s.oneway(time.Now()) {
			time.Sleep(errorPause)
		}
	}
}

// send starts the slot's next request. The caller has counted it as busy.
func (s *slot) send(intended time.Time) {
	if s.conn.p.o.mode == modeOneway {
		s.oneway(intended)
		s.rest()
		return
	}
	q := s.prepare(intended)
	s.conn.client.CallAsync(q.Address, &s.command, time.Now().Add(s.conn.p.o.timeout), s.answered)
}

// answered takes the outcome of the slot's request. It runs on the connection's read loop, or wherever the client gave
// the request up.
func (s *slot) answered(resp *protocol.Command, err error) {
	c := s.conn
	n := s.messages()
	if err == nil && resp.Code == protocol.Success {
		c.shard.succeeded(n, n*len(s.body), time.Since(s.intended))
		s.rest()
		return
	}
	c.shard.failed(errorKey(resp, err), n)
	if err != nil {
		s.abandonBuffers()
	}
	time.AfterFunc(errorPause, s.rest)
}

// abandonBuffers gives the slot new ones: a request without an answer may still be on its way through the client.
func (s *slot) abandonBuffers() {
	s.body = bytes.Clone(s.body)
	s.batch = nil
	s.command.Ext = slices.Clone(s.command.Ext)
}

// rest ends the slot's request and, unless the producer stops, goes on to the next.
func (s *slot) rest() {
	p := s.conn.p
	switch {
	case p.stopping.Load():
		p.busy.Done()
	case p.o.rate > 0:
		p.busy.Done()
		s.conn.free <- s
	default:
		s.send(time.Now())
	}
}

func (s *slot) oneway(intended time.Time) bool {
	s.abandonBuffers() // nothing tells when the last request has left
	q := s.prepare(intended)
	s.command.MarkOneway()
	ctx, cancel := context.WithTimeout(context.Background(), s.conn.p.o.timeout)
	defer cancel()
	if err := s.conn.client.Oneway(ctx, q.Address, &s.command); err != nil {
		s.conn.shard.failed(errorKey(nil, err), 1)
		return false
	}
	s.conn.shard.counted(1, len(s.body))
	return true
}

// messages is how many messages a request of the slot carries.
func (s *slot) messages() int {
	if s.code == protocol.SendBatchMessage {
		return s.conn.p.o.batch
	}
	return 1
}

// Positions in the header that sendHeader makes.
const (
	fieldQueueID       = 4
	fieldBornTimestamp = 6
	fieldProperties    = 8
	fieldBrokerName    = 12
)

// sendHeader makes the ext fields that the Java client 5.x writes for a send, all of them and in its order. The typed
// header would leave out those that have their default value, and so make frames smaller than stock ones.
func (s *slot) sendHeader() protocol.Fields {
	o := &s.conn.p.o
	return protocol.Fields{
		{Key: "a", Value: o.group},
		{Key: "b", Value: o.topic},
		{Key: "c", Value: admin.AutoCreateTopic},
		{Key: "d", Value: "4"},
		{Key: "e"},
		{Key: "f", Value: "0"},
		{Key: "g"},
		{Key: "h", Value: "0"},
		{Key: "i"},
		{Key: "j", Value: "0"},
		{Key: "k", Value: "false"},
		{Key: "m", Value: strconv.FormatBool(s.code == protocol.SendBatchMessage)},
		{Key: "n"},
	}
}

// prepare makes the slot's next request and returns the queue that it goes to. Queues take turns.
func (s *slot) prepare(intended time.Time) admin.Queue {
	c := s.conn
	q := c.queues[c.turn.Add(1)%uint32(len(c.queues))]
	s.intended = intended
	stampBody(s.body, intended)
	ext := s.command.Ext
	s.command = protocol.Command{Code: s.code, Language: protocol.LanguageJava, Version: protocol.MQVersion, Ext: ext, Body: s.body}
	ext[fieldQueueID].Value = strconv.Itoa(int(q.ID))
	ext[fieldBornTimestamp].Value = strconv.FormatInt(intended.UnixMilli(), 10)
	ext[fieldBrokerName].Value = q.Broker
	if s.code == protocol.SendBatchMessage {
		// As the Java client has it: each message has its own properties, the batch has WAIT only.
		ext[fieldProperties].Value = "WAIT\x01true"
		s.batch = s.batch[:0]
		for range c.p.o.batch {
			s.properties = appendProperties(s.properties[:0], c.p.keys, c.p.o.tag)
			s.batch = appendBatchItem(s.batch, s.body, s.properties)
		}
		s.command.Body = s.batch
		return q
	}
	s.properties = appendProperties(s.properties[:0], c.p.keys, c.p.o.tag)
	ext[fieldProperties].Value = string(s.properties)
	return q
}

// errorKey names the cause of a failed request in a few words, so that a result has few keys.
func errorKey(resp *protocol.Command, err error) string {
	switch {
	case err == nil:
		return fmt.Sprintf("code %d %s", resp.Code, protocol.ResponseName(resp.Code))
	case errors.Is(err, remoting.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, remoting.ErrBacklog):
		return "backlog"
	default:
		return "connection"
	}
}
