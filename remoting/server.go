package remoting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

// ServerOptions of Listen. A zero value takes the default in brackets.
type ServerOptions struct {
	Addrs  []string // host:port to listen on; port 0 takes a free one
	Mux    *Mux
	Logger *slog.Logger // [discards]

	// ConnsMax bounds the connections over all addresses [20,000]. One more is reset at once.
	ConnsMax int
	// InflightPerConnMax bounds the requests of one connection that are neither answered nor parked [1,024]. At
	// the bound the connection is not read until a quarter of them is done, so that TCP slows the peer down.
	InflightPerConnMax int
	// OutboundBytesMax bounds the answers that wait for one peer to read them [32 MiB]. From a quarter of it on
	// the connection is not read; beyond it, it is reset.
	OutboundBytesMax int
	// OutboundBytesTotalMax bounds the same over all connections [1 GiB]. Beyond it, the next connection that
	// adds to a backlog of its own is reset.
	OutboundBytesTotalMax int64
	// InboundBytesTotalMax bounds the memory of half-received frames above 64 KiB, and of unanswered Spawn requests
	// above 4 KiB [1 GiB]. Beyond it, the next connection that needs more for a frame is closed, and the next such
	// request is answered SYSTEM_BUSY.
	InboundBytesTotalMax int64

	// FirstFrameTimeout [5 s] is for a TLS handshake, and then for the first frame from its first byte on, unless
	// that is longer than 64 KiB. A connection on which nothing comes has IdleTimeout.
	FirstFrameTimeout time.Duration
	FrameTimeout      time.Duration // for a frame from its first byte on [30 s]
	IdleTimeout       time.Duration // without a byte in either direction [120 s]
	WriteTimeout      time.Duration // without the peer taking a byte of what is to be written [10 s]
	CallTimeout       time.Duration // of Conn.Call without a deadline of its own [10 s]

	// PauseMax is for how long the process may be stopped (SIGSTOP, a frozen machine) and still answer what came
	// meanwhile [3 s, what stock clients wait for a send]. After a longer pause every connection is reset: a request
	// that was given up, and made again elsewhere, must not be carried out behind those that followed it.
	PauseMax time.Duration

	TLSMode   TLSMode
	TLSConfig *tls.Config // needed by TLSEnforcing; without it TLSPermissive takes plain frames only
}

