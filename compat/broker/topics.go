package broker

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"rmq/store"
)

// createSystemTopics writes the topics that RocketMQ pre-creates and this group lacks, in one entry.
func (b *Broker) createSystemTopics(ctx context.Context) error {
	topics := []store.TopicConfig{
		topicConfig(SelfTestTopic, 1, PermRead|PermWrite),
		topicConfig(BenchmarkTopic, 1024, PermRead|PermWrite),
		topicConfig(b.opts.Cluster, 16, PermInherit|PermRead|PermWrite),
		topicConfig(b.opts.Group, 1, PermInherit|PermRead|PermWrite),
		topicConfig(OffsetMovedTopic, 1, PermRead|PermWrite),
		topicConfig(ScheduleTopic, int32(len(b.opts.DelayLevels)), PermRead|PermWrite),
		topicConfig(b.opts.Cluster+ReplyTopicSuffix, 1, PermRead|PermWrite),
		topicConfig(TransHalfTopic, 1, PermRead|PermWrite),
		topicConfig(TransOpTopic, 1, PermRead|PermWrite),
		topicConfig(TimerTopic, 1, PermRead|PermWrite),
	}
	if b.opts.AutoCreateTopic {
		topics = append(topics, topicConfig(AutoCreateTopic, b.opts.DefaultTopicQueues, PermInherit|PermRead|PermWrite))
	}
	if b.opts.TraceTopic != "" {
		topics = append(topics, topicConfig(b.opts.TraceTopic, 1, PermRead|PermWrite))
	}
	var record []byte
	now := b.clock.Now().UnixMilli()
	for _, t := range topics {
		if _, ok := b.store.Topic(t.Name); !ok {
			record = append(record, store.CreateTopic(now, t)...)
		}
	}
	if len(record) == 0 {
		return nil
	}
	_, err := b.append(ctx, record)
	return err
}

func topicConfig(name string, queues, perm int32) store.TopicConfig {
	return store.TopicConfig{Name: name, ReadQueues: queues, WriteQueues: queues, Perm: perm, FilterType: "SINGLE_TAG"}
}

// queuesPerTopicMax bounds what one topic may ask for.
const queuesPerTopicMax = 16384

// PutTopic creates or changes a topic. It returns once the change is committed, and the name servers have been told.
// Attributes in t replace nothing: changes holds "+key=value,-key" as mqadmin sends it and is applied to the stored ones.
func (b *Broker) PutTopic(ctx context.Context, t store.TopicConfig, changes string) error {
	if err := CheckTopicName(t.Name); err != nil {
		return err
	}
	if b.IsSystemTopic(t.Name) {
		return refuse(InvalidParameter, "The topic[%s] is conflict with system topic.", t.Name)
	}
	if t.ReadQueues < 0 || t.WriteQueues < 0 || t.ReadQueues > queuesPerTopicMax || t.WriteQueues > queuesPerTopicMax {
		return refuse(InvalidParameter, "topic[%s]: queue numbers must lie in 0..%d, got read %d, write %d", t.Name, queuesPerTopicMax, t.ReadQueues, t.WriteQueues)
	}
	old, exists := b.store.Topic(t.Name)
	attributes, err := changeAttributes(old.Attributes, changes)
	if err != nil {
		return err
	}
	t.Attributes = attributes
	if exists && old.Equal(&t) {
		return nil // idempotent; the version must not move
	}
	if _, err := b.append(ctx, store.PutTopic(b.clock.Now().UnixMilli(), t)); err != nil {
		return err
	}
	b.opts.TopicsChanged(true)
	return nil
}

// topicAttributes are the attribute keys that RocketMQ 5 knows, with their allowed values (nil = a number).
var topicAttributes = map[string][]string{
	"queue.type":     {"BatchCQ", "SimpleCQ"},
	"cleanup.policy": {"DELETE", "COMPACTION"},
	"message.type":   {"UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"},
	"reserve.time":   nil,
}

func changeAttributes(old map[string]string, changes string) (map[string]string, error) {
	attributes := make(map[string]string, len(old))
	for k, v := range old {
		attributes[k] = v
	}
	for change := range strings.SplitSeq(changes, ",") {
		change = strings.TrimSpace(change)
		if change == "" {
			continue
		}
		key, value, hasValue := strings.Cut(change[1:], "=")
		allowed, known := topicAttributes[key]
		switch {
		case change[0] != '+' && change[0] != '-':
			return nil, refuse(InvalidParameter, "attribute %q: write +key=value to set and -key to remove", change)
		case !known:
			return nil, refuse(InvalidParameter, "unsupported key: %s", key)
		case change[0] == '-':
			delete(attributes, key)
			continue
		case !hasValue || allowed != nil && !slices.Contains(allowed, value):
			return nil, refuse(InvalidParameter, "attribute %s: value %q is not one of %v", key, value, allowed)
		}
		if allowed == nil {
			if _, err := strconv.ParseInt(value, 10, 64); err != nil {
				return nil, refuse(InvalidParameter, "attribute %s: %q is not a number", key, value)
			}
		}
		attributes[key] = value
	}
	if len(attributes) == 0 {
		return nil, nil
	}
	return attributes, nil
}

