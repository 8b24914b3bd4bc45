package remoting

import "rmq/remoting/protocol"

// Batch gathers answers to many requests and writes them with one system call per connection. It is for whoever
// completes many requests at a time, such as a commit. One goroutine at a time; requests of different servers
// may share one. Flush soon: gathered answers wait for it, unless someone else writes to their connection.
type Batch struct {
	conns []*Conn // that hold answers of this batch
}

// NewBatch returns an empty batch. It may be used again after each Flush.
func NewBatch() *Batch { return new(Batch) }

// Reply is Request.Reply, its bytes leave with Flush at the latest.
func (b *Batch) Reply(r *Request, resp *protocol.Command) { r.answer(resp, nil, b) }

// ReplyBuffer is Request.ReplyBuffer, its bytes leave with Flush at the latest.
func (b *Batch) ReplyBuffer(r *Request, resp *protocol.Command, release func()) {
	r.answer(resp, release, b)
}

// Flush writes what was gathered, without blocking.
func (b *Batch) Flush() {
	for i, c := range b.conns {
		c.out.flushBatch()
		b.conns[i] = nil
	}
	b.conns = b.conns[:0]
}
