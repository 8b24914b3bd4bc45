package broker

import (
	"sync"
	"time"

	"rmq/raftlog"
	"rmq/store"
)

// PullRequest asks for messages of one queue, from an offset on.
type PullRequest struct {
	Group         string
	Queue         store.QueueID
	Offset        int64
	MessagesMax   int // <= 0: the broker's own limit
	BytesMax      int // <= 0: the broker's own limit
	CommitOffset  int64
	HasCommit     bool          // CommitOffset is the group's progress and is to be kept
	Suspend       time.Duration // > 0: wait that long for a message
	Lite          bool
	HasExpression bool // Expression stands in the request, no heartbeat need have registered it
	Expression    string
	ExpressionVer int64
	Type          string // expression type
}

// PullStatus says what a pull found.
type PullStatus uint8

// The outcomes of a pull that was not refused.
const (
	PullFound       PullStatus = iota
	PullNoNew                  // nothing at the offset yet
	PullNoMatch                // messages were looked at and the filter wants none of them
	PullOffsetMoved            // the offset is outside the queue (or was reset): go on at NextOffset
)

// PullResult answers a PullRequest. The offsets are set whatever the status is.
type PullResult struct {
	Err        error
	Status     PullStatus
	Detail     string // the store's word for it, which clients see as the remark
	Messages   []byte // stored messages back to back; from the caller's buffer
	Count      int
	NextOffset int64
	MinOffset  int64
	MaxOffset  int64
	Suggest    int64 // the broker id to pull from next
}

// Forbidden tells a client why it may not pull (response field forbiddenType).
const (
	ForbiddenBroker    = 1
	ForbiddenGroup     = 2
	ForbiddenTopic     = 3
	ForbiddenBroadcast = 4
)

// Pull reads from a queue. When there is nothing yet and the request allows it, the pull is parked and the answer comes
// later from another goroutine. done is called exactly once in every case. buf gives the memory that messages are read to
// (its capacity is used), at the moment there may be something to read. suspended is called whenever the pull is about to
// wait: what buf gave is not used any more then, and buf is called again if need be. No two of the three run at a time.
func (b *Broker) Pull(r *PullRequest, buf func() []byte, suspended func(), done func(PullResult)) {
	filter, err := b.admitPull(r)
	if err != nil {
		done(PullResult{Err: err})
		return
	}
	if r.HasCommit && b.log.IsLeader() {
		// The progress of a group that does not exist yet, or of a queue that is being reset, is not worth refusing
		// the pull for.
		_ = b.CommitOffset(r.Group, r.Queue, r.CommitOffset)
	}
	p := &pull{broker: b, request: *r, filter: filter, buf: buf, suspended: suspended, done: done}
	p.run()
}

// admitPull makes the checks of a pull in RocketMQ's order (spec/remoting.md 5.2).
func (b *Broker) admitPull(r *PullRequest) (store.Filter, error) {
	forbidden := func(kind int32, format string, args ...any) error {
		e := refuse(NoPermission, format, args...)
		e.Forbidden = kind
		return e
	}
	if b.opts.Permission&PermRead == 0 {
		return nil, forbidden(ForbiddenBroker, "the broker[%s] pulling message is forbidden", b.opts.Host.Addr())
	}
	if r.Lite && !b.opts.LitePull {
		return nil, forbidden(0, "the broker[%s] for lite pull consumer is forbidden", b.opts.Host.Addr())
	}
	g, ok := b.Group(r.Group)
	if !ok {
		return nil, refuse(GroupNotExist, "subscription group [%s] does not exist", r.Group)
	}
	if !g.ConsumeEnable {
		return nil, forbidden(ForbiddenGroup, "subscription group no permission, %s", r.Group)
	}
	t, ok := b.store.Topic(r.Queue.Topic)
	if !ok {
		return nil, b.topicNotExist(r.Queue.Topic)
	}
	if t.Perm&PermRead == 0 {
		return nil, forbidden(ForbiddenTopic, "the topic[%s] pulling message is forbidden", r.Queue.Topic)
	}
	if r.Queue.ID < 0 || r.Queue.ID >= t.ReadQueues {
		return nil, refuse(InvalidParameter, "queueId[%d] is illegal, topic:[%s] topicConfig.readQueueNums:[%d] consumer:[%s]", r.Queue.ID, r.Queue.Topic, t.ReadQueues, r.Group)
	}
	expression, kind := r.Expression, r.Type
	if !r.HasExpression {
		sub, err := b.clients.subscription(r.Group, r.Queue.Topic)
		if err != nil {
			return nil, err
		}
		if b.clients.isBroadcast(r.Group) && !g.ConsumeBroadcastEnable {
			return nil, forbidden(ForbiddenBroadcast, "the consumer group[%s] can not consume by broadcast way", r.Group)
		}
		if sub.Version < r.ExpressionVer {
			return nil, refuse(SubscriptionNotLatest, "the consumer's subscription not latest: %s on %s", r.Group, r.Queue.Topic)
		}
		expression, kind = sub.Expression, sub.ExpressionType
	}
	if err := checkExpressionType(kind); err != nil {
		return nil, err
	}
	f, err := parseTags(expression)
	if err != nil || f == nil {
		return nil, err // a nil tagFilter must not become a non-nil Filter
	}
	return f, nil
}

