package store

// OffsetCommit is a consumer offset of one queue.
type OffsetCommit struct {
	Group  string
	Topic  string
	Queue  int32
	Offset int64
	// Epoch is the queue's OffsetEpoch when the commit was taken in; if a reset came in between, Apply drops the commit.
	// 0 skips that check. A queue with a pending reset drops every commit.
	Epoch int64
}

// OffsetReset moves a group to Target in one queue.
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

func (s *Store) Offset(group, topic string, queue int32) (int64, bool)        { return 0, false }
func (s *Store) OffsetEpoch(group, topic string, queue int32) int64           { return 1 }
func (s *Store) PendingReset(group string, q QueueID) (target int64, ok bool) { return 0, false }
func (s *Store) GroupOffsets(group string) []OffsetCommit                     { return nil }
func (s *Store) TopicOffsets(topic string) []OffsetCommit                     { return nil }
func (s *Store) AllOffsets() []OffsetCommit                                   { return nil }
