package broker

import (
	"context"

	"rmq/raftlog"
	"rmq/store"
)

// DefaultGroup is the configuration of a consumer group that nobody configured: RocketMQ's defaults.
func DefaultGroup(name string) store.GroupConfig {
	return store.GroupConfig{
		Name: name, ConsumeEnable: true, ConsumeFromMinEnable: true, ConsumeBroadcastEnable: true,
		RetryQueueNums: 1, RetryMaxTimes: 16, RetryPolicy: store.RetryPolicy{Type: "CUSTOMIZED"},
		WhichBrokerWhenConsumeSlowly: 1, NotifyConsumerIDsChangedEnable: true, ConsumeTimeoutMinute: 15,
	}
}

// groupsMax and topicsMax bound what clients create in passing, by a typing error in a loop say.
const (
	groupsMax = 50_000
	topicsMax = 50_000
)

// Group finds a consumer group. One that is unknown but may be created by its use is created in passing: the caller
// gets its configuration at once.
func (b *Broker) Group(name string) (store.GroupConfig, bool) {
	if g, ok := b.store.Group(name); ok {
		return g, true
	}
	if CheckGroupName(name) != nil {
		return store.GroupConfig{}, false
	}
	if systemGroup(name) {
		return DefaultGroup(name), true // not worth an entry in the log: it has no settings
	}
	if !b.opts.AutoCreateGroup {
		return store.GroupConfig{}, false
	}
	if b.store.GroupCount() >= groupsMax {
		b.logger.Warn("a consumer group was not created in passing: there are too many", "group", name, "limit", groupsMax)
		return store.GroupConfig{}, false
	}
	g := DefaultGroup(name)
	if b.log.IsLeader() {
		if err := b.log.Append(store.CreateGroup(b.clock.Now().UnixMilli(), g), raftlog.AckCommitted, func(raftlog.AppendResult) {}); err != nil {
			b.logger.Debug("a consumer group was not created in passing, its next request tries again", "group", name, "error", err)
		}
	}
	return g, true
}

// PutGroup creates or changes a consumer group and returns once that is committed.
func (b *Broker) PutGroup(ctx context.Context, g store.GroupConfig) error {
	if err := CheckGroupName(g.Name); err != nil {
		return err
	}
	if g.RetryQueueNums > queuesPerTopicMax {
		return refuse(InvalidParameter, "group[%s]: retryQueueNums is %d, the limit is %d", g.Name, g.RetryQueueNums, queuesPerTopicMax)
	}
	if old, ok := b.store.Group(g.Name); ok && old.Equal(&g) {
		return nil
	}
	_, err := b.append(ctx, store.PutGroup(b.clock.Now().UnixMilli(), g))
	return err
}

// DeleteGroup removes a consumer group, with its offsets when cleanOffsets is set.
func (b *Broker) DeleteGroup(ctx context.Context, name string, cleanOffsets bool) error {
	remove := func() error {
		_, err := b.append(ctx, store.DeleteGroup(b.clock.Now().UnixMilli(), name, cleanOffsets))
		return err
	}
	if !cleanOffsets {
		return remove()
	}
	return b.offsets.forgetting(remove, func(k offsetKey) bool { return k.group == name })
}

// ensureGroup creates the group and its retry topic where they are missing, and returns once they are committed and the
// name servers know the topic: tools find a group's brokers through the route of its retry topic.
func (b *Broker) ensureGroup(ctx context.Context, name string, unit bool) error {
	if err := CheckGroupName(name); err != nil {
		return err
	}
	var record []byte
	g, ok := b.store.Group(name)
	if !ok {
		if !b.opts.AutoCreateGroup && !systemGroup(name) {
			return refuse(GroupNotExist, "subscription group [%s] does not exist, and autoCreateSubscriptionGroup is false", name)
		}
		if b.store.GroupCount() >= groupsMax {
			return refuse(Busy, "subscription group [%s] was not created: there are %d groups, which is the limit", name, groupsMax)
		}
		g = DefaultGroup(name)
		record = append(record, store.CreateGroup(b.clock.Now().UnixMilli(), g)...)
	}
	_, create := b.retryTopicItem(name, g.RetryQueueNums, unit)
	record = append(record, create...)
	if len(record) == 0 || !b.log.IsLeader() {
		return nil // a follower knows the group's members; the leader, which hears of them too, creates what is missing
	}
	if _, err := b.append(ctx, record); err != nil {
		return err
	}
	if create != nil {
		b.opts.TopicsChanged(true)
	}
	return nil
}
