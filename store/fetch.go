package store

import "rmq/store/message"

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
	MaxBytes    int    // <= 0: no limit but the store's own
	Filter      Filter // nil: all
}

// FetchStatus says how a fetch ended.
type FetchStatus uint8

const (
	Found          FetchStatus = iota
	NoNewMessage               // offset is the queue's max
	NoMatched                  // messages were examined, none passed; go on at NextOffset
	OffsetTooSmall             // offset is below the queue's min; NextOffset is min
	OffsetOverflow             // offset is above the queue's max; NextOffset is max
	NoQueue                    // the queue never had a message
)

// FetchResult is the answer to a FetchRequest.
type FetchResult struct {
	Status        FetchStatus
	Messages      []byte // dst with the messages appended, in stored form, back to back
	Count         int
	NextOffset    int64
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

func (s *Store) Fetch(req FetchRequest, dst []byte) (FetchResult, error) {
	return FetchResult{Messages: dst}, errNotBuilt
}
func (s *Store) Await(q QueueID, offset int64, wake func()) (cancel func(), parked bool) {
	return func() {}, false
}
func (s *Store) MinOffset(q QueueID) int64                        { return 0 }
func (s *Store) MaxOffset(q QueueID) int64                        { return 0 }
func (s *Store) Entry(q QueueID, offset int64) (IndexEntry, bool) { return IndexEntry{}, false }

// MessageAt returns the message that starts at byte position phys of the log.
func (s *Store) MessageAt(phys int64) ([]byte, error) { return nil, errNotBuilt }

// OffsetByTime finds a queue offset by store time. Lower: the first message stored at or after ts, max if there is
// none. Upper: the last message stored at or before ts, min if there is none.
func (s *Store) OffsetByTime(q QueueID, ts int64, upper bool) (int64, error) { return 0, errNotBuilt }

// StoreTimeAt returns the store timestamp of one message, ms.
func (s *Store) StoreTimeAt(q QueueID, offset int64) (int64, error) { return 0, errNotBuilt }

// EarliestStoreTime returns the store timestamp of the queue's first message, ms; -1 if it is empty.
func (s *Store) EarliestStoreTime(q QueueID) (int64, error) { return 0, errNotBuilt }
