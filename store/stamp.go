package store

import (
	"fmt"
	"slices"

	"rmq/store/message"
)

// stampTable counts queue offsets ahead of Apply, for records that are in the log but not applied. It belongs to the one
// goroutine that calls Stamp and Rewind.
type stampTable map[string]*stampTopic

// stampTopic is the next queue offset of each queue of a topic, by queue id.
type stampTopic struct {
	ids  []int32
	next []int64
}

// counter returns the next offset of a queue, to be raised in place.
func (t *stampTopic) counter(id int32) *int64 {
	if i := int(id); i >= 0 && i < len(t.ids) && t.ids[i] == id {
		return &t.next[i]
	}
	i, ok := slices.BinarySearch(t.ids, id)
	if !ok {
		t.ids = slices.Insert(t.ids, i, id)
		t.next = slices.Insert(t.next, i, 0)
	}
	return &t.next[i]
}

func (s stampTable) counter(topic []byte, id int32) *int64 {
	t := s[string(topic)]
	if t == nil {
		t = &stampTopic{}
		s[string(topic)] = t
	}
	return t.counter(id)
}

// Stamp gives the messages of a record their queue and physical offsets as the record reaches the log: Blank ones are
// filled in place, others are compared. offset is the byte position of the record in the log. Calls come in log order from
// one goroutine, which may be another than Apply's. An error wraps ErrMismatch, ErrBadCommand or message.ErrMalformed;
// after one only Rewind makes the counters right again.
func (s *Store) Stamp(record []byte, offset int64) error {
	for pos, rest := offset, record; len(rest) > 0; {
		item, tail, magic, err := message.NextItem(rest)
		if err != nil {
			return fmt.Errorf("record at %d: %w", pos, err)
		}
		switch {
		case message.IsMessage(magic):
			err = s.stampMessage(item, pos)
		case magic == CommandMagic:
			err = s.stampCommand(item)
		default:
			err = fmt.Errorf("item magic %#08x: %w", magic, ErrBadCommand)
		}
		if err != nil {
			return fmt.Errorf("record at %d: %w", pos, err)
		}
		pos += int64(len(item))
		rest = tail
	}
	return nil
}

func (s *Store) stampMessage(item []byte, pos int64) error {
	v, err := message.ParseView(item)
	if err != nil {
		return err
	}
	var queueOffset int64
	if message.Queued(v.SysFlag()) {
		next := s.stamps.counter(v.Topic(), v.QueueID())
		queueOffset = *next
		*next++
	}
	switch got := v.QueueOffset(); got {
	case message.Blank:
		v.SetQueueOffset(queueOffset)
	case queueOffset:
	default:
		return fmt.Errorf("queue offset %d, want %d in %s-%d: %w", got, queueOffset, v.Topic(), v.QueueID(), ErrMismatch)
	}
	switch got := v.PhysicalOffset(); got {
	case message.Blank:
		v.SetPhysicalOffset(pos)
	case pos:
	default:
		return fmt.Errorf("physical offset %d, want %d: %w", got, pos, ErrMismatch)
	}
	return nil
}

func (s *Store) stampCommand(item []byte) error {
	kind, payload, err := parseCommand(item)
	if err != nil || kind != kindDeleteTopic {
		return err
	}
	_, name, err := decodeDeleteTopic(newDecoder(payload))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	delete(s.stamps, name)
	return nil
}

// Rewind sets Stamp's counters back to the applied state and returns the applied offset. The log then stamps all records
// from there on again. It may run at the same time as Apply.
func (s *Store) Rewind() (applied int64) {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	s.stamps = make(stampTable)
	for _, tq := range s.queues.byTopic {
		t := &stampTopic{ids: make([]int32, len(tq.queues)), next: make([]int64, len(tq.queues))}
		for i, q := range tq.queues {
			t.ids[i], t.next[i] = q.id, q.max()
		}
		s.stamps[tq.name] = t
	}
	return s.applied.Load()
}
