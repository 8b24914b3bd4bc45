package remoting

import (
	"fmt"
	"sync"
	"sync/atomic"

	"rmq/remoting/protocol"
)

const (
	// copyMax: bodies up to this size are copied behind their header, longer ones are written from where they are.
	copyMax = 8 << 10
	// headRoom is what a header usually needs; with less left in a buffer the next one is opened.
	headRoom = 512
	// gatherMax: bytes gathered under a cork or a batch before they are written all the same.
	gatherMax = 256 << 10
	// piecesMax: pieces of one vectored write. The kernel takes up to 1,024.
	piecesMax = 64
	// roundsMax: how often a caller that writes goes on with frames queued meanwhile by others, before a
	// writer goroutine takes over. Bounds the time a Reply may take.
	roundsMax = 3
)

// chunk is a run of bytes to be written: encoded frames in a pooled buffer, or one long body.
type chunk struct {
	buf     *buffer // encoded frames, p grows with them
	p       []byte  // set when taken for writing; a body from the start
	release func()  // of a body, may be nil
}

// outbox is the sending half of a connection: a queue of encoded frames and the right to write them, which one
// goroutine holds at a time. Safe for concurrent use.
type outbox struct {
	conn *Conn

	mu      sync.Mutex
	queue   []chunk
	queued  int           // bytes in queue
	flying  int           // bytes the writer has taken and not yet written
	charged int64         // of these two, what is entered in host.outbound
	corked  bool          // the read loop is about to flush
	dead    bool          // nothing is taken any more
	writing bool          // somebody holds flight
	batch   *Batch        // the last one that has this connection on its list
	empty   chan struct{} // closed when all is written; set by awaitEmpty
	room    chan struct{} // closed when there is room again; set by awaitRoom

	// Owned by the holder of writing.
	flight []chunk
	first  int // flight[:first] is written
	pieces [][]byte

	// Read by the watch goroutine.
	stalled atomic.Bool   // a writer goroutine waits for the peer to read
	written atomic.Uint64 // bytes, ever
}

// full reports whether the peer is so far behind that no more may be queued. With mu held.
func (o *outbox) full(more int) bool {
	total := o.queued + o.flying
	return o.writing && total > 0 && (total+more > o.conn.host.outboundMax ||
		total > gatherMax && o.conn.host.outbound.Load() > o.conn.host.outboundTotalMax)
}

// answer queues a response. A peer that lets too many of them pile up loses its connection. release, if not
// nil, is called exactly once.
func (o *outbox) answer(cmd *protocol.Command, release func(), b *Batch) error {
	o.mu.Lock()
	if o.dead {
		o.mu.Unlock()
		if release != nil {
			release()
		}
		return ErrConnLost
	}
	if o.full(len(cmd.Body)) {
		o.mu.Unlock()
		if release != nil {
			release()
		}
		o.conn.fail(errSlowReader)
		return errSlowReader
	}
	return o.put(cmd, release, b)
}

// request queues a request, or returns ErrBacklog if the peer does not keep up.
func (o *outbox) request(cmd *protocol.Command) error {
	o.mu.Lock()
	if o.dead {
		o.mu.Unlock()
		return ErrNotSent
	}
	if o.full(len(cmd.Body)) {
		o.mu.Unlock()
		return ErrBacklog
	}
	return o.put(cmd, nil, nil)
}

// put encodes cmd into the queue and has it written, unless somebody else will. Called with mu, returns without.
func (o *outbox) put(cmd *protocol.Command, release func(), b *Batch) error {
	err := o.encode(cmd, release)
	if err != nil {
		o.mu.Unlock()
		if release != nil {
			release()
		}
		return err
	}
	o.charge()
	switch {
	case o.writing || (o.corked || b != nil) && o.queued < gatherMax && o.empty == nil:
		if b != nil && o.batch != b {
			o.batch = b
			b.conns = append(b.conns, o.conn)
		}
		o.mu.Unlock()
	default:
		o.flush()
	}
	if release != nil && len(cmd.Body) <= copyMax {
		release()
	}
	return nil
}

