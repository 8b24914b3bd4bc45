package store

// KeyQueryResult is the answer to QueryByKey.
type KeyQueryResult struct {
	Messages [][]byte // stored form, newest first
	LastTime int64    // store time up to which the index reaches, ms
	LastPhys int64    // log position up to which the index reaches
}

// QueryByKey returns up to max messages of topic that carry key and were stored in [begin, end] ms, newest first.
// unique: only the UNIQ_KEY property counts; otherwise KEYS and UNIQ_KEY both do.
func (s *Store) QueryByKey(topic, key string, unique bool, begin, end int64, max int) (KeyQueryResult, error) {
	return KeyQueryResult{}, errNotBuilt
}
