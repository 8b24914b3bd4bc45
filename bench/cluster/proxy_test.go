package cluster

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // until the other side ends it
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func proxyBefore(t *testing.T, target string, caller func(*bufio.Reader) (string, error)) *Proxy {
	t.Helper()
	p, err := NewProxy(ProxyOptions{Listen: "127.0.0.1:0", Target: target, Caller: caller})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// line is a connection that is asked to send a line back.
type line struct {
	net.Conn
	r *bufio.Reader
}

func dialLine(t *testing.T, p *Proxy) line {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return line{c, bufio.NewReader(c)}
}

func (l line) write(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(l, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

// read waits for a line; the error is os.ErrDeadlineExceeded when none came in time.
func (l line) read(t *testing.T, within time.Duration) (string, error) {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	return l.r.ReadString('\n')
}

func (l line) mustEcho(t *testing.T, text string) {
	t.Helper()
	l.write(t, text)
	l.mustRead(t, text)
}

func (l line) mustRead(t *testing.T, text string) {
	t.Helper()
	if got, err := l.read(t, 5*time.Second); err != nil || got != text+"\n" {
		t.Fatalf("got %q %v, want %q", got, err, text)
	}
}

func always(f Fault) func(string) Fault { return func(string) Fault { return f } }

func TestProxyStalls(t *testing.T) {
	p := proxyBefore(t, echo(t), nil)
	c := dialLine(t, p)
	c.mustEcho(t, "one")
	p.Set(always(Fault{Stall: true}))
	c.write(t, "two")
	if got, err := c.read(t, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("through a stalled proxy came %q %v", got, err)
	}
	late := dialLine(t, p) // taken, and not served
	late.write(t, "three")
	p.Set(always(Fault{}))
	c.mustRead(t, "two")
	late.mustRead(t, "three")
}

func TestProxyCuts(t *testing.T) {
	p := proxyBefore(t, echo(t), nil)
	c := dialLine(t, p)
	c.mustEcho(t, "one")
	p.Set(always(Fault{Cut: true}))
	for _, l := range []line{c, dialLine(t, p)} {
		if got, err := l.read(t, 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("through a proxy that cuts came %q %v", got, err)
		}
	}
	p.Set(always(Fault{}))
	dialLine(t, p).mustEcho(t, "two")
}

func TestProxyDelaysEveryByteAlike(t *testing.T) {
	p := proxyBefore(t, echo(t), nil)
	c := dialLine(t, p)
	c.mustEcho(t, "one")
	const delay, lines = 30 * time.Millisecond, 20
	p.Set(always(Fault{Delay: delay}))
	began := time.Now()
	for range lines {
		c.write(t, "two")
	}
	for range lines {
		c.mustRead(t, "two")
	}
	if took := time.Since(began); took < 2*delay || took > lines*delay {
		t.Errorf("%d lines took %v with a delay of %v in each direction", lines, took, delay)
	}
}

func TestProxyThrottles(t *testing.T) {
	p := proxyBefore(t, echo(t), nil)
	c := dialLine(t, p)
	p.Set(always(Fault{BytesPerSecond: 100_000}))
	sent := make(chan error)
	began := time.Now()
	go func() {
		_, err := c.Write(append(make([]byte, 20_000), '\n'))
		sent <- err
	}()
	if _, err := c.read(t, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("20 kB took %v at 100 kB/s", took)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// A fault of one caller does not concern another.
func TestProxyKnowsCallers(t *testing.T) {
	p := proxyBefore(t, echo(t), func(first *bufio.Reader) (string, error) {
		name, err := first.Peek(1)
		return string(name), err
	})
	a, b := dialLine(t, p), dialLine(t, p)
	a.mustEcho(t, "a1")
	b.mustEcho(t, "b1")
	p.Set(func(caller string) Fault { return Fault{Stall: caller == "a"} })
	a.write(t, "a2")
	b.mustEcho(t, "b2")
	if got, err := a.read(t, 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a is stalled and got %q %v", got, err)
	}
	p.Set(func(caller string) Fault { return Fault{Cut: caller == "b"} })
	a.mustRead(t, "a2")
	if got, err := b.read(t, 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("b is cut off and got %q %v", got, err)
	}
}

// The handshake of the Raft port names the host that calls.
func TestRaftCaller(t *testing.T) {
	hello := "RMQP\x01\x01\x00\x2a" + "\x00\x01c" + "\x00\x02gg" + "\x00\x030-x" + "\x00\x0f127.7.8.9:12345" + "\x00\x0b1-xxxxxxxxx"
	server, client := net.Pipe()
	defer server.Close()
	go func() {
		_, _ = io.WriteString(client, hello)
		client.Close()
	}()
	if host, err := raftCaller(bufio.NewReader(server)); err != nil || host != "127.7.8.9" {
		t.Errorf("%q %v", host, err)
	}
}
