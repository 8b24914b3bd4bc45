package broker

import (
	"hash/crc32"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"rmq/raftlog"
	"rmq/store/message"
)

// SendBackRequest is a consumer's word that it could not process a message and wants it again later.
type SendBackRequest struct {
	Group             string
	Offset            int64 // position of the message in the log
	DelayLevel        int32 // 0: the broker chooses, < 0: straight to the dead letters
	MaxReconsumeTimes int32 // < 0: the group's own limit
	UnitMode          bool
}

// firstRetryLevel is the delay level of the first redelivery when the client names none.
const firstRetryLevel = 3

// SendBack stores a copy of the message for redelivery, or as a dead letter once it failed too often. The copy, its
// deadline, and the topics that it needs are one log entry. As with Send, an error means that nothing was stored and
// that done is not called.
func (b *Broker) SendBack(r SendBackRequest, done func(SendResult)) error {
	g, ok := b.Group(r.Group)
	if !ok {
		return refuse(GroupNotExist, "subscription group not exist, %s", r.Group)
	}
	if b.opts.Permission&PermWrite == 0 {
		return refuse(NoPermission, "the broker[%s] sending message is forbidden", b.opts.Host.Addr())
	}
	if g.RetryQueueNums <= 0 {
		done(SendResult{}) // the group wants no retries: accepted and dropped, as RocketMQ does
		return nil
	}
	if reason := b.readOnly.Load(); reason != nil {
		return refuse(NotAvailable, "service not available now, %s", *reason)
	}
	topic, create := b.retryTopicItem(r.Group, g.RetryQueueNums, r.UnitMode)
	if topic.Perm&PermWrite == 0 {
		return refuse(NoPermission, "the topic[%s] sending message is forbidden", topic.Name)
	}
	stored, err := b.store.MessageAt(r.Offset)
	if err != nil {
		return refuse(Internal, "look message by offset failed, %d: %v", r.Offset, err)
	}
	src := message.View(stored)
	limit := g.RetryMaxTimes
	if r.MaxReconsumeTimes >= 0 {
		limit = r.MaxReconsumeTimes
	}
	level := r.DelayLevel
	m := src.Message()
	if dead := src.ReconsumeTimes() >= limit || level < 0; dead {
		level = 0
		topic, create = b.dlqTopicItem(r.Group)
		if topic.Perm&PermWrite == 0 {
			return refuse(NoPermission, "the topic[%s] sending message is forbidden", topic.Name)
		}
		m.QueueID = 0
	} else {
		if level == 0 {
			level = firstRetryLevel + src.ReconsumeTimes()
		}
		m.QueueID = rand.Int32N(max(min(topic.WriteQueues, g.RetryQueueNums), 1))
	}
	buf := b.scratch.Get().(*scratch)
	defer b.release(buf)
	buf.record = append(buf.record, create...)
	m.Topic = topic.Name
	m.StoreHost = b.opts.Host
	m.ReconsumeTimes = src.ReconsumeTimes() + 1
	m.PreparedTransactionOffset = 0
	buf.properties = retryProperties(buf.properties, src, level)
	if level > 0 {
		b.park(&m, buf, level)
	}
	m.Properties = buf.properties
	if err := b.appendMessage(buf, &m); err != nil {
		return err
	}
	unique, _ := src.Properties().Get(message.PropertyUniqKey)
	key := retryKey{r.Group, unique, m.ReconsumeTimes, crc32.ChecksumIEEE(m.Body)}
	entry := b.retries.begin(key, r, b.clock.Now(), done)
	if entry == nil {
		return nil
	}
	if b.retries.young(b.clock.Now()) {
		// What it repeats may have been committed by the leader before this one.
		origin, _ := message.Properties(m.Properties).Get(message.PropertyOriginMessageID)
		if res, ok := b.storedRetry(key, topic.Name, origin); ok {
			b.retries.resolve(entry, res)
			done(res)
			return nil
		}
	}
	err = b.log.Append(buf.record, raftlog.AckCommitted, func(res raftlog.AppendResult) {
		out := SendResult{QueueID: m.QueueID, UniqueKey: unique, Batched: true}
		if res.Err != nil {
			out.Err = AsRefusal(res.Err)
		} else {
			b.stats.sentBack(string(src.Topic()), r.Group)
		}
		b.retries.resolve(entry, out)
		done(out)
		if create != nil && res.Err == nil {
			b.opts.TopicsChanged(false)
		}
	})
	if err != nil {
		b.retries.resolve(entry, SendResult{Err: AsRefusal(err)})
	}
	return err
}