// checkExpressionType refuses filters that this broker does not evaluate, in the words that RocketMQ uses when its
// property filter is off, which is its default.
func checkExpressionType(kind string) error {
	if kind == "" || kind == ExpressionTag {
		return nil
	}
	return refuse(Unsupported, "The broker does not support consumer to filter message by %.64s", kind)
}

// pull is one pull on its way, parked or not. One goroutine at a time runs it.
type pull struct {
	broker    *Broker
	request   PullRequest
	filter    store.Filter
	buf       func() []byte
	suspended func()
	done      func(PullResult)
	deadline  time.Time // zero until parked
}

// resume runs a pull that has waited. What it was admitted for may have changed meanwhile: its topic may be gone.
func (p *pull) resume() {
	var err error
	if p.filter, err = p.broker.admitPull(&p.request); err != nil {
		p.finish(PullResult{Err: err})
		return
	}
	p.run()
}

// run answers the pull or parks it.
func (p *pull) run() {
	b, r := p.broker, &p.request
	for {
		result := b.fetch(r, p.filter, p.buf)
		isParked := !p.deadline.IsZero()
		waits := result.Err == nil && (result.Status == PullNoNew || result.Status == PullNoMatch && isParked)
		if !waits || r.Suspend <= 0 {
			p.finish(result)
			return
		}
		now := b.clock.Now()
		if !isParked {
			if b.parked.Add(1) > int64(b.opts.ParkedPullsMax) {
				b.parked.Add(-1)
				p.finish(result) // an early "nothing yet" is always allowed: the client asks again
				return
			}
			wait := r.Suspend
			if !b.opts.LongPolling {
				wait = min(wait, b.opts.ShortPolling)
			}
			p.deadline = now.Add(wait)
		}
		if !now.Before(p.deadline) {
			p.finish(result)
			return
		}
		r.Offset = result.NextOffset // past what the filter does not want
		p.suspended()
		if p.wait(p.deadline.Sub(now)) {
			return
		}
	}
}

// wait arranges that the pull runs again when the queue grows past its offset, its time is over, or parking ends. It
// reports false when the pull is to go on at once: the queue has grown already, or there is no parking any more.
func (p *pull) wait(d time.Duration) bool {
	b, queue, offset := p.broker, p.request.Queue, p.request.Offset
	w := &wait{pull: p}
	// First of all, so that whatever ends the wait finds it there to remove.
	if !b.waits.add(w) {
		p.deadline = b.clock.Now() // parking is over: one last look
		return false
	}
	cancel, parked := b.store.Await(queue, offset, w.end)
	if !parked {
		return !w.take() // the end of parking may have taken it
	}
	w.arm(cancel, b.clock.AfterFunc(d, w.end))
	return true
}

// wait is one stretch of a parked pull's waiting. Whatever comes first ends it and lets the pull run again.
type wait struct {
	pull *pull

	mu     sync.Mutex
	over   bool
	cancel func()      // nil until armed
	stop   func() bool // nil until armed
}

// arm hands over what is to be undone when the wait is over, which it may be already.
func (w *wait) arm(cancel func(), stop func() bool) {
	w.mu.Lock()
	w.cancel, w.stop = cancel, stop
	over := w.over
	w.mu.Unlock()
	if over {
		w.disarm()
	}
}

func (w *wait) disarm() {
	w.mu.Lock()
	cancel, stop := w.cancel, w.stop
	w.mu.Unlock()
	if cancel != nil {
		cancel()
		stop()
	}
}

// take ends the wait and reports whether it was not over before: who gets true has the pull to itself.
func (w *wait) take() bool {
	w.mu.Lock()
	first := !w.over
	w.over = true
	w.mu.Unlock()
	if first {
		w.pull.broker.waits.remove(w)
	}
	return first
}

// end is called by the store, the timer and the end of parking; all but the first call do nothing. It does not block.
func (w *wait) end() {
	if w.take() {
		w.pull.broker.spawn(func() {
			w.disarm()
			w.pull.resume()
		})
	}
}

// waitSet is every wait under way.
type waitSet struct {
	mu   sync.Mutex
	all  map[*wait]struct{}
	over bool // no new ones
}

func (s *waitSet) init() { s.all = make(map[*wait]struct{}) }

func (s *waitSet) add(w *wait) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.all[w] = struct{}{}
	return true
}

func (s *waitSet) remove(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, w)
}

// StepDown is called when this replica ceases to lead, or does not carry out the leader's duties for a while: what waits is
// answered. Clients ask again, and those whose pulls were parked are sent to who leads then; pulls that come later may
// park, for this replica may be asked as a copy. Progress that is not in the log stays for as long as the term lasts, which
// may go on with the next Lead.
func (b *Broker) StepDown() {
	b.endAcks()
	b.answerParked(false)
}

