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
	LastPosition  int64 // in the log, of the last message examined; 0 if none was
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
				res.LastPosition = entries[i].phys
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
			res.LastPosition = entries[j-1].phys
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
