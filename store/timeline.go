package store

import (
	"errors"
	"sync"

	"rmq/store/message"
)

// timelineStep is how many bytes of log share one entry of the timeline.
const timelineStep = 1 << 20

// timeline is the store time of the newest message that begins in or before each MiB of the log, for the MiBs at and above
// the trim offset that have one. 8 bytes a MiB. Changed by Apply only.
type timeline struct {
	mu    sync.RWMutex
	first int64 // the MiB of times[0]
	times []int64
}

// add notes the newest message.
func (l *timeline) add(phys, storeTime int64) {
	step := phys / timelineStep
	// Most messages change nothing. Looking without the lock is the only writer's right.
	if n := len(l.times); n > 0 && l.first+int64(n)-1 == step && l.times[n-1] == storeTime {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.times) == 0 {
		l.first = step
	}
	for int64(len(l.times)) < step-l.first {
		l.times = append(l.times, l.times[len(l.times)-1])
	}
	if i := step - l.first; i < int64(len(l.times)) {
		l.times[i] = storeTime
	} else {
		l.times = append(l.times, storeTime)
	}
}

// trim drops what lies below a trim offset. The last entry stays: the log goes on from there.
func (l *timeline) trim(offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if drop := min(offset/timelineStep-l.first, int64(len(l.times))-1); drop > 0 {
		l.times = append(l.times[:0:0], l.times[drop:]...)
		l.first += drop
	}
}

func (l *timeline) encode(e *encoder) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	e.int(l.first)
	e.array(len(l.times))
	last := int64(0)
	for _, t := range l.times {
		e.int(t - last)
		last = t
	}
}

func (l *timeline) decode(d *decoder) {
	l.first = d.int()
	l.times = make([]int64, d.array())
	last := int64(0)
	for i := range l.times {
		last += d.int()
		l.times[i] = last
	}
}

// StoreTimeBefore returns the store time, ms, of the newest message that begins below log position end. If end is not a
// multiple of 1 MiB it may be that of a newer message within the same MiB: rather too new than too old. ok is false if no
// such message is kept.
func (s *Store) StoreTimeBefore(end int64) (ms int64, ok bool) {
	l := &s.times
	l.mu.RLock()
	defer l.mu.RUnlock()
	step := (end - 1) / timelineStep
	if len(l.times) == 0 || end <= 0 || step < l.first {
		return 0, false
	}
	return l.times[min(step-l.first, int64(len(l.times))-1)], true
}

// EarliestStoreTimeOfLog returns the store time, ms, of the oldest message still kept; -1 if there is none. If the log
// cannot be scanned it may be that of a message up to 1 MiB behind it.
func (s *Store) EarliestStoreTimeOfLog() int64 {
	earliest := int64(-1)
	err := s.scanMessages(s.trim.Load(), s.applied.Load(), func(v message.View, _ int64) error {
		earliest = v.StoreTimestamp()
		return errScanEnd
	})
	if err == nil {
		return earliest
	}
	if !errors.Is(err, errNoScan) {
		s.logger.Warn("oldest message cannot be read", "err", err)
	}
	if t, ok := s.StoreTimeBefore(s.trim.Load() + timelineStep); ok && s.lastPhys.Load() >= s.trim.Load() {
		return t
	}
	return -1
}
