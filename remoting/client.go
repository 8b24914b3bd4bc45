package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	"rmq/remoting/protocol"
)

// ClientOptions of NewClient. A value that is not positive takes the default in brackets.
type ClientOptions struct {
	Mux    *Mux         // for requests that peers send [answers REQUEST_CODE_NOT_SUPPORTED]
	Logger *slog.Logger // [discards]

	ConnectTimeout   time.Duration // of a dial and its TLS handshake [3 s]
	CallTimeout      time.Duration // of a Call without a deadline of its own [3 s]
	IdleTimeout      time.Duration // without a byte in either direction a connection ends [120 s]
	WriteTimeout     time.Duration // without the peer taking a byte of what is to be written [10 s]
	OutboundBytesMax int           // that wait for one peer to read them [32 MiB]; beyond it calls wait or fail
	CallsMax         int           // that wait for one connection's answers [65,536]; beyond it: ErrBacklog

	TLSConfig *tls.Config // nil: plain
}

func (o *ClientOptions) setDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	orElse(&o.ConnectTimeout, 3*time.Second)
	orElse(&o.CallTimeout, 3*time.Second)
	orElse(&o.IdleTimeout, 120*time.Second)
	orElse(&o.WriteTimeout, 10*time.Second)
	orElse(&o.OutboundBytesMax, 32<<20)
	orElse(&o.CallsMax, 1<<16)
}

// orElse sets *v to def unless it is positive.
func orElse[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Client sends requests to any number of addresses, over one shared connection to each, which is dialled when it
// is needed and again after it was lost. Safe for concurrent use.
type Client struct {
	host           *host
	connectTimeout time.Duration
	tls            *tls.Config
	ctx            context.Context // of dials; ends with Close
	cancel         context.CancelFunc

	mu     sync.RWMutex
	peers  map[string]*peer
	closed bool

	closeOnce sync.Once
}

// peer is an address and the shared connection to it. Its members are guarded by Client.mu; conn and err do not
// change once ready is closed.
type peer struct {
	addr    string
	ready   chan struct{} // closed when the dial has ended
	conn    *Conn
	err     error
	waiting []func(*Conn, error) // to be called when the dial has ended
}

// NewClient returns a Client without connections. Close it.
func NewClient(o ClientOptions) *Client {
	o.setDefaults()
	c := &Client{
		host: &host{
			log:              o.Logger,
			routes:           o.Mux.snapshot(),
			connsMax:         math.MaxInt,
			inflightMax:      clientInflightMax,
			callsMax:         o.CallsMax,
			outboundMax:      o.OutboundBytesMax,
			outboundTotalMax: math.MaxInt64,
			callTimeout:      o.CallTimeout,
			limits:           timeouts{o.ConnectTimeout, frameTimeout, o.IdleTimeout, o.WriteTimeout},
			inbound:          budget{max: math.MaxInt64},
		},
		connectTimeout: o.ConnectTimeout,
		tls:            o.TLSConfig,
		peers:          make(map[string]*peer),
	}
	c.host.tick = c.host.limits.tick(deadlineTick)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.host.start()
	return c
}

const (
	clientInflightMax = 256                    // requests of one peer being handled
	frameTimeout      = 30 * time.Second       // from the first byte of an answer to its last
	deadlineTick      = 100 * time.Millisecond // how late a deadline of CallAsync may be noticed
)

// Dial opens a connection of its own beside the shared one, for callers that want several to one address. It lives
// until it is closed, lost or idle for too long, or the Client is closed.
func (c *Client) Dial(ctx context.Context, addr string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.connectTimeout)
	defer cancel()
	nc, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	conn := newConn(c.host, nc, false)
	if c.tls != nil {
		conn.sock = nil
		conn.nc, err = c.handshake(ctx, nc, addr)
	}
	if err == nil {
		err = c.host.adopt(conn)
	}
	if err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrNotSent, addr, err)
	}
	return conn, nil
}

// handshake puts TLS over nc.
func (c *Client) handshake(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	config := c.tls
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	t := tls.Client(nc, config)
	return t, t.HandshakeContext(ctx)
}

