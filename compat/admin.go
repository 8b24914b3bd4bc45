package compat

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"rmq/compat/broker"
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
	"rmq/store"
	"rmq/store/message"
)

func (p *Processors) registerAdmin(mux *remoting.Mux, class *remoting.Class) {
	everywhere, changes, queries := everywhere{p, mux}, p.changes(mux), p.queries(mux)
	changes.handle(protocol.UpdateAndCreateTopic, class, handle(p, p.putTopic))
	changes.handle(protocol.DeleteTopicInBroker, class, handle(p, p.deleteTopic))
	queries.handle(protocol.GetAllTopicConfig, class, handle(p, p.allTopics))
	queries.handle(protocol.GetTopicConfig, class, handle(p, p.topicConfig))
	everywhere.handle(protocol.GetSystemTopicListFromBroker, class, handle(p, p.systemTopics))
	changes.handle(protocol.UpdateAndCreateSubscriptiongroup, class, handle(p, p.putGroup))
	changes.handle(protocol.DeleteSubscriptiongroup, class, handle(p, p.deleteGroup))
	queries.handle(protocol.GetAllSubscriptiongroupConfig, class, handle(p, p.allGroups))
	queries.handle(protocol.GetSubscriptiongroupConfig, class, handle(p, p.groupConfig))
	everywhere.handle(protocol.GetBrokerConfig, class, handle(p, p.brokerConfig))
	everywhere.handle(protocol.UpdateBrokerConfig, class, handle(p, p.updateConfig))
	everywhere.handle(protocol.GetBrokerRuntimeInfo, class, handle(p, p.runtimeInfo))
	everywhere.handle(protocol.ViewBrokerStatsData, class, handle(p, p.statsData))
	changes.handle(protocol.InvokeBrokerToResetOffset, class, handle(p, p.resetOffset))
}

func (p *Processors) putTopic(ctx context.Context, _ *remoting.Request, h *protocol.CreateTopicRequestHeader) (answer, error) {
	t := store.TopicConfig{
		Name: h.Topic, ReadQueues: h.ReadQueueNums, WriteQueues: h.WriteQueueNums, Perm: h.Perm, FilterType: h.TopicFilterType,
		SysFlag: h.TopicSysFlag, Order: h.Order,
	}
	if t.FilterType == "" {
		t.FilterType = "SINGLE_TAG"
	}
	return answer{}, p.broker.PutTopic(ctx, t, h.Attributes)
}

func (p *Processors) deleteTopic(ctx context.Context, _ *remoting.Request, h *protocol.DeleteTopicRequestHeader) (answer, error) {
	return answer{}, p.broker.DeleteTopic(ctx, h.Topic)
}

// wireTopic is a topic as clients and name servers see it.
func wireTopic(t store.TopicConfig) protocol.TopicConfig {
	attributes := t.Attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	return protocol.TopicConfig{
		TopicName: t.Name, ReadQueueNums: t.ReadQueues, WriteQueueNums: t.WriteQueues, Perm: t.Perm, TopicFilterType: t.FilterType,
		TopicSysFlag: t.SysFlag, Order: t.Order, Attributes: attributes,
	}
}

func dataVersion(v store.Version) protocol.DataVersion {
	return protocol.DataVersion{StateVersion: v.StateVersion, Timestamp: v.Timestamp, Counter: v.Counter}
}

func (p *Processors) allTopics(context.Context, *remoting.Request, *protocol.GetAllTopicConfigRequestHeader) (answer, error) {
	// One page whatever was asked for: without totalTopicNum a 5.3.3 client takes the first page for all there is.
	body := protocol.TopicConfigAndMappingSerializeWrapper{}
	body.DataVersion = dataVersion(p.broker.Store().TopicsVersion())
	body.TopicConfigTable = map[string]protocol.TopicConfig{}
	for _, t := range p.broker.Store().Topics() {
		body.TopicConfigTable[t.Name] = wireTopic(t)
	}
	return encoded(body)
}

