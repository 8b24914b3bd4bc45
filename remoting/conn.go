package remoting

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"rmq/remoting/protocol"
)

var errUnwritten = errors.New("remoting: not written yet")

// Named errors of calls and pushes.
var (
	ErrClosed   = errors.New("remoting: closed")                           // by this side
	ErrConnLost = errors.New("remoting: connection lost")                  // before the answer; the peer may have acted
	ErrTimeout  = errors.New("remoting: no answer in time")                // the peer may have acted
	ErrBacklog  = errors.New("remoting: too much waits on the connection") // nothing was sent
)

// Conn is one connection, accepted or dialled. Both ends may ask and answer.
type Conn struct{}

func (c *Conn) RemoteAddr() netip.AddrPort { return netip.AddrPort{} }
func (c *Conn) LocalAddr() netip.AddrPort  { return netip.AddrPort{} }
func (c *Conn) ID() uint64                 { return 0 }

// Push sends a oneway request, never blocks; ErrBacklog when the peer does not keep up.
func (c *Conn) Push(cmd *protocol.Command) error { return errUnwritten }

// Oneway is Push that waits for room.
func (c *Conn) Oneway(ctx context.Context, cmd *protocol.Command) error { return errUnwritten }

// Call sends a request and waits for its answer, which the caller owns.
func (c *Conn) Call(ctx context.Context, cmd *protocol.Command) (*protocol.Command, error) {
	return nil, errUnwritten
}

// CallAsync sends a request and calls done exactly once, on the connection's read loop: done must not block, and
// the answer and its body are valid only until done returns. Never blocks.
func (c *Conn) CallAsync(cmd *protocol.Command, deadline time.Time, done func(*protocol.Command, error)) {
}

// OnClose has f called once when the connection is gone; at once if it already is.
func (c *Conn) OnClose(f func()) {}

// Done is closed when the connection is gone.
func (c *Conn) Done() <-chan struct{} { return nil }

// Close ends the connection once what is queued is written; it does not wait.
func (c *Conn) Close() {}

func (c *Conn) Value(key any) any     { return nil }
func (c *Conn) SetValue(key, val any) {}
