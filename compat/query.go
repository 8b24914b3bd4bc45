package compat

import (
	"context"
	"strings"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store"
)

func (p *Processors) registerQueries(mux *remoting.Mux, class *remoting.Class) {
	everywhere, queries := everywhere{p, mux}, p.queries(mux)
	p.copied(mux, copyOf(p, p.queryMessage)).handle(protocol.QueryMessage, class, handle(p, p.queryMessage))
	p.copiedAlways(mux, copyOf(p, p.viewMessage)).handle(protocol.ViewMessageById, class, handle(p, p.viewMessage))
	queries.handle(protocol.GetTopicStatsInfo, class, handle(p, p.topicStats))
	queries.handle(protocol.GetConsumeStats, class, handle(p, p.consumeStats))
	queries.handle(protocol.GetBrokerConsumeStats, class, handle(p, p.brokerConsumeStats))
	everywhere.handle(protocol.GetConsumerConnectionList, class, handle(p, p.consumerConnections))
	everywhere.handle(protocol.GetProducerConnectionList, class, handle(p, p.producerConnections))
	everywhere.handle(protocol.GetAllProducerInfo, class, handle(p, p.allProducers))
	queries.handle(protocol.QueryTopicConsumeByWho, class, handle(p, p.topicConsumedBy))
	queries.handle(protocol.QueryTopicsByConsumer, class, handle(p, p.topicsOfConsumer))
	everywhere.handle(protocol.QuerySubscriptionByConsumer, class, handle(p, p.subscriptionOfConsumer))
	queries.handle(protocol.QueryConsumeTimeSpan, class, handle(p, p.consumeTimeSpan))
	everywhere.handle(protocol.GetConsumerRunningInfo, class, handle(p, p.consumerRunningInfo))
	everywhere.handle(protocol.ConsumeMessageDirectly, class, handle(p, p.consumeDirectly))
}

const (
	// uniqueKeyResults is how many messages a look-up by unique key returns, whatever the request says.
	uniqueKeyResults = 32
	keyResultsMax    = 1024
	// queryBytesMax keeps an answer far below the frame limit.
	queryBytesMax = 8 << 20
)

func (p *Processors) queryMessage(_ context.Context, _ *remoting.Request, h *protocol.QueryMessageRequestHeader) (answer, error) {
	limit := min(int(h.MaxNum), keyResultsMax)
	if h.UniqueKeyQuery {
		limit = uniqueKeyResults
	}
	if limit <= 0 {
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: "maxNum must be above 0"}
	}
	found, err := p.broker.Store().QueryByKey(h.Topic, h.Key, h.UniqueKeyQuery, h.BeginTimestamp, h.EndTimestamp, limit)
	if err != nil {
		return answer{}, err
	}
	header := &protocol.QueryMessageResponseHeader{IndexLastUpdateTimestamp: found.LastTime, IndexLastUpdatePhyoffset: found.LastPhys}
	if len(found.Messages) == 0 {
		return answer{code: protocol.QueryNotFound, remark: "can not find message, maybe time range not correct", header: header}, nil
	}
	var body []byte
	for _, m := range found.Messages {
		if len(body)+len(m) > queryBytesMax && len(body) > 0 {
			break
		}
		body = append(body, m...)
	}
	return answer{header: header, body: body}, nil
}

func (p *Processors) viewMessage(_ context.Context, _ *remoting.Request, h *protocol.ViewMessageRequestHeader) (answer, error) {
	m, err := p.broker.Store().MessageAt(h.Offset)
	if err != nil {
		return answer{code: protocol.SystemError, remark: "can not find message by the offset, " + itoa(h.Offset)}, nil
	}
	return answer{body: m}, nil
}

func (p *Processors) topicOrRefuse(name string) (store.TopicConfig, error) {
	t, ok := p.broker.Store().Topic(name)
	if !ok {
		return t, &broker.Refusal{Reason: broker.TopicNotExist, Text: "topic[" + name + "] not exist"}
	}
	return t, nil
}

