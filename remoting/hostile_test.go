package remoting

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

func TestBadFramesCloseTheirConnectionOnly(t *testing.T) {
	f := newFixture(t, nil)
	healthy := f.wire()
	healthy.works()
	good := frame(t, request(codeEcho, 1, "x"))
	header := func(text string) []byte {
		p := binary.BigEndian.AppendUint32(nil, uint32(4+len(text)))
		p = binary.BigEndian.AppendUint32(p, uint32(len(text)))
		return append(p, text...)
	}
	broken := map[string][]byte{
		"length below the header word": binary.BigEndian.AppendUint32(nil, 2),
		"negative length":              binary.BigEndian.AppendUint32(nil, 1<<31|5),
		"over the frame limit":         binary.BigEndian.AppendUint32(nil, protocol.MaxFrame),
		"header longer than frame":     append(binary.BigEndian.AppendUint32(nil, 8), 0, 0, 0, 200),
		"header over its limit":        append(binary.BigEndian.AppendUint32(nil, 1<<20), 0, 0x10, 0, 0),
		"unknown codec":                append(binary.BigEndian.AppendUint32(nil, 8), 7, 0, 0, 4, '{', '}', ' ', ' '),
		"not JSON":                     header("hello"),
		"JSON cut short":               header(`{"code":10,"opaque":`),
		"JSON array":                   header(`[1]`),
		"code is no number":            header(`{"code":"x"}`),
		"binary cut short":             append(binary.BigEndian.AppendUint32(nil, 8), 1, 0, 0, 4, 0, 10, 0, 1),
		"text":                         []byte("GET / HTTP/1.1\r\n\r\n"),
		"TLS without TLS":              {0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5},
	}
	for name, p := range broken {
		t.Run(name, func(t *testing.T) {
			w := &wire{f.wire().Conn, t}
			if name != "TLS without TLS" { // which only a first byte can be
				w.write(good)
				w.read()
			}
			w.write(p)
			_ = w.ended()
			healthy.works()
		})
	}
	eventually(t, "only the healthy one is left", func() bool { return f.Stats().Conns == 1 })
	if n := f.Stats().BadFrames; n != uint64(len(broken)-1) {
		t.Errorf("%d bad frames counted, want %d", n, len(broken)-1)
	}
}

// What came before a bad frame is answered.
func TestAnswersBeforeABadFrameArrive(t *testing.T) {
	w := newFixture(t, nil).wire()
	w.write(append(append(frame(t, request(codeEcho, 1, "a")), frame(t, request(codeEcho, 2, "b"))...), 0xff, 0xff, 0xff, 0xff))
	for opaque := int32(1); opaque <= 2; opaque++ {
		if resp := w.read(); resp.Opaque != opaque {
			t.Errorf("got %+v", resp)
		}
	}
	_ = w.ended()
}

func TestByteByByte(t *testing.T) {
	w := newFixture(t, nil).wire()
	p := append(frame(t, request(codeEcho, 1, "first")), frame(t, request(codeEcho, 2, "second"))...)
	for i := range p {
		w.write(p[i : i+1])
	}
	if resp := w.read(); resp.Opaque != 1 || string(resp.Body) != "first" {
		t.Errorf("got %+v", resp)
	}
	if resp := w.read(); resp.Opaque != 2 || string(resp.Body) != "second" {
		t.Errorf("got %+v", resp)
	}
}

