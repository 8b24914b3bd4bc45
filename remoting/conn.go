package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rmq/remoting/protocol"
)

// Conn is one connection, accepted by a Server or dialled by a Client. Both ends may ask and both may answer.
// All exported methods are safe for concurrent use.
type Conn struct {
	host          *host
	id            uint64
	remote, local netip.AddrPort
	server        bool              // accepted, not dialled
	greet         func(*Conn) error // set for accepted connections: tells TLS from plain by the first byte

	tcp  net.Conn // what was accepted or dialled
	nc   net.Conn // tcp, or TLS over it
	sock *socket  // over tcp; nil if there is none here, or for TLS

	// Owned by the read loop.
	in  reader
	cmd *protocol.Command // reused from frame to frame

	out   outbox
	calls calls

	codec    atomic.Uint32 // of the peer's last frame
	inflight atomic.Int64  // requests being handled and not parked
	paused   atomic.Bool   // the read loop waits in await
	turn     chan struct{} // wakes it
	stopping atomic.Uint32 // one of stop...

	// For the watch goroutine.
	activity atomic.Bool   // bytes went since it last looked
	waits    atomic.Uint32 // one of waitsFor...
	frames   atomic.Uint64 // received
	seen     sight

	failed atomic.Bool
	err    error         // why the connection ended; set before done is closed
	done   chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	values map[any]any
	hooks  []func()
	gone   bool // the hooks have run
}

// How far a planned end has come.
const (
	stopNot   uint32 = iota
	stopDrain        // refuse further requests; end when those at hand are answered and that is written
	stopFlush        // read no more; end when what is queued is written
)

var errStopped = errors.New("remoting: reading stopped")

