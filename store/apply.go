package store

import (
	"fmt"
	"strconv"

	"rmq/store/message"
)

// Apply carries out one committed record. offset is the byte position of the record in the log; calls come in log order
// from one goroutine. A record below the applied offset is skipped. A record that cannot be applied, or a failed write of
// a derived file, stops the store for good: Options.Fatal is told and later calls do nothing. Apply reads no clock, chance
// or configuration.
func (s *Store) Apply(record []byte, offset int64) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	if offset < s.applied.Load() || s.Err() != nil {
		return
	}
	if err := s.apply(record, offset); err != nil {
		s.fail(fmt.Errorf("apply record at %d: %w", offset, err))
		return
	}
	s.applied.Store(offset + int64(len(record)))
}

func (s *Store) apply(record []byte, offset int64) error {
	for pos, rest := offset, record; len(rest) > 0; {
		item, tail, magic, err := message.NextItem(rest)
		if err != nil {
			return err
		}
		switch {
		case message.IsMessage(magic):
			err = s.applyMessage(item, pos)
		case magic == CommandMagic:
			err = s.applyCommand(item, offset)
			s.chain.add(uint64(pos), uint64(len(item)))
		default:
			err = fmt.Errorf("item magic %#08x: %w", magic, ErrBadCommand)
		}
		if err != nil {
			return err
		}
		pos += int64(len(item))
		rest = tail
	}
	return nil
}

func (s *Store) applyMessage(item []byte, pos int64) error {
	v, err := message.ParseView(item)
	if err != nil {
		return err
	}
	if got := v.PhysicalOffset(); got != pos {
		return fmt.Errorf("physical offset %d, want %d: %w", got, pos, ErrMismatch)
	}
	keys := messageKeys(v.Properties())
	storeTime := v.StoreTimestamp()
	s.lastStoreTime.Store(max(s.lastStoreTime.Load(), storeTime))
	s.lastPhys.Store(pos)
	s.times.add(pos, s.lastStoreTime.Load())
	if tx := message.Transaction(v.SysFlag()); tx != message.SysFlagRollback {
		if err := s.keys.add(v.Topic(), keys, pos, storeTime); err != nil {
			return err
		}
	}
	if !message.Queued(v.SysFlag()) {
		return nil
	}
	q := s.queues.forAppend(v.Topic(), v.QueueID(), pos)
	if got := v.QueueOffset(); got != q.next {
		return fmt.Errorf("queue offset %d, want %d in %s-%d: %w", got, q.next, v.Topic(), v.QueueID(), ErrMismatch)
	}
	tagsCode := int32(message.TagsCode(keys.tag))
	s.chain.add(uint64(pos), uint64(q.number)<<32|uint64(uint32(tagsCode)))
	if isParkingTopic(v.Topic()) {
		s.timers.add(deliverAt(v), pos, parkingQueueOf(v.Topic(), v.QueueID()))
	}
	if err := q.append(entry{phys: pos, size: int32(len(item)), tagsCode: tagsCode}, s.blocks); err != nil {
		return err
	}
	if !q.touched {
		q.touched = true
		s.touched = append(s.touched, q)
	}
	return nil
}

// isParkingTopic reports whether messages of this topic wait there for their delivery time.
func isParkingTopic(topic []byte) bool {
	return string(topic) == message.TopicSchedule || string(topic) == message.TopicTimerWheel
}

// deliverAt returns the delivery time of a parked message. One without a readable time is due since it was stored: rather
// early than never.
func deliverAt(v message.View) int64 {
	if b, ok := v.Properties().GetBytes(message.PropertyTimerOutMS); ok {
		if at, err := strconv.ParseInt(string(b), 10, 64); err == nil && at >= 0 && at <= deliverAtMax {
			return at
		}
	}
	return min(max(v.StoreTimestamp(), 0), deliverAtMax)
}

// indexedProperties is what Apply wants of a message's properties; the slices alias the message.
type indexedProperties struct {
	tag, uniq, keys []byte
}

func messageKeys(p message.Properties) indexedProperties {
	var k indexedProperties
	p.Walk(func(name, value []byte) bool {
		switch string(name) {
		case message.PropertyTags:
			k.tag = value
		case message.PropertyUniqKey:
			k.uniq = value
		case message.PropertyKeys:
			k.keys = value
		}
		return true
	})
	return k
}

// Applied says that everything below byte position end is applied, and wakes whoever waited for it. It comes from Apply's
// goroutine after each batch.
func (s *Store) Applied(end int64) {
	s.applyMu.Lock()
	if s.Err() == nil && end > s.applied.Load() {
		s.applied.Store(end)
	}
	wakes := s.wakes[:0]
	for _, q := range s.touched {
		q.touched = false
		wakes = s.waits.due(QueueID{q.topic, q.id}, q.max(), wakes)
	}
	for _, topic := range s.deleted {
		wakes = s.waits.dueTopic(topic, wakes)
	}
	s.touched, s.deleted, s.wakes = s.touched[:0], s.deleted[:0], wakes
	watch, changed := s.watcher, s.configChanged
	s.configChanged = false
	s.applyMu.Unlock()
	if changed && watch.ConfigChanged != nil {
		watch.ConfigChanged()
	}
	if watch.Applied != nil {
		watch.Applied(end)
	}
	for i, wake := range wakes {
		wakes[i] = nil
		wake()
	}
}

// Watcher is told what happens to the store, from Apply's goroutine, outside any lock; it must be quick.
type Watcher struct {
	Applied       func(end int64) // everything below end is applied; nil: not told
	ConfigChanged func()          // settings were applied, of which Config tells; nil: not told
}

// Watch sets the one watcher.
func (s *Store) Watch(w Watcher) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.watcher = w
}

// AppliedOffset returns the log position below which everything is applied.
func (s *Store) AppliedOffset() int64 { return s.applied.Load() }

// chain is a hash over everything applied, in order. Replicas that applied the same records have the same chain.
type chain uint64

const chainPrime = 0x9E3779B97F4A7C15

func (c *chain) add(a, b uint64) {
	h := (uint64(*c) ^ a) * chainPrime
	h = (h ^ h>>29 ^ b) * chainPrime
	*c = chain(h ^ h>>32)
}