func TestCutOffInEveryPlace(t *testing.T) {
	f := newFixture(t, nil)
	p := frame(t, request(codeEcho, 1, "body"))
	for i := range p {
		w := f.wire()
		w.write(p[:i])
		_ = w.Close()
	}
	eventually(t, "all connections are gone", func() bool {
		s := f.Stats()
		return s.Conns == 0 && s.Accepted == uint64(len(p))
	})
	if s := f.Stats(); s.BadFrames != 0 || s.FramesIn != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A thousand connections send garbage, some of it frames with a few bytes changed, while a healthy client goes on.
func TestGarbageBesideAHealthyClient(t *testing.T) {
	f := newFixture(t, nil)
	c := client(t, ClientOptions{})
	stop, healthy := make(chan struct{}), make(chan int, 1)
	go func() {
		n := 0
		defer func() { healthy <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			resp, err := c.Call(within(t), f.addr(), request(codeEcho, 0, "well"))
			if err != nil || string(resp.Body) != "well" {
				t.Errorf("the healthy client got %+v, %v", resp, err)
				return
			}
		}
	}()
	good := frame(t, request(codeEcho, 1, "x"))
	var wg sync.WaitGroup
	const workers, each = 10, 100
	for worker := range uint64(workers) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(worker, 1))
			for range each {
				p := make([]byte, 1+random.IntN(300))
				for i := range p {
					p[i] = byte(random.Uint32())
				}
				if random.IntN(2) == 0 {
					p = append(p[:0], good...)
					for range 1 + random.IntN(4) {
						p[random.IntN(len(p))] = byte(random.Uint32())
					}
				}
				nc, err := net.Dial("tcp", f.addr())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = nc.Write(p)
				_ = nc.Close()
			}
		})
	}
	wg.Wait()
	close(stop)
	if n := receive(t, healthy); n == 0 {
		t.Error("the healthy client had no turn")
	}
	eventually(t, "all connections but one are gone", func() bool {
		s := f.Stats()
		return s.Conns == 1 && s.Accepted == workers*each+1
	})
}

// Everything at once on few connections: answers from many goroutines, batches, pushes, calls of the server, slow and
// vanishing peers. For the race detector, and for every request to end exactly once.
func TestStorm(t *testing.T) {
	var work sync.WaitGroup
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.InflightPerConnMax, o.OutboundBytesMax = 16, 1<<20
		o.Mux.Handle(77, &Class{Name: "storm", Limit: 200, Mode: Spawn}, func(r *Request) {
			n := len(r.Cmd.Body)
			switch {
			case n%5 == 0:
				work.Add(1)
				_ = r.Conn.Push(request(40, 0, "note"))
				go func() {
					defer work.Done()
					b := NewBatch()
					b.ReplyBuffer(r, &protocol.Command{Body: make([]byte, 40*n)}, func() {})
					b.Flush()
				}()
			case n%7 == 0:
				_, _ = r.Conn.Call(within(t), request(41, 0, "what?"))
				fallthrough
			default:
				r.Reply(&protocol.Command{Body: r.Cmd.Body})
			}
		})
	})
	mux := NewMux()
	mux.Handle(40, &Class{Name: "note", Limit: 1000}, func(r *Request) { r.Done() })
	mux.Handle(41, &Class{Name: "ask", Limit: 1000}, func(r *Request) { r.Reply(&protocol.Command{}) })
	var clients sync.WaitGroup
	for worker := range uint64(4) {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(worker, 2))
			c := NewClient(ClientOptions{Mux: mux})
			defer c.Close()
			for range 5 {
				conn, err := c.Dial(within(t), f.addr())
				if err != nil {
					t.Error(err)
					return
				}
				var answered sync.WaitGroup
				for range 50 {
					cmd := request(77, 0, "")
					cmd.Body = make([]byte, random.IntN(2000))
					answered.Add(1)
					conn.CallAsync(cmd, time.Now().Add(patience), func(*protocol.Command, error) { answered.Done() })
				}
				if random.IntN(2) == 0 {
					conn.Close()
				}
				answered.Wait()
			}
		})
	}
	clients.Wait()
	work.Wait()
	if err := f.Close(within(t)); err != nil {
		t.Error(err)
	}
	if s := f.Stats(); s.Conns != 0 || s.InboundBytes != 0 || s.OutboundBytes != 0 {
		t.Errorf("after Close: %+v", s)
	}
}
