package store

import (
	"errors"
	"fmt"

	"rmq/store/message"
)

// storeTimeOf reads the store timestamp of the message at a log position.
func (s *Store) storeTimeOf(e entry, sc *scratch) (int64, error) {
	head := sc.block[:message.HeadBytesMin]
	if err := readFull(s.log, head, e.phys); err != nil {
		return 0, fmt.Errorf("read log at %d: %w", e.phys, err)
	}
	v := message.View(head)
	if !message.IsMessage(v.Magic()) || v.PhysicalOffset() != e.phys {
		return 0, fmt.Errorf("message at %d: %w", e.phys, ErrCorrupt)
	}
	return v.StoreTimestamp(), nil
}

func (s *Store) storeTimeAt(q *queue, offset int64, sc *scratch) (int64, error) {
	e, err := s.entryAt(q, offset, sc)
	if err != nil {
		return 0, err
	}
	return s.storeTimeOf(e, sc)
}

// StoreTimeAt returns the store timestamp of one message, ms. The error is ErrNotFound outside min and max.
func (s *Store) StoreTimeAt(id QueueID, offset int64) (int64, error) {
	q := s.queues.get(id)
	if q == nil {
		return 0, ErrNotFound
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	return s.storeTimeAt(q, offset, sc)
}

// EarliestStoreTime returns the store timestamp of the queue's first message, ms; -1 if it is empty.
func (s *Store) EarliestStoreTime(id QueueID) (int64, error) {
	q := s.queues.get(id)
	if q == nil {
		return -1, nil
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	low, err := s.minOf(q, sc)
	if err != nil {
		return 0, err
	}
	if low >= q.max() {
		return -1, nil
	}
	return s.storeTimeAt(q, low, sc)
}

// OffsetByTime finds a queue offset by store time, which does not decrease along a queue. Lower: the first message stored
// at or after ts, max if there is none. Upper: the last message stored at or before ts, min if there is none. An unknown
// queue gives 0.
func (s *Store) OffsetByTime(id QueueID, ts int64, upper bool) (int64, error) {
	q := s.queues.get(id)
	if q == nil {
		return 0, nil
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	for {
		first, err := s.minOf(q, sc)
		if err != nil {
			return 0, err
		}
		offset, err := s.searchTime(q, first, ts, upper, sc)
		if err == nil {
			return offset, nil
		}
		if now, minErr := s.minOf(q, sc); minErr != nil || now == first {
			return 0, fmt.Errorf("search %s-%d by time: %w", id.Topic, id.ID, err)
		}
		// A trim overtook the search: look again from the new min.
	}
}

// searchTime is OffsetByTime from offset first on.
func (s *Store) searchTime(q *queue, first, ts int64, upper bool, sc *scratch) (int64, error) {
	// Find the first message behind the boundary: stored at or after ts for lower, after ts for upper.
	lo, hi := first, q.max()
	for lo < hi {
		mid := lo + (hi-lo)/2
		t, err := s.storeTimeAt(q, mid, sc)
		if err != nil {
			return 0, err
		}
		if t < ts || upper && t == ts {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if upper {
		return max(lo-1, first), nil
	}
	return lo, nil
}

// MessageAt returns a copy of the message that starts at byte position phys of the log. The error is ErrNotFound if no
// message starts there, or it is not applied yet or trimmed. Bytes inside a message that look like another one are not
// mistaken for it: the consume queue has to name phys, or else the log's own framing has to.
func (s *Store) MessageAt(phys int64) ([]byte, error) {
	if phys < s.trim.Load() || phys >= s.applied.Load() || phys < 0 {
		return nil, ErrNotFound
	}
	b, err := s.readMessage(phys)
	if err != nil {
		return nil, err
	}
	v := message.View(b)
	if q := s.queues.getBytes(v.Topic(), v.QueueID()); q != nil {
		sc := s.scratch.Get().(*scratch)
		defer s.scratch.Put(sc)
		e, err := s.entryAt(q, v.QueueOffset(), sc)
		if err == nil && e.phys == phys {
			return b, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	// A message of a deleted topic, or one that takes no place in a queue.
	starts := false
	err = s.scanMessages(phys, phys+1, func(message.View, int64) error {
		starts = true
		return errScanEnd
	})
	if err != nil && !errors.Is(err, errNoScan) {
		return nil, err
	}
	if !starts {
		return nil, ErrNotFound
	}
	return b, nil
}

// readMessage reads what looks like a message at a log position. The error is ErrNotFound if it does not look so.
func (s *Store) readMessage(phys int64) ([]byte, error) {
	var head [message.HeadBytesMin]byte
	left := s.applied.Load() - phys
	if left < int64(len(head)) {
		return nil, ErrNotFound
	}
	if err := readFull(s.log, head[:], phys); err != nil {
		if phys < s.log.MinOffset() {
			return nil, ErrNotFound
		}
		return nil, fmt.Errorf("read log at %d: %w", phys, err)
	}
	v := message.View(head[:])
	size := v.StoredSize()
	if !message.IsMessage(v.Magic()) || v.PhysicalOffset() != phys || size < len(head) || int64(size) > left || size > message.SizeMax {
		return nil, ErrNotFound
	}
	b := make([]byte, size)
	if err := readFull(s.log, b, phys); err != nil {
		return nil, fmt.Errorf("read log at %d: %w", phys, err)
	}
	if _, err := message.ParseView(b); err != nil {
		return nil, ErrNotFound
	}
	return b, nil
}
