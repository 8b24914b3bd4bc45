package store

import (
	"slices"
	"sync"
)

// entry is one message's place in its consume queue: 16 bytes in memory and on disk. A tag hash is an int32 by nature.
type entry struct {
	phys     int64
	size     int32
	tagsCode int32
}

// blockEntries is how many entries a block of a consume queue has.
const blockEntries = 64

// queue is one consume queue. Full blocks lie in the block files, shared with all other queues; the entries behind the
// last full block are in memory. Apply alone appends.
//
// next == first + blockEntries*len(blocks) + len(tail), and first is a multiple of blockEntries.
type queue struct {
	topic  string
	id     int32
	number uint32 // names this incarnation of the queue in the block files
	born   int64  // log position at which the queue was created

	mu         sync.Mutex
	first      int64    // queue offset of the first entry of blocks[0]
	min        int64    // smallest offset whose message is not below minTrim
	minTrim    int64    // trim offset for which min was worked out
	next       int64    // queue offset of the next message
	blocks     []uint32 // block numbers, low 32 bits; elements never change once appended
	tail       []entry
	tailShared bool // a capture reads tail's elements: do not overwrite them
	touched    bool // Apply's: in the list of queues to wake
}

func (q *queue) tailBase() int64 { return q.first + blockEntries*int64(len(q.blocks)) }

// append adds a message's entry at offset next. Apply's only.
func (q *queue) append(e entry, blocks *blockStore) error {
	q.mu.Lock()
	if len(q.tail) == cap(q.tail) {
		q.growTail()
	}
	q.tail = append(q.tail, e)
	q.next++
	if len(q.tail) < blockEntries {
		q.mu.Unlock()
		return nil
	}
	base := q.tailBase()
	number, full := blocks.put(q.number, base, (*[blockEntries]entry)(q.tail))
	q.blocks = append(q.blocks, number)
	if q.tailShared {
		q.tail, q.tailShared = nil, false
	} else {
		q.tail = q.tail[:0]
	}
	q.mu.Unlock()
	if full {
		return blocks.flush()
	}
	return nil
}

// growTail makes room: 4, 16, then 64 entries, for most of many queues are nearly idle.
func (q *queue) growTail() {
	grown := make([]entry, len(q.tail), max(4, min(blockEntries, 4*cap(q.tail))))
	copy(grown, q.tail)
	q.tail, q.tailShared = grown, false
}

// max returns the offset that the next message will have.
func (q *queue) max() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.next
}

// locate finds the entries from offset on: either it copies them from the tail into dst and returns their number, or it
// returns the block that holds offset. Offsets outside the queue give neither.
func (q *queue) locate(offset int64, dst *[blockEntries]entry) (n int, block uint32, inBlock bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if offset < q.first || offset >= q.next {
		return 0, 0, false
	}
	if i := (offset - q.first) / blockEntries; i < int64(len(q.blocks)) {
		return 0, q.blocks[i], true
	}
	return copy(dst[:], q.tail[offset-q.tailBase():]), 0, false
}

// topicQueues is the queues of one topic by id.
type topicQueues struct {
	name   string
	queues []*queue
}

func (t *topicQueues) find(id int32) (int, bool) {
	if i := int(id); i >= 0 && i < len(t.queues) && t.queues[i].id == id {
		return i, true
	}
	return slices.BinarySearchFunc(t.queues, id, func(q *queue, id int32) int { return int(int64(q.id) - int64(id)) })
}

// queueTable is all consume queues. A queue exists from its first message until its topic is deleted. Changed by Apply
// only, which may therefore read without the lock.
type queueTable struct {
	mu         sync.RWMutex
	byTopic    map[string]*topicQueues
	count      int
	nextNumber uint32
}

// get returns a queue or nil.
func (t *queueTable) get(id QueueID) *queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	tq := t.byTopic[id.Topic]
	if tq == nil {
		return nil
	}
	if i, ok := tq.find(id.ID); ok {
		return tq.queues[i]
	}
	return nil
}

// getBytes is get without the allocation for the topic's string.
func (t *queueTable) getBytes(topic []byte, id int32) *queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	tq := t.byTopic[string(topic)]
	if tq == nil {
		return nil
	}
	if i, ok := tq.find(id); ok {
		return tq.queues[i]
	}
	return nil
}

// forAppend returns the queue of a message to apply, made if it is missing. Apply's only.
func (t *queueTable) forAppend(topic []byte, id int32, phys int64) *queue {
	tq := t.byTopic[string(topic)]
	if tq != nil {
		if i, ok := tq.find(id); ok {
			return tq.queues[i]
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tq == nil {
		tq = &topicQueues{name: string(topic)}
		t.byTopic[tq.name] = tq
	}
	q := &queue{topic: tq.name, id: id, number: t.nextNumber, born: phys}
	t.nextNumber++
	t.insert(tq, q)
	return q
}

func (t *queueTable) insert(tq *topicQueues, q *queue) {
	i, _ := tq.find(q.id)
	tq.queues = slices.Insert(tq.queues, i, q)
	t.count++
}

func (t *queueTable) deleteTopic(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tq := t.byTopic[name]; tq != nil {
		t.count -= len(tq.queues)
		delete(t.byTopic, name)
	}
}

// all returns every queue by topic and id.
func (t *queueTable) all() []*queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]*queue, 0, t.count)
	for _, name := range sortedKeys(t.byTopic) {
		out = append(out, t.byTopic[name].queues...)
	}
	return out
}
