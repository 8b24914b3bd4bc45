package store

import (
	"errors"
	"fmt"
	"slices"

	"rmq/store/message"
)

// Filter picks messages for a consumer. Nil picks all. It must be safe for concurrent use.
type Filter interface {
	Match(tagsCode int64) bool        // by the hash of the tag alone; false rules the message out
	NeedsMessage() bool               // MatchMessage has to be asked too
	MatchMessage(v message.View) bool // v is valid during the call only
}

// FetchRequest asks for messages of one queue from Offset on.
type FetchRequest struct {
	Queue       QueueID
	Offset      int64
	MaxMessages int    // <= 0: 32
	MaxBytes    int    // <= 0: 1 MiB; the first message comes whatever its size
	Filter      Filter // nil: all
}

// FetchStatus says how a fetch ended.
type FetchStatus uint8

// The ends of a fetch.
const (
	Found          FetchStatus = iota // at least one message
	NoNewMessage                      // offset is the queue's max
	NoMatched                         // messages were examined, none passed; go on at NextOffset
	OffsetTooSmall                    // offset is below the queue's min; NextOffset is min
	OffsetOverflow                    // offset is above the queue's max; NextOffset is max
	NoQueue                           // the queue never had a message
)

// FetchResult is the answer to a FetchRequest.
type FetchResult struct {
	Status        FetchStatus
	Messages      []byte // dst with the messages appended, in stored form, back to back
	Count         int
	NextOffset    int64 // behind the last message examined
	MinOffset     int64
	MaxOffset     int64
	LastStoreTime int64 // of the last message found, ms
}

// IndexEntry is one entry of a consume queue.
type IndexEntry struct {
	Phys     int64
	Size     int32
	TagsCode int64
}

// Bounds of one fetch.
const (
	fetchMessagesDefault = 32
	fetchBytesDefault    = 1 << 20
	fetchExaminedMax     = 16384
)

// scratch is what reading a queue needs beside the result.
type scratch struct {
	entries [blockEntries]entry
	block   [blockBytes]byte
}

// Fetch appends applied messages of a queue to dst. It examines at most 16,384 messages; NextOffset tells how far it came.
// It does not wait, see Await. An error is the log's or a damaged file's; what dst held before is in Messages then too.
func (s *Store) Fetch(req FetchRequest, dst []byte) (FetchResult, error) {
	res := FetchResult{Messages: dst, NextOffset: req.Offset}
	q := s.queues.get(req.Queue)
	if q == nil {
		res.Status, res.NextOffset = NoQueue, 0
		return res, nil
	}
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	var err error
	if res.MinOffset, err = s.minOf(q, sc); err != nil {
		return res, err
	}
	res.MaxOffset = q.max()
	switch {
	case req.Offset < res.MinOffset:
		res.Status, res.NextOffset = OffsetTooSmall, res.MinOffset
		return res, nil
	case req.Offset == res.MaxOffset:
		res.Status = NoNewMessage
		return res, nil
	case req.Offset > res.MaxOffset:
		res.Status, res.NextOffset = OffsetOverflow, res.MaxOffset
		return res, nil
	}
	err = s.collect(q, &req, &res, sc)
	if err == nil {
		res.Status = NoMatched
		if res.Count > 0 {
			res.Status = Found
		}
		return res, nil
	}
	// A trim may have overtaken the fetch; then the bytes are gone and nothing is wrong.
	if now, minErr := s.minOf(q, sc); minErr == nil && now > res.NextOffset {
		res.MinOffset = now
		if res.Count > 0 {
			return res, nil
		}
		res.Status, res.NextOffset = OffsetTooSmall, now
		return res, nil
	}
	return res, fmt.Errorf("fetch %s-%d from %d: %w", req.Queue.Topic, req.Queue.ID, res.NextOffset, err)
}

// collect walks the queue from req.Offset on and appends what the filter lets pass.
func (s *Store) collect(q *queue, req *FetchRequest, res *FetchResult, sc *scratch) error {
	messages, bytes := req.MaxMessages, req.MaxBytes
	if messages <= 0 {
		messages = fetchMessagesDefault
	}
	if bytes <= 0 {
		bytes = fetchBytesDefault
	}
	needsMessage := req.Filter != nil && req.Filter.NeedsMessage()
	start := len(res.Messages)
	last := res.MaxOffset
	if last-req.Offset > fetchExaminedMax {
		last = req.Offset + fetchExaminedMax
	}
	for res.NextOffset < last {
		n, err := s.readEntries(q, res.NextOffset, sc)
		if err != nil {
			return err
		}
		entries := sc.entries[:min(int64(n), last-res.NextOffset)]
		if len(entries) == 0 {
			return fmt.Errorf("offset %d is not in the queue: %w", res.NextOffset, errBlockGone)
		}
		for i := 0; i < len(entries); {
			if req.Filter != nil && !req.Filter.Match(int64(entries[i].tagsCode)) {
				i++
				res.NextOffset++
				continue
			}
			// Take neighbours of the log in one read.
			size, j := int(entries[i].size), i+1
			if res.Count > 0 && len(res.Messages)-start+size > bytes {
				return nil
			}
			for !needsMessage && j < len(entries) && res.Count+j-i < messages &&
				entries[j].phys == entries[j-1].phys+int64(entries[j-1].size) &&
				len(res.Messages)-start+size+int(entries[j].size) <= bytes &&
				(req.Filter == nil || req.Filter.Match(int64(entries[j].tagsCode))) {
				size += int(entries[j].size)
				j++
			}
			at := len(res.Messages)
			out := slices.Grow(res.Messages, size)[:at+size]
			if err := readFull(s.log, out[at:], entries[i].phys); err != nil {
				return fmt.Errorf("read log at %d: %w", entries[i].phys, err)
			}
			lastView, err := checkMessages(out[at:], entries[i:j], res.NextOffset)
			if err != nil {
				return err
			}
			res.NextOffset += int64(j - i)
			if needsMessage && !req.Filter.MatchMessage(lastView) {
				i = j
				continue
			}
			res.Messages = out
			res.Count += j - i
			res.LastStoreTime = lastView.StoreTimestamp()
			i = j
			if res.Count >= messages {
				return nil
			}
		}
	}
	return nil
}

// checkMessages verifies that bytes read from the log are the messages that the index promised, from queue offset first
// on, and returns the last one.
func checkMessages(b []byte, entries []entry, first int64) (message.View, error) {
	var v message.View
	for i := range entries {
		var err error
		if v, err = message.ParseView(b[:entries[i].size]); err == nil &&
			(v.PhysicalOffset() != entries[i].phys || v.QueueOffset() != first+int64(i) || v.Size() != int(entries[i].size)) {
			err = errors.New("another message lies there")
		}
		if err != nil {
			return nil, fmt.Errorf("message at %d: %w: %w", entries[i].phys, ErrCorrupt, err)
		}
		b = b[entries[i].size:]
	}
	return v, nil
}

// readFull reads exactly len(p) bytes. A reader may report io.EOF with the last byte.
func readFull(r interface {
	ReadAt(p []byte, off int64) (int, error)
}, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("%d of %d bytes at %d", n, len(p), off)
	}
	return err
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
