package store

import (
	"fmt"
	"math"
	"sync"
)

// Timer is a parked message: its delivery time in ms and its physical offset.
type Timer struct {
	DeliverAt int64
	Offset    int64
}

// timerSet is the parked messages, by delivery time and by log position. Changed by Apply only. It costs 32 to 64 bytes
// a message.
type timerSet struct {
	mu       sync.Mutex
	byDue    pairList // (deliverAt, offset)
	byOffset pairList // (offset, deliverAt)
}

func (t *timerSet) add(deliverAt, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byDue.insert(pair{deliverAt, offset})
	t.byOffset.insert(pair{offset, deliverAt})
}

func (t *timerSet) remove(offsets []int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, offset := range offsets {
		p, ok := t.byOffset.atLeast(pair{offset, math.MinInt64})
		if !ok || p.a != offset {
			return fmt.Errorf("no parked message at %d", offset)
		}
		t.byOffset.remove(p)
		t.byDue.remove(pair{p.b, p.a})
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

// capture returns the pairs (offset, deliverAt) as they are now.
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
		out = append(out, Timer{DeliverAt: p.b, Offset: p.a})
	}
	return out
}

// TimerCount returns the number of parked messages.
func (s *Store) TimerCount() int {
	s.timers.mu.Lock()
	defer s.timers.mu.Unlock()
	return s.timers.byOffset.size
}
