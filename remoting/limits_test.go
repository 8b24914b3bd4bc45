package remoting

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

// At its bound of requests in flight a connection is not read; nothing is refused, and nobody else waits.
func TestInflightPerConnStopsReading(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.InflightPerConnMax = 8 })
	w, other := f.wire(), f.wire()
	for opaque := range int32(20) {
		w.send(request(codeHold, opaque, ""))
	}
	var held []*Request
	for range 8 {
		held = append(held, f.next())
	}
	conn := held[0].Conn
	eventually(t, "reading stops", conn.paused.Load)
	other.works()
	if n := f.class.InFlight(); n != 8 {
		t.Fatalf("%d requests are in flight, want 8", n)
	}
	held[0].Reply(&protocol.Command{})
	if conn.inflight.Load() != 7 || !conn.paused.Load() {
		t.Error("reading goes on for a single answer")
	}
	held[1].Park() // two less: three quarters
	for range 2 {
		held = append(held, f.next())
	}
	for _, r := range held[1:] {
		r.Reply(&protocol.Command{})
	}
	for range 10 {
		f.next().Reply(&protocol.Command{})
	}
	for range 20 {
		w.read()
	}
	w.works()
}

// Parked requests do not stop a connection from being read, only their class bounds them.
func TestParkedRequestsDoNotCount(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, f *fixture) { o.InflightPerConnMax, f.class.Limit = 4, 50 })
	w := f.wire()
	var parked []*Request
	for opaque := range int32(50) {
		w.send(request(codeHold, opaque, ""))
		r := f.next()
		r.Park()
		parked = append(parked, r)
	}
	w.works()
	w.send(request(codeHold, 99, ""))
	if resp := w.read(); resp.Code != protocol.SystemBusy {
		t.Errorf("got %+v", resp)
	}
	for _, r := range parked {
		r.Reply(&protocol.Command{})
		r.Park() // too late, changes nothing
		w.read()
	}
	if n := parked[0].Conn.inflight.Load(); n != 0 || f.class.InFlight() != 0 {
		t.Errorf("%d in flight on the connection, %d in the class", n, f.class.InFlight())
	}
}

// A peer that asks and does not read is not read any more, then cut off.
func TestSlowReaderIsCutOff(t *testing.T) {
	var released counter
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.OutboundBytesMax, o.WriteTimeout = 32<<20, 50*time.Millisecond
		body := make([]byte, 1<<20)
		o.Mux.Handle(77, &Class{Name: "big", Limit: 1000}, func(r *Request) {
			r.ReplyBuffer(&protocol.Command{Body: body}, released.release)
		})
	})
	w, other := f.wire(), f.wire()
	const n = 200
	var all []byte
	for opaque := range int32(n) {
		all = append(all, frame(t, request(77, opaque, ""))...)
	}
	w.write(all)
	other.works()
	eventually(t, "the reader is cut off", func() bool { return f.Stats().SlowReaders == 1 })
	eventually(t, "all memory is given back", func() bool { return f.Stats().OutboundBytes == 0 })
	if got := released.count(); got == 0 || got >= n {
		t.Errorf("%d of %d requests were served: reading should have stopped, not at once", got, n)
	}
	other.works()
	if err := w.ended(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ended with %v", err)
	}
}

// A slow but steady reader gets everything, however much that is.
func TestSteadyReaderGetsAll(t *testing.T) {
	body := make([]byte, 300<<10)
	for i := range body {
		body[i] = byte(i * 31)
	}
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.OutboundBytesMax = 2 << 20
		o.Mux.Handle(77, &Class{Name: "big", Limit: 1000}, func(r *Request) { r.Reply(&protocol.Command{Body: body}) })
	})
	w := f.wire()
	const n = 100 // 30 MB, fifteen times the bound
	for opaque := range int32(n) {
		w.send(request(77, opaque, ""))
	}
	for opaque := range int32(n) {
		resp := w.read()
		if resp.Opaque != opaque || len(resp.Body) != len(body) || resp.Body[1000] != body[1000] {
			t.Fatalf("got opaque %d with %d bytes, want %d", resp.Opaque, len(resp.Body), opaque)
		}
	}
	w.works()
}

