package cluster

import (
	"cmp"
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
	"rmq/store/message"
)

// WorkloadOptions of StartWorkload.
type WorkloadOptions struct {
	Group     string // brokerName
	Topic     string // created if it is not there
	Queues    int32  // [4]
	Keys      int    // messages of one key go to one queue in order [16]
	Producers int    // each sends one message at a time, of its own keys [4]
	Consumers int    // each with a group of its own, reading every queue [1]
	// UntilAcked: a message is sent again until it is acknowledged, however long that takes. Otherwise a producer does as
	// stock ones do: three attempts within 3 s, then it goes on with the next message.
	UntilAcked bool
	// RoutePoll is how often routes are asked for, as pollNameServerInterval of stock clients [1 s]. A message that failed
	// in all its attempts makes the producer ask at once, so that a test does not wait for the poll.
	RoutePoll time.Duration
	Pace      time.Duration // between the sends of one producer [2 ms]
	// At takes the place of the name servers' routes: every request goes there.
	At string
}

func (o *WorkloadOptions) setDefaults() {
	o.Queues = cmp.Or(o.Queues, 4)
	o.Keys = cmp.Or(o.Keys, 16)
	o.Producers = cmp.Or(o.Producers, 4)
	o.RoutePoll = cmp.Or(o.RoutePoll, time.Second)
	o.Pace = cmp.Or(o.Pace, 2*time.Millisecond)
}

// Workload sends and reads until it is stopped.
type Workload struct {
	o       WorkloadOptions
	client  *Client
	route   route
	record  recorder
	running sync.WaitGroup
	senders sync.WaitGroup
	quiet   context.CancelFunc // ends the producers
	cancel  context.CancelFunc // ends the consumers too
}

// StartWorkload creates the topic and starts the producers and consumers.
func StartWorkload(ctx context.Context, nameServers []string, o WorkloadOptions) (*Workload, error) {
	o.setDefaults()
	w := &Workload{o: o, client: NewClient(nameServers, o.Group)}
	if o.At != "" {
		w.client.fixed = o.At
	} else if _, err := w.client.EnsureTopic(ctx, o.Topic, int(o.Queues), admin.PermReadWrite); err != nil {
		w.client.Close()
		return nil, err
	}
	w.record.h.Run = "run" + strconv.FormatInt(time.Now().UnixNano(), 36)
	w.record.h.Queues = o.Queues
	all, cancel := context.WithCancel(context.Background())
	producing, quiet := context.WithCancel(all)
	w.cancel, w.quiet = cancel, quiet
	w.route.refresh(all, w.client)
	w.running.Go(func() { w.poll(all) })
	for p := range o.Producers {
		w.senders.Go(func() { w.produce(producing, p) })
	}
	for n := range o.Consumers {
		for queue := range o.Queues {
			w.running.Go(func() { w.consume(all, n, queue) })
		}
	}
	return w, nil
}

// route is where the group is taken to be.
type route struct {
	mu      sync.Mutex
	asking  sync.Mutex
	address string
	asked   atomic.Int64 // ns
}

func (r *route) get() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// refresh asks the name servers, and keeps what was known if they know nothing better.
func (r *route) refresh(ctx context.Context, c *Client) {
	began := time.Now().UnixNano()
	r.asking.Lock()
	defer r.asking.Unlock()
	if r.asked.Load() > began {
		return // somebody else asked meanwhile
	}
	address, err := c.Leader(ctx)
	r.asked.Store(time.Now().UnixNano())
	if err != nil {
		return
	}
	r.mu.Lock()
	r.address = address
	r.mu.Unlock()
}

func (w *Workload) poll(ctx context.Context) {
	for pause(ctx, w.o.RoutePoll) {
		w.route.refresh(ctx, w.client)
	}
}

// Acked is how many messages are acknowledged by now.
func (w *Workload) Acked() int {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	return w.record.acked
}

// Delivered is how many messages the consumers have got by now, together.
func (w *Workload) Delivered() int {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	return w.record.delivered
}

// WaitAcked returns when so many more messages are acknowledged.
func (w *Workload) WaitAcked(ctx context.Context, more int) error {
	want := w.Acked() + more
	return Await(ctx, func(context.Context) error {
		if n := w.Acked(); n < want {
			return fmt.Errorf("%d messages are acknowledged, not %d; the last failure: %s", n, want, w.lastFailure())
		}
		return nil
	})
}

