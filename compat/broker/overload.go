package broker

import (
	"sync/atomic"
	"time"
)

// sendBacklog tells how far the log is behind with sends. When a send would wait longer than clients like, it is refused
// at once: what was accepted before is answered in time, and throughput does not fall while clients ask for more than
// there is.
type sendBacklog struct {
	pending atomic.Int64 // proposed and not answered
	waited  atomic.Int64 // how long the send answered last had to wait, ns
}

// backlogMin is how many sends must be pending before their waiting counts: with fewer, it is the disk that takes its
// time, and refusing would not make it faster.
const backlogMin = 2048

// admit refuses a send while the last answered one waited longer than limit in a long queue.
func (l *sendBacklog) admit(limit time.Duration) error {
	pending, waited := l.pending.Load(), time.Duration(l.waited.Load())
	if pending < backlogMin || waited <= limit {
		return nil
	}
	return refuse(Busy, "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: %dms, size of queue: %d", waited.Milliseconds(), pending)
}

func (l *sendBacklog) enter() { l.pending.Add(1) }

// leave is told of each send that entered and was answered.
func (l *sendBacklog) leave(waited time.Duration) {
	l.waited.Store(int64(waited))
	l.pending.Add(-1)
}
