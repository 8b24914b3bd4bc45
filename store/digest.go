package store

import (
	"crypto/sha256"
	"encoding/hex"
)

// Digest returns a hash of the whole replicated state. Replicas that applied the same records have the same digest,
// whatever their checkpoints and restarts. It visits everything: not for the hot path.
func (s *Store) Digest() string {
	s.applyMu.Lock()
	defer s.applyMu.Unlock()
	e := newEncoder()
	e.int(s.trim.Load())
	e.int(s.lastStoreTime.Load())
	e.int(s.lastPhys.Load())
	e.int(int64(s.chain))
	e.int(int64(s.queues.nextNumber))
	s.topics.encode(e)
	s.groups.encode(e)
	s.offsets.encode(e)
	s.locks.encode(e)
	s.settings.encode(e)
	s.times.encode(e)
	sc := s.scratch.Get().(*scratch)
	defer s.scratch.Put(sc)
	for _, q := range s.queues.all() {
		low, err := s.minOf(q, sc)
		if err != nil {
			return "unreadable: " + err.Error()
		}
		e.str(q.topic)
		e.int(int64(q.id))
		e.int(int64(q.number))
		e.int(q.born)
		e.int(low)
		e.int(q.max())
	}
	for _, chunk := range s.timers.capture() {
		for _, p := range chunk.items {
			e.int(p.a)
			e.int(p.b)
		}
	}
	sum := sha256.Sum256(e.bytes())
	return hex.EncodeToString(sum[:])
}
