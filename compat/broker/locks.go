package broker

import (
	"context"
	"sync"
	"time"

	"rmq/store"
)

// lockTable holds the leases of ordered consumption. Who owns a queue is in the log; when the owner last renewed is not:
// a new leader gives every owner a fresh lease.
type lockTable struct {
	change   sync.Mutex // changes of owner, one at a time; held across an append
	mu       sync.Mutex
	leases   map[offsetKey]time.Time // last renewal
	granting map[offsetKey]string    // a change of owner that is proposed, or whose outcome is not known: to whom
}

func (t *lockTable) init() {
	t.leases = make(map[offsetKey]time.Time)
	t.granting = make(map[offsetKey]string)
}

func (t *lockTable) renewAll(now time.Time, st *store.Store) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.leases)
	clear(t.granting)
	for _, l := range st.Locks() {
		t.leases[offsetKey{l.Group, store.QueueID{Topic: l.Topic, ID: l.Queue}}] = now
	}
}

// renew extends the leases that client owns already and returns them, with the queues that it might take over. With grant,
// which takes t.change, the latter are on their way to client from now on: their owners cannot renew any more.
func (b *Broker) renew(group, client string, queues []store.QueueID, grant bool) (owned, free []store.QueueID) {
	t, now := &b.locks, b.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range queues {
		if topic, ok := b.store.Topic(q.Topic); !ok || q.ID < 0 || q.ID >= max(topic.ReadQueues, topic.WriteQueues) {
			continue // no such queue: nothing to own
		}
		key := offsetKey{group, q}
		_, granting := t.granting[key]
		switch owner := b.store.LockOwner(group, q); {
		case granting:
			free = append(free, q)
		case owner == client:
			t.leases[key] = now
			owned = append(owned, q)
		case owner == "" || now.Sub(t.leases[key]) > b.opts.LockLease:
			free = append(free, q)
		}
	}
	if grant {
		for _, q := range free {
			t.granting[offsetKey{group, q}] = client
		}
	}
	return owned, free
}

// granted notes that a change of owner is committed.
func (t *lockTable) granted(group string, queues []store.QueueID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, q := range queues {
		delete(t.granting, offsetKey{group, q})
	}
}

// leadsProvably reports whether no other replica can have led for long enough to give a lock to somebody else, whatever
// this replica has slept through: the next leader gives every owner a whole lease, and this one has committed something a
// small part of a lease ago.
func (b *Broker) leadsProvably() bool {
	return b.opts.Replicas.Data() <= 1 || b.clock.Now().UnixNano()-b.proved.Load() <= int64(b.opts.LockLease/4)
}

// clientIDLengthMax bounds what stands in the log as the owner of a queue.
const clientIDLengthMax = 1024

func checkLock(group, client string) error {
	if client == "" || len(client) > clientIDLengthMax {
		return refuse(InvalidParameter, "a lock needs a clientId of 1..%d bytes", clientIDLengthMax)
	}
	return CheckGroupName(group)
}

// Lock gives client the queues that nobody else holds, and returns all that it holds of those asked for. It returns once
// every change of owner is committed.
func (b *Broker) Lock(ctx context.Context, group, client string, queues []store.QueueID) ([]store.QueueID, error) {
	if err := checkLock(group, client); err != nil {
		return nil, err
	}
	if _, ok := b.Group(group); !ok {
		return nil, refuse(GroupNotExist, "subscription group not exist, %s", group)
	}
	if !b.log.IsLeader() {
		return nil, refuse(NotLeader, "this replica does not lead its group")
	}
	owned, free := b.renew(group, client, queues, false)
	if len(free) == 0 && (len(owned) == 0 || b.leadsProvably()) {
		return owned, nil
	}
	b.locks.change.Lock()
	defer b.locks.change.Unlock()
	if owned, free = b.renew(group, client, queues, true); len(free) == 0 && b.leadsProvably() {
		return owned, nil
	}
	// A change of nothing is a proof that this replica leads.
	if _, err := b.append(ctx, store.SetLocks(lockChanges(group, client, free))); err != nil {
		return nil, err
	}
	b.locks.granted(group, free)
	owned, _ = b.renew(group, client, queues, false)
	return owned, nil
}

// Unlock gives back what client holds of the queues.
func (b *Broker) Unlock(ctx context.Context, group, client string, queues []store.QueueID) error {
	if err := checkLock(group, client); err != nil {
		return err
	}
	b.locks.change.Lock()
	defer b.locks.change.Unlock()
	owned, _ := b.renew(group, client, queues, false)
	if len(owned) == 0 {
		return nil
	}
	_, err := b.append(ctx, store.SetLocks(lockChanges(group, "", owned)))
	b.locks.mu.Lock()
	defer b.locks.mu.Unlock()
	for _, q := range owned {
		delete(b.locks.leases, offsetKey{group, q})
	}
	return err
}

func lockChanges(group, owner string, queues []store.QueueID) []store.LockChange {
	changes := make([]store.LockChange, len(queues))
	for i, q := range queues {
		changes[i] = store.LockChange{Group: group, Topic: q.Topic, Queue: q.ID, Owner: owner}
	}
	return changes
}
