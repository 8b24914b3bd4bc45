package remoting

import (
	"errors"
	"time"
)

// timeouts of a connection; each is enforced to within two ticks of the watch goroutine.
type timeouts struct {
	firstFrame time.Duration // TLS handshake; then first frame from its first byte, if it is not a large one
	frame      time.Duration // a frame from its first byte to its last
	idle       time.Duration // no byte in either direction
	write      time.Duration // bytes to write and the peer takes none
}

// What a connection ends with when it outlives a timeout.
var (
	errFrameTimeout = errors.New("remoting: frame not completed in time")
	errIdle         = errors.New("remoting: idle")
	errWriteTimeout = errors.New("remoting: peer does not read")
	errSlowReader   = errors.New("remoting: peer reads too slowly")
	errPaused       = errors.New("remoting: the process was stopped for longer than requests are waited for")
)

// What the read loop waits for, as the watch goroutine sees it.
const (
	waitsForNothing uint32 = iota // or for a frame to start: only idle applies
	waitsForFirst                 // for the first frame, or the TLS handshake
	waitsForFrame                 // for the rest of a frame
)

// tick is how often connections are looked at: a quarter of the shortest timeout, at most longest.
func (t timeouts) tick(longest time.Duration) time.Duration {
	return max(min(min(t.firstFrame, t.frame, t.idle, t.write)/4, longest), time.Millisecond)
}

// sight is what the watch goroutine remembers of a connection. Times are on its own clock.
type sight struct {
	met                      bool
	waits                    uint32
	frames, written          uint64
	active, waiting, writing time.Duration // since when
}

// watch ends connections that outlive their timeouts and calls that outlive their deadline.
func (h *host) watch() {
	defer close(h.done)
	tick := h.tick
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var clock time.Duration
	var conns []*Conn
	for last := time.Now(); ; {
		select {
		case <-h.quit:
			return
		case now := <-ticker.C:
			// After a pause of the whole process nobody is late yet: peers get their time anew.
			clock += min(now.Sub(last), 2*tick)
			last = now
			h.mu.Lock()
			conns = h.list(conns[:0])
			h.mu.Unlock()
			h.wake(now, conns)
			for i, c := range conns {
				if err := c.overdue(clock, h.limits); err != nil {
					c.fail(err)
				}
				for _, late := range c.calls.expired(now) {
					c.end(late, nil, ErrTimeout)
				}
				conns[i] = nil
			}
		}
	}
}

// pauseAfterglow is how long after a pause new connections are reset: they come from the listener's backlog, where they
// may have waited as long as the pause was.
const pauseAfterglow = 200 * time.Millisecond

// wake notes that the process runs. If it had been stopped, every connection ends, before one that is read after this
// could take its requests for new ones.
func (h *host) wake(now time.Time, conns []*Conn) {
	if h.paused(now) {
		h.resumed.Store(int64(now.Sub(h.began)))
		h.log.Warn("this process was stopped for a while: what waits in its connections may long have been given up by who sent it", "connections", len(conns))
		for _, c := range conns {
			c.fail(errPaused)
		}
	}
	h.awake.Store(int64(now.Sub(h.began)))
}

// paused reports whether the process was stopped for long and watch has not run since.
func (h *host) paused(now time.Time) bool {
	return h.pauseMax > 0 && now.Sub(h.began)-time.Duration(h.awake.Load()) > h.pauseMax
}

// stale reports whether a connection that is accepted now may hold requests from before a pause.
func (h *host) stale(now time.Time) bool {
	resumed := time.Duration(h.resumed.Load())
	return h.paused(now) || resumed > 0 && now.Sub(h.began)-resumed < pauseAfterglow
}

// overdue looks at c at time now and returns why it has to end, or nil. Called by one goroutine.
func (c *Conn) overdue(now time.Duration, limit timeouts) error {
	s := &c.seen
	if !s.met {
		*s = sight{met: true, active: now, waiting: now, writing: now}
	}
	if c.activity.Swap(false) {
		s.active = now
	}
	if waits, frames := c.waits.Load(), c.frames.Load(); waits == waitsForNothing || waits != s.waits || frames != s.frames {
		s.waits, s.frames, s.waiting = waits, frames, now
	}
	if written := c.out.written.Load(); !c.out.stalled.Load() || written != s.written {
		s.written, s.writing = written, now
	}
	switch {
	case s.waits == waitsForFirst && now-s.waiting >= limit.firstFrame,
		s.waits == waitsForFrame && now-s.waiting >= limit.frame:
		return errFrameTimeout
	case now-s.writing >= limit.write:
		return errWriteTimeout
	case now-s.active >= limit.idle:
		return errIdle
	}
	return nil
}
