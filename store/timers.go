package store

// Timer is a parked message: its delivery time in ms and its physical offset.
type Timer struct {
	DeliverAt int64
	Offset    int64
}

// DueTimers returns up to max parked messages with DeliverAt <= now, in (DeliverAt, Offset) order.
func (s *Store) DueTimers(now int64, max int) []Timer { return nil }

// NextTimer returns the earliest delivery time of a parked message.
func (s *Store) NextTimer() (deliverAt int64, ok bool) { return 0, false }

// TimersBelow returns up to max parked messages stored below a log position, in log order.
func (s *Store) TimersBelow(offset int64, max int) []Timer { return nil }

// TimerCount returns the number of parked messages.
func (s *Store) TimerCount() int { return 0 }