// retryProperties is the source's property string with the marks of a retry: where it came from, and no traces of the
// way it took to be delivered this time.
func retryProperties(dst []byte, src message.View, level int32) []byte {
	hasRetryTopic, hasOrigin := false, false
	src.Properties().Walk(func(name, value []byte) bool {
		switch string(name) {
		case message.PropertyRetryTopic:
			hasRetryTopic = true
		case message.PropertyOriginMessageID:
			hasOrigin = true
		case message.PropertyWait, message.PropertyDelay:
			return true
		}
		if dropped(string(name)) {
			return true // the position may be that of a parked message, whose marks must not steer the copy
		}
		dst = message.AppendProperty(dst, string(name), string(value))
		return true
	})
	if !hasRetryTopic {
		dst = message.AppendProperty(dst, message.PropertyRetryTopic, string(src.Topic()))
	}
	if !hasOrigin {
		dst = message.AppendProperty(dst, message.PropertyOriginMessageID, message.OffsetID(src.StoreHost(), src.PhysicalOffset()))
	}
	dst = message.AppendProperty(dst, message.PropertyWait, "false")
	if level > 0 {
		dst = message.AppendProperty(dst, message.PropertyDelay, itoa(level))
	}
	return dst
}

// retryKey names one redelivery of one message.
type retryKey struct {
	group     string
	uniqueKey string
	times     int32 // reconsumeTimes of the copy
	bodyCRC   uint32
}

// fallbackKey recognises the message that stock consumers publish to their retry topic themselves when the answer to a
// SendBack did not reach them.
func fallbackKey(r *SendRequest, s *sending) (retryKey, bool) {
	group, ok := strings.CutPrefix(r.Topic, RetryPrefix)
	if !ok || s.props.uniqueKey == "" || r.ReconsumeTimes <= 0 {
		return retryKey{}, false
	}
	return retryKey{group, s.props.uniqueKey, r.ReconsumeTimes, crc32.ChecksumIEEE(r.Body)}, true
}

// joinRetry reports whether a published retry, which would lie in topic, repeats a SendBack; then done gets that one's
// result.
func (b *Broker) joinRetry(key retryKey, topic string, done func(SendResult)) bool {
	now := b.clock.Now()
	if b.retries.join(key, now, done) {
		return true
	}
	if !b.retries.young(now) {
		return false
	}
	res, ok := b.storedRetry(key, topic, "")
	if !ok || !b.retries.adopt(key, now, res) {
		return false
	}
	done(res)
	return true
}

// storedRetry looks in the log, by the key index, for the copy that an earlier leader stored of a message, for delivery in
// topic: a retry that still waits for its time, or one in the topic. With an origin it is that of the very same message.
func (b *Broker) storedRetry(key retryKey, topic, origin string) (res SendResult, ok bool) {
	if key.uniqueKey == "" {
		return res, false
	}
	begin := b.retries.since().Add(-retryWindow).UnixMilli()
	for _, at := range [...]string{ScheduleTopic, topic} {
		found, err := b.store.QueryByKey(at, key.uniqueKey, true, begin, math.MaxInt64, storedRetriesMax)
		if err != nil {
			b.logger.Warn("the key index does not tell whether a retry is stored already", "group", key.group, "key", key.uniqueKey, "error", err)
			continue
		}
		for _, stored := range found.Messages {
			v := message.View(stored)
			real, parked := v.Properties().Get(message.PropertyRealTopic)
			from, _ := v.Properties().Get(message.PropertyOriginMessageID)
			if v.ReconsumeTimes() != key.times || at == ScheduleTopic && (!parked || real != topic) || origin != "" && from != origin ||
				crc32.ChecksumIEEE(v.Body()) != key.bodyCRC {
				continue
			}
			return SendResult{QueueID: v.QueueID(), UniqueKey: key.uniqueKey, QueueOffset: v.QueueOffset(), Offset: v.PhysicalOffset()}, true
		}
	}
	return res, false
}

// storedRetriesMax bounds how many messages of one key are looked at.
const storedRetriesMax = 64

const (
	// retryWindow is how long after a SendBack its fallback may come: the clients' time-out (5 s), and the 30 s after which they ask
	// for routes when the broker that they know is gone, with room.
	retryWindow = 90 * time.Second
	// retryWindowEntriesMax bounds the memory of the window; beyond it the oldest go and a duplicate is possible again.
	retryWindowEntriesMax = 100_000
)