func (p *Processors) topicStats(_ context.Context, _ *remoting.Request, h *protocol.GetTopicStatsInfoRequestHeader) (answer, error) {
	t, err := p.topicOrRefuse(h.Topic)
	if err != nil {
		return answer{}, err
	}
	st := p.broker.Store()
	table := protocol.TopicStatsTable{OffsetTable: map[protocol.MessageQueue]protocol.TopicOffset{}}
	for id := range max(t.ReadQueues, t.WriteQueues) {
		q := store.QueueID{Topic: h.Topic, ID: id}
		o := protocol.TopicOffset{MinOffset: st.MinOffset(q), MaxOffset: st.MaxOffset(q)}
		if o.MaxOffset > o.MinOffset {
			if o.LastUpdateTimestamp, err = st.StoreTimeAt(q, o.MaxOffset-1); err != nil {
				return answer{}, err
			}
		}
		table.OffsetTable[p.messageQueue(q)] = o
	}
	if minute, _, _, ok := p.broker.Stats().Traffic(broker.TopicPutNums, h.Topic, ""); ok {
		table.TopicPutTps = minute.PerSec
	}
	return encoded(table)
}

// topicsToReport are the topics a consume-stats request means: the one it names, those it lists, or all in which the
// group has progress and, if it is connected, is still interested.
func (p *Processors) topicsToReport(h *protocol.GetConsumeStatsRequestHeader) []string {
	if h.Topic != "" {
		return []string{h.Topic}
	}
	if h.TopicList != "" {
		return strings.FieldsFunc(h.TopicList, func(r rune) bool { return r == ';' })
	}
	info, online := p.broker.Clients().ConsumerGroup(h.ConsumerGroup)
	wanted := make(map[string]bool)
	for _, s := range info.Subscriptions {
		wanted[s.Topic] = true
	}
	var topics []string
	for _, topic := range p.broker.TopicsOfGroup(h.ConsumerGroup) {
		if !online || wanted[topic] {
			topics = append(topics, topic)
		}
	}
	return topics
}

func (p *Processors) consumeStats(_ context.Context, _ *remoting.Request, h *protocol.GetConsumeStatsRequestHeader) (answer, error) {
	stats, _ := p.statsOf(h.ConsumerGroup, p.topicsToReport(h))
	return encoded(stats)
}

// statsOf is a group's progress in topics, and how many messages it has still to consume there.
func (p *Processors) statsOf(group string, topics []string) (stats protocol.ConsumeStats, lag int64) {
	st := p.broker.Store()
	stats.OffsetTable = map[protocol.MessageQueue]protocol.OffsetWrapper{}
	for _, topic := range topics {
		t, ok := st.Topic(topic)
		if !ok {
			continue
		}
		for id := range t.ReadQueues {
			q := store.QueueID{Topic: topic, ID: id}
			w := protocol.OffsetWrapper{BrokerOffset: st.MaxOffset(q)}
			w.ConsumerOffset, _ = p.broker.Offset(group, q)
			w.PullOffset = w.ConsumerOffset
			if last := w.ConsumerOffset - 1; last >= st.MinOffset(q) && last < w.BrokerOffset {
				if ms, err := st.StoreTimeAt(q, last); err == nil {
					w.LastTimestamp = ms
				}
			}
			stats.OffsetTable[p.messageQueue(q)] = w
			lag += w.BrokerOffset - w.ConsumerOffset
		}
		if minute, _, _, ok := p.broker.Stats().Traffic(broker.GroupGetNums, topic, group); ok {
			stats.ConsumeTps += minute.PerSec
		}
	}
	return stats, lag
}

// brokerConsumeStats is the progress of every group of the broker, ordered groups only if asked for.
func (p *Processors) brokerConsumeStats(_ context.Context, _ *remoting.Request, h *protocol.GetConsumeStatsInBrokerHeader) (answer, error) {
	list := protocol.ConsumeStatsList{BrokerAddr: p.Identity().Addr, ConsumeStatsList: []map[string][]protocol.ConsumeStats{}}
	for _, g := range p.broker.Store().Groups() {
		if h.Order && !g.ConsumeMessageOrderly {
			continue
		}
		var all []protocol.ConsumeStats
		for _, topic := range p.broker.TopicsOfGroup(g.Name) {
			stats, lag := p.statsOf(g.Name, []string{topic})
			all = append(all, stats)
			list.TotalDiff += lag
		}
		if all != nil {
			list.ConsumeStatsList = append(list.ConsumeStatsList, map[string][]protocol.ConsumeStats{g.Name: all})
		}
	}
	return encoded(list)
}