// Call is Conn.Call on the shared connection to addr, which is dialled if there is none.
func (c *Client) Call(ctx context.Context, addr string, cmd *protocol.Command) (*protocol.Command, error) {
	var resp *protocol.Command
	err := c.with(ctx, addr, func(conn *Conn) (err error) {
		resp, err = conn.Call(ctx, cmd)
		return err
	})
	return resp, err
}

// Oneway is Conn.Oneway on the shared connection to addr, which is dialled if there is none.
func (c *Client) Oneway(ctx context.Context, addr string, cmd *protocol.Command) error {
	return c.with(ctx, addr, func(conn *Conn) error { return conn.Oneway(ctx, cmd) })
}

// with runs use on the shared connection to addr, and on a new one if that ended before anything was sent.
func (c *Client) with(ctx context.Context, addr string, use func(*Conn) error) error {
	for again := true; ; again = false {
		conn, err := c.conn(ctx, addr)
		if err == nil {
			err = use(conn)
			if again && errors.Is(err, ErrNotSent) {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
		return nil
	}
}

// CallAsync is Conn.CallAsync on the shared connection to addr. While that is being dialled, the call waits for it;
// done then gets a failed dial's error.
func (c *Client) CallAsync(addr string, cmd *protocol.Command, deadline time.Time, done func(*protocol.Command, error)) {
	if conn := c.live(addr); conn != nil {
		conn.CallAsync(cmd, deadline, done)
		return
	}
	c.mu.Lock()
	p, err := c.peer(addr)
	switch {
	case err != nil:
	case p.conn == nil && len(p.waiting) >= c.host.callsMax:
		err = ErrBacklog
	case p.conn == nil:
		p.waiting = append(p.waiting, func(conn *Conn, err error) {
			if err != nil {
				done(nil, fmt.Errorf("%s: %w", addr, err))
				return
			}
			conn.CallAsync(cmd, deadline, done)
		})
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if err != nil {
		done(nil, fmt.Errorf("%s: %w", addr, err))
		return
	}
	p.conn.CallAsync(cmd, deadline, done)
}

// conn returns the shared connection to addr, dialled if need be.
func (c *Client) conn(ctx context.Context, addr string) (*Conn, error) {
	if conn := c.live(addr); conn != nil {
		return conn, nil
	}
	c.mu.Lock()
	p, err := c.peer(addr)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-p.ready:
		return p.conn, p.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrNotSent, ctx.Err())
	}
}

// live returns the shared connection to addr if there is one.
func (c *Client) live(addr string) *Conn {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p := c.peers[addr]; p != nil && p.conn != nil && !p.conn.failed.Load() {
		return p.conn
	}
	return nil
}

// peer returns the entry of addr, new and being dialled unless one is live or being dialled. With mu held.
func (c *Client) peer(addr string) (*peer, error) {
	if c.closed {
		return nil, ErrClosed
	}
	if p := c.peers[addr]; p != nil && (p.conn == nil || !p.conn.failed.Load()) {
		return p, nil
	}
	p := &peer{addr: addr, ready: make(chan struct{})}
	c.peers[addr] = p
	c.host.wg.Add(1)
	go c.dial(p)
	return p, nil
}

// dial connects p and tells those who wait. It outlives the caller that asked first: others wait as well.
func (c *Client) dial(p *peer) {
	defer c.host.wg.Done()
	conn, err := c.Dial(c.ctx, p.addr)
	c.mu.Lock()
	p.conn, p.err = conn, err
	waiting := p.waiting
	p.waiting = nil
	if err != nil {
		c.forget(p)
	}
	c.mu.Unlock()
	close(p.ready)
	if conn != nil {
		conn.OnClose(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.forget(p)
		})
	}
	for _, f := range waiting {
		f(conn, err)
	}
}

// forget removes p unless a newer entry has its place. With mu held.
func (c *Client) forget(p *peer) {
	if c.peers[p.addr] == p {
		delete(c.peers, p.addr)
	}
}

// Close writes what is queued, ends all connections, fails what is in flight with ErrClosed and waits for every
// goroutine. It must not be called from a handler or callback.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		c.cancel()
		for _, conn := range c.host.shut() {
			conn.Close()
		}
		c.host.stop()
	})
	return nil
}