func (p *Processors) topicConfig(_ context.Context, _ *remoting.Request, h *protocol.GetTopicConfigRequestHeader) (answer, error) {
	t, err := p.topicOrRefuse(h.Topic)
	if err != nil {
		return answer{}, err
	}
	return encoded(wireTopic(t))
}

func (p *Processors) systemTopics(context.Context, *remoting.Request, *none) (answer, error) {
	list := protocol.TopicList{TopicList: []string{}}
	for _, t := range p.broker.Store().Topics() {
		if p.broker.IsSystemTopic(t.Name) {
			list.TopicList = append(list.TopicList, t.Name)
		}
	}
	return encoded(list)
}

func wireGroup(g store.GroupConfig) protocol.SubscriptionGroupConfig {
	w := protocol.SubscriptionGroupConfig{
		GroupName: g.Name, ConsumeEnable: g.ConsumeEnable, ConsumeFromMinEnable: g.ConsumeFromMinEnable,
		ConsumeBroadcastEnable: g.ConsumeBroadcastEnable, ConsumeMessageOrderly: g.ConsumeMessageOrderly,
		RetryQueueNums: g.RetryQueueNums, RetryMaxTimes: g.RetryMaxTimes, BrokerID: g.BrokerID,
		WhichBrokerWhenConsumeSlowly: g.WhichBrokerWhenConsumeSlowly, NotifyConsumerIdsChangedEnable: g.NotifyConsumerIDsChangedEnable,
		GroupSysFlag: g.GroupSysFlag, ConsumeTimeoutMinute: g.ConsumeTimeoutMinute, Attributes: g.Attributes,
	}
	if w.Attributes == nil {
		w.Attributes = map[string]string{}
	}
	w.GroupRetryPolicy = protocol.GroupRetryPolicy{Type: g.RetryPolicy.Type}
	if e := g.RetryPolicy.Exponential; e != nil {
		w.GroupRetryPolicy.ExponentialRetryPolicy = &protocol.ExponentialRetryPolicy{Initial: e.Initial, Max: e.Max, Multiplier: e.Multiplier}
	}
	if g.RetryPolicy.Customized != nil {
		w.GroupRetryPolicy.CustomizedRetryPolicy = &protocol.CustomizedRetryPolicy{Next: g.RetryPolicy.Customized}
	}
	for _, s := range g.Subscriptions {
		w.SubscriptionDataSet = append(w.SubscriptionDataSet, protocol.SimpleSubscription{
			Topic: s.Topic, Expression: s.Expression, ExpressionType: s.ExpressionType, Version: s.Version,
		})
	}
	return w
}

func storedGroup(w protocol.SubscriptionGroupConfig) store.GroupConfig {
	g := store.GroupConfig{
		Name: w.GroupName, ConsumeEnable: w.ConsumeEnable, ConsumeFromMinEnable: w.ConsumeFromMinEnable,
		ConsumeBroadcastEnable: w.ConsumeBroadcastEnable, ConsumeMessageOrderly: w.ConsumeMessageOrderly,
		RetryQueueNums: w.RetryQueueNums, RetryMaxTimes: w.RetryMaxTimes, BrokerID: w.BrokerID,
		WhichBrokerWhenConsumeSlowly: w.WhichBrokerWhenConsumeSlowly, NotifyConsumerIDsChangedEnable: w.NotifyConsumerIdsChangedEnable,
		GroupSysFlag: w.GroupSysFlag, ConsumeTimeoutMinute: w.ConsumeTimeoutMinute,
	}
	if len(w.Attributes) > 0 {
		g.Attributes = w.Attributes
	}
	g.RetryPolicy.Type = w.GroupRetryPolicy.Type
	if e := w.GroupRetryPolicy.ExponentialRetryPolicy; e != nil {
		g.RetryPolicy.Exponential = &store.ExponentialRetry{Initial: e.Initial, Max: e.Max, Multiplier: e.Multiplier}
	}
	if c := w.GroupRetryPolicy.CustomizedRetryPolicy; c != nil {
		g.RetryPolicy.Customized = c.Next
	}
	for _, s := range w.SubscriptionDataSet {
		g.Subscriptions = append(g.Subscriptions, store.Subscription{Topic: s.Topic, Expression: s.Expression, ExpressionType: s.ExpressionType, Version: s.Version})
	}
	return g
}

