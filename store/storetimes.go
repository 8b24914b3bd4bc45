package store

// StoreTimeBefore returns the store time of the newest message that begins below log position end.
func (s *Store) StoreTimeBefore(end int64) (ms int64, ok bool) { return 0, false }

// PendingTimers returns how many parked messages lie in a queue of the schedule topic.
func (s *Store) PendingTimers(q QueueID) int64 { return 0 }

// EarliestStoreTimeOfLog returns the store time of the oldest message still kept, -1 if there is none.
func (s *Store) EarliestStoreTimeOfLog() int64 { return -1 }