// encode appends cmd to the queue: its head, and its body as a copy or by reference.
func (o *outbox) encode(cmd *protocol.Command, release func()) error {
	need := headRoom
	if len(cmd.Body) <= copyMax {
		need += len(cmd.Body)
	}
	buf := o.tail(need)
	before := len(buf.p)
	p, err := protocol.AppendFrameHead(buf.p, cmd)
	if err != nil {
		return err
	}
	if len(cmd.Body) <= copyMax {
		p = append(p, cmd.Body...)
	} else {
		o.queue = append(o.queue, chunk{p: cmd.Body, release: release})
		o.queued += len(cmd.Body)
	}
	buf.p = p
	o.queued += len(p) - before
	return nil
}

// tail returns the queue's last buffer if need bytes still fit, else a new one, larger the more is queued.
func (o *outbox) tail(need int) *buffer {
	if n := len(o.queue); n > 0 {
		if b := o.queue[n-1].buf; b != nil && cap(b.p)-len(b.p) >= need {
			return b
		}
	}
	b := o.conn.host.pool.get(max(need, min(4*o.queued, scratchSize)))
	o.queue = append(o.queue, chunk{buf: b})
	return b
}

// charge enters in the host's account what waits on a peer that does not keep up. With mu held.
func (o *outbox) charge() {
	var owed int64
	if o.stalled.Load() {
		owed = int64(o.queued + o.flying)
	}
	if owed != o.charged {
		o.conn.host.outbound.Add(owed - o.charged)
		o.charged = owed
	}
}

// cork holds frames back until uncork, to be written together. The read loop's, around a run of frames.
func (o *outbox) cork() {
	o.mu.Lock()
	o.corked = true
	o.mu.Unlock()
}

func (o *outbox) uncork() {
	o.mu.Lock()
	o.corked = false
	o.flushQueued()
}

// flushBatch writes what a batch has gathered, if nobody else does.
func (o *outbox) flushBatch() {
	o.mu.Lock()
	o.flushQueued()
}

// flushQueued is flush where there is something to do. Called with mu, returns without.
func (o *outbox) flushQueued() {
	if o.writing || o.corked || o.dead || o.queued == 0 {
		o.mu.Unlock()
		return
	}
	o.flush()
}

// flush writes the queue as far as the socket takes it without blocking and leaves the rest to a writer
// goroutine. Called with mu and without writing, returns without mu.
func (o *outbox) flush() {
	o.writing = true
	for round := 0; o.conn.sock != nil && round < roundsMax; round++ {
		o.take()
		o.mu.Unlock()
		n, stuck, err := o.send(false)
		if err != nil {
			o.broken(err)
			return
		}
		o.mu.Lock()
		o.flying -= n
		if o.rested() {
			o.mu.Unlock()
			return
		}
		if stuck {
			break
		}
	}
	if o.dead {
		o.mu.Unlock()
		o.broken(ErrConnLost)
		return
	}
	o.stalled.Store(true)
	o.charge()
	o.conn.host.wg.Add(1) // the connection's own goroutine still counts: it ends after dead is set
	o.mu.Unlock()
	go o.writeOn()
}

// writeOn is the writer goroutine: it holds writing from its start to its end.
func (o *outbox) writeOn() {
	defer o.conn.host.wg.Done()
	for {
		o.mu.Lock()
		o.take()
		o.mu.Unlock()
		n, _, err := o.send(true)
		if err != nil {
			o.broken(err)
			return
		}
		o.mu.Lock()
		o.flying -= n
		o.charge()
		if o.rested() {
			o.mu.Unlock()
			return
		}
		o.mu.Unlock()
	}
}

