package store

import (
	"cmp"
	"slices"
	"sync"
)

// LockChange sets the owner of a queue for a group; an empty owner unlocks it.
type LockChange struct {
	Group string
	Topic string
	Queue int32
	Owner string
}

type lockKey struct {
	group string
	queue QueueID
}

// lockTable is who owns which queue for ordered consumption. Leases are the leader's affair; only changes of owner come
// here. Changed by Apply only.
type lockTable struct {
	mu     sync.RWMutex
	owners map[lockKey]string
}

func (t *lockTable) set(changes []LockChange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		k := lockKey{c.Group, QueueID{c.Topic, c.Queue}}
		if c.Owner == "" {
			delete(t.owners, k)
		} else {
			t.owners[k] = c.Owner
		}
	}
}

func (t *lockTable) deleteIf(gone func(lockKey) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.owners {
		if gone(k) {
			delete(t.owners, k)
		}
	}
}

func (t *lockTable) deleteTopic(topic string) {
	t.deleteIf(func(k lockKey) bool { return k.queue.Topic == topic })
}

func (t *lockTable) deleteGroup(group string) {
	t.deleteIf(func(k lockKey) bool { return k.group == group })
}

// list returns all locks by group, topic and queue.
func (t *lockTable) list() []LockChange {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]LockChange, 0, len(t.owners))
	for k, owner := range t.owners {
		out = append(out, LockChange{Group: k.group, Topic: k.queue.Topic, Queue: k.queue.ID, Owner: owner})
	}
	slices.SortFunc(out, func(a, b LockChange) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Queue, b.Queue))
	})
	return out
}

func (t *lockTable) encode(e *encoder) {
	locks := t.list()
	e.array(4 * len(locks))
	for i := range locks {
		l := &locks[i]
		e.str(l.Group)
		e.str(l.Topic)
		e.int(int64(l.Queue))
		e.str(l.Owner)
	}
}

func (t *lockTable) decode(d *decoder) {
	n := d.records(4)
	t.owners = make(map[lockKey]string, n)
	for range n {
		k := lockKey{d.str(), QueueID{d.str(), d.int32()}}
		t.owners[k] = d.str()
	}
}

// LockOwner returns the client that owns a queue for a group; empty if nobody does.
func (s *Store) LockOwner(group string, q QueueID) string {
	s.locks.mu.RLock()
	defer s.locks.mu.RUnlock()
	return s.locks.owners[lockKey{group, q}]
}

// Locks returns all owned queues, by group, topic and queue.
func (s *Store) Locks() []LockChange { return s.locks.list() }
