package store

import (
	"errors"
	"fmt"
)

// IndexEntry is one entry of a consume queue.
type IndexEntry struct {
	Phys     int64
	Size     int32
	TagsCode int64
}

// readEntries fills sc.entries from offset on, up to the end of the block or the queue, and returns their number: 0
// outside the queue.
func (s *Store) readEntries(q *queue, offset int64, sc *scratch) (int, error) {
	n, number, inBlock := q.locate(offset, &sc.entries)
	if !inBlock {
		return n, nil
	}
	skip := offset % blockEntries
	if err := s.readBlock(q, offset-skip, number, sc); err != nil {
		return 0, err
	}
	return copy(sc.entries[:], sc.entries[skip:]), nil
}

// readBlock fills sc.entries with the block of q that starts at queue offset base. A damaged block is rebuilt from the log.
func (s *Store) readBlock(q *queue, base int64, number uint32, sc *scratch) error {
	err := s.blocks.read(number, label{q.number, base}, sc.block[:], &sc.entries)
	if errors.Is(err, ErrCorrupt) {
		err = s.rebuildBlock(q, base, number, sc, err)
	}
	return err
}

// minOf returns the queue's min offset: the first message not below the trim offset. It is worked out when first asked
// for after a trim; the answer depends on the applied records only.
func (s *Store) minOf(q *queue, sc *scratch) (int64, error) {
	for {
		trim := s.trim.Load()
		low, err := s.minAt(q, trim, sc)
		if errors.Is(err, errBlockGone) && s.trim.Load() > trim {
			continue // the next trim came in between and took the files
		}
		return low, err
	}
}

func (s *Store) minAt(q *queue, trim int64, sc *scratch) (int64, error) {
	q.mu.Lock()
	low, tailBase, blocks, first := q.min, q.tailBase(), q.blocks, q.first
	if q.minTrim >= trim {
		q.mu.Unlock()
		return low, nil
	}
	inTail := len(q.tail)
	for i, e := range q.tail {
		if e.phys >= trim {
			inTail = i
			break
		}
	}
	q.mu.Unlock()

	found := max(low, tailBase+int64(inTail))
	if inTail == 0 && len(blocks) > 0 {
		var err error
		if found, err = s.searchMin(q, trim, max(low, first), first, blocks, sc); err != nil {
			return 0, err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if trim > q.minTrim {
		q.min, q.minTrim = max(q.min, found), trim
		if drop := (q.min - q.first) / blockEntries; drop > 0 {
			drop = min(drop, int64(len(q.blocks)))
			q.blocks = q.blocks[drop:]
			q.first += drop * blockEntries
		}
	}
	return q.min, nil
}

// searchMin finds the first entry at or above trim among full blocks; behind the last block if there is none.
func (s *Store) searchMin(q *queue, trim, low, first int64, blocks []uint32, sc *scratch) (int64, error) {
	lo, hi := int((low-first)/blockEntries), len(blocks)
	for lo < hi {
		mid := (lo + hi) / 2
		err := s.readBlock(q, first+int64(mid)*blockEntries, blocks[mid], sc)
		if err != nil && !errors.Is(err, errBlockGone) {
			return 0, err
		}
		if err != nil || sc.entries[blockEntries-1].phys < trim {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	base := first + int64(lo)*blockEntries
	if lo == len(blocks) {
		return max(low, base), nil
	}
	if err := s.readBlock(q, base, blocks[lo], sc); err != nil {
		return 0, err
	}
	for i := range sc.entries {
		if sc.entries[i].phys >= trim {
			return max(low, base+int64(i)), nil
		}
	}
	return 0, fmt.Errorf("consume queue %s-%d is out of order at %d: %w", q.topic, q.id, base, ErrCorrupt)
}

// MinOffset returns the offset of the queue's first message; 0 for an unknown queue. If the index cannot be read it is
// the last value known.
func (s *Store) MinOffset(id QueueID) int64 {
	q := s.queues.get(id)
	if q == nil {
		return 0
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	low, err := s.minOf(q, sc)
	if err != nil {
		s.logger.Error("min offset unknown", "topic", q.topic, "queue", q.id, "err", err)
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.min
	}
	return low
}

// MaxOffset returns the offset that the queue's next message will have; 0 for an unknown queue.
func (s *Store) MaxOffset(id QueueID) int64 {
	q := s.queues.get(id)
	if q == nil {
		return 0
	}
	return q.max()
}

// Entry returns the index entry of one message.
func (s *Store) Entry(id QueueID, offset int64) (IndexEntry, bool) {
	q := s.queues.get(id)
	if q == nil {
		return IndexEntry{}, false
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	e, err := s.entryAt(q, offset, sc)
	return IndexEntry{Phys: e.phys, Size: e.size, TagsCode: int64(e.tagsCode)}, err == nil
}

// entryAt reads one entry between min and max. The error is ErrNotFound outside of them.
func (s *Store) entryAt(q *queue, offset int64, sc *scratch) (entry, error) {
	low, err := s.minOf(q, sc)
	if err != nil {
		return entry{}, err
	}
	if offset < low {
		return entry{}, ErrNotFound
	}
	n, err := s.readEntries(q, offset, sc)
	switch {
	case errors.Is(err, errBlockGone), err == nil && n == 0:
		return entry{}, ErrNotFound
	case err != nil:
		return entry{}, err
	}
	return sc.entries[0], nil
}