func (p *Processors) putGroup(ctx context.Context, r *remoting.Request, _ *none) (answer, error) {
	var body protocol.SubscriptionGroupConfig // members that are absent get RocketMQ's defaults
	if err := fastjson.Unmarshal(r.Cmd.Body, &body); err != nil {
		return answer{}, badBody("SubscriptionGroupConfig", err)
	}
	return answer{}, p.broker.PutGroup(ctx, storedGroup(body))
}

func (p *Processors) deleteGroup(ctx context.Context, _ *remoting.Request, h *protocol.DeleteSubscriptionGroupRequestHeader) (answer, error) {
	return answer{}, p.broker.DeleteGroup(ctx, h.GroupName, h.CleanOffset)
}

func (p *Processors) allGroups(context.Context, *remoting.Request, *protocol.GetAllSubscriptionGroupRequestHeader) (answer, error) {
	body := protocol.SubscriptionGroupWrapper{
		DataVersion: dataVersion(p.broker.Store().GroupsVersion()), ForbiddenTable: map[string]map[string]int32{},
		SubscriptionGroupTable: map[string]protocol.SubscriptionGroupConfig{},
	}
	for _, g := range p.broker.Store().Groups() {
		body.SubscriptionGroupTable[g.Name] = wireGroup(g)
	}
	return encoded(body)
}

func (p *Processors) groupConfig(_ context.Context, _ *remoting.Request, h *protocol.GetSubscriptionGroupConfigRequestHeader) (answer, error) {
	g, ok := p.broker.Store().Group(h.Group)
	if !ok {
		return answer{}, &broker.Refusal{Reason: broker.GroupNotExist, Text: "No group in this broker. group: " + h.Group}
	}
	return encoded(wireGroup(g))
}

func (p *Processors) brokerConfig(context.Context, *remoting.Request, *none) (answer, error) {
	var text bytes.Buffer
	shared := p.broker.GroupConfig()
	delete(shared, "brokerRole") // the file's word says what this replica is, too
	for _, item := range p.Properties() {
		if inForce, ok := shared[item.Key]; ok {
			item.Value = inForce
		}
		fmt.Fprintf(&text, "%s=%s\n", item.Key, item.Value)
	}
	version, err := fastjson.Marshal(dataVersion(p.broker.Store().TopicsVersion()))
	return answer{header: &protocol.GetBrokerConfigResponseHeader{Version: string(version)}, body: text.Bytes()}, err
}

// statsData answers with what a counter did in the last minute, hour and day.
func (p *Processors) statsData(_ context.Context, _ *remoting.Request, h *protocol.ViewBrokerStatsDataRequestHeader) (answer, error) {
	topic, group := h.StatsKey, ""
	switch h.StatsName {
	case broker.GroupGetNums, broker.GroupGetSize, broker.SendBackNums:
		topic, group, _ = strings.Cut(h.StatsKey, "@")
	case broker.BrokerPut, broker.BrokerGet:
		topic = ""
	}
	minute, hour, day, ok := p.broker.Stats().Traffic(h.StatsName, topic, group)
	if !ok {
		return answer{code: protocol.SystemError, remark: "The stats <" + h.StatsName + "> <" + h.StatsKey + "> not exist"}, nil
	}
	item := func(w broker.Window) protocol.BrokerStatsItem {
		return protocol.BrokerStatsItem{Sum: w.Sum, Tps: w.PerSec, Avgpt: w.PerTime}
	}
	return encoded(protocol.BrokerStatsData{StatsMinute: item(minute), StatsHour: item(hour), StatsDay: item(day)})
}

