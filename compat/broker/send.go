package broker

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"rmq/raftlog"
	"rmq/store"
	"rmq/store/message"
)

// SendRequest is one message, or one batch of messages, that a producer (or a consumer publishing a retry) wants stored.
// Body and Properties are not kept after Send returns.
type SendRequest struct {
	Topic              string
	DefaultTopic       string // template for an unknown topic
	DefaultTopicQueues int32  // queues that the client wants an unknown topic to have
	QueueID            int32  // < 0: the broker picks a queue
	SysFlag            int32
	BornTimestamp      int64 // ms, the client's clock
	BornHost           netip.AddrPort
	Flag               int32 // the application's, stored as it is
	Properties         string
	ReconsumeTimes     int32
	MaxReconsumeTimes  int32 // < 0: the group's own limit
	Batch              bool  // Body is the batch form of spec/remoting.md 2.6
	Body               []byte
}

// SendResult is what became of a SendRequest.
type SendResult struct {
	Err         error // nil, or a *Refusal
	Status      SendStatus
	QueueID     int32 // the queue that the client asked for, or that was picked for it
	QueueOffset int64 // offset of the (first) message in the queue where it lies now
	Offset      int64 // position in the log of the (first) message
	Offsets     []int64
	UniqueKey   string // the message's UNIQ_KEY
	// Batched says that the log is handing out a run of results, at whose end it calls its CompletedBatch hook.
	Batched bool
}

const (
	propertiesLengthMax = 32767
	batchMessagesMax    = 10_000
)

// sending is a message on its way through the checks: where it will lie and what is attached to it.
type sending struct {
	topic          store.TopicConfig
	createTopic    bool
	queueID        int32 // the real queue
	reconsumeTimes int32
	delayLevel     int32
	messages       int
	props          clientProperties
}

// Send checks the request and appends it. A non-nil error is a refusal: nothing was stored and done is not called.
// Otherwise done is called once, from the log's completion goroutine, and must not block.
func (b *Broker) Send(r *SendRequest, done func(SendResult)) error {
	s, err := b.admit(r)
	if err != nil {
		b.refused(&s)
		return err
	}
	if key, ok := fallbackKey(r, &s); ok && b.joinRetry(key, s.topic.Name, done) {
		return nil
	}
	buf := b.scratch.Get().(*scratch)
	if r.Batch {
		err = b.encodeBatch(buf, r, &s)
	} else {
		err = b.encodeMessage(buf, r, &s)
	}
	kept := false
	if err == nil {
		kept, err = b.propose(buf, r, &s, done)
	}
	if !kept {
		b.release(buf)
	}
	if err != nil {
		b.refused(&s)
	}
	return err
}

// refused notes that a message is not going to be stored.
func (b *Broker) refused(s *sending) {
	b.stats.sendRefused()
	if s.createTopic {
		b.creating.over(s.topic.Name)
	}
}

// proposal is a send on its way through the log: what its answer needs.
type proposal struct {
	topic    string
	unique   string
	queueID  int32
	messages int
	created  bool // the topic, with it
	batch    bool
	waits    bool // for more data replicas than its commit takes, if the settings ask for that
	began    time.Time
	done     func(SendResult)
}

// propose hands the record in buf to the log. kept says that it has to wait before that, and that the buffer is not the
// caller's any more.
func (b *Broker) propose(buf *scratch, r *SendRequest, s *sending, done func(SendResult)) (kept bool, err error) {
	p := proposal{
		topic: s.topic.Name, unique: s.props.uniqueKey, queueID: s.queueID, messages: s.messages,
		created: s.createTopic, batch: r.Batch, waits: !s.props.noWait, began: b.clock.Now(), done: done,
	}
	b.backlog.enter()
	if settings := b.settings.Load(); settings.Role == RoleAsync && s.plain() && b.opts.Replicas.Data() > 1 {
		kept, err = b.proposeLagging(buf, p, settings)
	} else {
		err = b.log.Append(buf.record, raftlog.AckCommitted, func(res raftlog.AppendResult) { b.stored(p, res) })
	}
	if err != nil {
		b.backlog.pending.Add(-1) // it never waited
	}
	return kept, err
}

