package remoting

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

func TestClientSharesOneConnection(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "x")); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			done := make(chan error, 1)
			c.CallAsync(f.addr(), request(codeEcho, 0, "x"), time.Time{}, func(_ *protocol.Command, err error) { done <- err })
			if err := receive(t, done); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.Stats().Accepted; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	own, err := c.Dial(within(t), f.addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Call(within(t), request(codeEcho, 0, "")); err != nil {
		t.Error(err)
	}
	if n := f.Stats().Accepted; n != 2 {
		t.Errorf("%d connections after Dial, want 2", n)
	}
}

func TestClientDialsAgain(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	for range 3 {
		if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "")); err != nil {
			t.Fatal(err)
		}
		conn := c.live(f.addr())
		if conn == nil {
			t.Fatal("no connection after a call")
		}
		conn.Close()
		receive(t, conn.Done())
	}
	eventually(t, "lost connections are forgotten", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.peers) == 0
	})
}

func TestNoConnection(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	c := client(t, ClientOptions{})
	if _, err := c.Call(within(t), addr, request(codeEcho, 0, "")); !errors.Is(err, ErrNotSent) {
		t.Errorf("Call: %v", err)
	}
	if err := c.Oneway(within(t), addr, request(codeEcho, 0, "")); !errors.Is(err, ErrNotSent) {
		t.Errorf("Oneway: %v", err)
	}
	done := make(chan error, 1)
	c.CallAsync(addr, request(codeEcho, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { done <- err })
	if err := receive(t, done); !errors.Is(err, ErrNotSent) {
		t.Errorf("CallAsync: %v", err)
	}
}

func TestCallTimesOut(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{CallTimeout: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Call(ctx, f.addr(), request(codeHold, 0, ""))
	if !errors.Is(err, ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	if _, err := c.Call(context.Background(), f.addr(), request(codeHold, 0, "")); !errors.Is(err, ErrTimeout) {
		t.Errorf("without a deadline: %v", err)
	}
	done := make(chan error, 1)
	c.CallAsync(f.addr(), request(codeHold, 0, ""), time.Now(), func(_ *protocol.Command, err error) { done <- err })
	if err := receive(t, done); !errors.Is(err, ErrTimeout) {
		t.Errorf("CallAsync: %v", err)
	}
	cctx, ccancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Call(cctx, f.addr(), request(codeHold, 0, "last"))
		failed <- err
	}()
	for string(f.next().Cmd.Body) != "last" {
	}
	ccancel()
	if err := receive(t, failed); err != context.Canceled && !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A late answer reaches nobody, and the connection goes on.
func TestLateAnswerIsDropped(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error, 1)
	go func() {
		_, err := c.Call(ctx, f.addr(), request(codeHold, 0, ""))
		failed <- err
	}()
	r := f.next()
	cancel()
	if err := receive(t, failed); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	r.Reply(&protocol.Command{Remark: "late"})
	for range 10 {
		if resp, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "x")); err != nil || string(resp.Body) != "x" {
			t.Errorf("got %+v, %v", resp, err)
		}
	}
}

func TestConnectionLossFailsAllCalls(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	const n = 20
	failed := make(chan error, 2*n)
	for range n {
		go func() {
			_, err := c.Call(within(t), f.addr(), request(codeHold, 0, ""))
			failed <- err
		}()
		c.CallAsync(f.addr(), request(codeHold, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { failed <- err })
	}
	var last *Request
	for range 2 * n {
		last = f.next()
	}
	last.Conn.Close()
	for range 2 * n {
		if err := receive(t, failed); !errors.Is(err, ErrConnLost) {
			t.Errorf("got %v", err)
		}
	}
}

func TestClientCloseFailsCallsAndWaits(t *testing.T) {
	f := newFixture(t, nil)
	c := NewClient(ClientOptions{})
	failed := make(chan error, 1)
	c.CallAsync(f.addr(), request(codeHold, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { failed <- err })
	f.next()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	default:
		t.Error("the call is still in flight after Close")
	}
	if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "")); !errors.Is(err, ErrClosed) {
		t.Errorf("Call after Close: %v", err)
	}
	if _, err := c.Dial(within(t), f.addr()); !errors.Is(err, ErrNotSent) {
		t.Errorf("Dial after Close: %v", err)
	}
	_ = c.Close()
}

