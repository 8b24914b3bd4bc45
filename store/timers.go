package store

import (
	"fmt"
	"math"
	"sync"

	"rmq/store/message"
)

// Timer is a parked message: its delivery time in ms and its physical offset.
type Timer struct {
	DeliverAt int64
	Offset    int64
}

// timerSet is the parked messages, by delivery time and by log position. Changed by Apply only. It costs 32 to 48 bytes
// a message.
type timerSet struct {
	mu       sync.Mutex
	byDue    pairList // (deliverAt, offset)
	byOffset pairList // (offset, parked)
	parked   map[parkingQueue]int64
}

// parkingQueue names a queue in which messages are parked: the top bit is the topic, the rest the queue id. Ids beyond
// 15 bits share a name; they are only counted together.
type parkingQueue uint16

func parkingQueueOf(topic []byte, id int32) parkingQueue {
	q := parkingQueue(id & 0x7FFF)
	if string(topic) == message.TopicTimerWheel {
		q |= 0x8000
	}
	return q
}

// deliverAtMax is the latest time that can be packed with a parkingQueue into 63 bits: some two thousand years from now.
const deliverAtMax = 1<<46 - 1

// pack puts a delivery time and a parkingQueue into one word, so that a parked message takes no more than two of them.
func (q parkingQueue) pack(deliverAt int64) int64 { return deliverAt<<16 | int64(q) }

func unpackTimer(b int64) (deliverAt int64, q parkingQueue) { return b >> 16, parkingQueue(b) }

func (t *timerSet) add(deliverAt, offset int64, q parkingQueue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byDue.insert(pair{deliverAt, offset})
	t.byOffset.insert(pair{offset, q.pack(deliverAt)})
	t.parked[q]++
}

func (t *timerSet) remove(offsets []int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, offset := range offsets {
		p, ok := t.byOffset.atLeast(pair{offset, math.MinInt64})
		if !ok || p.a != offset {
			return fmt.Errorf("no parked message at %d", offset)
		}
		deliverAt, q := unpackTimer(p.b)
		t.byOffset.remove(p)
		t.byDue.remove(pair{deliverAt, offset})
		t.parked[q]--
	}
	return nil
}

// oldest returns the log position of the first parked message.
func (t *timerSet) oldest() (int64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.byOffset.atLeast(pair{math.MinInt64, math.MinInt64})
	return p.a, ok
}

// capture returns the pairs of byOffset as they are now.
func (t *timerSet) capture() []*pairChunk {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byOffset.capture()
}

// DueTimers returns up to max parked messages with DeliverAt <= now, in (DeliverAt, Offset) order. They stay pending until
// a FireTimers is applied.
func (s *Store) DueTimers(now int64, max int) []Timer {
	t := &s.timers
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Timer
	for p := range t.byDue.from(pair{math.MinInt64, math.MinInt64}) {
		if p.a > now || len(out) >= max {
			break
		}
		out = append(out, Timer{DeliverAt: p.a, Offset: p.b})
	}
	return out
}

// NextTimer returns the earliest delivery time of a parked message.
func (s *Store) NextTimer() (deliverAt int64, ok bool) {
	s.timers.mu.Lock()
	defer s.timers.mu.Unlock()
	p, ok := s.timers.byDue.atLeast(pair{math.MinInt64, math.MinInt64})
	return p.a, ok
}

// TimersBelow returns up to max parked messages that lie below a log position, in log order. They hold back Trim.
func (s *Store) TimersBelow(offset int64, max int) []Timer {
	t := &s.timers
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Timer
	for p := range t.byOffset.from(pair{math.MinInt64, math.MinInt64}) {
		if p.a >= offset || len(out) >= max {
			break
		}
		deliverAt, _ := unpackTimer(p.b)
		out = append(out, Timer{DeliverAt: deliverAt, Offset: p.a})
	}
	return out
}

// TimerCount returns the number of parked messages.
func (s *Store) TimerCount() int {
	s.timers.mu.Lock()
	defer s.timers.mu.Unlock()
	return s.timers.byOffset.size
}

// PendingTimers returns how many messages are parked in one queue of a parking topic.
func (s *Store) PendingTimers(q QueueID) int64 {
	if !isParkingTopic([]byte(q.Topic)) {
		return 0
	}
	s.timers.mu.Lock()
	defer s.timers.mu.Unlock()
	return s.timers.parked[parkingQueueOf([]byte(q.Topic), q.ID)]
}