// DeleteTopic removes a topic with its queues and offsets. Unknown topics are not an error: the command may be repeated.
func (b *Broker) DeleteTopic(ctx context.Context, name string) error {
	if err := CheckTopicName(name); err != nil {
		return err
	}
	if b.IsSystemTopic(name) {
		return refuse(InvalidParameter, "The topic[%s] is conflict with system topic.", name)
	}
	if _, ok := b.store.Topic(name); !ok {
		return nil
	}
	remove := func() error {
		_, err := b.append(ctx, store.DeleteTopic(b.clock.Now().UnixMilli(), name))
		return err
	}
	if err := b.offsets.forgetting(remove, func(k offsetKey) bool { return k.queue.Topic == name }); err != nil {
		return err
	}
	b.opts.TopicsChanged(true)
	return nil
}

// topicForSend finds the topic of a message, or the configuration to create it with (create is then true).
func (b *Broker) topicForSend(topic, template string, queues int32) (t store.TopicConfig, create bool, err error) {
	if t, ok := b.store.Topic(topic); ok {
		return t, false, nil
	}
	if isDerived(topic) {
		return topicConfig(topic, 1, PermRead|PermWrite), true, nil
	}
	if template == AutoCreateTopic && !b.opts.AutoCreateTopic {
		return t, false, b.topicNotExist(topic)
	}
	base, ok := b.store.Topic(template)
	if !ok || base.Perm&PermInherit == 0 {
		return t, false, b.topicNotExist(topic)
	}
	if b.store.TopicCount() >= topicsMax {
		return t, false, refuse(Busy, "topic[%s] was not created: there are %d topics, which is the limit for topics that are created by a message", topic, topicsMax)
	}
	n := min(queues, base.WriteQueues)
	if n <= 0 {
		n = min(base.WriteQueues, b.opts.DefaultTopicQueues)
	}
	t = topicConfig(topic, n, base.Perm&^PermInherit)
	t.SysFlag = base.SysFlag
	return b.creating.agree(t), true, nil
}

// creations holds the topics that messages in flight create. All of them must create the same one: if a later message
// made the topic with fewer queues, an earlier one would lie in a queue that nobody can read.
type creations struct {
	mu     sync.Mutex
	byName map[string]store.TopicConfig
}

// agree returns the configuration that is to be used for a new topic: t, if it is the first.
func (c *creations) agree(t store.TopicConfig) store.TopicConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first, ok := c.byName[t.Name]; ok {
		return first
	}
	if c.byName == nil {
		c.byName = make(map[string]store.TopicConfig)
	}
	c.byName[t.Name] = t
	return t
}

// over is told when a message that creates a topic is stored, or is not going to be.
func (c *creations) over(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
}

func (b *Broker) topicNotExist(topic string) error {
	return refuse(TopicNotExist, "topic[%s] not exist, apply first please!", topic)
}

// topicSysFlagUnit marks the retry topic of a consumer in unit mode.
const topicSysFlagUnit = 2

// retryTopicItem returns the retry topic of a group, with the item that creates it when it is missing (nil when not).
func (b *Broker) retryTopicItem(group string, queues int32, unit bool) (store.TopicConfig, []byte) {
	name := RetryTopic(group)
	if t, ok := b.store.Topic(name); ok {
		return t, nil
	}
	t := topicConfig(name, max(queues, 1), PermRead|PermWrite)
	if unit {
		t.SysFlag = topicSysFlagUnit
	}
	return t, store.CreateTopic(b.clock.Now().UnixMilli(), t)
}

// dlqTopicItem is retryTopicItem for the dead-letter topic.
func (b *Broker) dlqTopicItem(group string) (store.TopicConfig, []byte) {
	name := DLQTopic(group)
	if t, ok := b.store.Topic(name); ok {
		return t, nil
	}
	t := topicConfig(name, 1, PermRead|PermWrite)
	return t, store.CreateTopic(b.clock.Now().UnixMilli(), t)
}
