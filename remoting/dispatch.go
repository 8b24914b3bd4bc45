package remoting

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"rmq/remoting/protocol"
)

// read is the read loop. It returns why the connection has to end.
func (c *Conn) read() error {
	if c.greet != nil {
		if err := c.greet(c); err != nil {
			return c.stopped(err)
		}
	}
	for {
		now := time.Now()
		if c.server && c.host.paused(now) {
			return errPaused
		}
		if err := c.process(now); err != nil {
			return err
		}
		err := c.stopped(c.fill())
		if errors.Is(err, errStopped) && !c.drained() {
			continue
		}
		if err != nil {
			return err
		}
	}
}

// stopped turns the error of a wait that interrupt cut short into errStopped.
func (c *Conn) stopped(err error) error {
	if c.stopping.Load() != stopNot && errors.Is(err, os.ErrDeadlineExceeded) {
		return errStopped
	}
	return err
}

// process handles all frames that are whole. Answers given meanwhile leave together.
func (c *Conn) process(now time.Time) error {
	corked, before := false, c.frames.Load()
	defer func() {
		if n := c.frames.Load() - before; n > 0 {
			c.host.count.framesIn.Add(n)
		}
		if corked {
			c.out.uncork()
		}
	}()
	for {
		frame, err := c.in.next()
		if err != nil || frame == nil {
			return err
		}
		if err := protocol.DecodeFrame(frame, c.cmd); err != nil {
			return fmt.Errorf("%w: %w", errBadFrame, err)
		}
		if !corked && c.in.hasNext() {
			c.out.cork()
			corked = true
		}
		c.frames.Add(1)
		if codec := uint32(c.cmd.Codec); c.codec.Load() != codec {
			c.codec.Store(codec)
		}
		if c.cmd.IsResponse() {
			c.deliver()
		} else {
			c.serveRequest(now, int64(len(frame)))
		}
		if c.congested() {
			if corked {
				c.out.uncork()
				corked = false
			}
			c.await(c.relieved)
			if c.failed.Load() {
				return ErrConnLost
			}
		}
		if c.stopping.Load() == stopFlush {
			return errStopped
		}
	}
}

// congested reports whether the connection has as many requests or unread answers as it may have.
func (c *Conn) congested() bool {
	return c.inflight.Load() >= int64(c.host.inflightMax) ||
		c.out.stalled.Load() && c.out.backlog() > c.host.outboundMax/4
}

// relieved reports whether reading may go on after congestion: some way below its limits, so that the read loop
// does not wake for every single answer.
func (c *Conn) relieved() bool {
	return c.stopping.Load() != stopNot ||
		c.inflight.Load() <= c.host.resumeAt() && c.out.backlog() <= c.host.outboundMax/8
}

// resumeAt is how few requests a congested connection must have in flight to be read again.
func (h *host) resumeAt() int64 { return int64(h.inflightMax) * 3 / 4 }

// left counts a request off.
func (c *Conn) left() {
	n := c.inflight.Add(-1)
	if c.paused.Load() && n <= c.host.resumeAt() {
		c.wake()
	}
	if n == 0 && c.stopping.Load() == stopDrain {
		c.interrupt()
	}
}

// deliver hands the answer in c.cmd to the call that waits for it; a late one is dropped.
func (c *Conn) deliver() {
	w, ok := c.calls.take(c.cmd.Opaque)
	if !ok {
		return
	}
	if w.done != nil {
		c.end(w, c.cmd, nil)
	} else {
		c.end(w, c.handOver(), nil)
	}
}

// handOver gives c.cmd away, with a body of its own.
func (c *Conn) handOver() *protocol.Command {
	cmd := c.cmd
	cmd.Body = bytes.Clone(cmd.Body)
	c.cmd = &protocol.Command{Ext: make(protocol.Fields, 0, len(cmd.Ext))}
	return cmd
}

// end ends w.
func (c *Conn) end(w call, cmd *protocol.Command, err error) {
	defer c.outlive("callback", 0)
	w.end(cmd, err)
}

// outlive, when deferred, keeps a panic in code that was handed in, which is a bug there, from ending the process.
func (c *Conn) outlive(what string, code int32) {
	if p := recover(); p != nil {
		c.host.log.Error("panic in a "+what, "code", code, "peer", c.remote, "panic", p, "stack", string(debug.Stack()))
	}
}

// serveRequest admits the request in c.cmd, which came as size bytes, and has its handler run.
func (c *Conn) serveRequest(now time.Time, size int64) {
	if c.stopping.Load() == stopDrain {
		c.refuse(protocol.ServiceNotAvailable, "the server is shutting down") // clients try another one
		return
	}
	rt, ok := c.host.routes[c.cmd.Code]
	if !ok {
		c.refuse(protocol.RequestCodeNotSupported, fmt.Sprintf(" request type %d not supported", c.cmd.Code))
		return
	}
	if !rt.class.admit() {
		c.host.count.busy.Add(1)
		c.refuse(protocol.SystemBusy, rt.class.busyRemark())
		return
	}
	var held int64
	if rt.class.Mode == Spawn && size > bufferMin {
		// Such a request stays in memory until it is answered, and a class counts requests, not bytes.
		if c.host.inbound.take(size) != nil {
			rt.class.leave()
			c.host.count.busy.Add(1)
			c.refuse(protocol.SystemBusy, "[OVERLOAD]system busy, start flow control for a while: requests at hand use up the memory for them")
			return
		}
		held = size
	}
	c.inflight.Add(1)
	r := &Request{
		Conn:     c,
		Cmd:      c.cmd,
		Received: now,
		class:    rt.class,
		code:     c.cmd.Code,
		opaque:   c.cmd.Opaque,
		codec:    c.cmd.Codec,
		oneway:   c.cmd.IsOneway(),
		held:     held,
	}
	if rt.class.Mode == Inline {
		r.run(rt.handle)
		return
	}
	c.handOver()
	c.host.wg.Add(1)
	go func() {
		defer c.host.wg.Done()
		r.run(rt.handle)
	}()
}

// refuse answers the request in c.cmd without a handler.
func (c *Conn) refuse(code int32, remark string) {
	if !c.cmd.IsOneway() {
		c.answer(protocol.NewResponse(c.cmd, code, remark), nil, nil)
	}
}

// answer queues resp. What cannot be encoded is answered by an error that can.
func (c *Conn) answer(resp *protocol.Command, release func(), b *Batch) {
	err := c.out.answer(resp, release, b)
	if err == nil || c.failed.Load() {
		return
	}
	c.host.log.Error("answer cannot be sent", "peer", c.remote, "code", resp.Code, "error", err)
	_ = c.out.answer(protocol.NewResponse(resp, protocol.SystemError, "the answer cannot be encoded: "+err.Error()), nil, b)
}
