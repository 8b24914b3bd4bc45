package raftlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

// handlerLimit bounds the calls that are being handled, and their bytes.
type handlerLimit struct {
	mu              sync.Mutex
	calls, callsMax int
	bytes, bytesMax int
}

func (l *handlerLimit) init(calls, bytes int) { l.callsMax, l.bytesMax = calls, bytes }

func (l *handlerLimit) take(bytes int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls >= l.callsMax || l.calls > 0 && l.bytes+bytes > l.bytesMax {
		return false
	}
	l.calls++
	l.bytes += bytes
	return true
}

func (l *handlerLimit) give(bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls--
	l.bytes -= bytes
}

func (l *handlerLimit) running() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

// reply is an answer that waits to be written.
type reply struct {
	head [replyHeadBytes]byte
	body []byte
	done func() // it is written, or never will be
}

// handlerConn is the answering end of a stream of calls.
type handlerConn struct {
	n      *PeerNet
	c      *peerConn
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	queue  chan *reply
}

// serveCalls has the Handler answer the calls on one connection until it ends, and waits for its Handlers.
func (n *PeerNet) serveCalls(c *peerConn) error {
	h := &handlerConn{n: n, c: c, queue: make(chan *reply, callBatchMax)}
	h.ctx, h.cancel = context.WithCancel(n.ctx)
	var tasks sync.WaitGroup
	tasks.Go(h.write)
	err := h.read(&tasks)
	h.cancel()
	c.Close() //nolint:errcheck // who waits for an answer finds out
	tasks.Wait()
	h.drain()
	return err
}

func (h *handlerConn) read(tasks *sync.WaitGroup) error {
	n := h.n
	for {
		kind, p, err := h.c.readFrame()
		if err != nil {
			return err
		}
		r := fieldReader{b: p}
		opaque, wait := r.u64(), r.u32()
		if r.bad || kind != frameCall {
			return &badFrame{fmt.Errorf("a call of kind %d and %d bytes", kind, len(p))}
		}
		n.stats.callsIn.Add(1)
		request := r.b
		refusal := ""
		switch {
		case n.o.Handler == nil:
			refusal = "this replica takes no calls"
		case !n.handling.take(len(p)):
			refusal = fmt.Sprintf("this replica handles %d calls already", n.handling.running())
		}
		if refusal != "" {
			n.stats.callsRefused.Add(1)
			// The reader itself waits here for room: who does not read what it asked for is not asked for more.
			if !h.send(frameRefuse, opaque, []byte(refusal), func() {}) {
				return h.ctx.Err()
			}
			continue
		}
		tasks.Go(func() { h.handle(opaque, wait, request, func() { n.handling.give(len(p)) }) })
	}
}

// handle runs the Handler. The call counts as running until its answer is written.
func (h *handlerConn) handle(opaque uint64, wait uint32, request []byte, done func()) {
	ctx, cancel := h.ctx, context.CancelFunc(func() {})
	if wait > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(wait)*time.Millisecond)
	}
	defer cancel()
	body := h.n.o.Handler(ctx, h.c.id, request)
	if len(body) > h.n.o.FrameBytesMax {
		h.n.log.Error("an answer to a call is too large; the connection is closed", "bytes", len(body), "from", h.c.id)
		h.cancel()  // the outcome is unknown there, which is true
		h.c.Close() //nolint:errcheck // as said
		body = nil
	}
	h.send(frameReply, opaque, body, done)
}

// send queues an answer; it reports whether the connection still stands.
func (h *handlerConn) send(kind byte, opaque uint64, body []byte, done func()) bool {
	r := &reply{body: body, done: done}
	binary.BigEndian.PutUint64(r.head[peerHeadBytes:], opaque)
	if _, err := sealFrame(kind, r.head[:], body); err != nil || h.ctx.Err() != nil {
		done()
		return false
	}
	select {
	case h.queue <- r:
		return true
	case <-h.ctx.Done():
		done()
		return false
	}
}

// write sends what is queued, several answers at once if they are there.
func (h *handlerConn) write() {
	var batch []*reply
	for {
		batch = append(batch[:0], nil)
		select {
		case batch[0] = <-h.queue:
		case <-h.ctx.Done():
			return
		}
		for size := 0; len(batch) < callBatchMax && size < callBatchBytes; size += len(batch[len(batch)-1].body) {
			select {
			case r := <-h.queue:
				batch = append(batch, r)
				continue
			default:
			}
			break
		}
		for _, r := range batch {
			h.c.gather = append(h.c.gather, r.head[:])
			if len(r.body) > 0 {
				h.c.gather = append(h.c.gather, r.body)
			}
		}
		err := h.c.flushWithin(callWriteTimeout)
		for _, r := range batch {
			r.done()
		}
		clear(batch)
		if err != nil {
			h.n.log.Debug("answers to calls are not taken; the connection is closed", "from", h.c.id, "error", err)
			h.cancel()
			h.c.Close() //nolint:errcheck // the reader finds out
			return
		}
	}
}

// drain releases what nobody will write.
func (h *handlerConn) drain() {
	for {
		select {
		case r := <-h.queue:
			r.done()
		default:
			return
		}
	}
}