func (w *Workload) lastFailure() string {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	for _, s := range slices.Backward(w.record.h.Sends) {
		if s.LastError != "" {
			return s.LastError
		}
	}
	return "none"
}

// Quiesce ends the producers and waits for their last answers; the consumers go on.
func (w *Workload) Quiesce() {
	w.quiet()
	w.senders.Wait()
}

// Stop ends everything and returns what happened.
func (w *Workload) Stop() *History {
	w.Quiesce()
	w.cancel()
	w.running.Wait()
	w.client.Close()
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	h := w.record.h
	return &h
}

// produce sends the messages of one producer's keys in turn.
func (w *Workload) produce(ctx context.Context, producer int) {
	var keys []int
	for key := producer; key < w.o.Keys; key += w.o.Producers {
		keys = append(keys, key)
	}
	seqs := make([]int, len(keys))
	for i := 0; len(keys) > 0; i = (i + 1) % len(keys) {
		s := Send{ID: ID{keys[i], seqs[i]}, Queue: int32(keys[i]) % w.o.Queues}
		seqs[i]++
		w.send(ctx, &s)
		w.record.sent(s)
		if !s.Acked {
			w.route.refresh(ctx, w.client)
		}
		if !pause(ctx, w.o.Pace) {
			return
		}
	}
}

// What stock producers do with a message.
const (
	sendAttempts = 3
	sendTimeout  = 3 * time.Second
)

// send sends one message, in several attempts if need be.
func (w *Workload) send(ctx context.Context, s *Send) {
	s.Began = time.Now()
	defer func() { s.Ended = time.Now() }()
	s.MsgID = fmt.Sprintf("%s-%s", w.record.h.Run, s.ID)
	for {
		end := s.Began.Add(sendTimeout)
		if w.o.UntilAcked {
			end = time.Now().Add(sendTimeout)
		}
		s.Attempts++
		if w.attempt(s, end) || !w.again(ctx, s, end) {
			return
		}
	}
}

// again reports whether there is to be another attempt.
func (w *Workload) again(ctx context.Context, s *Send, end time.Time) bool {
	if w.o.UntilAcked {
		w.route.refresh(ctx, w.client)
		return pause(ctx, awaitPause)
	}
	return s.Attempts < sendAttempts && time.Now().Before(end)
}

// attempt sends a message once and reports whether it was acknowledged.
func (w *Workload) attempt(s *Send, end time.Time) bool {
	properties := message.AppendProperty(nil, message.PropertyKeys, "k"+s.ID.String())
	properties = message.AppendProperty(properties, message.PropertyUniqKey, s.MsgID)
	cmd := protocol.NewRequest(protocol.SendMessageV2, &protocol.SendMessageRequestHeaderV2{
		ProducerGroup: "cluster-test", Topic: w.o.Topic, DefaultTopic: admin.AutoCreateTopic, DefaultTopicQueueNums: w.o.Queues, QueueID: s.Queue,
		BornTimestamp: time.Now().UnixMilli(), Properties: string(properties), UnitMode: false,
	})
	cmd.Body = s.body(w.record.h.Run)
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	address := w.route.get()
	if address == "" {
		s.LastError = "no route"
		return false
	}
	resp, err := w.client.Cluster.Client().Call(ctx, address, cmd)
	switch {
	case errors.Is(err, remoting.ErrNotSent), errors.Is(err, remoting.ErrBacklog):
		s.LastError = err.Error()
		return false
	case err != nil:
		s.LastError = err.Error()
		s.Uncertain++
		return false
	case resp.Code == protocol.SlaveNotAvailable, resp.Code == protocol.FlushSlaveTimeout:
		s.Degraded = true // stored, and clients take it for an acknowledgement with a status
	case resp.Code != protocol.Success:
		s.LastError = fmt.Sprintf("%s: code %d: %s", address, resp.Code, resp.Remark)
		if resp.Code != protocol.SystemBusy { // nothing was stored then
			s.Uncertain++
		}
		return false
	}
	var h protocol.SendMessageResponseHeader
	if err := h.Decode(resp.Ext); err != nil {
		w.record.anomaly("%s acknowledged %s with %v: %v", address, s.ID, resp.Ext, err)
		s.Uncertain++
		return false
	}
	if h.QueueID != s.Queue {
		w.record.anomaly("%s acknowledged %s in queue %d, it was sent to %d", address, s.ID, h.QueueID, s.Queue)
	}
	if _, s.Physical, err = message.ParseOffsetID(h.MsgID); err != nil {
		w.record.anomaly("%s acknowledged %s with the id %q: %v", address, s.ID, h.MsgID, err)
	}
	s.Acked, s.Offset = true, h.QueueOffset
	return true
}

