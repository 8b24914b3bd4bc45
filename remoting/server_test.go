package remoting

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

func TestAnswerMirrorsOpaqueAndCodec(t *testing.T) {
	w := newFixture(t, nil).wire()
	for _, codec := range []protocol.Codec{protocol.CodecJSON, protocol.CodecBinary, protocol.CodecJSON} {
		cmd := request(codeEcho, -5, "hello")
		cmd.Codec = codec
		cmd.Ext = protocol.Fields{{Key: "topic", Value: "T"}}
		w.send(cmd)
		resp := w.read()
		topic, _ := resp.Ext.Get("topic")
		if !resp.IsResponse() || resp.Opaque != -5 || resp.Codec != codec || string(resp.Body) != "hello" || topic != "T" {
			t.Errorf("codec %d: got %+v", codec, resp)
		}
	}
}

// Clients keep the version of an answer as the broker's, and Java reads ext fields without a look.
func TestAnswerHasVersionAndFields(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	resp := &protocol.Command{Code: 17, Opaque: 99}
	f.next().Reply(resp)
	got, err := w.readFrame()
	const want = `{"code":17,"extFields":{},"flag":1,"language":"JAVA","opaque":1,"serializeTypeCurrentRPC":"JSON","version":479}`
	if err != nil || string(got[4:]) != want {
		t.Errorf("got %s, %v", got[4:], err)
	}
	if resp.Version != 0 || resp.Opaque != 99 || resp.Ext != nil {
		t.Errorf("Reply changed its argument: %+v", resp)
	}
}

func TestAnswersLeaveInAnyOrder(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	const n = 100
	for i := range int32(n) {
		w.send(request(codeHold, i, ""))
	}
	var held []*Request
	for range n {
		held = append(held, f.next())
	}
	for i := n - 1; i >= 0; i-- {
		held[i].Reply(&protocol.Command{Code: int32(i)})
	}
	for i := int32(n - 1); i >= 0; i-- {
		if resp := w.read(); resp.Opaque != i || resp.Code != i {
			t.Fatalf("got opaque %d code %d, want %d", resp.Opaque, resp.Code, i)
		}
	}
}

func TestOnewayIsNeverAnswered(t *testing.T) {
	f := newFixture(t, func(_ *ServerOptions, f *fixture) { f.class.Limit = 1 })
	w := f.wire()
	w.send(oneway(codeEcho), oneway(codePanic), oneway(9999), oneway(codeHold), oneway(codeHold))
	w.works()
	f.next().Reply(&protocol.Command{})
	w.works()
	if n := f.class.InFlight(); n != 0 {
		t.Errorf("the reply to a oneway request left %d slots taken", n)
	}
	if f.class.Refused() != 1 || f.Stats().Busy != 1 {
		t.Errorf("refused %d, counted %d, want 1", f.class.Refused(), f.Stats().Busy)
	}
}

func oneway(code int32) *protocol.Command {
	cmd := request(code, 1, "")
	cmd.MarkOneway()
	return cmd
}

func TestUnknownCode(t *testing.T) {
	w := newFixture(t, nil).wire()
	w.send(request(30000, 5, ""))
	if resp := w.read(); resp.Code != protocol.RequestCodeNotSupported || resp.Remark != " request type 30000 not supported" || resp.Opaque != 5 {
		t.Errorf("got %+v", resp)
	}
	w.works()
}

func TestFullClassIsBusy(t *testing.T) {
	f := newFixture(t, func(_ *ServerOptions, f *fixture) {
		f.class.Limit, f.class.Key = 2, "sendThreadPoolQueueCapacity"
	})
	a, b := f.wire(), f.wire()
	a.send(request(codeHold, 1, ""))
	b.send(request(codeHold, 1, ""))
	first, second := f.next(), f.next()
	a.send(request(codeHold, 2, ""))
	resp := a.read()
	if resp.Code != protocol.SystemBusy || resp.Opaque != 2 {
		t.Fatalf("got %+v", resp)
	}
	for _, want := range []string{"[OVERLOAD]system busy", "hold", "limit 2", "sendThreadPoolQueueCapacity"} {
		if !strings.Contains(resp.Remark, want) {
			t.Errorf("remark %q does not name %q", resp.Remark, want)
		}
	}
	first.Reply(&protocol.Command{})
	second.Done()
	a.send(request(codeHold, 3, ""))
	f.next().Reply(&protocol.Command{})
	eventually(t, "all slots are free", func() bool { return f.class.InFlight() == 0 })
	if f.class.Refused() != 1 {
		t.Errorf("refused %d, want 1", f.class.Refused())
	}
}

func TestPanicIsAnswered(t *testing.T) {
	w := newFixture(t, nil).wire()
	for range 2 { // the class has one slot
		w.send(request(codePanic, 3, ""))
		if resp := w.read(); resp.Code != protocol.SystemError || resp.Opaque != 3 {
			t.Fatalf("got %+v", resp)
		}
	}
	w.works()
}