// plain reports whether a message may be answered before it is committed: it changes nothing beside its queue, and what
// the broker promises about it does not outlive that.
func (s *sending) plain() bool {
	return !s.createTopic && s.delayLevel <= 0 && !strings.HasPrefix(s.topic.Name, RetryPrefix) && !strings.HasPrefix(s.topic.Name, DLQPrefix)
}

// stored answers a send that the log has answered.
func (b *Broker) stored(p proposal, res raftlog.AppendResult) {
	took := b.clock.Now().Sub(p.began)
	b.backlog.leave(took)
	out := SendResult{QueueID: p.queueID, UniqueKey: p.unique, Batched: true}
	if p.created {
		b.creating.over(p.topic)
	}
	if res.Err != nil {
		out.Err = AsRefusal(res.Err)
		b.stats.sendRefused()
		p.done(out)
		return
	}
	count, bytes := 0, 0
	for rest := res.Record; len(rest) > 0; {
		item, tail, magic, err := message.NextItem(rest)
		if err != nil {
			break // cannot be: the record was stamped
		}
		if magic == message.MagicV1 || magic == message.MagicV2 {
			v := message.View(item)
			if count == 0 {
				out.QueueOffset, out.Offset = v.QueueOffset(), v.PhysicalOffset()
			}
			if p.batch {
				out.Offsets = append(out.Offsets, v.PhysicalOffset())
			}
			count, bytes = count+1, bytes+len(item)
		}
		rest = tail
	}
	b.stats.sent(p.topic, count, bytes, took)
	if p.waits {
		b.committed(res.Index, p.began, out, p.done)
	} else {
		p.done(out)
	}
	if p.created {
		b.opts.TopicsChanged(false)
	}
}