func connections(members []broker.Member) []protocol.Connection {
	list := []protocol.Connection{}
	for _, m := range members {
		list = append(list, protocol.Connection{ClientID: m.ClientID, ClientAddr: m.Remote.String(), Language: m.Language, Version: m.Version})
	}
	return list
}

func subscriptionData(s broker.Subscription) protocol.SubscriptionData {
	d := protocol.SubscriptionData{Topic: s.Topic, SubString: s.Expression, ExpressionType: s.ExpressionType, SubVersion: s.Version,
		TagsSet: s.Tags, CodeSet: s.Codes, ClassFilterMode: s.ClassFilter}
	if d.ExpressionType == "" {
		d.ExpressionType = broker.ExpressionTag
	}
	return d
}

func (p *Processors) consumerConnections(_ context.Context, _ *remoting.Request, h *protocol.GetConsumerConnectionListRequestHeader) (answer, error) {
	info, ok := p.broker.Clients().ConsumerGroup(h.ConsumerGroup)
	if !ok {
		return answer{code: protocol.ConsumerNotOnline, remark: "the consumer group[" + h.ConsumerGroup + "] not online"}, nil
	}
	body := protocol.ConsumerConnection{
		ConnectionSet: connections(p.broker.Clients().Consumers(h.ConsumerGroup)),
		ConsumeType:   info.Type, MessageModel: info.Model, ConsumeFromWhere: info.FromWhere,
		SubscriptionTable: map[string]protocol.SubscriptionData{},
	}
	for _, s := range info.Subscriptions {
		body.SubscriptionTable[s.Topic] = subscriptionData(s)
	}
	return encoded(body)
}

func (p *Processors) producerConnections(_ context.Context, _ *remoting.Request, h *protocol.GetProducerConnectionListRequestHeader) (answer, error) {
	members := p.broker.Clients().Producers(h.ProducerGroup)
	if len(members) == 0 {
		return answer{code: protocol.SystemError, remark: "the producer group[" + h.ProducerGroup + "] not exist"}, nil
	}
	return encoded(protocol.ProducerConnection{ConnectionSet: connections(members)})
}

func (p *Processors) allProducers(context.Context, *remoting.Request, *none) (answer, error) {
	table := protocol.ProducerTableInfo{Data: map[string][]protocol.ProducerInfo{}}
	for _, group := range p.broker.Clients().ProducerGroups() {
		for _, m := range p.broker.Clients().Producers(group) {
			table.Data[group] = append(table.Data[group], protocol.ProducerInfo{
				ClientID: m.ClientID, Language: m.Language, LastUpdateTimestamp: m.LastSeen.UnixMilli(), RemoteIP: m.Remote.String(), Version: m.Version,
			})
		}
	}
	return encoded(table)
}

func (p *Processors) topicConsumedBy(_ context.Context, _ *remoting.Request, h *protocol.QueryTopicConsumeByWhoRequestHeader) (answer, error) {
	return encoded(protocol.GroupList{GroupList: p.broker.GroupsOfTopic(h.Topic)})
}

func (p *Processors) topicsOfConsumer(_ context.Context, _ *remoting.Request, h *protocol.QueryTopicsByConsumerRequestHeader) (answer, error) {
	return encoded(protocol.TopicList{TopicList: p.broker.TopicsOfGroup(h.Group)})
}

func (p *Processors) subscriptionOfConsumer(_ context.Context, _ *remoting.Request, h *protocol.QuerySubscriptionByConsumerRequestHeader) (answer, error) {
	body := protocol.QuerySubscriptionResponseBody{Group: h.Group, Topic: h.Topic}
	info, _ := p.broker.Clients().ConsumerGroup(h.Group)
	for _, s := range info.Subscriptions {
		if s.Topic == h.Topic {
			d := subscriptionData(s)
			body.SubscriptionData = &d
		}
	}
	return encoded(body)
}

