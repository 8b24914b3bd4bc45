package broker

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"rmq/store"
)

// offsetKey names a group's progress in one queue.
type offsetKey struct {
	group string
	queue store.QueueID
}

// offsetTable collects consumers' progress between two log entries. A crash loses what was collected since the last
// entry: consumers see those messages again, which at-least-once delivery allows.
type offsetTable struct {
	mu     sync.Mutex
	term   uint64 // in which dirty was collected
	dirty  map[offsetKey]progress
	flight map[offsetKey]progress // proposed, not applied yet
	flush  sync.Mutex             // one flush at a time
}

// progress is an offset and the queue's epoch when it was reported: a reset in between makes it void.
type progress struct{ offset, epoch int64 }

func (t *offsetTable) init() {
	t.dirty = make(map[offsetKey]progress)
	t.flight = make(map[offsetKey]progress)
}

// get returns what was collected in this term and is not in the log yet.
func (t *offsetTable) get(term uint64, key offsetKey) (progress, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ofTerm(term)
	if p, ok := t.dirty[key]; ok {
		return p, true
	}
	p, ok := t.flight[key]
	return p, ok
}

// forgetting commits a removal, then drops the progress that the removal is about. Nothing is flushed meanwhile: progress
// that comes into the log after the removal would be there when a topic or group of that name is made again.
func (t *offsetTable) forgetting(remove func() error, match func(offsetKey) bool) error {
	t.flush.Lock()
	defer t.flush.Unlock()
	if err := remove(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range []map[offsetKey]progress{t.dirty, t.flight} {
		for k := range m {
			if match(k) {
				delete(m, k)
			}
		}
	}
	return nil
}

// Offset is a group's progress in a queue: the offset of the next message to consume.
func (b *Broker) Offset(group string, q store.QueueID) (int64, bool) {
	// What was reported before a reset is void.
	if p, ok := b.offsets.get(b.log.Term(), offsetKey{group, q}); ok && p.epoch == b.store.OffsetEpoch(group, q.Topic, q.ID) {
		return p.offset, true
	}
	return b.store.Offset(group, q.Topic, q.ID)
}

// InitialOffset answers a consumer that asks where to start: the stored progress; or 0 for a queue that still begins at
// its first message, which is how consumers of a young topic see its history whatever their start setting; or NotFound,
// on which the client applies its own ConsumeFromWhere. known is false in the last case. What it says is in the log: a
// consumer that has heard of progress must not hear of less from the next leader.
func (b *Broker) InitialOffset(ctx context.Context, group string, q store.QueueID, zeroIfYoung bool) (offset int64, known bool, err error) {
	if _, collected := b.offsets.get(b.log.Term(), offsetKey{group, q}); collected {
		if err := b.FlushOffsets(ctx); err != nil {
			return 0, false, err
		}
	}
	if o, ok := b.store.Offset(group, q.Topic, q.ID); ok {
		return o, true, nil
	}
	if zeroIfYoung && b.store.MinOffset(q) == 0 && b.store.MaxOffset(q) <= youngQueueMax {
		return 0, true, nil
	}
	return 0, false, nil
}

// youngQueueMax stands for RocketMQ's "message 0 is still in memory" with a bound that does not depend on the machine:
// a queue that never lost a message and holds no more than this many counts as young. At 1 KiB a message it is the
// same order as the memory that RocketMQ asks about.
const youngQueueMax = 4 << 20

// CommitOffset takes a consumer's progress. It is in the log within OffsetsInterval. Going back is allowed. While a reset
// of the queue waits for the consumer to notice it, progress is ignored: it was made from the old position.
func (b *Broker) CommitOffset(group string, q store.QueueID, offset int64) error {
	if err := CheckGroupName(group); err != nil {
		return err
	}
	t, ok := b.store.Topic(q.Topic)
	switch {
	case !ok:
		return b.topicNotExist(q.Topic)
	case q.ID < 0 || q.ID >= max(t.ReadQueues, t.WriteQueues):
		return refuse(InvalidParameter, "queueId[%d] is illegal, topic[%s] has %d read queues", q.ID, q.Topic, t.ReadQueues)
	case offset < 0:
		return refuse(InvalidParameter, "offset %d of %s in %s queue %d is negative", offset, group, q.Topic, q.ID)
	}
	if _, ok := b.Group(group); !ok {
		return refuse(GroupNotExist, "subscription group not exist, %s", group)
	}
	epoch := b.store.OffsetEpoch(group, q.Topic, q.ID)
	if _, resetting := b.store.PendingReset(group, q); resetting {
		return nil
	}
	// Progress beyond the end cannot be: consumers see committed messages only.
	offset = min(offset, b.store.MaxOffset(q))
	b.offsets.mu.Lock()
	defer b.offsets.mu.Unlock()
	if _, ok := b.store.Topic(q.Topic); !ok { // asked again under the lock: see forgetting
		return b.topicNotExist(q.Topic)
	}
	if !b.log.IsLeader() { // under the lock: a new leader must not be told of progress that an old one took
		return refuse(NotLeader, "this replica does not lead its group")
	}
	b.offsets.ofTerm(b.log.Term())
	b.offsets.dirty[offsetKey{group, q}] = progress{offset, epoch}
	return nil
}

// ofTerm forgets progress that was collected in another term: another replica may have led since and heard of newer
// progress, which must not be undone. t.mu is held.
func (t *offsetTable) ofTerm(term uint64) {
	if t.term != term {
		clear(t.dirty)
		t.term = term
	}
}

func (b *Broker) runOffsets(ctx context.Context) {
	every(ctx, b.clock, b.opts.OffsetsInterval, func() {
		if err := b.FlushOffsets(ctx); err != nil && ctx.Err() == nil {
			b.logger.Warn("consumer offsets not written yet, will be tried again", "error", err)
		}
	})
}

// FlushOffsets writes the collected progress and returns once it is committed.
func (b *Broker) FlushOffsets(ctx context.Context) error {
	t := &b.offsets
	t.flush.Lock()
	defer t.flush.Unlock()
	t.mu.Lock()
	term := b.log.Term()
	t.ofTerm(term)
	commits := make([]store.OffsetCommit, 0, len(t.dirty))
	for k, p := range t.dirty {
		if stored, ok := b.store.Offset(k.group, k.queue.Topic, k.queue.ID); ok && stored == p.offset {
			continue
		}
		commits = append(commits, store.OffsetCommit{Group: k.group, Topic: k.queue.Topic, Queue: k.queue.ID, Offset: p.offset, Epoch: p.epoch})
	}
	t.dirty, t.flight = t.flight, t.dirty // flight was empty
	t.mu.Unlock()
	slices.SortFunc(commits, func(a, b store.OffsetCommit) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	var err error
	for chunk := range slices.Chunk(commits, offsetsPerEntryMax) {
		if _, err = b.append(ctx, store.CommitOffsets(chunk)); err != nil {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, p := range t.flight {
		if _, newer := t.dirty[k]; !newer && err != nil && t.term == term {
			t.dirty[k] = p
		}
	}
	clear(t.flight)
	return err
}

// offsetsPerEntryMax bounds one entry of progress (some 100 bytes each).
const offsetsPerEntryMax = 2000

// ResetOffsets sets a group's progress in each queue, and marks the queues so that consumers that are on their way from
// the old position are turned back at their next pull.
func (b *Broker) ResetOffsets(ctx context.Context, group, topic string, targets map[int32]int64) error {
	resets := make([]store.OffsetReset, 0, len(targets))
	for id, offset := range targets {
		resets = append(resets, store.OffsetReset{Group: group, Topic: topic, Queue: id, Target: offset})
	}
	slices.SortFunc(resets, func(a, b store.OffsetReset) int { return cmp.Compare(a.Queue, b.Queue) })
	_, err := b.append(ctx, store.ResetOffsets(resets))
	return err
}

// TopicsOfGroup lists the topics in which a group has progress, sorted.
func (b *Broker) TopicsOfGroup(group string) []string {
	var topics []string
	for _, c := range b.store.GroupOffsets(group) {
		topics = append(topics, c.Topic)
	}
	b.offsets.mu.Lock()
	for k := range b.offsets.dirty {
		if k.group == group {
			topics = append(topics, k.queue.Topic)
		}
	}
	b.offsets.mu.Unlock()
	slices.Sort(topics)
	return slices.Compact(topics)
}

// GroupsOfTopic lists the groups that have progress in a topic or a connected member that subscribes to it, sorted.
func (b *Broker) GroupsOfTopic(topic string) []string {
	groups := b.clients.SubscribersOf(topic)
	for _, c := range b.store.TopicOffsets(topic) {
		groups = append(groups, c.Group)
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}
