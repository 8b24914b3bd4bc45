package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of frames on a stream of calls.
const (
	frameCall   = 0x10 // opaque u64, milliseconds that the caller waits u32 (0: no end), request
	frameReply  = 0x11 // opaque u64, what the Handler returned
	frameRefuse = 0x12 // opaque u64, why the Handler was not asked

	callHeadBytes  = peerHeadBytes + 12
	replyHeadBytes = peerHeadBytes + 8

	callQueueMax     = 1024      // frames that wait to be written on one connection
	callBatchMax     = 64        // frames written at once
	callBatchBytes   = 256 << 10 // likewise
	callWriteTimeout = 10 * time.Second
)

// Outcomes of a Call that failed.
var (
	// ErrPeerNotSent: the other replica's Handler has not seen the request and will not.
	ErrPeerNotSent = errors.New("raftlog: the call was not sent")
	// ErrPeerUncertain: the other replica's Handler may have seen the request.
	ErrPeerUncertain = errors.New("raftlog: the outcome of the call is unknown")
)

// callTable has the connection for calls to each replica.
type callTable struct {
	n *PeerNet

	mu  sync.Mutex
	all map[string]*callSlot
}

// callSlot is a connection or the attempt to get one. conn and err are set when ready is closed.
type callSlot struct {
	ready chan struct{}
	conn  *callConn
	err   error
}

func (t *callTable) init(n *PeerNet) { t.n, t.all = n, make(map[string]*callSlot) }

// conn returns the connection to addr, making it if there is none. Those who come meanwhile share the attempt.
func (t *callTable) conn(ctx context.Context, addr string) (*callConn, error) {
	t.mu.Lock()
	s := t.all[addr]
	if s == nil {
		s = &callSlot{ready: make(chan struct{})}
		if !t.n.tasks.spawn(func() { t.connect(addr, s) }) {
			t.mu.Unlock()
			return nil, ErrClosed
		}
		t.all[addr] = s
	}
	t.mu.Unlock()
	select {
	case <-s.ready:
		return s.conn, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect fills a slot and then reads its connection until it ends.
func (t *callTable) connect(addr string, s *callSlot) {
	c, err := t.n.dial(t.n.ctx, addr, streamCalls, "")
	if err == nil && !t.n.out.add(c) {
		err = joinClose(errors.New("raftlog: too many connections, or closed"), c)
	}
	if err != nil {
		s.err = err
		t.remove(addr, s)
		close(s.ready)
		return
	}
	cc := &callConn{c: c, queue: make(chan *call, callQueueMax), dead: make(chan struct{}), pending: make(map[uint64]*call), max: t.n.o.CallsOutMax}
	s.conn = cc
	written := make(chan struct{})
	if !t.n.tasks.spawn(func() { cc.write(); close(written) }) {
		close(written)
	}
	close(s.ready)
	err = cc.read()
	t.remove(addr, s)
	cc.fail(err)
	t.n.out.drop(c)
	<-written
}

func (t *callTable) remove(addr string, s *callSlot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[addr] == s {
		delete(t.all, addr)
	}
}

// States of a call.
const (
	callQueued    = iota // nobody has begun to write it
	callWritten          // or partly so
	callAbandoned        // it will not be written
)

// call is a request that waits for its answer.
type call struct {
	opaque  uint64
	head    [callHeadBytes]byte
	request []byte
	state   atomic.Int32
	answer  chan callAnswer // holds one
}

type callAnswer struct {
	reply []byte
	err   error
}

// notWritten reports whether the call will never be written, making sure of it if it can.
func (k *call) notWritten() bool {
	return k.state.CompareAndSwap(callQueued, callAbandoned) || k.state.Load() == callAbandoned
}

// failed gives err the class that the call's state asks for.
func (k *call) failed(err error) error {
	if k.notWritten() {
		return fmt.Errorf("%w: %w", ErrPeerNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrPeerUncertain, err)
}

// callConn is the calling end of a stream of calls.
type callConn struct {
	c     *peerConn
	max   int
	queue chan *call
	dead  chan struct{} // closed by fail

	mu      sync.Mutex
	pending map[uint64]*call
	last    uint64 // opaque
	err     error  // why it is dead
}

// Call sends request to the Handler of the replica at addr and returns the answer. Any number of calls share one connection. The
// error wraps ErrPeerNotSent or ErrPeerUncertain. request must not be changed afterwards, even if Call fails.
func (n *PeerNet) Call(ctx context.Context, addr string, request []byte) ([]byte, error) {
	if len(request) > n.o.FrameBytesMax {
		return nil, fmt.Errorf("%w: request of %d bytes, the limit is %d", ErrPeerNotSent, len(request), n.o.FrameBytesMax)
	}
	for again := true; ; again = false {
		cc, err := n.calls.conn(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPeerNotSent, err)
		}
		k := &call{request: request, answer: make(chan callAnswer, 1)}
		if err := cc.register(k); err != nil {
			if again && !errors.Is(err, errTooManyCalls) { // the connection has just ended
				n.calls.forgetDead(addr, cc)
				continue
			}
			return nil, fmt.Errorf("%w: %w", ErrPeerNotSent, err)
		}
		n.stats.callsOut.Add(1)
		return cc.do(ctx, k)
	}
}

// forgetDead lets the next call make a new connection without waiting for the old one's reader.
func (t *callTable) forgetDead(addr string, cc *callConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.all[addr]; s != nil && s.conn == cc {
		delete(t.all, addr)
	}
}

// reset ends all connections: the next calls make new ones.
func (t *callTable) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, s := range t.all {
		delete(t.all, addr)
		t.n.tasks.spawn(func() {
			if <-s.ready; s.conn != nil {
				s.conn.c.Close() //nolint:errcheck // who waits for an answer finds out
			}
		})
	}
}

var errTooManyCalls = errors.New("too many calls wait for their answer")

// register gives the call its number.
func (cc *callConn) register(k *call) error {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.err != nil {
		return cc.err
	}
	if len(cc.pending) >= cc.max {
		return errTooManyCalls
	}
	cc.last++
	k.opaque = cc.last
	cc.pending[k.opaque] = k
	return nil
}

func (cc *callConn) unregister(k *call) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	delete(cc.pending, k.opaque)
}

