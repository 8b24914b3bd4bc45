package remoting

import (
	"fmt"
	"maps"
	"sync/atomic"
)

// Mode says where the handlers of a class run.
type Mode uint8

// The two modes.
const (
	// Inline handlers run on the read loop of their connection: no copy, no hand-over. They must not block.
	Inline Mode = iota
	// Spawn handlers run on a goroutine of their own.
	Spawn
)

// Class is a group of request codes that share one admission limit over all connections. Its exported fields
// must not change once it is given to Mux.Handle; it must not be copied.
type Class struct {
	Name  string // for the refusal's remark and for metrics
	Limit int    // requests in flight, at least 1; one more is answered SYSTEM_BUSY at once
	Mode  Mode
	Key   string // config key that sets Limit, named in the refusal's remark; may be empty

	inflight atomic.Int64
	refused  atomic.Uint64
}

// InFlight returns the number of requests that hold a slot now.
func (c *Class) InFlight() int { return int(c.inflight.Load()) }

// Refused returns how many requests were answered SYSTEM_BUSY since start.
func (c *Class) Refused() uint64 { return c.refused.Load() }

func (c *Class) admit() bool {
	if c.inflight.Add(1) <= int64(c.Limit) {
		return true
	}
	c.inflight.Add(-1)
	c.refused.Add(1)
	return false
}

func (c *Class) leave() { c.inflight.Add(-1) }

// busyRemark starts with a word that Java clients and operators look for.
func (c *Class) busyRemark() string {
	remark := fmt.Sprintf("[OVERLOAD]system busy, start flow control for a while: queue %s is full, limit %d", c.Name, c.Limit)
	if c.Key != "" {
		remark += ", key " + c.Key
	}
	return remark
}

// HandlerFunc answers one request, now or later and from any goroutine, by exactly one of Reply, ReplyBuffer
// and Done (of the request or through a Batch). A request that gets none keeps its class slot for ever.
type HandlerFunc func(r *Request)

type route struct {
	class  *Class
	handle HandlerFunc
}

// Mux maps request codes to handlers. Fill it from one goroutine; Listen and NewClient take a copy.
type Mux struct {
	routes map[int32]route
}

// NewMux returns an empty Mux, which answers every code with REQUEST_CODE_NOT_SUPPORTED.
func NewMux() *Mux { return &Mux{routes: make(map[int32]route)} }

// Handle has h answer requests of code, admitted under class. It panics on a second handler for one code, on a
// nil handler and on a class without a positive limit: mistakes of the program, not of its input.
func (m *Mux) Handle(code int32, class *Class, h HandlerFunc) {
	if h == nil || class == nil || class.Limit < 1 {
		panic(fmt.Sprintf("remoting: code %d needs a handler and a class with a limit", code))
	}
	if _, dup := m.routes[code]; dup {
		panic(fmt.Sprintf("remoting: code %d has two handlers", code))
	}
	m.routes[code] = route{class, h}
}

// snapshot is nil-safe: no Mux has no routes.
func (m *Mux) snapshot() map[int32]route {
	if m == nil {
		return nil
	}
	return maps.Clone(m.routes)
}
