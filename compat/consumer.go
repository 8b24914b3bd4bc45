package compat

import (
	"context"
	"strings"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store"
)

func (p *Processors) registerConsumer(mux *remoting.Mux, class *remoting.Class) {
	everywhere := everywhere{p, mux}
	everywhere.handle(protocol.HeartBeat, class, handle(p, p.heartbeat))
	everywhere.handle(protocol.UnregisterClient, class, handle(p, p.unregister))
	everywhere.handle(protocol.CheckClientConfig, class, handle(p, p.checkClientConfig))
	changes, repeatables, queries := p.changes(mux), p.repeatables(mux), p.queries(mux)
	queries.handle(protocol.GetConsumerListByGroup, class, handle(p, p.consumerList))
	repeatables.handle(protocol.LockBatchMq, class, handle(p, p.lockQueues))
	changes.handle(protocol.UnlockBatchMq, class, handle(p, p.unlockQueues))
	p.copied(mux, p.offsetCopy).handle(protocol.QueryConsumerOffset, class, handle(p, p.queryOffset))
	repeatables.handle(protocol.UpdateConsumerOffset, class, handle(p, p.updateOffset))
	changes.handle(protocol.ConsumerSendMsgBack, class, p.sendBack)
	p.copied(mux, copyOf(p, p.maxOffset)).handle(protocol.GetMaxOffset, class, handle(p, p.maxOffset))
	p.copied(mux, copyOf(p, p.minOffset)).handle(protocol.GetMinOffset, class, handle(p, p.minOffset))
	p.copied(mux, copyOf(p, p.searchOffset)).handle(protocol.SearchOffsetByTimestamp, class, handle(p, p.searchOffset))
	p.copied(mux, copyOf(p, p.earliestStoreTime)).handle(protocol.GetEarliestMsgStoretime, class, handle(p, p.earliestStoreTime))
}

// connectionKey marks connections whose end the client table is told of.
type connectionKey struct{}

// follow makes the client table forget a connection when it closes.
func (p *Processors) follow(c *remoting.Conn) {
	if c.Value(connectionKey{}) == nil {
		c.SetValue(connectionKey{}, true)
		c.OnClose(func() { p.broker.Clients().Disconnected(c) })
	}
}

func (p *Processors) heartbeat(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	var body protocol.HeartbeatData
	if err := fastjson.Unmarshal(r.Cmd.Body, &body); err != nil {
		return answer{}, badBody("HeartbeatData", err)
	}
	hb := broker.Heartbeat{ClientID: body.ClientID, Language: r.Cmd.Language.String(), Version: r.Cmd.Version, KeepAlive: body.WithoutSub}
	for _, pr := range body.ProducerDataSet {
		hb.Producers = append(hb.Producers, pr.GroupName)
	}
	for _, c := range body.ConsumerDataSet {
		hb.Consumers = append(hb.Consumers, consumerInfo(c))
	}
	p.follow(r.Conn)
	needSubscriptions, err := p.broker.Clients().Heartbeat(ctx, r.Conn, hb)
	select {
	case <-r.Conn.Done():
		// It may have been forgotten before this heartbeat registered it, and then nobody would forget it again.
		p.broker.Clients().Disconnected(r.Conn)
	default:
	}
	if err != nil {
		return answer{}, err
	}
	// A client that sends fingerprints may leave its subscriptions out once it is told that nothing changed.
	changed := true
	if body.HeartbeatFingerprint != 0 {
		changed = needSubscriptions || r.Conn.Value(fingerprintKey{}) != body.HeartbeatFingerprint
		r.Conn.SetValue(fingerprintKey{}, body.HeartbeatFingerprint)
	}
	return answer{header: &protocol.HeartbeatResponseHeader{SupportHeartbeatV2: true, SubChange: changed}}, nil
}

