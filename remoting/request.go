package remoting

import (
	"time"

	"rmq/remoting/protocol"
)

// Request is one request that was admitted.
type Request struct {
	Conn     *Conn
	Cmd      *protocol.Command // Inline: valid until the handler returns, or for good after Detach. Spawn: valid for good.
	Received time.Time
}

// Reply answers the request. Any goroutine; the first of Reply, ReplyBuffer and Done wins. resp is not
// changed and may be reused at once, its Body may not be changed any more.
func (r *Request) Reply(resp *protocol.Command) {}

// ReplyBuffer is Reply for a Body in borrowed memory: release is called exactly once, when the body is
// written or the connection gone, from any goroutine; it must not block.
func (r *Request) ReplyBuffer(resp *protocol.Command, release func()) {}

// Done ends the request without an answer.
func (r *Request) Done() {}

// Park says that the request now waits for an event (a long poll). It keeps its class slot but no longer counts
// against its connection's limit, so that many parked polls do not stop the connection from being read.
func (r *Request) Park() {}

// Detach copies Cmd, so that it stays valid after an Inline handler has returned. Reply works without it.
func (r *Request) Detach() *Request { return r }

// Batch gathers replies and writes them with one system call per connection. One goroutine at a time.
type Batch struct{}

// NewBatch returns an empty batch, to be used again after each Flush.
func NewBatch() *Batch { return &Batch{} }

// Reply is Request.Reply whose bytes leave with Flush at the latest.
func (b *Batch) Reply(r *Request, resp *protocol.Command) {}

// ReplyBuffer is Request.ReplyBuffer whose bytes leave with Flush at the latest.
func (b *Batch) ReplyBuffer(r *Request, resp *protocol.Command, release func()) {}

// Flush writes what was gathered.
func (b *Batch) Flush() {}
