package remoting

import (
	"context"
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

// benchRequest looks like a stock producer's send: eleven ext fields and a body.
func benchRequest(body int) *protocol.Command {
	cmd := protocol.NewRequest(310, nil)
	cmd.Ext = protocol.Fields{
		{Key: "a", Value: "producers"}, {Key: "b", Value: "benchmark"}, {Key: "c", Value: "TBW102"}, {Key: "d", Value: "4"},
		{Key: "e", Value: "1"}, {Key: "f", Value: "0"}, {Key: "g", Value: "1795350449165"}, {Key: "h", Value: "0"},
		{Key: "i", Value: "UNIQ_KEY\u00017F00000100002A9F0000000000000003\u0002WAIT\u0001true\u0002"}, {Key: "j", Value: "0"}, {Key: "m", Value: "false"},
	}
	cmd.Body = make([]byte, body)
	return cmd
}

// benchResponse looks like the answer to a send.
func benchResponse() *protocol.Command {
	return &protocol.Command{Version: protocol.MQVersion, Ext: protocol.Fields{
		{Key: "msgId", Value: "7F00000100002A9F0000000000000003"}, {Key: "queueId", Value: "1"}, {Key: "queueOffset", Value: "123456"},
	}}
}

func benchServer(b *testing.B, mode Mode) string {
	mux := NewMux()
	resp := benchResponse()
	mux.Handle(310, &Class{Name: "send", Limit: 1 << 20, Mode: mode}, func(r *Request) { r.Reply(resp) })
	return benchListen(b, mux)
}

func benchListen(b *testing.B, mux *Mux) string {
	s, err := Listen(ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	return s.Addrs()[0].String()
}

func benchConns(b *testing.B, addr string, n int) []*Conn {
	c := NewClient(ClientOptions{})
	b.Cleanup(func() { _ = c.Close() })
	conns := make([]*Conn, n)
	for i := range conns {
		conn, err := c.Dial(context.Background(), addr)
		if err != nil {
			b.Fatal(err)
		}
		conns[i] = conn
	}
	return conns
}

// benchAsync keeps depth requests in flight on each connection until b.N are answered.
func benchAsync(b *testing.B, addr string, conns, depth, body int) {
	cmd := benchRequest(body)
	var sent, failed atomic.Int64
	var wg sync.WaitGroup
	cs := benchConns(b, addr, conns)
	b.ReportAllocs()
	b.ResetTimer()
	for _, c := range cs {
		for range depth {
			wg.Add(1)
			var next func(*protocol.Command, error)
			next = func(resp *protocol.Command, err error) {
				if err != nil || resp != nil && resp.Code != 0 {
					failed.Add(1)
				}
				if err != nil || sent.Add(1) > int64(b.N) {
					wg.Done()
					return
				}
				c.CallAsync(cmd, time.Time{}, next)
			}
			next(nil, nil)
		}
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	if failed.Load() > 0 {
		b.Fatal(failed.Load(), "calls failed")
	}
}

// Sixteen connections with 64 requests in flight each: what the codec and the system calls cost.
func BenchmarkDeep(b *testing.B) {
	for name, mode := range map[string]Mode{"inline": Inline, "spawn": Spawn} {
		b.Run(name, func(b *testing.B) { benchAsync(b, benchServer(b, mode), 16, 64, 128) })
	}
}

// The same with answers by another goroutine, as a commit gives them: batched or one by one.
func BenchmarkDeepCommit(b *testing.B) {
	for _, batched := range []bool{true, false} {
		name := "single"
		if batched {
			name = "batch"
		}
		b.Run(name, func(b *testing.B) { benchAsync(b, benchCommitter(b, batched), 16, 64, 128) })
	}
}

// benchCommitter serves sends by handing them to one goroutine, which answers all that have queued up.
func benchCommitter(b *testing.B, batched bool) string {
	var mu sync.Mutex
	var queue []*Request
	wake := make(chan struct{}, 1)
	mux := NewMux()
	mux.Handle(310, &Class{Name: "send", Limit: 1 << 20}, func(r *Request) {
		mu.Lock()
		queue = append(queue, r)
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	addr := benchListen(b, mux)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		batch, resp := NewBatch(), benchResponse()
		var work []*Request
		for range wake {
			mu.Lock()
			work, queue = queue, work[:0]
			mu.Unlock()
			for _, r := range work {
				if batched {
					batch.Reply(r, resp)
				} else {
					r.Reply(resp)
				}
			}
			batch.Flush()
		}
	}()
	b.Cleanup(func() { close(wake); <-ended })
	return addr
}

// Sixty-four connections with one request each: what wake-ups cost.
func BenchmarkWide(b *testing.B) {
	b.Run("async", func(b *testing.B) { benchAsync(b, benchServer(b, Inline), 64, 1, 128) })
	b.Run("commit", func(b *testing.B) { benchAsync(b, benchCommitter(b, true), 64, 1, 128) })
	b.Run("call", func(b *testing.B) {
		cmd := benchRequest(128)
		cs := benchConns(b, benchServer(b, Inline), 64)
		var sent atomic.Int64
		var wg sync.WaitGroup
		b.ReportAllocs()
		b.ResetTimer()
		for _, c := range cs {
			wg.Go(func() {
				for sent.Add(1) <= int64(b.N) {
					if _, err := c.Call(context.Background(), cmd); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	})
}

// What a connection costs while nothing happens on it, once it was used and with a frame half received.
func BenchmarkIdleMemory(b *testing.B) {
	const conns = 2000
	begun := binary.BigEndian.AppendUint32(nil, 1<<20)
	for name, rest := range map[string][]byte{"idle": nil, "half": begun} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				addr := benchServer(b, Inline)
				used := func() uint64 {
					var m runtime.MemStats
					runtime.GC()
					runtime.ReadMemStats(&m)
					return m.HeapInuse + m.StackInuse
				}
				before := used()
				cmd, err := protocol.AppendFrameHead(nil, &protocol.Command{Code: 310})
				if err != nil {
					b.Fatal(err)
				}
				answer := make([]byte, 4096)
				for range conns {
					nc, err := net.Dial("tcp", addr)
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = nc.Close() })
					if _, err := nc.Write(append(cmd, rest...)); err != nil {
						b.Fatal(err)
					}
					if _, err := nc.Read(answer); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(used()-before)/conns, "B/conn") // of both ends; the dialled one is about a fifth
			}
		})
	}
}