func newConn(h *host, nc net.Conn, server bool) *Conn {
	c := &Conn{
		host:   h,
		remote: addrPort(nc.RemoteAddr()),
		local:  addrPort(nc.LocalAddr()),
		server: server,
		tcp:    nc,
		nc:     nc,
		in:     reader{pool: &h.pool, budget: &h.inbound},
		cmd:    new(protocol.Command),
		calls:  calls{max: h.callsMax},
		turn:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	c.out.conn = c
	c.sock = newSocket(nc, &c.in)
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// RemoteAddr returns the peer's address; an IPv4 address is never written as IPv6.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr returns the address of this end, which tells the port that was dialled.
func (c *Conn) LocalAddr() netip.AddrPort { return c.local }

// ID returns a number that no other connection of the same Server or Client has or had.
func (c *Conn) ID() uint64 { return c.id }

// Push sends a oneway request without ever blocking. It fails with ErrBacklog when the peer does not keep up
// and with ErrNotSent when it is gone. nil means that the request is queued, not that it arrived. The same cmd
// may be pushed to many connections; its Body must not change afterwards.
func (c *Conn) Push(cmd *protocol.Command) error {
	out := *cmd
	out.Opaque = c.calls.nextOpaque()
	out.MarkOneway()
	c.choose(&out)
	return c.out.request(&out)
}

// Oneway is Push that waits for room until ctx ends.
func (c *Conn) Oneway(ctx context.Context, cmd *protocol.Command) error {
	for {
		if err := c.awaitRoom(ctx, cmd); err != nil {
			return err
		}
		if err := c.Push(cmd); !errors.Is(err, ErrBacklog) {
			return err
		}
	}
}

// Call sends a request and waits for its answer, which then belongs to the caller, whatever its code. Without a
// deadline in ctx the host's CallTimeout applies. A full connection is waited for. Errors: ErrNotSent, ErrClosed,
// ErrConnLost, ErrTimeout, or ctx's own; of these only ErrNotSent says that the peer has not acted.
// It must not be used on the connection's own read loop (Inline handlers, callbacks of CallAsync).
func (c *Conn) Call(ctx context.Context, cmd *protocol.Command) (*protocol.Command, error) {
	if err := c.awaitRoom(ctx, cmd); err != nil {
		return nil, err
	}
	// On every way out nobody else holds the channel any more, so it can serve again.
	ch, ok := c.host.waiters.Get().(chan answer)
	if !ok {
		ch = make(chan answer, 1)
	}
	defer c.host.waiters.Put(ch)
	w := call{ch: ch}
	if _, ok := ctx.Deadline(); !ok {
		w.deadline = time.Now().Add(c.host.callTimeout)
	}
	opaque, err := c.send(w, cmd)
	if err != nil {
		return nil, err
	}
	select {
	case a := <-w.ch:
		return a.cmd, a.err
	case <-ctx.Done():
	}
	if _, waits := c.calls.take(opaque); !waits {
		a := <-w.ch // on its way
		return a.cmd, a.err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
	return nil, ctx.Err()
}

// CallAsync sends a request and calls done exactly once, with the answer or one of Call's errors or ErrBacklog. It
// never blocks. done runs on the connection's read loop, or (on an error) on any other goroutine, even before
// CallAsync returns: it must not block, and may call CallAsync again except after an error. The answer and its
// body are valid only until done returns; Clone keeps one. A deadline is met to within a fraction of a second; with the zero
// time there is none but the connection's end.
func (c *Conn) CallAsync(cmd *protocol.Command, deadline time.Time, done func(*protocol.Command, error)) {
	if _, err := c.send(call{deadline: deadline, done: done}, cmd); err != nil {
		done(nil, err)
	}
}

// send enters w and queues cmd. After an error w is not and will not be ended.
func (c *Conn) send(w call, cmd *protocol.Command) (int32, error) {
	opaque, err := c.calls.add(w)
	if err != nil {
		return 0, err
	}
	out := *cmd
	out.Opaque = opaque
	c.choose(&out)
	if err := c.out.request(&out); err != nil {
		if _, waits := c.calls.take(opaque); waits {
			return 0, err
		}
	}
	return opaque, nil
}

// choose sets the header codec of a request: a server speaks as the peer last did.
func (c *Conn) choose(cmd *protocol.Command) {
	if c.server {
		cmd.Codec = protocol.Codec(c.codec.Load())
	}
}

// awaitRoom blocks while the peer is too far behind to take cmd.
func (c *Conn) awaitRoom(ctx context.Context, cmd *protocol.Command) error {
	for {
		room := c.out.awaitRoom(len(cmd.Body))
		if room == nil {
			return ctx.Err()
		}
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrBacklog, ctx.Err())
		}
	}
}

// OnClose has f called once when the connection has ended, on the connection's goroutine; if it has ended
// already, before OnClose returns.
func (c *Conn) OnClose(f func()) {
	c.mu.Lock()
	if !c.gone {
		c.hooks = append(c.hooks, f)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	f()
}

// Done is closed when the connection has ended. Handlers that wait for something end with it.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close reads no more and ends the connection once what is queued is written, or WriteTimeout has passed
// without progress. It does not wait: Done and OnClose tell the end.
func (c *Conn) Close() { c.stop(stopFlush) }

// Value returns what SetValue stored under key, nil if nothing.
func (c *Conn) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.values[key]
}

// SetValue stores val under key for the life of the connection.
func (c *Conn) SetValue(key, val any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.values == nil {
		c.values = make(map[any]any)
	}
	c.values[key] = val
}

// stop begins a planned end.
func (c *Conn) stop(how uint32) {
	if !c.stopping.CompareAndSwap(stopNot, how) {
		return
	}
	c.interrupt()
	c.wake()
}

// interrupt ends a wait of the read loop for bytes.
func (c *Conn) interrupt() {
	_ = c.tcp.SetReadDeadline(time.Unix(1, 0)) // if it fails the connection is gone, which ends the wait too
}

// fail ends the connection at once, for the first reason given. Any goroutine, never blocks. The rest of the
// end is the read loop's.
func (c *Conn) fail(err error) {
	if !c.failed.CompareAndSwap(false, true) {
		return
	}
	c.err = err
	close(c.done)
	if tcp, ok := c.tcp.(*net.TCPConn); ok && c.server && !resets(err) {
		// Accepted sockets are reset when the process dies; a planned end lets the last bytes arrive.
		_ = tcp.SetLinger(-1)
	}
	_ = c.tcp.Close()
	c.out.kill()
}

// resets reports whether a connection that ends for a reason is reset. After a pause it must be: at a mere end of the
// stream older clients go on waiting for the answers to what they have asked, a pull for 30 s.
func resets(err error) bool {
	return errors.Is(err, errSlowReader) || errors.Is(err, errWriteTimeout) || errors.Is(err, errAborted) || errors.Is(err, errPaused)
}

// serve is the connection's goroutine.
func (c *Conn) serve() {
	defer c.host.wg.Done()
	err := c.read()
	if errors.Is(err, errStopped) {
		c.part()
		err = ErrClosed
	}
	c.fail(err)
	c.out.kill() // also if another goroutine is still on its way through fail
	c.in.release()
	<-c.done
	lost := c.err
	if !errors.Is(lost, ErrClosed) {
		lost = fmt.Errorf("%w: %w", ErrConnLost, c.err)
	}
	for _, w := range c.calls.close() {
		c.end(w, nil, lost)
	}
	c.host.note(c) // before drop: who sees the connection gone sees it counted
	c.host.drop(c)
	c.mu.Lock()
	hooks := c.hooks
	c.hooks, c.gone = nil, true
	c.mu.Unlock()
	for _, f := range hooks {
		c.runHook(f)
	}
}

func (c *Conn) runHook(f func()) {
	defer c.outlive("close hook", 0)
	f()
}

// part ends a conversation politely: the last bytes leave, the peer is told that no more will come, and what it
// still sends is dropped for a moment. Closing with received bytes unread would reset the connection, and with
// it take back answers on their way.
func (c *Conn) part() {
	if empty := c.out.awaitEmpty(); empty != nil {
		<-empty
	}
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	tcp, ok := c.tcp.(*net.TCPConn)
	if !ok || tcp.CloseWrite() != nil || tcp.SetReadDeadline(time.Now().Add(lingerMax)) != nil {
		return
	}
	for c.fill() == nil {
		c.in.release()
	}
}

// lingerMax is how long the peer has to end its side after this side has.
const lingerMax = 500 * time.Millisecond

// drained is asked by the read loop after its wait was cut short. It reports whether a planned end has nothing
// left to wait for; otherwise the next wait goes on until left says so.
func (c *Conn) drained() bool {
	if c.stopping.Load() == stopFlush {
		return true
	}
	return c.tcp.SetReadDeadline(time.Time{}) != nil || c.inflight.Load() == 0
}

// await blocks the read loop until ok, which is asked again after each resume, or until the connection ends.
func (c *Conn) await(ok func() bool) {
	c.paused.Store(true)
	defer c.paused.Store(false)
	for !ok() {
		select {
		case <-c.turn:
		case <-c.done:
			return
		}
	}
}

// resume has a waiting read loop look again.
func (c *Conn) resume() {
	if c.paused.Load() {
		c.wake()
	}
}

func (c *Conn) wake() {
	select {
	case c.turn <- struct{}{}:
	default:
	}
}

// active notes for the watch goroutine that bytes went.
func (c *Conn) active() {
	if !c.activity.Load() {
		c.activity.Store(true)
	}
}

// write hands pieces to the kernel, maybe not all of them. Without wait it takes what goes without blocking; that
// is for sockets only.
func (c *Conn) write(pieces [][]byte, wait bool) (n int, err error) {
	if c.sock != nil {
		n, err = c.sock.write(pieces, wait)
	} else {
		// Little at a time, so that the watch goroutine sees progress.
		n, err = c.nc.Write(pieces[0][:min(len(pieces[0]), scratchSize)])
	}
	c.host.count.bytesOut.Add(uint64(n))
	return n, err
}

// fill waits for bytes and puts them into c.in.
func (c *Conn) fill() error {
	waits := waitsForNothing
	if c.in.buffered() > 0 {
		waits = waitsForFrame
		if c.server && c.frames.Load() == 0 && c.in.whole() <= scratchSize {
			waits = waitsForFirst
		}
		c.waits.Store(waits)
	}
	var n int
	var err error
	if c.sock != nil {
		n, err = c.sock.fill()
	} else {
		n, err = c.fillStream()
	}
	if waits != waitsForNothing {
		c.waits.Store(waitsForNothing)
	}
	if n > 0 {
		c.active()
		c.host.count.bytesIn.Add(uint64(n))
		return nil
	}
	return err
}

// fillStream is fill for TLS, which has to hold memory while it waits, if only a little.
func (c *Conn) fillStream() (int, error) {
	c.in.relax()
	if err := c.in.prepare(bufferMin); err != nil {
		return 0, err
	}
	n, err := c.nc.Read(c.in.room())
	c.in.received(n)
	if n > 0 {
		return n, nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return 0, err
}