// Answers beyond the bound reset the connection: here they come from elsewhere than its read loop.
func TestOutboundBytesMax(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.OutboundBytesMax = 4 << 20 })
	w := f.wire()
	var held []*Request
	for opaque := range int32(100) {
		w.send(request(codeHold, opaque, ""))
		held = append(held, f.next())
	}
	var released counter
	body := make([]byte, 1<<20)
	for _, r := range held {
		r.ReplyBuffer(&protocol.Command{Body: body}, released.release)
	}
	receive(t, held[0].Conn.Done())
	eventually(t, "all bodies are released", func() bool { return released.count() == len(held) })
	eventually(t, "it is counted", func() bool { s := f.Stats(); return s.SlowReaders == 1 && s.OutboundBytes == 0 })
}

func TestOutboundBytesTotalMax(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.OutboundBytesTotalMax = 8 << 20 })
	body := make([]byte, 1<<20)
	var conns []*Conn
	for range 4 { // none comes near its own bound of 32 MiB
		w := f.wire()
		const n = 12
		for opaque := range int32(n) {
			w.send(request(codeHold, opaque, ""))
		}
		var held []*Request
		for range n {
			held = append(held, f.next())
		}
		for _, r := range held { // not before all are read: a long backlog stops that
			conns = append(conns, r.Conn)
			r.Reply(&protocol.Command{Body: body})
		}
	}
	eventually(t, "somebody is cut off", func() bool { return f.Stats().SlowReaders > 0 })
	if n := f.Stats().OutboundBytes; n > 9<<20 {
		t.Errorf("%d bytes wait", n)
	}
	for _, c := range conns {
		c.fail(errAborted)
	}
	eventually(t, "all is given back", func() bool { return f.Stats().OutboundBytes == 0 })
}

// A push to a peer that does not read is refused in the end; Oneway and Call wait for room instead.
func TestBacklogOfRequests(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.OutboundBytesMax = 1 << 20 })
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	note := request(40, 0, "")
	note.Body = make([]byte, 64<<10)
	eventually(t, "pushes are refused", func() bool { return errors.Is(r.Conn.Push(note), ErrBacklog) })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := r.Conn.Oneway(ctx, note); !errors.Is(err, ErrBacklog) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Oneway: %v", err)
	}
	sent := make(chan error, 2)
	go func() { sent <- r.Conn.Oneway(within(t), note) }()
	go func() {
		_, err := r.Conn.Call(within(t), note)
		sent <- err
	}()
	go func() {
		for {
			cmd, err := w.tryRead()
			if err != nil {
				return
			}
			if !cmd.IsOneway() {
				cmd.Body = nil
				cmd.Flag = 1
				w.send(cmd)
			}
		}
	}()
	for range 2 {
		if err := receive(t, sent); err != nil {
			t.Error(err)
		}
	}
	r.Done()
}

func TestTimeouts(t *testing.T) {
	const short, long = 20 * time.Millisecond, time.Hour
	head := binary.BigEndian.AppendUint32(nil, 100)
	large := binary.BigEndian.AppendUint32(nil, 1<<20)
	for name, tc := range map[string]struct {
		first, frame, idle time.Duration
		send               []byte
		counted            bool
	}{
		"nothing comes":           {long, long, short, nil, false},
		"first frame stalls":      {short, long, long, head, true},
		"one byte":                {short, long, long, head[:1], true},
		"large first frame":       {long, short, long, large, true},
		"second frame stalls":     {long, short, long, append(frame(t, request(codeEcho, 1, "")), head...), true},
		"idle after an exchange":  {long, long, short, frame(t, request(codeEcho, 1, "")), false},
		"idle with a frame begun": {long, long, short, head, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *ServerOptions, _ *fixture) {
				o.FirstFrameTimeout, o.FrameTimeout, o.IdleTimeout = tc.first, tc.frame, tc.idle
			})
			w := f.wire()
			w.write(tc.send)
			_ = w.ended()
			eventually(t, "the connection is gone", func() bool { return f.Stats().Conns == 0 })
			if counted := f.Stats().Timeouts == 1; counted != tc.counted {
				t.Errorf("counted as a timeout: %v", counted)
			}
		})
	}
}

