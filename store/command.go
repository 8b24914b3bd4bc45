package store

// PutTopic creates or replaces a topic. now is the leader's clock, ms.
func PutTopic(now int64, t TopicConfig) []byte { return nil }

// DeleteTopic removes a topic, its queues, and the offsets, reset marks and locks on them.
func DeleteTopic(now int64, name string) []byte { return nil }

// PutGroup creates or replaces a consumer group.
func PutGroup(now int64, g GroupConfig) []byte { return nil }

// DeleteGroup removes a group and its locks, and with cleanOffsets also its offsets and reset marks.
func DeleteGroup(now int64, name string, cleanOffsets bool) []byte { return nil }

// CommitOffsets stores consumer offsets.
func CommitOffsets(commits []OffsetCommit) []byte { return nil }

// ResetOffsets stores consumer offsets, bumps the queues' epochs and sets their reset marks.
func ResetOffsets(resets []OffsetReset) []byte { return nil }

// ClearResets takes reset marks away, each only if the queue's epoch is still the given one.
func ClearResets(clears []ResetClear) []byte { return nil }

// FireTimers removes parked messages, named by physical offset, from the pending set. The delivered copies are the
// message items of the same record.
func FireTimers(offsets []int64) []byte { return nil }

// SetLocks changes queue lock owners.
func SetLocks(changes []LockChange) []byte { return nil }

// Trim moves the floor of the log up to offset. It is held back by the oldest parked message.
func Trim(offset int64) []byte { return nil }

// PutConfig sets a replicated setting; an empty value deletes it.
func PutConfig(key, value string) []byte { return nil }