// consumerInfo is what a client, or another replica, says of a consumer group.
func consumerInfo(c protocol.ConsumerData) broker.ConsumerInfo {
	info := broker.ConsumerInfo{Group: c.GroupName, Type: c.ConsumeType, Model: c.MessageModel, FromWhere: c.ConsumeFromWhere, UnitMode: c.UnitMode}
	for _, s := range c.SubscriptionDataSet {
		info.Subscriptions = append(info.Subscriptions, broker.Subscription{
			Topic: s.Topic, Expression: s.SubString, ExpressionType: s.ExpressionType, Version: s.SubVersion, Tags: s.TagsSet, Codes: s.CodeSet,
			ClassFilter: s.ClassFilterMode,
		})
	}
	return info
}

// fingerprintKey holds the last heartbeat fingerprint of a connection.
type fingerprintKey struct{}

func (p *Processors) unregister(_ context.Context, r *remoting.Request, h *protocol.UnregisterClientRequestHeader) (answer, error) {
	p.broker.Clients().Unregister(r.Conn, h.ClientID, h.ProducerGroup, h.ConsumerGroup)
	return answer{}, nil
}

func (p *Processors) checkClientConfig(_ context.Context, r *remoting.Request, _ *none) (answer, error) {
	var body protocol.CheckClientRequestBody
	if err := fastjson.Unmarshal(r.Cmd.Body, &body); err != nil {
		return answer{}, badBody("CheckClientRequestBody", err)
	}
	return answer{}, broker.CheckExpression(body.SubscriptionData.ExpressionType, body.SubscriptionData.SubString)
}

func (p *Processors) consumerList(_ context.Context, _ *remoting.Request, h *protocol.GetConsumerListByGroupRequestHeader) (answer, error) {
	ids := p.broker.Clients().ConsumerIDs(h.ConsumerGroup)
	if len(ids) == 0 {
		return answer{code: protocol.SystemError, remark: "no consumer for this group, " + h.ConsumerGroup}, nil
	}
	return encoded(protocol.GetConsumerListByGroupResponseBody{ConsumerIDList: ids})
}

// encoded is a success with a JSON body.
func encoded(body any) (answer, error) {
	b, err := fastjson.Marshal(body)
	return answer{body: b}, err
}

// lockedQueuesMax bounds one lock request: all queues of many topics.
const lockedQueuesMax = 20_000

func (p *Processors) lockBody(r *remoting.Request) (body protocol.LockBatchRequestBody, queues []store.QueueID, err error) {
	if err := fastjson.Unmarshal(r.Cmd.Body, &body); err != nil {
		return body, nil, badBody("LockBatchRequestBody", err)
	}
	if len(body.MQSet) > lockedQueuesMax {
		return body, nil, &broker.Refusal{Reason: broker.InvalidParameter, Text: "too many queues in one lock request"}
	}
	for _, q := range body.MQSet {
		queues = append(queues, store.QueueID{Topic: q.Topic, ID: q.QueueID})
	}
	return body, queues, nil
}

func (p *Processors) lockQueues(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	body, queues, err := p.lockBody(r)
	if err != nil {
		return answer{}, err
	}
	owned, err := p.broker.Lock(ctx, body.ConsumerGroup, body.ClientID, queues)
	if err != nil {
		return answer{}, err
	}
	locked := protocol.LockBatchResponseBody{LockOKMQSet: []protocol.MessageQueue{}}
	for _, q := range owned {
		locked.LockOKMQSet = append(locked.LockOKMQSet, p.messageQueue(q))
	}
	return encoded(locked)
}

func (p *Processors) unlockQueues(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	body, queues, err := p.lockBody(r)
	if err != nil {
		return answer{}, err
	}
	return answer{}, p.broker.Unlock(ctx, body.ConsumerGroup, body.ClientID, queues)
}

func (p *Processors) messageQueue(q store.QueueID) protocol.MessageQueue {
	return protocol.MessageQueue{BrokerName: p.Identity().BrokerName, QueueID: q.ID, Topic: q.Topic}
}