// consumerGroup is the group of a workload's consumer.
func (w *Workload) consumerGroup(consumer int) string { return fmt.Sprintf("readers%d", consumer) }

// commitEvery is how many messages a consumer reads from a queue before it commits.
const commitEvery = 50

// consume reads one queue from its first message on, and commits its progress.
func (w *Workload) consume(ctx context.Context, consumer int, queue int32) {
	var next, committed int64
	group := w.consumerGroup(consumer)
	for ctx.Err() == nil {
		address := w.route.get()
		p, err := w.client.pull(ctx, address, group, w.o.Topic, queue, next, true)
		if err != nil {
			w.route.refresh(ctx, w.client)
			pause(ctx, awaitPause)
			continue
		}
		if p.code == protocol.PullOffsetMoved || p.next < next {
			// A leader that is not ready would say so, and make stock consumers go back.
			w.record.anomaly("%s answered a pull of queue %d from %d with code %d, next %d, its offsets are %d to %d", address, queue, next, p.code, p.next, p.min, p.max)
			pause(ctx, awaitPause)
			continue
		}
		now := time.Now()
		var got []Delivery
		for _, v := range p.messages {
			id, known := parseBody(w.record.h.Run, v.Body())
			got = append(got, Delivery{ID: id, Known: known && v.BodyCRCValid(), Queue: queue, Offset: v.QueueOffset(), Consumer: consumer, At: now})
		}
		w.record.got(got)
		next = p.next
		if next-committed >= commitEvery || len(got) == 0 && next > committed {
			if err := w.client.CommitOffset(ctx, address, group, w.o.Topic, queue, next); err == nil {
				committed = next
				w.record.committed(Commit{consumer, queue, next, time.Now()})
			}
		}
	}
}

func sortedByEnd(sends []Send) []Send {
	return slices.SortedFunc(slices.Values(sends), func(a, b Send) int { return a.Ended.Compare(b.Ended) })
}

// CaughtUp returns nil once every consumer has got every message that is acknowledged.
func (w *Workload) CaughtUp(context.Context) error {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	type reader struct {
		consumer int
		queue    int32
	}
	reached := map[reader]int64{}
	for _, d := range w.record.h.Deliveries {
		who := reader{d.Consumer, d.Queue}
		reached[who] = max(reached[who], d.Offset)
	}
	for _, s := range w.record.h.Sends {
		for consumer := range w.o.Consumers {
			if s.Acked && reached[reader{consumer, s.Queue}] < s.Offset {
				return fmt.Errorf("consumer %d is at offset %d of queue %d, where %d is acknowledged", consumer, reached[reader{consumer, s.Queue}], s.Queue, s.Offset)
			}
		}
	}
	return nil
}

// Snapshot is what has happened so far.
func (w *Workload) Snapshot() *History {
	w.record.mu.Lock()
	defer w.record.mu.Unlock()
	h := w.record.h
	return &h
}

// Progress asks the group where the consumers stand: for each one the offset of each queue.
func (w *Workload) Progress(ctx context.Context) ([]map[int32]int64, error) {
	var all []map[int32]int64
	for consumer := range w.o.Consumers {
		offsets := map[int32]int64{}
		for queue := range w.o.Queues {
			offset, found, err := w.client.ConsumerOffset(ctx, w.consumerGroup(consumer), w.o.Topic, queue)
			if err != nil {
				return nil, err
			}
			if found {
				offsets[queue] = offset
			}
		}
		all = append(all, offsets)
	}
	return all, nil
}
