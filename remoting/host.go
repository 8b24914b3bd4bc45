package remoting

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// host is what the connections of one Server or Client share. Safe for concurrent use.
type host struct {
	log    *slog.Logger
	routes map[int32]route

	connsMax         int
	inflightMax      int // requests being handled, per connection
	callsMax         int // own requests that wait for an answer, per connection
	outboundMax      int // bytes, per connection
	outboundTotalMax int64
	callTimeout      time.Duration
	limits           timeouts
	tick             time.Duration // of watch
	pauseMax         time.Duration // 0: pauses of the process do not matter
	began            time.Time     // awake and resumed count from here
	awake            atomic.Int64  // when watch last ran
	resumed          atomic.Int64  // when it last found that the process had been stopped; 0: never

	pool     pool
	waiters  sync.Pool // of chan answer, for Call
	inbound  budget
	outbound atomic.Int64 // bytes that wait for peers which do not keep up
	count    counters

	wg   sync.WaitGroup // connections, their writers, Spawn handlers
	quit chan struct{}  // ends watch
	done chan struct{}  // watch has ended

	mu     sync.Mutex
	conns  map[*Conn]struct{}
	nextID uint64
	closed bool
}

// counters since start.
type counters struct {
	accepted, refused                      atomic.Uint64
	framesIn, bytesIn, bytesOut            atomic.Uint64
	badFrames, timeouts, slowReaders, busy atomic.Uint64
}

var errTooMany = errors.New("remoting: too many connections")

// start begins to watch. Close it with stop.
func (h *host) start() {
	h.began = time.Now()
	h.conns = make(map[*Conn]struct{})
	h.quit, h.done = make(chan struct{}), make(chan struct{})
	go h.watch()
}

// stop waits for all goroutines. The connections have been told to end, or end by themselves.
func (h *host) stop() {
	h.wg.Wait()
	close(h.quit)
	<-h.done
}

// adopt enters c and starts its read loop, or refuses it.
func (h *host) adopt(c *Conn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if len(h.conns) >= h.connsMax {
		return errTooMany
	}
	h.nextID++
	c.id = h.nextID
	h.conns[c] = struct{}{}
	h.wg.Add(1)
	go c.serve()
	return nil
}

func (h *host) drop(c *Conn) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
}

// shut refuses connections from now on and returns those there are.
func (h *host) shut() []*Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	return h.list(nil)
}

// list appends all connections to dst. With mu held.
func (h *host) list(dst []*Conn) []*Conn {
	for c := range h.conns {
		dst = append(dst, c)
	}
	return dst
}

// free lets go of a chunk that is written or lost.
func (h *host) free(c *chunk) {
	if c.buf != nil {
		h.pool.put(c.buf)
	}
	if c.release != nil {
		c.release()
	}
	*c = chunk{}
}

// keepAlive finds dead peers behind a silent network within two minutes.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}