func (o *ServerOptions) setDefaults() error {
	if len(o.Addrs) == 0 {
		return errors.New("remoting: no address to listen on")
	}
	if o.Mux == nil {
		return errors.New("remoting: no Mux")
	}
	if o.TLSMode > TLSEnforcing || o.TLSMode == TLSEnforcing && o.TLSConfig == nil {
		return errors.New("remoting: TLSEnforcing needs a TLSConfig")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	orDefault("ConnsMax", &o.ConnsMax, 20_000, &err)
	orDefault("InflightPerConnMax", &o.InflightPerConnMax, 1024, &err)
	orDefault("OutboundBytesMax", &o.OutboundBytesMax, 32<<20, &err)
	orDefault("OutboundBytesTotalMax", &o.OutboundBytesTotalMax, 1<<30, &err)
	orDefault("InboundBytesTotalMax", &o.InboundBytesTotalMax, 1<<30, &err)
	orDefault("FirstFrameTimeout", &o.FirstFrameTimeout, 5*time.Second, &err)
	orDefault("FrameTimeout", &o.FrameTimeout, 30*time.Second, &err)
	orDefault("IdleTimeout", &o.IdleTimeout, 120*time.Second, &err)
	orDefault("WriteTimeout", &o.WriteTimeout, 10*time.Second, &err)
	orDefault("CallTimeout", &o.CallTimeout, 10*time.Second, &err)
	orDefault("PauseMax", &o.PauseMax, 3*time.Second, &err)
	return err
}

// orDefault sets *v to def if it is zero, and *err, unless set, if it is negative.
func orDefault[T int | int64 | time.Duration](name string, v *T, def T, err *error) {
	if *v == 0 {
		*v = def
	}
	if *v < 0 && *err == nil {
		*err = fmt.Errorf("remoting: %s is %v, want more than 0", name, *v)
	}
}

// Server accepts connections and serves their requests. Safe for concurrent use.
type Server struct {
	host      *host
	mode      TLSMode
	tls       *tls.Config
	listeners []net.Listener
	accepting sync.WaitGroup
	closing   chan struct{}

	closeOnce sync.Once
	closeErr  error
}

// Listen binds all addresses and starts to serve. If one cannot be bound, none is.
func Listen(o ServerOptions) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{
		host: &host{
			log:              o.Logger,
			routes:           o.Mux.snapshot(),
			connsMax:         o.ConnsMax,
			inflightMax:      o.InflightPerConnMax,
			callsMax:         serverCallsMax,
			outboundMax:      o.OutboundBytesMax,
			outboundTotalMax: o.OutboundBytesTotalMax,
			callTimeout:      o.CallTimeout,
			pauseMax:         o.PauseMax,
			limits:           timeouts{o.FirstFrameTimeout, o.FrameTimeout, o.IdleTimeout, o.WriteTimeout},
			inbound:          budget{max: o.InboundBytesTotalMax},
		},
		mode:    o.TLSMode,
		tls:     o.TLSConfig,
		closing: make(chan struct{}),
	}
	s.host.tick = s.host.limits.tick(min(time.Second, o.PauseMax/3))
	for _, addr := range o.Addrs {
		ln, err := (&net.ListenConfig{KeepAliveConfig: keepAlive}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			for _, bound := range s.listeners {
				_ = bound.Close()
			}
			return nil, fmt.Errorf("remoting: %w", err)
		}
		s.listeners = append(s.listeners, ln)
	}
	s.host.start()
	for _, ln := range s.listeners {
		s.accepting.Add(1)
		go s.accept(ln)
	}
	return s, nil
}

// serverCallsMax bounds the server's own requests that wait for one peer's answer.
const serverCallsMax = 1024

// accept takes connections until its listener is closed.
func (s *Server) accept(ln net.Listener) {
	defer s.accepting.Done()
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		nc, err := ln.Accept()
		if err == nil {
			pause = shortest
			s.take(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		// Out of file descriptors, most likely: others may close some.
		s.host.log.Error("accept failed", "address", ln.Addr(), "error", err, "retry_in", pause)
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-s.closing:
			return
		}
	}
}

// take starts to serve nc, or resets it.
func (s *Server) take(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		// If the process dies, its peers learn it by a reset within milliseconds: a mere end of the stream
		// leaves older clients waiting for their timeouts.
		_ = tcp.SetLinger(0)
	}
	c := newConn(s.host, nc, true)
	c.greet = s.greet
	s.host.count.accepted.Add(1)
	err := errPaused
	if !s.host.stale(time.Now()) {
		err = s.host.adopt(c)
	}
	if err != nil {
		s.host.count.refused.Add(1)
		s.host.log.Debug("connection refused", "peer", c.remote, "reason", err)
		_ = nc.Close()
	}
}

// Addrs returns the bound addresses in the order of ServerOptions.Addrs.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, ln := range s.listeners {
		addrs[i] = ln.Addr()
	}
	return addrs
}

// Close stops to listen and to read, gives requests that are not parked until the end of ctx to be answered and
// their answers to be taken, then resets what is left, and waits for every goroutine. Handlers that wait for
// something must therefore end with Conn.Done. The error is ctx's if connections had to be reset. Further calls
// wait and return the same.
func (s *Server) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.close(ctx) })
	return s.closeErr
}

var errAborted = errors.New("remoting: server closed")

func (s *Server) close(ctx context.Context) error {
	close(s.closing)
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	s.accepting.Wait()
	conns := s.host.shut()
	for _, c := range conns {
		c.stop(stopDrain)
	}
	var err error
	for _, c := range conns {
		select {
		case <-c.done:
			continue
		case <-ctx.Done():
		}
		select {
		case <-c.done:
		default:
			err = fmt.Errorf("remoting: connections reset on close: %w", ctx.Err())
			c.fail(errAborted)
		}
	}
	s.host.stop()
	return err
}
