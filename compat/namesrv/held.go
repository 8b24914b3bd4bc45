package namesrv

import (
	"sync"
	"time"

	"rmq/remoting"
)

// heldRoutes are route requests for topics of which a group lost its leader a moment ago. They wait a little for the next one:
// a client that gets a route without leader may keep it until its next poll, 30 s later. Each waits at most holdFor, and all together
// are bounded.
type heldRoutes struct {
	clock Clock
	max   int

	mu     sync.Mutex
	held   map[*heldRoute]struct{}
	closed bool
}

type heldRoute struct {
	topic  string
	answer func()
	stop   func() bool // of its timer
}

func newHeldRoutes(clock Clock, limit int) *heldRoutes {
	return &heldRoutes{clock: clock, max: limit, held: map[*heldRoute]struct{}{}}
}

// hold keeps r until release finds its topic whole, or d has passed; answer is then called once. It returns nil, having done
// nothing, if too many are held or it is closed.
func (h *heldRoutes) hold(r *remoting.Request, topic string, d time.Duration, answer func()) *heldRoute {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.held) >= h.max {
		return nil
	}
	r.Park()
	held := &heldRoute{topic: topic, answer: answer}
	h.held[held] = struct{}{}
	held.stop = h.clock.AfterFunc(d, func() { h.end(held) })
	return held
}

// end answers one if nobody else has.
func (h *heldRoutes) end(held *heldRoute) {
	h.mu.Lock()
	_, mine := h.held[held]
	delete(h.held, held)
	h.mu.Unlock()
	if mine {
		held.answer()
	}
}

// release answers those whose topics need not be waited for any longer.
func (h *heldRoutes) release(done func(topic string) bool) {
	h.mu.Lock()
	var out []*heldRoute
	known := map[string]bool{}
	for held := range h.held {
		if _, ok := known[held.topic]; !ok {
			known[held.topic] = done(held.topic)
		}
		if known[held.topic] {
			out = append(out, held)
			delete(h.held, held)
		}
	}
	h.mu.Unlock()
	for _, held := range out {
		held.stop()
		held.answer()
	}
}

// close answers all that are held and holds no more.
func (h *heldRoutes) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.release(func(string) bool { return true })
}

// count is how many are held.
func (h *heldRoutes) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}
