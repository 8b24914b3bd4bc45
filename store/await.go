package store

import "sync"

// waiter is one parked caller of Await.
type waiter struct {
	queue      QueueID
	offset     int64
	wake       func()
	prev, next *waiter
}

// waitTable is the callers that wait for messages, by queue: a doubly linked list each, about 100 bytes a waiter.
type waitTable struct {
	mu     sync.Mutex
	lists  map[QueueID]*waiter
	count  int
	closed bool
}

func (t *waitTable) unlink(w *waiter) {
	if w.wake == nil {
		return
	}
	if w.next != nil {
		w.next.prev = w.prev
	}
	switch {
	case w.prev != nil:
		w.prev.next = w.next
	case w.next != nil:
		t.lists[w.queue] = w.next
	default:
		delete(t.lists, w.queue)
	}
	t.count--
	w.wake, w.prev, w.next = nil, nil, nil
}

// due unlinks the waiters of a queue that want an offset below max and appends their wake functions to dst.
func (t *waitTable) due(q QueueID, max int64, dst []func()) []func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == 0 {
		return dst
	}
	for w := t.lists[q]; w != nil; {
		next := w.next
		if w.offset < max {
			dst = append(dst, w.wake)
			t.unlink(w)
		}
		w = next
	}
	return dst
}

// dueTopic unlinks all waiters of a topic.
func (t *waitTable) dueTopic(topic string, dst []func()) []func() {
	return t.dueIf(func(q QueueID) bool { return q.Topic == topic }, dst)
}

func (t *waitTable) dueIf(match func(QueueID) bool, dst []func()) []func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for q, w := range t.lists {
		if !match(q) {
			continue
		}
		for w != nil {
			next := w.next
			dst = append(dst, w.wake)
			t.unlink(w)
			w = next
		}
	}
	return dst
}

func (t *waitTable) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	for _, wake := range t.dueIf(func(QueueID) bool { return true }, nil) {
		wake()
	}
}

// Await parks wake until queue q has a message at offset, which may be of a queue that does not exist yet. wake is called
// once, from Apply's goroutine, when the queue's max is above offset, the topic is deleted or the store closes; it must not
// block. parked is false, and wake is never called, if there is nothing to wait for. cancel forgets wake; a call that is
// already on its way may still arrive.
func (s *Store) Await(q QueueID, offset int64, wake func()) (cancel func(), parked bool) {
	t := &s.waits
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.MaxOffset(q) > offset {
		return func() {}, false
	}
	w := &waiter{queue: q, offset: offset, wake: wake, next: t.lists[q]}
	if w.next != nil {
		w.next.prev = w
	}
	t.lists[q] = w
	t.count++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.unlink(w)
	}, true
}
