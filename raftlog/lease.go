package raftlog

import "sync"

// leases hold back the unlinking of segments while others read from them.
type leases struct {
	mu   sync.Mutex
	last uint64
	from map[uint64]int64 // offset by lease
}

// Lease keeps every byte that can be read now, and what is appended from now on, until release is called. Truncation of a suffix
// is not held back.
func (l *Log) Lease() (release func()) {
	l.w.mu.Lock() // unlinkBelow decides under it
	defer l.w.mu.Unlock()
	ls := &l.leases
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.from == nil {
		ls.from = make(map[uint64]int64)
	}
	ls.last++
	id := ls.last
	ls.from[id] = l.MinOffset()
	return sync.OnceFunc(func() {
		ls.mu.Lock()
		delete(ls.from, id)
		ls.mu.Unlock()
		notify(l.unlinkWanted)
	})
}

// limit returns the smaller of below and the lowest leased offset.
func (ls *leases) limit(below int64) int64 {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, from := range ls.from {
		below = min(below, from)
	}
	return below
}