// EndParking answers every parked pull with what there is, and parks no more.
func (b *Broker) EndParking() { b.answerParked(true) }

func (b *Broker) answerParked(forGood bool) {
	b.waits.mu.Lock()
	b.waits.over = b.waits.over || forGood
	ended := make([]*wait, 0, len(b.waits.all))
	for w := range b.waits.all {
		w.pull.deadline = b.clock.Now()
		ended = append(ended, w)
	}
	b.waits.mu.Unlock()
	for _, w := range ended {
		w.end()
	}
}

func (p *pull) finish(result PullResult) {
	if !p.deadline.IsZero() {
		p.broker.parked.Add(-1)
	}
	if result.Status == PullFound && result.Err == nil {
		p.broker.stats.pulled(p.request.Queue.Topic, p.request.Group, result.Count, len(result.Messages))
	} else {
		p.broker.stats.missed()
	}
	p.done(result)
}

// fetch looks once.
func (b *Broker) fetch(r *PullRequest, filter store.Filter, buf func() []byte) PullResult {
	if target, ok := b.store.PendingReset(r.Group, r.Queue); ok {
		res := PullResult{Suggest: b.suggest(r.Group, 0), Status: PullOffsetMoved, Detail: "OFFSET_RESET", NextOffset: target,
			MinOffset: b.store.MinOffset(r.Queue), MaxOffset: b.store.MaxOffset(r.Queue)}
		if !b.log.IsLeader() {
			return res // the mark is the leader's to clear
		}
		clear := store.ResetClear{Group: r.Group, Topic: r.Queue.Topic, Queue: r.Queue.ID, Epoch: b.store.OffsetEpoch(r.Group, r.Queue.Topic, r.Queue.ID)}
		if err := b.log.Append(store.ClearResets([]store.ResetClear{clear}), raftlog.AckCommitted, func(raftlog.AppendResult) {}); err != nil {
			b.logger.Debug("a reset mark stays until the next pull", "group", r.Group, "queue", r.Queue, "error", err)
		}
		return res
	}
	limit, bytes := b.opts.PullMessagesMax, b.opts.PullBytesMax
	if r.MessagesMax > 0 {
		limit = min(limit, r.MessagesMax)
	}
	if r.BytesMax > 0 {
		bytes = min(bytes, r.BytesMax)
	}
	var dst []byte
	if r.Offset < b.store.MaxOffset(r.Queue) {
		dst = buf()
	}
	f, err := b.store.Fetch(store.FetchRequest{Queue: r.Queue, Offset: r.Offset, MaxMessages: limit, MaxBytes: bytes, Filter: filter}, dst)
	res := PullResult{Err: err, Messages: f.Messages, Count: f.Count, NextOffset: f.NextOffset, MinOffset: f.MinOffset, MaxOffset: f.MaxOffset}
	behind := int64(0)
	if f.LastPosition > 0 {
		behind = b.store.AppliedOffset() - f.LastPosition
	}
	res.Suggest = b.suggest(r.Group, behind)
	switch f.Status {
	case store.Found:
		res.Status, res.Detail = PullFound, "FOUND"
	case store.NoMatched:
		res.Status, res.Detail = PullNoMatch, "NO_MATCHED_MESSAGE"
	case store.NoNewMessage:
		res.Status, res.Detail, res.NextOffset = PullNoNew, "OFFSET_OVERFLOW_ONE", r.Offset
	case store.OffsetTooSmall:
		res.Status, res.Detail, res.NextOffset = PullOffsetMoved, "OFFSET_TOO_SMALL", f.MinOffset
	case store.OffsetOverflow:
		res.Status, res.Detail, res.NextOffset = PullOffsetMoved, "OFFSET_OVERFLOW_BADLY", f.MaxOffset
	case store.NoQueue:
		res.Status, res.Detail, res.NextOffset = PullNoNew, "NO_MESSAGE_IN_QUEUE", 0
		if r.Offset != 0 {
			res.Status = PullOffsetMoved
		}
	}
	return res
}

// suggest is the broker id that a group should pull from next, behind bytes before the end of the log: messages of long ago
// are not in memory any more, and another replica's disk can read them without disturbing sends. Leaders show as 0.
func (b *Broker) suggest(group string, behind int64) int64 {
	slow := b.opts.SlowReadBytes
	if slow <= 0 || !b.opts.SlaveRead() {
		return 0
	}
	leads := b.log.IsLeader()
	if !leads {
		slow -= slow / 4 // a consumer at the border must not go to and fro
	}
	g, ok := b.store.Group(group)
	switch {
	case !ok:
		return 0
	case behind > slow && !(leads && b.opts.Replicas.Connected() < 2):
		return g.WhichBrokerWhenConsumeSlowly
	}
	return g.BrokerID
}