func (p *Processors) consumeTimeSpan(_ context.Context, _ *remoting.Request, h *protocol.QueryConsumeTimeSpanRequestHeader) (answer, error) {
	t, err := p.topicOrRefuse(h.Topic)
	if err != nil {
		return answer{}, err
	}
	st := p.broker.Store()
	body := protocol.QueryConsumeTimeSpanBody{ConsumeTimeSpanSet: []protocol.QueueTimeSpan{}}
	for id := range max(t.WriteQueues, 0) {
		q := store.QueueID{Topic: h.Topic, ID: id}
		span := protocol.QueueTimeSpan{MessageQueue: p.messageQueue(q), MinTimeStamp: -1, MaxTimeStamp: -1, ConsumeTimeStamp: -1}
		first, end := st.MinOffset(q), st.MaxOffset(q)
		if end > first {
			if span.MinTimeStamp, err = st.StoreTimeAt(q, first); err != nil {
				return answer{}, err
			}
			if span.MaxTimeStamp, err = st.StoreTimeAt(q, end-1); err != nil {
				return answer{}, err
			}
		}
		offset, known := p.broker.Offset(h.Group, q)
		switch {
		case known && offset > first && offset <= end:
			if span.ConsumeTimeStamp, err = st.StoreTimeAt(q, offset-1); err != nil {
				return answer{}, err
			}
		default:
			span.ConsumeTimeStamp = span.MinTimeStamp
		}
		if known && offset < end && span.ConsumeTimeStamp > 0 {
			span.DelayTime = max(time.Now().UnixMilli()-span.ConsumeTimeStamp, 0)
		}
		body.ConsumeTimeSpanSet = append(body.ConsumeTimeSpanSet, span)
	}
	return encoded(body)
}

// Time that a relayed request gives the client that it is passed on to.
const relayTimeout = 10 * time.Second

// relay passes a request on to a connected member of a group and returns its answer as it came.
func (p *Processors) relay(group, clientID string, cmd *protocol.Command) (answer, error) {
	for _, m := range p.broker.Clients().Consumers(group) {
		if m.ClientID != clientID {
			continue
		}
		conn, ok := m.Conn.(*remoting.Conn)
		if !ok {
			break
		}
		ctx, cancel := context.WithTimeout(p.ctx, relayTimeout)
		defer cancel()
		resp, err := conn.Call(ctx, cmd)
		if err != nil {
			return answer{code: protocol.ConsumeMsgTimeout, remark: "consumer <" + group + "> <" + clientID + "> did not answer: " + err.Error()}, nil
		}
		return answer{code: resp.Code, remark: resp.Remark, body: resp.Body}, nil
	}
	return answer{code: protocol.SystemError, remark: "the consumer <" + group + "> <" + clientID + "> not online"}, nil
}

func (p *Processors) consumerRunningInfo(_ context.Context, _ *remoting.Request, h *protocol.GetConsumerRunningInfoRequestHeader) (answer, error) {
	return p.relay(h.ConsumerGroup, h.ClientID, protocol.NewRequest(protocol.GetConsumerRunningInfo, h))
}

func (p *Processors) consumeDirectly(_ context.Context, r *remoting.Request, h *protocol.ConsumeMessageDirectlyResultRequestHeader) (answer, error) {
	_, offset, err := parseOffsetID(h.MsgID)
	if err != nil {
		return answer{}, err
	}
	m, err := p.broker.Store().MessageAt(offset)
	if err != nil {
		return answer{code: protocol.SystemError, remark: "can not find message " + h.MsgID}, nil
	}
	h.MessageBrokerName = p.Identity().BrokerName
	cmd := protocol.NewRequest(protocol.ConsumeMessageDirectly, h)
	cmd.Body = m
	return p.relay(h.ConsumerGroup, h.ClientID, cmd)
}