// dedup joins the fallback publication of a retry to the SendBack that it repeats, so that a lost answer does not give
// two retries of one message; and a repeated SendBack to the first one. One SendBack absorbs one fallback: applications
// that send a message object twice make two messages of one key. Soft state: a new leader starts without it, and looks into
// the log meanwhile.
type dedup struct {
	mu      sync.Mutex
	led     time.Time                  // since when this replica leads
	entries map[retryKey]*pendingRetry // the newest of each key
	order   []*pendingRetry            // by start, oldest first
}

type pendingRetry struct {
	key      retryKey
	request  SendBackRequest
	began    time.Time
	absorbed bool        // its fallback has come
	result   *SendResult // nil while in flight
	waiters  []func(SendResult)
}

func (d *dedup) init() { d.entries = make(map[retryKey]*pendingRetry) }

// takenOver begins a term. What is known of an earlier one is in the log, or void.
func (d *dedup) takenOver(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.led = now
}

// since is when this replica took over.
func (d *dedup) since() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.led
}

// young reports whether what an earlier leader did may still be repeated here.
func (d *dedup) young(now time.Time) bool { return now.Sub(d.since()) < retryWindow }

// adopt notes a retry that an earlier leader stored and whose fallback has come now. It reports false if the key is known,
// and so has had its fallback.
func (d *dedup) adopt(key retryKey, now time.Time, res SendResult) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.entries[key] != nil {
		return false
	}
	key.group, key.uniqueKey = strings.Clone(key.group), strings.Clone(key.uniqueKey)
	d.add(&pendingRetry{key: key, began: now, absorbed: true, result: &res}, now)
	return true
}

// add puts an entry in, as the newest of its key, and drops those whose time is over. d.mu is held.
func (d *dedup) add(e *pendingRetry, now time.Time) {
	for len(d.order) > 0 {
		oldest := d.order[0]
		if oldest.result == nil || now.Sub(oldest.began) < retryWindow && len(d.order) < retryWindowEntriesMax {
			break
		}
		d.drop(oldest)
		d.order[0], d.order = nil, d.order[1:]
	}
	d.entries[e.key] = e
	d.order = append(d.order, e)
}

// begin notes a SendBack, for resolve to end. It returns nil if the same one came before: then done gets that one's result.
func (d *dedup) begin(key retryKey, r SendBackRequest, now time.Time, done func(SendResult)) *pendingRetry {
	d.mu.Lock()
	if e := d.entries[key]; e != nil && e.request == r && now.Sub(e.began) < retryWindow {
		d.follow(e, done)
		return nil
	}
	defer d.mu.Unlock()
	// The strings are parts of the request's header, which must not live as long as the window.
	key.group, r.Group = strings.Clone(key.group), strings.Clone(r.Group)
	e := &pendingRetry{key: key, request: r, began: now}
	d.add(e, now)
	return e
}

// drop takes an entry out of the map, unless a newer one has its place. d.mu is held.
func (d *dedup) drop(e *pendingRetry) {
	if d.entries[e.key] == e {
		delete(d.entries, e.key)
	}
}

// resolve stores the outcome of the SendBack and answers who repeated it meanwhile. A failed one is forgotten: its
// fallback must be stored.
func (d *dedup) resolve(e *pendingRetry, res SendResult) {
	d.mu.Lock()
	waiters := e.waiters
	e.waiters, e.result = nil, &res
	if res.Err != nil {
		d.drop(e)
	}
	d.mu.Unlock()
	for _, w := range waiters {
		w(res)
	}
}

// join reports whether a published retry repeats a SendBack; then done gets that one's result.
func (d *dedup) join(key retryKey, now time.Time, done func(SendResult)) bool {
	d.mu.Lock()
	e := d.entries[key]
	if e == nil || e.absorbed || now.Sub(e.began) >= retryWindow {
		d.mu.Unlock()
		return false
	}
	e.absorbed = true
	d.follow(e, done)
	return true
}

// follow gives done the result of an entry, now or when it is there. d.mu is held, and let go of.
func (d *dedup) follow(e *pendingRetry, done func(SendResult)) {
	if e.result == nil {
		e.waiters = append(e.waiters, done)
		d.mu.Unlock()
		return
	}
	res := *e.result
	d.mu.Unlock()
	res.Batched = false // it comes alone
	done(res)
}