func TestPushAndServerCall(t *testing.T) {
	f := newFixture(t, nil)
	pushed := make(chan *protocol.Command, 4)
	mux := NewMux()
	mux.Handle(40, &Class{Name: "push", Limit: 8}, func(r *Request) { pushed <- Clone(r.Cmd); r.Done() })
	mux.Handle(307, &Class{Name: "ask", Limit: 8, Mode: Spawn}, func(r *Request) {
		resp := protocol.NewResponse(r.Cmd, protocol.Success, "")
		resp.Body = append([]byte("re: "), r.Cmd.Body...)
		r.Reply(resp)
	})
	c := client(t, ClientOptions{Mux: mux})
	for _, codec := range []protocol.Codec{protocol.CodecJSON, protocol.CodecBinary} {
		go func() {
			cmd := request(codeHold, 0, "")
			cmd.Codec = codec
			_, _ = c.Call(within(t), f.addr(), cmd)
		}()
		r := f.next()
		note := request(40, 0, "changed")
		if err := r.Conn.Push(note); err != nil {
			t.Fatal(err)
		}
		got := receive(t, pushed)
		if !got.IsOneway() || got.Codec != codec || string(got.Body) != "changed" {
			t.Errorf("pushed %+v", got)
		}
		if note.IsOneway() || note.Codec != protocol.CodecJSON {
			t.Errorf("Push changed its argument: %+v", note)
		}
		resp, err := r.Conn.Call(within(t), request(307, 0, "stats"))
		if err != nil || string(resp.Body) != "re: stats" {
			t.Errorf("got %+v, %v", resp, err)
		}
		if resp, err := r.Conn.Call(within(t), request(9999, 0, "")); err != nil || resp.Code != protocol.RequestCodeNotSupported {
			t.Errorf("a code the client does not know: got %+v, %v", resp, err)
		}
		r.Reply(&protocol.Command{})
	}
}

func TestPushToTheDead(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 0, ""))
	r := f.next()
	_ = w.Close()
	receive(t, r.Conn.Done())
	eventually(t, "a push is refused", func() bool { return errors.Is(r.Conn.Push(request(40, 0, "")), ErrNotSent) })
	if _, err := r.Conn.Call(within(t), request(307, 0, "")); !errors.Is(err, ErrNotSent) && !errors.Is(err, ErrConnLost) {
		t.Errorf("Call: %v", err)
	}
	r.Done()
}

func TestCallsMax(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{CallsMax: 2})
	conn, err := c.Dial(within(t), f.addr())
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 3)
	for range 3 {
		conn.CallAsync(request(codeHold, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { failed <- err })
	}
	if err := receive(t, failed); !errors.Is(err, ErrBacklog) {
		t.Errorf("got %v", err)
	}
}

func TestCallbackMayPanic(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	conn, err := c.Dial(within(t), f.addr())
	if err != nil {
		t.Fatal(err)
	}
	conn.CallAsync(request(codeEcho, 0, ""), time.Time{}, func(*protocol.Command, error) { panic("on purpose") })
	if _, err := conn.Call(within(t), request(codeEcho, 0, "")); err != nil {
		t.Error(err)
	}
}

func TestCallbackMayCallAgain(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	conn, err := c.Dial(within(t), f.addr())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan int, 1)
	n := 0
	var next func(*protocol.Command, error)
	next = func(resp *protocol.Command, err error) {
		if n++; n == 100 || err != nil {
			done <- n
			return
		}
		conn.CallAsync(request(codeEcho, 0, "x"), time.Time{}, next)
	}
	conn.CallAsync(request(codeEcho, 0, "x"), time.Time{}, next)
	if got := receive(t, done); got != 100 {
		t.Errorf("%d calls", got)
	}
}

func TestClientOneway(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	for range 3 {
		if err := c.Oneway(within(t), f.addr(), request(codeHold, 0, "note")); err != nil {
			t.Fatal(err)
		}
		if r := f.next(); !r.Cmd.IsOneway() || string(r.Cmd.Body) != "note" {
			t.Errorf("got %+v", r.Cmd)
		}
	}
}

// A call that finds the shared connection dead before anything was sent goes to a new one.
func TestCallSkipsADeadConnection(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "")); err != nil {
		t.Fatal(err)
	}
	c.live(f.addr()).out.kill() // between being found alive and being used
	if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "")); !errors.Is(err, ErrNotSent) {
		t.Errorf("while it still looks alive: %v", err)
	}
	c.live(f.addr()).fail(errAborted)
	if _, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "")); err != nil {
		t.Error(err)
	}
}

// Calls that wait for a dial are bounded, and end with the client.
func TestCallsThatWaitForADial(t *testing.T) {
	c := NewClient(ClientOptions{CallsMax: 2})
	const addr = "192.0.2.1:1" // reserved for documentation: nobody answers there
	p := &peer{addr: addr, ready: make(chan struct{})}
	c.peers[addr] = p
	failed := make(chan error, 3)
	for range 3 {
		c.CallAsync(addr, request(codeEcho, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { failed <- err })
	}
	if err := receive(t, failed); !errors.Is(err, ErrBacklog) {
		t.Errorf("the third: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Call(ctx, addr, request(codeEcho, 0, "")); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that gave up: %v", err)
	}
	c.cancel() // as Close does, which then waits
	c.host.wg.Add(1)
	c.dial(p)
	for range 2 {
		if err := receive(t, failed); !errors.Is(err, ErrNotSent) {
			t.Errorf("waiting: %v", err)
		}
	}
	_ = c.Close()
	c.CallAsync(addr, request(codeEcho, 0, ""), time.Time{}, func(_ *protocol.Command, err error) { failed <- err })
	if err := receive(t, failed); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