// do sends a registered call and waits for its answer.
func (cc *callConn) do(ctx context.Context, k *call) ([]byte, error) {
	defer cc.unregister(k)
	binary.BigEndian.PutUint64(k.head[peerHeadBytes:], k.opaque)
	if deadline, ok := ctx.Deadline(); ok {
		left := min(max(time.Until(deadline).Milliseconds(), 1), 1<<31)
		binary.BigEndian.PutUint32(k.head[peerHeadBytes+8:], uint32(left))
	}
	if _, err := sealFrame(frameCall, k.head[:], k.request); err != nil {
		return nil, k.failed(err)
	}
	select {
	case cc.queue <- k:
	case <-cc.dead:
	case <-ctx.Done():
		return nil, k.failed(ctx.Err())
	}
	select {
	case a := <-k.answer:
		return a.reply, a.err
	case <-ctx.Done():
		return nil, k.failed(ctx.Err())
	}
}

// write sends what is queued, several calls at once if they are there.
func (cc *callConn) write() {
	for {
		var k *call
		select {
		case k = <-cc.queue:
		case <-cc.dead:
			return
		}
		size := 0
		for n := 0; ; n++ {
			if k.state.CompareAndSwap(callQueued, callWritten) {
				cc.c.gather = append(cc.c.gather, k.head[:])
				if len(k.request) > 0 {
					cc.c.gather = append(cc.c.gather, k.request)
				}
				size += len(k.head) + len(k.request)
			}
			if n == callBatchMax || size >= callBatchBytes {
				break
			}
			select {
			case k = <-cc.queue:
				continue
			default:
			}
			break
		}
		if err := cc.c.flushWithin(callWriteTimeout); err != nil {
			cc.fail(err)
			return
		}
	}
}

// flushWithin writes what has been gathered.
func (c *peerConn) flushWithin(limit time.Duration) error {
	if len(c.gather) == 0 {
		return nil
	}
	if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	return c.flushGather()
}

// read delivers answers until the connection ends.
func (cc *callConn) read() error {
	for {
		kind, p, err := cc.c.readFrame()
		if err != nil {
			return err
		}
		r := fieldReader{b: p}
		opaque := r.u64()
		if r.bad || kind != frameReply && kind != frameRefuse {
			return &badFrame{fmt.Errorf("an answer to a call of kind %d and %d bytes", kind, len(p))}
		}
		cc.mu.Lock()
		k := cc.pending[opaque]
		delete(cc.pending, opaque)
		cc.mu.Unlock()
		switch {
		case k == nil: // its caller has given up
		case kind == frameReply:
			k.answer <- callAnswer{reply: r.b}
		default:
			k.answer <- callAnswer{err: fmt.Errorf("%w: %s", ErrPeerNotSent, r.b)}
		}
	}
}

// fail ends the connection and all calls on it.
func (cc *callConn) fail(err error) {
	cc.mu.Lock()
	if cc.err != nil {
		cc.mu.Unlock()
		return
	}
	cc.err = err
	lost := cc.pending
	cc.pending = make(map[uint64]*call)
	close(cc.dead)
	cc.mu.Unlock()
	cc.c.Close() //nolint:errcheck // the reader finds out
	for _, k := range lost {
		k.answer <- callAnswer{err: k.failed(err)}
	}
}