// resetOffset moves a group to a time, or to an offset, in one queue or in all of a topic.
func (p *Processors) resetOffset(ctx context.Context, r *remoting.Request, h *protocol.ResetOffsetRequestHeader) (answer, error) {
	t, err := p.topicOrRefuse(h.Topic)
	if err != nil {
		return answer{}, err
	}
	st := p.broker.Store()
	if _, ok := st.Group(h.Group); !ok {
		return answer{}, &broker.Refusal{Reason: broker.GroupNotExist, Text: "subscription group [" + h.Group + "] does not exist"}
	}
	targets := make(map[int32]int64)
	for id := range t.ReadQueues {
		q := store.QueueID{Topic: h.Topic, ID: id}
		if h.QueueID >= 0 && id != h.QueueID {
			continue
		}
		target := st.MaxOffset(q)
		switch {
		case h.HasOffset && h.QueueID >= 0 && h.Offset >= 0:
			target = min(max(h.Offset, st.MinOffset(q)), target)
		case h.Timestamp >= 0:
			if target, err = st.OffsetByTime(q, h.Timestamp, false); err != nil {
				return answer{}, err
			}
		}
		if current, ok := p.broker.Offset(h.Group, q); ok && !h.Force && current <= target {
			target = current // without force a reset only goes back
		}
		targets[id] = target
	}
	if len(targets) == 0 {
		return answer{}, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("topic[%s] has no queue %d", h.Topic, h.QueueID)}
	}
	if err := p.broker.ResetOffsets(ctx, h.Group, h.Topic, targets); err != nil {
		return answer{}, err
	}
	body := protocol.ResetOffsetBody{OffsetTable: map[protocol.MessageQueue]int64{}}
	for id, offset := range targets {
		body.OffsetTable[p.messageQueue(store.QueueID{Topic: h.Topic, ID: id})] = offset
	}
	return encoded(body)
}

