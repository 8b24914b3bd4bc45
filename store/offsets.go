package store

import (
	"slices"
	"sync"
)

// OffsetCommit is a consumer offset of one queue.
type OffsetCommit struct {
	Group  string
	Topic  string
	Queue  int32
	Offset int64
	// Epoch is the queue's OffsetEpoch at the moment the commit was taken in. If a reset came in between, Apply drops the
	// commit. 0 skips that check. Lists returned by the store carry the present epoch.
	Epoch int64
}

// OffsetReset moves a group to Target in one queue. Until the mark is cleared, commits for the queue are dropped and
// PendingReset tells the target.
type OffsetReset struct {
	Group  string
	Topic  string
	Queue  int32
	Target int64
}

// ResetClear takes away the reset mark of one queue, if Epoch is still its OffsetEpoch.
type ResetClear struct {
	Group string
	Topic string
	Queue int32
	Epoch int64
}

// queueProgress is a group's place in one queue. resets counts the resets it has seen; pending says that the last one has
// not reached the consumer yet.
type queueProgress struct {
	queue   int32
	pending bool
	offset  int64
	resets  int64
}

// topicProgress is a group's place in the queues of one topic, by queue id.
type topicProgress []queueProgress

func (p topicProgress) find(queue int32) (int, bool) {
	if i := int(queue); i >= 0 && i < len(p) && p[i].queue == queue {
		return i, true
	}
	return slices.BinarySearchFunc(p, queue, func(e queueProgress, q int32) int { return int(int64(e.queue) - int64(q)) })
}

// offsetTable is group -> topic -> queue -> offset. Changed by Apply only.
type offsetTable struct {
	mu      sync.RWMutex
	byGroup map[string]map[string]topicProgress
}

func (t *offsetTable) get(group, topic string, queue int32) (queueProgress, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	p := t.byGroup[group][topic]
	i, ok := p.find(queue)
	if !ok {
		return queueProgress{}, false
	}
	return p[i], true
}

// entry returns the place to change, made if it is missing. t.mu is held.
func (t *offsetTable) entry(group, topic string, queue int32) *queueProgress {
	topics := t.byGroup[group]
	if topics == nil {
		topics = make(map[string]topicProgress)
		t.byGroup[group] = topics
	}
	p := topics[topic]
	i, ok := p.find(queue)
	if !ok {
		p = slices.Insert(p, i, queueProgress{queue: queue})
		topics[topic] = p
	}
	return &p[i]
}

func (t *offsetTable) commit(commits []OffsetCommit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range commits {
		c := &commits[i]
		var now queueProgress
		p := t.byGroup[c.Group][c.Topic]
		if j, ok := p.find(c.Queue); ok {
			now = p[j]
		}
		if now.pending || c.Epoch != 0 && c.Epoch != now.resets+1 {
			continue
		}
		t.entry(c.Group, c.Topic, c.Queue).offset = c.Offset
	}
}

func (t *offsetTable) reset(resets []OffsetReset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range resets {
		r := &resets[i]
		e := t.entry(r.Group, r.Topic, r.Queue)
		e.offset, e.pending = r.Target, true
		e.resets++
	}
}

func (t *offsetTable) clearResets(clears []ResetClear) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range clears {
		c := &clears[i]
		p := t.byGroup[c.Group][c.Topic]
		if i, ok := p.find(c.Queue); ok && p[i].resets+1 == c.Epoch {
			p[i].pending = false
		}
	}
}

func (t *offsetTable) deleteGroup(group string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byGroup, group)
}

func (t *offsetTable) deleteTopic(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for group, topics := range t.byGroup {
		delete(topics, topic)
		if len(topics) == 0 {
			delete(t.byGroup, group)
		}
	}
}

func (t *offsetTable) encode(e *encoder) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e.array(len(t.byGroup))
	for _, group := range sortedKeys(t.byGroup) {
		topics := t.byGroup[group]
		e.array(2)
		e.str(group)
		e.array(2 * len(topics))
		for _, topic := range sortedKeys(topics) {
			e.str(topic)
			e.array(4 * len(topics[topic]))
			for _, p := range topics[topic] {
				e.int(int64(p.queue))
				e.int(p.offset)
				e.int(p.resets)
				e.bool(p.pending)
			}
		}
	}
}

func (t *offsetTable) decode(d *decoder) {
	groups := d.array()
	t.byGroup = make(map[string]map[string]topicProgress, groups)
	for range groups {
		d.fields(2)
		group := d.str()
		n := d.records(2)
		topics := make(map[string]topicProgress, n)
		for range n {
			topic := d.str()
			p := make(topicProgress, d.records(4))
			for i := range p {
				p[i] = queueProgress{queue: d.int32(), offset: d.int(), resets: d.int(), pending: d.bool()}
			}
			topics[topic] = p
		}
		t.byGroup[group] = topics
	}
}

// appendTopic appends what a group has stored of one topic. t.mu is held.
func (p topicProgress) appendTo(dst []OffsetCommit, group, topic string) []OffsetCommit {
	for _, e := range p {
		dst = append(dst, OffsetCommit{Group: group, Topic: topic, Queue: e.queue, Offset: e.offset, Epoch: e.resets + 1})
	}
	return dst
}

// Offset returns a group's stored offset in one queue.
func (s *Store) Offset(group, topic string, queue int32) (int64, bool) {
	p, ok := s.offsets.get(group, topic, queue)
	return p.offset, ok
}

// OffsetEpoch returns one more than the number of resets the group has seen in the queue.
func (s *Store) OffsetEpoch(group, topic string, queue int32) int64 {
	p, _ := s.offsets.get(group, topic, queue)
	return p.resets + 1
}

// PendingReset returns the target of a reset that has not been cleared yet. The next fetch of the group in that queue is to
// be sent there.
func (s *Store) PendingReset(group string, q QueueID) (target int64, ok bool) {
	p, _ := s.offsets.get(group, q.Topic, q.ID)
	return p.offset, p.pending
}

// GroupOffsets returns all offsets of one group, by topic and queue.
func (s *Store) GroupOffsets(group string) []OffsetCommit {
	t := &s.offsets
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []OffsetCommit
	topics := t.byGroup[group]
	for _, topic := range sortedKeys(topics) {
		out = topics[topic].appendTo(out, group, topic)
	}
	return out
}

// TopicOffsets returns all groups' offsets in one topic, by group and queue.
func (s *Store) TopicOffsets(topic string) []OffsetCommit {
	t := &s.offsets
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []OffsetCommit
	for _, group := range sortedKeys(t.byGroup) {
		out = t.byGroup[group][topic].appendTo(out, group, topic)
	}
	return out
}

// AllOffsets returns every stored offset, by group, topic and queue.
func (s *Store) AllOffsets() []OffsetCommit {
	t := &s.offsets
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []OffsetCommit
	for _, group := range sortedKeys(t.byGroup) {
		topics := t.byGroup[group]
		for _, topic := range sortedKeys(topics) {
			out = topics[topic].appendTo(out, group, topic)
		}
	}
	return out
}
