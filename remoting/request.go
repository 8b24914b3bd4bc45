package remoting

import (
	"sync/atomic"
	"time"

	"rmq/remoting/protocol"
)

// Request is one request that was admitted. It holds a slot of its Class until it is answered.
type Request struct {
	Conn *Conn // on which it came

	// Cmd is the request. With an Inline handler it is valid until the handler returns or Detach is called,
	// with a Spawn handler for good.
	Cmd *protocol.Command

	// Received is when its last bytes were read.
	Received time.Time

	class        *Class
	code, opaque int32
	codec        protocol.Codec
	oneway       bool
	held         int64         // bytes charged to the host's account of received memory
	state        atomic.Uint32 // one of request...
}

const (
	requestOpen   uint32 = iota
	requestParked        // no longer counted for its connection
	requestDone
)

// flagResponse in a command's Flag marks it as an answer.
const flagResponse = 1

// Reply answers the request; opaque, header codec and response flag are those the peer expects, whatever resp
// says, and a version of 0 stands for rmq's. To a oneway request nothing is sent. Any goroutine, also after the handler has returned. Never blocks.
// Of Reply, ReplyBuffer and Done only the first on a request counts. resp may be used again at once, but a Body
// longer than 8 KiB must not change any more, so it cannot be the Cmd.Body of an Inline handler: see ReplyBuffer.
func (r *Request) Reply(resp *protocol.Command) { r.answer(resp, nil, nil) }

// ReplyBuffer is Reply for a Body in borrowed memory. release is called exactly once, in every case: when the
// body is written, or copied, or will never be sent. It runs on any goroutine, maybe before ReplyBuffer returns,
// and must not block.
func (r *Request) ReplyBuffer(resp *protocol.Command, release func()) { r.answer(resp, release, nil) }

// Done ends the request without an answer, as oneway requests and some others want it.
func (r *Request) Done() { r.leave(r.state.Swap(requestDone)) }

// Park says that the request now waits for an event, as a long poll does. It keeps its class slot, but counts no
// longer against the requests its connection may have in flight: those stop the connection from being read, and
// a consumer parks one poll per queue.
func (r *Request) Park() {
	if r.state.CompareAndSwap(requestOpen, requestParked) {
		r.Conn.left()
	}
}

// Detach copies Cmd and its body, so that they stay valid when an Inline handler has returned; only such a handler
// may call it. Replying later works without, so call it only where Cmd itself is needed later. It returns r.
func (r *Request) Detach() *Request {
	if r.class.Mode == Inline {
		r.Cmd = Clone(r.Cmd)
	}
	return r
}

func (r *Request) answer(resp *protocol.Command, release func(), b *Batch) {
	was := r.state.Swap(requestDone)
	if was == requestDone || r.oneway {
		if release != nil {
			release()
		}
	} else {
		out := *resp
		out.Opaque, out.Codec, out.Flag = r.opaque, r.codec, flagResponse
		if out.Version == 0 {
			out.Version = protocol.MQVersion
		}
		if out.Ext == nil {
			out.Ext = protocol.Fields{} // Java clients read it without a look
		}
		r.Conn.answer(&out, release, b)
	}
	// Only now: a connection that is being closed waits for its last request, and then for what is queued.
	r.leave(was)
}

// leave gives the slots of a request back that was open or parked until now.
func (r *Request) leave(was uint32) {
	if was == requestDone {
		return
	}
	if was == requestOpen {
		r.Conn.left()
	}
	if r.held > 0 {
		r.Conn.host.inbound.give(r.held)
	}
	r.class.leave()
}

// run calls the handler. A panic there costs one SYSTEM_ERROR.
func (r *Request) run(h HandlerFunc) {
	returned := false
	defer func() {
		if !returned {
			r.Reply(&protocol.Command{Code: protocol.SystemError, Version: protocol.MQVersion, Remark: "internal error", Ext: protocol.Fields{}})
		}
	}()
	defer r.Conn.outlive("handler", r.code)
	h(r)
	returned = true
}
