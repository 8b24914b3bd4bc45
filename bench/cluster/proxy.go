package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Fault is what a Proxy does to the connections of a link. The zero value passes everything on.
type Fault struct {
	Cut            bool          // connections end, new ones are ended at once: the other side's host says that nobody is there
	Stall          bool          // nothing passes and nobody is told: a cable was pulled. What was held back comes when it ends
	Delay          time.Duration // of every byte, in each direction
	BytesPerSecond int           // in each direction; 0 = no limit
}

// ProxyOptions of NewProxy.
type ProxyOptions struct {
	Listen string // address
	Target string // address; dialled for each connection
	// Caller tells from the first bytes of a connection who calls; nil: everybody is "". It may Peek, not read.
	Caller func(first *bufio.Reader) (string, error)
}

// Proxy passes TCP connections on and does to them what Set says. Safe for concurrent use.
type Proxy struct {
	o        ProxyOptions
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	fault   func(caller string) Fault
	changed chan struct{} // closed and replaced by Set
	open    map[*proxied]struct{}
}

// proxied is one connection through a proxy, both halves of it.
type proxied struct {
	caller string
	in     net.Conn
	out    net.Conn // nil until dialled
}

func (c *proxied) end() {
	c.in.Close()
	if c.out != nil {
		c.out.Close()
	}
}

// NewProxy starts a proxy. Close ends it.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster: proxy: %w", err)
	}
	p := &Proxy{o: o, listener: l, fault: func(string) Fault { return Fault{} }, changed: make(chan struct{}), open: map[*proxied]struct{}{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where it listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Set says what happens to the connections of each caller from now on.
func (p *Proxy) Set(fault func(caller string) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault
	close(p.changed)
	p.changed = make(chan struct{})
	for c := range p.open {
		if fault(c.caller).Cut {
			c.end()
		}
	}
}

// wake makes waiting connections look at the fault again, which may have changed by itself.
func (p *Proxy) wake() {
	p.mu.Lock()
	fault := p.fault
	p.mu.Unlock()
	p.Set(fault)
}

// Close ends the proxy and every connection through it, and waits for them.
func (p *Proxy) Close() {
	p.cancel()
	p.listener.Close()
	p.mu.Lock()
	for c := range p.open {
		c.end()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			if p.ctx.Err() != nil || !pause(p.ctx, awaitPause) {
				return
			}
			continue
		}
		p.running.Go(func() { p.serve(in) })
	}
}

// serve passes one connection on until it ends.
func (p *Proxy) serve(in net.Conn) {
	c := &proxied{in: in}
	if !p.register(c) {
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.open, c)
		c.end()
		p.mu.Unlock()
	}()
	first := bufio.NewReaderSize(in, chunkBytes)
	if p.o.Caller != nil {
		caller, err := p.o.Caller(first)
		if err != nil {
			return
		}
		p.mu.Lock()
		c.caller = caller
		p.mu.Unlock()
	}
	if _, ok := p.wait(c, time.Time{}); !ok {
		return
	}
	out, err := (&net.Dialer{}).DialContext(p.ctx, "tcp", p.o.Target)
	if err != nil {
		return
	}
	p.mu.Lock()
	c.out = out
	p.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() { p.pass(c, in, out) })
	p.pass(c, out, first)
	back.Wait()
}

// register notes a connection, unless the proxy is closed or everybody's are cut.
func (p *Proxy) register(c *proxied) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || p.o.Caller == nil && p.fault("").Cut {
		c.end()
		return false
	}
	p.open[c] = struct{}{}
	return true
}

// wait returns when the connection's bytes that came at a time may pass, and the fault that holds then; false when the
// connection is cut.
func (p *Proxy) wait(c *proxied, came time.Time) (Fault, bool) {
	for {
		p.mu.Lock()
		f, changed := p.fault(c.caller), p.changed
		p.mu.Unlock()
		var due <-chan time.Time
		switch left := f.Delay - time.Since(came); {
		case f.Cut:
			return f, false
		case f.Stall:
		case !came.IsZero() && left > 0:
			due = time.After(left)
		default:
			return f, true
		}
		select {
		case <-p.ctx.Done():
			return f, false
		case <-changed:
		case <-due:
		}
	}
}

const (
	chunkBytes = 32 << 10
	// chunksMax is how many chunks one direction of a connection holds back; then its sender waits, as TCP has it.
	chunksMax = 64
)

type chunk struct {
	bytes []byte
	came  time.Time
}

// pass passes one direction of a connection on. Reading and writing are apart, so that a delay is one of each byte and not
// of each chunk after the one before.
func (p *Proxy) pass(c *proxied, to net.Conn, from io.Reader) {
	chunks := make(chan chunk, chunksMax)
	over := make(chan struct{})
	go func() {
		defer close(chunks)
		for {
			b := make([]byte, chunkBytes)
			n, err := from.Read(b)
			if n > 0 {
				select {
				case chunks <- chunk{b[:n], time.Now()}:
				case <-over:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(over)
		p.mu.Lock()
		c.end() // the other direction ends with it, and so does the reader
		p.mu.Unlock()
		for range chunks { //nolint:revive // until the reader has ended
		}
	}()
	for b := range chunks {
		f, ok := p.wait(c, b.came)
		if !ok {
			return
		}
		if f.BytesPerSecond > 0 && !pause(p.ctx, time.Duration(len(b.bytes))*time.Second/time.Duration(f.BytesPerSecond)) {
			return
		}
		if _, err := to.Write(b.bytes); err != nil {
			return
		}
	}
}
