package bench

import "time"

// schedule says when each message of a connection is meant to be sent at a fixed rate. It holds no queue: how many are
// due is arithmetic, so a backlog of any length costs nothing.
type schedule struct {
	start    time.Time
	interval time.Duration // between two messages of this connection
	next     int64         // first message not handed out yet
}

// newSchedule spreads a total rate in messages per second over connections. Each starts a fraction of an interval after
// the one before it, so that they do not send in step.
func newSchedule(start time.Time, rate float64, connection, connections int) *schedule {
	interval := time.Duration(float64(time.Second) * float64(connections) / rate)
	interval = max(interval, 1)
	offset := interval * time.Duration(connection) / time.Duration(connections)
	return &schedule{start: start.Add(offset), interval: interval}
}

// take hands out the next message that is due at now, with the time at which it was meant to be sent. When none is due,
// ok is false and intended is when the next one will be.
func (s *schedule) take(now time.Time) (intended time.Time, ok bool) {
	intended = s.start.Add(time.Duration(s.next) * s.interval)
	if intended.After(now) {
		return intended, false
	}
	s.next++
	return intended, true
}