// admit carries out the checks of a send, in the order in which RocketMQ makes them (spec/remoting.md 5.1), so that a
// request with several faults gets the answer that clients know.
func (b *Broker) admit(r *SendRequest) (s sending, err error) {
	if now := b.clock.Now(); now.Before(b.opts.AcceptSendAfter) {
		return s, refuse(Internal, "broker unable to service, until %s", b.opts.AcceptSendAfter.Format(time.DateTime))
	}
	if err := b.backlog.admit(b.opts.SendWaitMax); err != nil {
		return s, err
	}
	if err := CheckTopicName(r.Topic); err != nil {
		return s, err
	}
	if reservedForSending[r.Topic] {
		return s, refuse(NoPermission, "Sending message to topic[%s] is forbidden.", r.Topic)
	}
	if s.topic, s.createTopic, err = b.topicForSend(r.Topic, r.DefaultTopic, r.DefaultTopicQueues); err != nil {
		return s, err
	}
	if b.opts.Permission&PermWrite == 0 && (s.topic.Order || b.opts.Permission == 0) {
		return s, refuse(NoPermission, "the broker[%s] sending message is forbidden", b.opts.Host.Addr())
	}
	if s.topic.Perm&PermWrite == 0 {
		return s, refuse(NoPermission, "the topic[%s] sending message is forbidden", r.Topic)
	}
	if limit := max(s.topic.ReadQueues, s.topic.WriteQueues); r.QueueID >= limit {
		return s, refuse(InvalidParameter, "request queueId[%d] is illegal, topic[%s] has %d write and %d read queues", r.QueueID, r.Topic, s.topic.WriteQueues, s.topic.ReadQueues)
	}
	if s.queueID = r.QueueID; s.queueID < 0 {
		if s.topic.WriteQueues == 0 {
			return s, refuse(NoPermission, "topic[%s] has no write queue", r.Topic)
		}
		s.queueID = rand.Int32N(s.topic.WriteQueues)
	}
	s.reconsumeTimes = r.ReconsumeTimes
	if s.props, err = readClientProperties(r.Properties); err != nil {
		return s, err
	}
	s.delayLevel = s.props.delayLevel
	if group, ok := strings.CutPrefix(r.Topic, RetryPrefix); ok {
		if r.Batch {
			return s, refuse(MessageIllegal, "batch request does not support retry group %s", r.Topic)
		}
		if err := b.admitRetry(group, r, &s); err != nil {
			return s, err
		}
	}
	if err := b.checkSizes(r); err != nil {
		return s, err
	}
	switch {
	case s.props.transaction:
		return s, refuse(NoPermission, "the broker[%s] sending transaction message is forbidden: transactions are not supported yet", b.opts.Host.Addr())
	case s.props.timer && s.delayLevel <= 0:
		return s, refuse(Unsupported, "accurate timer message is not enabled, timerWheelEnable is false; use a delay level")
	case r.Batch && s.delayLevel > 0:
		return s, refuse(MessageIllegal, "batch messages must not be delayed")
	}
	if reason := b.readOnly.Load(); reason != nil {
		return s, refuse(NotAvailable, "service not available now, %s", *reason)
	}
	if !s.props.noWait {
		if err := b.enoughInSync(b.settings.Load()); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (b *Broker) checkSizes(r *SendRequest) error {
	switch {
	case len(r.Body) == 0:
		return refuse(MessageIllegal, "the message is illegal: the body is empty, msg body size limit is 1..%d bytes", b.opts.MessageBytesMax)
	case len(r.Body) > b.opts.MessageBytesMax:
		return refuse(MessageIllegal, "the message is illegal: the body has %d bytes, maxMessageSize is %d", len(r.Body), b.opts.MessageBytesMax)
	case len(r.Properties) > propertiesLengthMax:
		return refuse(MessageIllegal, "the message is illegal: the properties have %d bytes, the limit is %d", len(r.Properties), propertiesLengthMax)
	case r.Batch && len(r.Topic) > topicLengthMax:
		return refuse(MessageIllegal, "message topic length too long %d", len(r.Topic))
	}
	return nil
}

// admitRetry turns a message that failed too often into a dead letter.
func (b *Broker) admitRetry(group string, r *SendRequest, s *sending) error {
	g, ok := b.Group(group)
	if !ok {
		return refuse(GroupNotExist, "subscription group not exist, %s", group)
	}
	limit := g.RetryMaxTimes
	if r.MaxReconsumeTimes >= 0 {
		limit = r.MaxReconsumeTimes
	}
	if r.ReconsumeTimes > limit {
		var create []byte
		s.topic, create = b.dlqTopicItem(group)
		s.createTopic = create != nil
		s.queueID, s.delayLevel = 0, 0
	}
	return nil
}

// encodeMessage writes the record of a single message: the topic's creation when it is new, then the message.
func (b *Broker) encodeMessage(buf *scratch, r *SendRequest, s *sending) error {
	if s.createTopic {
		buf.record = append(buf.record, store.CreateTopic(b.clock.Now().UnixMilli(), s.topic)...)
	}
	if s.props.uniqueKey == "" {
		s.props.uniqueKey = b.unique.next(b.clock.Now())
		buf.properties = message.AppendProperty(buf.properties, message.PropertyUniqKey, s.props.uniqueKey)
	}
	buf.properties = b.appendBrokerProperties(buf.properties, s)
	m := message.Message{
		Topic: s.topic.Name, QueueID: s.queueID, Flag: r.Flag, SysFlag: r.SysFlag &^ message.SysFlagTxMask,
		BornTimestamp: r.BornTimestamp, BornHost: r.BornHost, StoreHost: b.opts.Host,
		ReconsumeTimes: s.reconsumeTimes, Body: r.Body,
	}
	buf.properties = s.props.appendTo(buf.properties, r.Properties, s.delayLevel != s.props.delayLevel)
	if s.delayLevel > 0 {
		b.park(&m, buf, s.delayLevel)
	}
	m.Properties = buf.properties
	s.messages = 1
	return b.appendMessage(buf, &m)
}

func (b *Broker) appendMessage(buf *scratch, m *message.Message) (err error) {
	if len(m.Properties) > propertiesLengthMax {
		return refuse(MessageIllegal, "the message is illegal: the properties have %d bytes with what the broker adds, the limit is %d", len(m.Properties), propertiesLengthMax)
	}
	if buf.record, err = m.AppendTo(buf.record); err != nil {
		return refuse(MessageIllegal, "the message is illegal: %v", err)
	}
	return nil
}

// appendBrokerProperties adds what the broker attaches to every message it accepts.
func (b *Broker) appendBrokerProperties(dst []byte, s *sending) []byte {
	if !s.props.region {
		dst = message.AppendProperty(dst, message.PropertyMsgRegion, b.opts.Region)
	}
	if !s.props.traceOn {
		dst = message.AppendProperty(dst, message.PropertyTraceSwitch, strconv.FormatBool(b.TraceOn()))
	}
	if !s.props.cluster {
		dst = message.AppendProperty(dst, message.PropertyCluster, b.opts.Cluster)
	}
	return dst
}

// TraceOn is what the broker tells producers about message tracing (the ext field TRACE_ON).
func (b *Broker) TraceOn() bool { return true }

// Region is the broker's region id (the ext field MSG_REGION).
func (b *Broker) Region() string { return b.opts.Region }

// park redirects a message to the schedule topic until its delay is over. The deadline is absolute and stands in the
// message, so that every replica and every later leader reads the same one.
func (b *Broker) park(m *message.Message, buf *scratch, level int32) {
	level = min(level, int32(len(b.opts.DelayLevels)))
	due := b.clock.Now().Add(b.opts.DelayLevels[level-1]).UnixMilli()
	buf.properties = message.AppendProperty(buf.properties, message.PropertyRealTopic, m.Topic)
	buf.properties = message.AppendProperty(buf.properties, message.PropertyRealQueueID, strconv.Itoa(int(m.QueueID)))
	buf.properties = message.AppendProperty(buf.properties, message.PropertyTimerOutMS, strconv.FormatInt(due, 10))
	m.Topic, m.QueueID = ScheduleTopic, level-1
}

// encodeBatch writes every message of a batch into one record, so that all of them are stored or none.
func (b *Broker) encodeBatch(buf *scratch, r *SendRequest, s *sending) error {
	if s.createTopic {
		buf.record = append(buf.record, store.CreateTopic(b.clock.Now().UnixMilli(), s.topic)...)
	}
	added := b.appendBrokerProperties(nil, s)
	count := 0
	for rest := r.Body; len(rest) > 0; count++ {
		if count == batchMessagesMax {
			return refuse(MessageIllegal, "the message is illegal: a batch holds at most %d messages", batchMessagesMax)
		}
		one, tail, err := nextBatched(rest)
		if err != nil {
			return err
		}
		buf.properties = append(buf.properties[:0], one.properties...)
		if n := len(buf.properties); n > 0 && buf.properties[n-1] != 2 {
			buf.properties = append(buf.properties, 2)
		}
		buf.properties = append(buf.properties, added...)
		m := message.Message{
			Topic: s.topic.Name, QueueID: s.queueID, Flag: one.flag, SysFlag: r.SysFlag &^ message.SysFlagTxMask,
			BornTimestamp: r.BornTimestamp, BornHost: r.BornHost, StoreHost: b.opts.Host,
			ReconsumeTimes: s.reconsumeTimes, Body: one.body, Properties: buf.properties,
		}
		if err := b.appendMessage(buf, &m); err != nil {
			return err
		}
		rest = tail
	}
	s.messages = count
	return nil
}

// batched is one message of a batch body; its slices lie in the body.
type batched struct {
	flag       int32
	body       []byte
	properties []byte
}

// nextBatched reads totalSize(4) magic(4) crc(4) flag(4) bodyLen(4) body propLen(2) props.
func nextBatched(b []byte) (one batched, rest []byte, err error) {
	const fixed = 4 + 4 + 4 + 4 + 4
	illegal := func(what string) (batched, []byte, error) {
		return batched{}, nil, refuse(MessageIllegal, "the message is illegal: batch body: %s", what)
	}
	if len(b) < fixed+2 {
		return illegal("truncated message")
	}
	total := int64(binary.BigEndian.Uint32(b))
	if total < fixed+2 || total > int64(len(b)) {
		return illegal("a message's size is outside the body")
	}
	one.flag = int32(binary.BigEndian.Uint32(b[12:]))
	n := int64(binary.BigEndian.Uint32(b[16:]))
	if n == 0 {
		return illegal("a message without a body")
	}
	if fixed+n+2 > total {
		return illegal("a message's body is longer than the message")
	}
	one.body = b[fixed : fixed+n]
	p := int64(binary.BigEndian.Uint16(b[fixed+n:]))
	if fixed+n+2+p != total {
		return illegal("a message's properties do not end with the message")
	}
	one.properties = b[fixed+n+2 : total]
	return one, b[total:], nil
}