func TestUnencodableAnswerBecomesAnError(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 8, ""), request(codeHold, 9, ""))
	var released counter
	f.next().ReplyBuffer(&protocol.Command{Body: make([]byte, protocol.MaxFrame)}, released.release)
	f.next().Reply(&protocol.Command{Remark: strings.Repeat("x", protocol.MaxHeader)})
	for opaque := int32(8); opaque < 10; opaque++ {
		if resp := w.read(); resp.Code != protocol.SystemError || resp.Opaque != opaque {
			t.Errorf("got %+v", resp)
		}
	}
	if released.count() != 1 {
		t.Errorf("released %d times", released.count())
	}
	w.works()
}

func TestSpawnHandlerOwnsItsRequest(t *testing.T) {
	spawned := make(chan *Request, 2)
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.Mux.Handle(77, &Class{Name: "spawn", Limit: 8, Mode: Spawn}, func(r *Request) { spawned <- r })
	})
	w := f.wire()
	w.send(request(77, 1, "first"))
	r := receive(t, spawned)
	for range 50 { // reuses what the connection reads into
		w.works()
	}
	if string(r.Cmd.Body) != "first" || r.Cmd.Opaque != 1 || r.Received.IsZero() {
		t.Errorf("the request changed: %+v", r.Cmd)
	}
	r.Reply(&protocol.Command{})
	if resp := w.read(); resp.Opaque != 1 {
		t.Errorf("got %+v", resp)
	}
}

func TestDetachedRequestStays(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	cmd := request(codeHold, 1, "first")
	cmd.Ext = protocol.Fields{{Key: "k", Value: "v"}}
	w.send(cmd)
	r := f.next() // codeHold is Inline and detaches
	for range 50 {
		w.works()
	}
	if v, _ := r.Cmd.Ext.Get("k"); v != "v" || string(r.Cmd.Body) != "first" {
		t.Errorf("the request changed: %+v", r.Cmd)
	}
	r.Done()
}

func TestLargeBodiesBothWays(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	for _, size := range []int{0, 1, copyMax, copyMax + 1, scratchSize - 8, scratchSize, 300_000, 5 << 20, protocol.MaxFrame - 4096} {
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i * 7)
		}
		cmd := request(codeEcho, 0, "")
		cmd.Body = body
		resp, err := c.Call(within(t), f.addr(), cmd)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(resp.Body, body) {
			t.Errorf("%d bytes came back as %d or changed", size, len(resp.Body))
		}
	}
	if n := f.Stats().InboundBytes; n != 0 {
		t.Errorf("%d bytes are held for half-received frames, there are none", n)
	}
}

func TestSeveralAddresses(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.Addrs = append(o.Addrs, "127.0.0.1:0") })
	c := client(t, ClientOptions{})
	for _, addr := range f.Addrs() {
		if _, err := c.Call(within(t), addr.String(), request(codeEcho, 0, "")); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	if r.Conn.RemoteAddr().String() != w.Conn.LocalAddr().String() || r.Conn.LocalAddr().String() != f.addr() || r.Conn.ID() == 0 {
		t.Errorf("remote %v local %v id %d", r.Conn.RemoteAddr(), r.Conn.LocalAddr(), r.Conn.ID())
	}
	r.Done()
}

func TestListenRefuses(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	for name, o := range map[string]ServerOptions{
		"no address":      {Mux: NewMux()},
		"no mux":          {Addrs: []string{"127.0.0.1:0"}},
		"taken":           {Mux: NewMux(), Addrs: []string{"127.0.0.1:0", free.Addr().String()}},
		"negative":        {Mux: NewMux(), Addrs: []string{"127.0.0.1:0"}, IdleTimeout: -1},
		"TLS without key": {Mux: NewMux(), Addrs: []string{"127.0.0.1:0"}, TLSMode: TLSEnforcing},
	} {
		if s, err := Listen(o); err == nil {
			_ = s.Close(context.Background())
			t.Errorf("%s: no error", name)
		}
	}
}

func TestConnsMax(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.ConnsMax = 2 })
	a, b := f.wire(), f.wire()
	a.works()
	b.works()
	third, err := net.Dial("tcp", f.addr())
	if err == nil {
		err = (&wire{third, t}).ended()
		_ = third.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the third connection ended with %v, want a reset", err)
	}
	eventually(t, "the third connection is counted", func() bool {
		s := f.Stats()
		return s.Conns == 2 && s.Accepted == 3 && s.Refused == 1
	})
	_ = a.Close()
	eventually(t, "a connection is free", func() bool { return f.Stats().Conns == 1 })
	f.wire().works()
}

func TestAcceptedSocketsLingerZero(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	defer r.Done()
	// As when the process dies: the socket is closed and nobody asks for a gentle end.
	_ = r.Conn.tcp.Close()
	if err := w.ended(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v, want a reset", err)
	}
}