// take moves the queue to the end of flight. With mu and writing held.
func (o *outbox) take() {
	if o.first > 0 {
		n := copy(o.flight, o.flight[o.first:])
		clear(o.flight[n:])
		o.flight, o.first = o.flight[:n], 0
	}
	for _, c := range o.queue {
		if c.buf != nil {
			c.p = c.buf.p
		}
		o.flight = append(o.flight, c)
	}
	clear(o.queue)
	o.queue = o.queue[:0]
	o.flying += o.queued
	o.queued = 0
	o.batch = nil
}

// send writes from flight what one system call takes, lets go of what is written, and reports how many bytes
// that was and whether the socket took less than it was offered. With writing held and without mu.
func (o *outbox) send(wait bool) (n int, stuck bool, err error) {
	pieces, offered := o.pieces[:0], 0
	for i := o.first; i < len(o.flight) && len(pieces) < piecesMax; i++ {
		if p := o.flight[i].p; len(p) > 0 {
			pieces = append(pieces, p)
			offered += len(p)
		}
	}
	if offered > 0 {
		n, err = o.conn.write(pieces, wait)
	}
	clear(pieces)
	o.pieces = pieces[:0]
	left := n
	for o.first < len(o.flight) && left >= len(o.flight[o.first].p) {
		left -= len(o.flight[o.first].p)
		o.conn.host.free(&o.flight[o.first])
		o.first++
	}
	if left > 0 {
		o.flight[o.first].p = o.flight[o.first].p[left:]
	}
	if n > 0 {
		o.written.Add(uint64(n))
		o.conn.active()
	}
	return n, n < offered, err
}

// rested gives writing back if there is nothing to write, and says whether it did. With mu and writing held.
func (o *outbox) rested() bool {
	o.signal()
	if o.queued+o.flying > 0 {
		return false
	}
	o.writing = false
	o.stalled.Store(false)
	o.charge()
	if cap(o.flight) > piecesMax {
		o.flight, o.first, o.queue, o.pieces = nil, 0, nil, nil
	}
	return true
}

// signal wakes who waits for less to be queued. With mu held.
func (o *outbox) signal() {
	total := o.queued + o.flying
	if o.room != nil && (o.dead || total <= o.conn.host.outboundMax/2) {
		close(o.room)
		o.room = nil
	}
	if o.empty != nil && (o.dead || total == 0) {
		close(o.empty)
		o.empty = nil
	}
	if total <= o.conn.host.outboundMax/8 {
		o.conn.resume()
	}
}

// broken ends writing, and with it the connection. With writing held and without mu.
func (o *outbox) broken(err error) {
	for i := o.first; i < len(o.flight); i++ {
		o.conn.host.free(&o.flight[i])
	}
	o.mu.Lock()
	o.flight, o.first, o.pieces, o.flying = nil, 0, nil, 0
	o.writing = false
	o.stalled.Store(false)
	o.charge()
	o.mu.Unlock()
	o.conn.fail(fmt.Errorf("write: %w", err))
}

// kill drops the queue and takes nothing more. A writer, if there is one, fails on the closed connection.
func (o *outbox) kill() {
	o.mu.Lock()
	o.dead = true
	queue := o.queue
	o.queue, o.queued, o.batch = nil, 0, nil
	o.charge()
	o.signal()
	o.mu.Unlock()
	for i := range queue {
		o.conn.host.free(&queue[i])
	}
}

// backlog returns the bytes that wait to be written.
func (o *outbox) backlog() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queued + o.flying
}

// awaitRoom returns a channel that is closed when more may be queued, or nil if that is so now.
func (o *outbox) awaitRoom(more int) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead || !o.full(more) {
		return nil
	}
	if o.room == nil {
		o.room = make(chan struct{})
	}
	return o.room
}

// awaitEmpty returns a channel that is closed when all is written or lost, or nil if that is so now. It has
// written what a batch or the read loop was still gathering.
func (o *outbox) awaitEmpty() <-chan struct{} {
	o.mu.Lock()
	if o.dead || o.queued+o.flying == 0 {
		o.mu.Unlock()
		return nil
	}
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	empty := o.empty
	o.corked = false
	o.flushQueued()
	return empty
}
