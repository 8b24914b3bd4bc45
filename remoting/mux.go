package remoting

import "sync/atomic"

// Mode says where the handlers of a class run.
type Mode uint8

// The two modes.
const (
	// Inline handlers run on the read loop of their connection: no copy, no hand-over. They must not block.
	Inline Mode = iota
	// Spawn handlers run on a goroutine of their own.
	Spawn
)

// Class is a group of request codes that share one admission limit.
type Class struct {
	Name  string // for the refusal's remark and for metrics
	Limit int    // requests in flight over all connections, at least 1; one more is answered SYSTEM_BUSY
	Mode  Mode
	Key   string // config key that sets Limit, named in the remark; may be empty

	inflight atomic.Int64
	refused  atomic.Uint64
}

// InFlight returns the number of requests that hold a slot now.
func (c *Class) InFlight() int { return int(c.inflight.Load()) }

// Refused returns how many requests were answered SYSTEM_BUSY since start.
func (c *Class) Refused() uint64 { return c.refused.Load() }

// HandlerFunc answers one request: now, or later from any goroutine, by exactly one Reply, ReplyBuffer or Done.
type HandlerFunc func(r *Request)

type route struct {
	class  *Class
	handle HandlerFunc
}

// Mux maps request codes to handlers. Fill it before it is given to Listen or NewClient.
type Mux struct {
	routes map[int32]route
}

// NewMux returns an empty Mux, which answers every code with REQUEST_CODE_NOT_SUPPORTED.
func NewMux() *Mux { return &Mux{routes: make(map[int32]route)} }

// Handle registers h for code.
func (m *Mux) Handle(code int32, class *Class, h HandlerFunc) { m.routes[code] = route{class, h} }