func parseOffsetID(id string) (host string, offset int64, err error) {
	addr, offset, err := message.ParseOffsetID(id)
	if err != nil {
		return "", 0, &broker.Refusal{Reason: broker.InvalidParameter, Text: fmt.Sprintf("msgId %q is not an offsetMsgId: %v", id, err)}
	}
	return addr.String(), offset, nil
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// runtimeInfo answers with the facts that clusterList, brokerStatus, the dashboard and the exporter parse: every key is
// always there, because they fail on a missing one.
func (p *Processors) runtimeInfo(context.Context, *remoting.Request, *none) (answer, error) {
	table := p.traffic()
	if p.RaftAddress != "" {
		table["raftAddress"] = p.RaftAddress
	}
	maps.Copy(table, p.RuntimeInfo())
	return encoded(protocol.KVTable{Table: table})
}

// absentMeasures are keys of things that rmq has not: thread pools, a store buffer pool, a page cache lock.
var absentMeasures = []string{
	"dispatchMaxBuffer", "pageCacheLockTimeMills", "remainTransientStoreBufferNumbs", "timerReadBehind", "timerOffsetBehind",
	"timerCongestNum", "EndTransactionQueueSize", "EndTransactionThreadPoolQueueCapacity", "dispatchBehindBytes",
}

func (p *Processors) traffic() map[string]string {
	s := p.broker.Stats().Summary()
	now := time.Now()
	up := now.Sub(p.broker.Started())
	rates := func(r [3]float64) string { return fmt.Sprintf("%.3f %.3f %.3f", r[0], r[1], r[2]) }
	table := map[string]string{
		"brokerVersionDesc":               p.VersionDesc,
		"brokerVersion":                   strconv.Itoa(protocol.MQVersion),
		"brokerActive":                    "true",
		"bootTimestamp":                   itoa(p.broker.Started().UnixMilli()),
		"runtime":                         fmt.Sprintf("[ %d days, %d hours, %d minutes, %d seconds ]", int(up.Hours())/24, int(up.Hours())%24, int(up.Minutes())%60, int(up.Seconds())%60),
		"startAcceptSendRequestTimeStamp": itoa(max(p.broker.Options().AcceptSendAfter.UnixMilli(), 0)),
		"earliestMessageTimeStamp":        itoa(p.broker.EarliestStoreTime()),
		"putTps":                          rates(s.PutTPS),
		"getFoundTps":                     rates(s.FoundTPS),
		"getMissTps":                      rates(s.MissTPS),
		"getTotalTps":                     rates(s.TotalTPS),
		"getTransferredTps":               rates(s.TransferredTPS),
		"getTransferedTps":                rates(s.TransferredTPS),
		"timerEnqueueTps":                 "0.0",
		"timerDequeueTps":                 "0.0",
		"putMessageTimesTotal":            itoa(s.PutTimes),
		"putMessageFailedTimes":           itoa(s.PutFailed),
		"putMessageSizeTotal":             itoa(s.PutBytes),
		"putMessageAverageSize":           fmt.Sprint(average(s.PutBytes, s.PutMessages)),
		"putMessageEntireTimeMax":         itoa(s.PutMax.Milliseconds()),
		"getMessageEntireTimeMax":         "0",
		"putMessageDistributeTime":        distribution(s.Buckets),
		"putLatency99":                    fmt.Sprintf("%.1f", s.Put99.Seconds()*1000),
		"putLatency999":                   fmt.Sprintf("%.1f", s.Put999.Seconds()*1000),
		"msgPutTotalYesterdayMorning":     itoa(s.PutYesterday),
		"msgPutTotalTodayMorning":         itoa(s.PutToday),
		"msgPutTotalTodayNow":             itoa(s.PutMessages),
		"msgGetTotalYesterdayMorning":     itoa(s.GetYesterday),
		"msgGetTotalTodayMorning":         itoa(s.GetToday),
		"msgGetTotalTodayNow":             itoa(s.GetMessages),
		"remainHowManyDataToFlush":        "0 B",
	}
	for _, class := range []string{"send", "pull", "query", "litePull", "ack"} {
		table[class+"ThreadPoolQueueSize"] = "0"
		table[class+"ThreadPoolQueueHeadWaitTimeMills"] = "0"
		table[class+"ThreadPoolQueueCapacity"] = strconv.Itoa(map[string]int{"send": sendsMax, "pull": pullsMax, "query": queriesMax, "litePull": pullsMax}[class])
	}
	for _, key := range absentMeasures {
		table[key] = "0"
	}
	p.scheduleProgress(table)
	return table
}

func average(sum, n int64) float64 {
	if n == 0 {
		return 0
	}
	return float64(sum) / float64(n)
}

// scheduleProgress adds, for each delay level in use, how many parked messages were delivered and how many there were.
func (p *Processors) scheduleProgress(table map[string]string) {
	for level := range len(p.broker.Options().DelayLevels) {
		q := store.QueueID{Topic: broker.ScheduleTopic, ID: int32(level)}
		if end := p.broker.Store().MaxOffset(q); end > 0 {
			table["scheduleMessageOffset_"+strconv.Itoa(level+1)] = fmt.Sprintf("%d,%d", end-int64(p.broker.Store().PendingTimers(q)), end)
		}
	}
}

var distributionLabels = [13]string{"<=0ms", "0~10ms", "10~50ms", "50~100ms", "100~200ms", "200~500ms", "500ms~1s", "1~2s", "2~3s", "3~4s", "4~5s", "5~10s", "10s~"}

func distribution(buckets [13]int64) string {
	var s strings.Builder
	for i, n := range buckets {
		fmt.Fprintf(&s, "[%s]:%d ", distributionLabels[i], n)
	}
	return s.String()
}