func TestCloseAnswersWhatIsInFlight(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	closed := make(chan error, 1)
	go func() { closed <- f.Close(within(t)) }()
	eventually(t, "the connection drains", func() bool { return r.Conn.stopping.Load() == stopDrain })
	w.send(request(codeEcho, 2, ""))
	if resp := w.read(); resp.Opaque != 2 || resp.Code != protocol.ServiceNotAvailable {
		t.Errorf("while closing: got %+v", resp)
	}
	select {
	case err := <-closed:
		t.Fatal("Close did not wait: ", err)
	default:
	}
	r.Reply(&protocol.Command{Remark: "in time"})
	if resp := w.read(); resp.Opaque != 1 || resp.Remark != "in time" {
		t.Errorf("got %+v", resp)
	}
	if err := w.ended(); err != io.EOF {
		t.Errorf("ended with %v, want the end of the stream", err)
	}
	_ = w.Close()
	if err := receive(t, closed); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.addr()); err == nil {
		t.Error("the port is still open")
	}
}

func TestCloseDoesNotWaitForParked(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	r.Park()
	r.Park()
	go func() { _ = w.ended(); _ = w.Close() }()
	if err := f.Close(within(t)); err != nil {
		t.Error(err)
	}
	r.Reply(&protocol.Command{})
	if n := f.class.InFlight(); n != 0 {
		t.Errorf("%d slots are taken", n)
	}
}

func TestCloseResetsWhenTimeIsUp(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	receive(t, r.Conn.Done())
	var released counter
	r.ReplyBuffer(&protocol.Command{Body: make([]byte, 1<<20)}, released.release)
	if released.count() != 1 || f.class.InFlight() != 0 {
		t.Errorf("released %d times, %d slots taken", released.count(), f.class.InFlight())
	}
	if err := f.Close(context.Background()); !errors.Is(err, context.Canceled) {
		t.Errorf("the second Close returned %v", err)
	}
}

func TestCloseWaitsForSpawned(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.Mux.Handle(77, &Class{Name: "spawn", Limit: 8, Mode: Spawn}, func(r *Request) {
			close(started)
			<-r.Conn.Done()
			r.Done()
			close(ended)
		})
	})
	f.wire().send(request(77, 1, ""))
	receive(t, started)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = f.Close(ctx)
	select {
	case <-ended:
	default:
		t.Error("Close returned before the handler")
	}
}

func TestConnCloseSendsWhatIsQueued(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""), request(codeHold, 2, ""))
	r := f.next()
	f.next().Done()
	body := bytes.Repeat([]byte("0123456789"), 400_000)
	r.Reply(&protocol.Command{Body: body})
	r.Conn.Close()
	r.Conn.Close()
	if resp := w.read(); !bytes.Equal(resp.Body, body) {
		t.Error("the answer is incomplete")
	}
	if err := w.ended(); err != io.EOF {
		t.Errorf("ended with %v", err)
	}
}

func TestOnCloseAndValues(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	c := f.next().Conn
	type key struct{}
	if c.Value(key{}) != nil {
		t.Error("a value out of nothing")
	}
	c.SetValue(key{}, "v")
	gone := make(chan int, 3)
	c.OnClose(func() { gone <- 1 })
	c.OnClose(func() { gone <- 2 })
	_ = w.Close()
	if a, b := receive(t, gone), receive(t, gone); a != 1 || b != 2 {
		t.Errorf("hooks ran in the order %d, %d", a, b)
	}
	c.OnClose(func() { gone <- 3 })
	if len(gone) != 1 {
		t.Error("a late hook did not run at once")
	}
	receive(t, c.Done())
	if c.Value(key{}) != "v" {
		t.Error("the value is gone")
	}
}

func TestMuxPanicsOnMistakes(t *testing.T) {
	class, h := &Class{Name: "c", Limit: 1}, func(*Request) {}
	for name, register := range map[string]func(*Mux){
		"twice":      func(m *Mux) { m.Handle(1, class, h); m.Handle(1, class, h) },
		"no handler": func(m *Mux) { m.Handle(1, class, nil) },
		"no class":   func(m *Mux) { m.Handle(1, nil, h) },
		"no limit":   func(m *Mux) { m.Handle(1, &Class{}, h) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			register(NewMux())
		}()
	}
}

func TestStatsCount(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	sent := 0
	for i := range int32(10) {
		cmd := request(codeEcho, i, strconv.Itoa(int(i)))
		sent += len(frame(t, cmd))
		w.send(cmd)
		w.read()
	}
	eventually(t, "all is counted", func() bool {
		s := f.Stats()
		return s.FramesIn == 10 && s.BytesIn == uint64(sent) && s.BytesOut > 0 && s.Conns == 1 && s.Accepted == 1
	})
}

func TestTickFollowsTheShortestTimeout(t *testing.T) {
	limits := timeouts{5 * time.Second, 30 * time.Second, 120 * time.Second, 10 * time.Second}
	if tick := limits.tick(time.Second); tick != time.Second {
		t.Errorf("tick %v", tick)
	}
	limits.write = 40 * time.Millisecond
	if tick := limits.tick(time.Second); tick != 10*time.Millisecond {
		t.Errorf("tick %v", tick)
	}
}