// The rules of the watch goroutine, on a clock of the test's own.
func TestOverdue(t *testing.T) {
	limit := timeouts{firstFrame: 5, frame: 30, idle: 120, write: 10}
	c := new(Conn)
	at := func(now time.Duration, want error) {
		t.Helper()
		if err := c.overdue(now, limit); err != want {
			t.Errorf("at %d: got %v, want %v", now, err, want)
		}
	}
	at(1, nil)
	at(120, nil)
	c.activity.Store(true)
	at(121, nil)
	at(240, nil)
	at(241, errIdle)

	c = new(Conn)
	c.waits.Store(waitsForFirst)
	at(1, nil)
	at(5, nil)
	at(6, errFrameTimeout)

	c = new(Conn)
	c.waits.Store(waitsForFrame)
	at(1, nil)
	at(30, nil)
	c.frames.Add(1) // that frame came, the next has begun
	at(31, nil)
	at(60, nil)
	c.waits.Store(waitsForNothing)
	at(61, nil)
	c.waits.Store(waitsForFrame)
	at(62, nil)
	at(91, nil)
	at(92, errFrameTimeout)

	c = new(Conn)
	c.out.stalled.Store(true)
	at(1, nil)
	at(10, nil)
	c.out.written.Add(1) // progress
	at(11, nil)
	at(20, nil)
	at(21, errWriteTimeout)
	c.out.stalled.Store(false)
	at(22, nil)
}

// Half-received frames use up a server-wide account as they grow, and give it back.
func TestInboundBytesTotalMax(t *testing.T) {
	f := newFixture(t, func(o *ServerOptions, _ *fixture) { o.InboundBytesTotalMax = 1 << 20 })
	w := f.wire()
	w.write(binary.BigEndian.AppendUint32(nil, protocol.MaxFrame-4))
	w.write(make([]byte, 4))
	w.write(make([]byte, 100<<10))
	eventually(t, "what came is charged", func() bool {
		n := f.Stats().InboundBytes
		return n >= 100<<10 && n <= 400<<10
	})
	for range 100 {
		if _, err := w.Write(make([]byte, 100<<10)); err != nil {
			break // cut off
		}
	}
	_ = w.ended()
	eventually(t, "all is given back", func() bool { s := f.Stats(); return s.InboundBytes == 0 && s.Conns == 0 })
	f.wire().works()
}

// Large requests that wait for their answer count as received memory; one too many is refused, nothing closed.
func TestLargeRequestsAtHand(t *testing.T) {
	held := make(chan *Request, 8)
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.InboundBytesTotalMax = 1 << 20
		o.Mux.Handle(77, &Class{Name: "spawn", Limit: 100, Mode: Spawn}, func(r *Request) { held <- r })
	})
	w := f.wire()
	large := request(77, 1, "")
	large.Body = make([]byte, 60<<10)
	var requests []*Request
	for range 17 {
		w.send(large)
		requests = append(requests, receive(t, held))
	}
	w.send(large)
	if resp := w.read(); resp.Code != protocol.SystemBusy {
		t.Errorf("got %+v", resp)
	}
	w.send(request(77, 2, "small"))
	requests = append(requests, receive(t, held))
	for _, r := range requests {
		r.Reply(&protocol.Command{})
		r.Done()
		w.read()
	}
	if n := f.Stats().InboundBytes; n != 0 {
		t.Errorf("%d bytes stay charged", n)
	}
	w.send(large)
	receive(t, held).Done()
	w.works()
}

// A connection that waits holds no buffer, or a small one for what is there of a frame.
func TestWaitingHoldsLittleMemory(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	in := &reader{pool: new(pool), budget: new(budget)}
	s := newSocket(nc, in)
	if s == nil {
		t.Skip("no sockets on this system")
	}
	wait := func() {
		t.Helper()
		_ = nc.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if n, err := s.fill(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %d bytes, %v", n, err)
		}
		_ = nc.SetReadDeadline(time.Time{})
	}
	put := func(p []byte) {
		t.Helper()
		if _, err := peer.Write(p); err != nil {
			t.Fatal(err)
		}
		for want := in.buffered() + len(p); in.buffered() < want; {
			if _, err := s.fill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	wait()
	if in.buf != nil {
		t.Error("a buffer is held before anything came")
	}
	begun := binary.BigEndian.AppendUint32(nil, protocol.MaxFrame-4)
	put(binary.BigEndian.AppendUint32(begun, 100))
	wait()
	if len(in.p) != bufferMin || in.buffered() != 8 {
		t.Errorf("%d bytes of memory for %d received", len(in.p), in.buffered())
	}
	put(make([]byte, 50<<10))
	wait()
	if len(in.p) > scratchSize || in.buffered() != 8+50<<10 {
		t.Errorf("%d bytes of memory for %d received", len(in.p), in.buffered())
	}
}