func (p *Processors) queryOffset(ctx context.Context, _ *remoting.Request, h *protocol.QueryConsumerOffsetRequestHeader) (answer, error) {
	q := store.QueueID{Topic: h.Topic, ID: h.QueueID}
	offset, known, err := p.broker.InitialOffset(ctx, h.ConsumerGroup, q, h.SetZeroIfNotFound)
	if err != nil {
		return answer{}, err
	}
	if !known {
		return answer{code: protocol.QueryNotFound, remark: "Not found, maybe this group consumer boot first"}, nil
	}
	return answer{header: &protocol.QueryConsumerOffsetResponseHeader{Offset: offset}}, nil
}

func (p *Processors) updateOffset(ctx context.Context, r *remoting.Request, h *protocol.UpdateConsumerOffsetRequestHeader) (answer, error) {
	if err := p.broker.CommitOffset(h.ConsumerGroup, store.QueueID{Topic: h.Topic, ID: h.QueueID}, h.CommitOffset); err != nil {
		return answer{}, err
	}
	if answerless(r) {
		return answer{}, nil
	}
	// Somebody waits for the answer, an admin tool most likely: give it when the offset is safe.
	return answer{}, p.broker.FlushOffsets(ctx)
}

func (p *Processors) sendBack(r *remoting.Request) {
	var h protocol.ConsumerSendMsgBackRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		r.Reply(&protocol.Command{Code: protocol.SystemError, Remark: err.Error()})
		return
	}
	req := broker.SendBackRequest{Group: h.Group, Offset: h.Offset, DelayLevel: h.DelayLevel, MaxReconsumeTimes: -1, UnitMode: h.UnitMode}
	if h.HasMaxReconsumeTimes && r.Cmd.Version >= protocol.V3_4_9 {
		req.MaxReconsumeTimes = h.MaxReconsumeTimes
	}
	err := p.broker.SendBack(req, func(res broker.SendResult) {
		if res.Err != nil {
			p.notSent(r, broker.AsRefusal(res.Err), res.Batched)
			return
		}
		p.replyTo(r, &protocol.Command{Code: protocol.Success}, res.Batched)
	})
	if err != nil {
		p.notSent(r, broker.AsRefusal(err), false)
	}
}

func (p *Processors) maxOffset(_ context.Context, _ *remoting.Request, h *protocol.GetMaxOffsetRequestHeader) (answer, error) {
	return answer{header: &protocol.GetMaxOffsetResponseHeader{Offset: p.broker.Store().MaxOffset(store.QueueID{Topic: h.Topic, ID: h.QueueID})}}, nil
}

func (p *Processors) minOffset(_ context.Context, _ *remoting.Request, h *protocol.GetMinOffsetRequestHeader) (answer, error) {
	return answer{header: &protocol.GetMinOffsetResponseHeader{Offset: p.broker.Store().MinOffset(store.QueueID{Topic: h.Topic, ID: h.QueueID})}}, nil
}

func (p *Processors) searchOffset(_ context.Context, _ *remoting.Request, h *protocol.SearchOffsetRequestHeader) (answer, error) {
	upper := strings.EqualFold(h.BoundaryType, "UPPER")
	offset, err := p.broker.Store().OffsetByTime(store.QueueID{Topic: h.Topic, ID: h.QueueID}, h.Timestamp, upper)
	return answer{header: &protocol.SearchOffsetResponseHeader{Offset: offset}}, err
}

func (p *Processors) earliestStoreTime(_ context.Context, _ *remoting.Request, h *protocol.GetEarliestMsgStoretimeRequestHeader) (answer, error) {
	ms, err := p.broker.Store().EarliestStoreTime(store.QueueID{Topic: h.Topic, ID: h.QueueID})
	return answer{header: &protocol.GetEarliestMsgStoretimeResponseHeader{Timestamp: ms}}, err
}

// NotifyMembership pushes to a consumer that its group's membership changed; it is the broker's option of that name.
func NotifyMembership(c broker.Connection, group string) {
	conn, ok := c.(*remoting.Conn)
	if !ok {
		return
	}
	cmd := protocol.NewRequest(protocol.NotifyConsumerIdsChanged, &protocol.NotifyConsumerIdsChangedRequestHeader{ConsumerGroup: group})
	_ = conn.Push(cmd) // lost with the connection, or when the client does not keep up: it rebalances every 20 s anyway
}
