package remoting

import (
	"bytes"
	"testing"

	"rmq/remoting/protocol"
)

func TestBatchWritesOncePerConnection(t *testing.T) {
	f := newFixture(t, nil)
	const conns, each = 3, 50
	wires := make([]*wire, conns)
	for i := range wires {
		wires[i] = f.wire()
		for opaque := range int32(each) {
			wires[i].send(request(codeHold, opaque, ""))
		}
	}
	b := NewBatch()
	for round := range 2 {
		if round == 1 {
			for _, w := range wires {
				w.send(request(codeHold, 99, ""))
			}
		}
		n := conns * each
		if round == 1 {
			n = conns
		}
		var held []*Request
		for range n {
			held = append(held, f.next())
		}
		for _, r := range held {
			r.Conn.settled(t)
		}
		before := f.Stats().BytesOut
		for _, r := range held {
			b.Reply(r, &protocol.Command{})
		}
		if got := f.Stats().BytesOut; got != before {
			t.Fatalf("round %d: %d bytes left before Flush", round, got-before)
		}
		if len(b.conns) != conns {
			t.Errorf("round %d: the batch lists %d connections, want %d", round, len(b.conns), conns)
		}
		b.Flush()
		for _, w := range wires {
			for range n / conns {
				w.read()
			}
		}
	}
}

// settled waits until the read loop of c has nothing left to handle: it would write what a batch has gathered.
func (c *Conn) settled(t *testing.T) {
	eventually(t, "the read loop waits", func() bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		return !c.out.corked
	})
}

// A reply outside the batch takes along what the batch has gathered for that connection; nothing is lost or sent twice.
func TestBatchBesideOtherReplies(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	for opaque := range int32(6) {
		w.send(request(codeHold, opaque, ""))
	}
	one, other := NewBatch(), NewBatch()
	one.Reply(f.next(), &protocol.Command{})
	other.Reply(f.next(), &protocol.Command{})
	one.Reply(f.next(), &protocol.Command{})
	f.next().Reply(&protocol.Command{})
	one.Reply(f.next(), &protocol.Command{})
	other.Reply(f.next(), &protocol.Command{})
	one.Flush()
	other.Flush()
	one.Flush()
	for opaque := range int32(6) {
		if resp := w.read(); resp.Opaque != opaque {
			t.Errorf("got %d, want %d", resp.Opaque, opaque)
		}
	}
	w.works()
}

func TestBatchSkipsDeadConnections(t *testing.T) {
	f := newFixture(t, nil)
	dead, live := f.wire(), f.wire()
	dead.send(request(codeHold, 1, ""))
	r := f.next()
	live.send(request(codeHold, 2, ""))
	b := NewBatch()
	var released counter
	b.ReplyBuffer(r, &protocol.Command{Body: make([]byte, copyMax+1)}, released.release)
	_ = dead.Close()
	receive(t, r.Conn.Done())
	b.ReplyBuffer(f.next(), &protocol.Command{Body: make([]byte, copyMax+1)}, released.release)
	b.Flush()
	if resp := live.read(); resp.Opaque != 2 {
		t.Errorf("got %+v", resp)
	}
	eventually(t, "both bodies are released", func() bool { return released.count() == 2 })
}

// Large batches do not gather without end.
func TestBatchWritesEarlyWhenLarge(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	const n, size = 80, 5000
	for opaque := range int32(n) {
		w.send(request(codeHold, opaque, ""))
	}
	b := NewBatch()
	for range n {
		b.Reply(f.next(), &protocol.Command{Body: make([]byte, size)})
	}
	eventually(t, "most leaves before Flush", func() bool { return f.Stats().BytesOut >= gatherMax/2 })
	b.Flush()
	for range n {
		w.read()
	}
}

func TestReplyBufferReleasesOnce(t *testing.T) {
	f := newFixture(t, nil)
	for _, size := range []int{0, copyMax, copyMax + 1, 100 << 10} {
		body := bytes.Repeat([]byte{7}, size)
		w := f.wire()
		w.send(request(codeHold, 1, ""), oneway(codeHold))
		r, silent := f.next(), f.next()
		var first, second, third counter
		r.ReplyBuffer(&protocol.Command{Body: body}, first.release)
		r.ReplyBuffer(&protocol.Command{Body: body}, second.release)
		silent.ReplyBuffer(&protocol.Command{Body: body}, third.release)
		r.Reply(&protocol.Command{})
		r.Done()
		if resp := w.read(); !bytes.Equal(resp.Body, body) {
			t.Errorf("%d bytes: got %d", size, len(resp.Body))
		}
		w.works()
		eventually(t, "each is released once", func() bool {
			return first.count() == 1 && second.count() == 1 && third.count() == 1
		})
	}
	if n := f.class.InFlight(); n != 0 {
		t.Errorf("%d slots are taken", n)
	}
}

// Answers given while further frames of the same read are handled leave together.
func TestAnswersToOneReadLeaveTogether(t *testing.T) {
	after := make(chan uint64, 3)
	f := newFixture(t, func(o *ServerOptions, _ *fixture) {
		o.Mux.Handle(77, &Class{Name: "seen", Limit: 8}, func(r *Request) {
			after <- r.Conn.host.count.bytesOut.Load()
			r.Reply(&protocol.Command{})
		})
	})
	w := f.wire()
	w.send(request(77, 1, ""), request(77, 2, ""), request(77, 3, "")) // one segment, so they are read at once
	for range 3 {
		w.read()
		if n := receive(t, after); n != 0 {
			t.Errorf("%d bytes had left before all was handled", n)
		}
	}
}

// A connection that is being closed does not wait for a batch to be flushed.
func TestCloseWritesWhatABatchGathered(t *testing.T) {
	f := newFixture(t, nil)
	w := f.wire()
	w.send(request(codeHold, 1, ""))
	r := f.next()
	r.Conn.settled(t)
	NewBatch().Reply(r, &protocol.Command{})
	r.Conn.Close()
	if resp := w.read(); resp.Opaque != 1 {
		t.Errorf("got %+v", resp)
	}
	_ = w.ended()
}
