package raftlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// callPair is a replica that calls and one that answers by h.
func callPair(t *testing.T, o PeerNetOptions) (caller *PeerNet, callee *PeerNet) {
	o.ServerID = "2-b"
	return listenPeers(t, PeerNetOptions{ServerID: "1-a"}), listenPeers(t, o)
}

func echo(_ context.Context, from string, request []byte) []byte {
	return append([]byte(from+":"), request...)
}

func TestPeerCalls(t *testing.T) {
	noLeaks(t)
	a, b := callPair(t, PeerNetOptions{Handler: echo})
	for _, size := range []int{0, 1, 100, 70_000, 3 << 20} {
		request := bytes.Repeat([]byte{'x'}, size)
		got, err := a.Call(t.Context(), b.Addr().String(), request)
		if err != nil || !bytes.Equal(got, append([]byte("1-a:"), request...)) {
			t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
		}
	}
	if s := a.Stats(); s.ConnsDialed != 1 || s.CallsSent != 5 {
		t.Fatalf("%+v", s)
	}
	// A request that is too large is not begun.
	if _, err := a.Call(t.Context(), b.Addr().String(), make([]byte, peerFrameBytesMax+1)); !errors.Is(err, ErrPeerNotSent) {
		t.Fatal(err)
	}
}

// TestPeerCallsInFlight has 1,000 calls wait at the other side at a time, and answers them in the opposite order.
func TestPeerCallsInFlight(t *testing.T) {
	noLeaks(t)
	const count = 1000
	var mu sync.Mutex
	waiting := make([]chan struct{}, count)
	for i := range waiting {
		waiting[i] = make(chan struct{})
	}
	arrived := 0
	all := make(chan struct{})
	a, b := callPair(t, PeerNetOptions{Handler: func(ctx context.Context, _ string, request []byte) []byte {
		mu.Lock()
		if arrived++; arrived == count {
			close(all)
		}
		mu.Unlock()
		i := binary.BigEndian.Uint32(request)
		select {
		case <-waiting[i]:
		case <-ctx.Done():
		}
		return request
	}})
	var wg sync.WaitGroup
	for i := range count {
		wg.Go(func() {
			request := binary.BigEndian.AppendUint32(nil, uint32(i))
			got, err := a.Call(t.Context(), b.Addr().String(), request)
			if err != nil || !bytes.Equal(got, request) {
				t.Errorf("call %d: %x, %v", i, got, err)
			}
		})
	}
	<-all
	if n := b.Stats().CallsNow; n != count {
		t.Errorf("%d calls are at work", n)
	}
	for i := count - 1; i >= 0; i-- {
		close(waiting[i])
	}
	wg.Wait()
	if s := a.Stats(); s.ConnsDialed != 1 {
		t.Fatalf("%d connections", s.ConnsDialed)
	}
	awaitCond(t, "no call at work", func() bool { return b.Stats().CallsNow == 0 })
}

func TestPeerCallsRefused(t *testing.T) {
	noLeaks(t)
	hold := make(chan struct{})
	a, b := callPair(t, PeerNetOptions{CallsMax: 1, Handler: func(context.Context, string, []byte) []byte { <-hold; return nil }})
	defer close(hold)
	go a.Call(context.Background(), b.Addr().String(), nil) //nolint:errcheck // it only takes the place
	awaitCond(t, "a call at work", func() bool { return b.Stats().CallsNow == 1 })
	if _, err := a.Call(t.Context(), b.Addr().String(), nil); !errors.Is(err, ErrPeerNotSent) {
		t.Fatal(err)
	}
	if b.Stats().CallsRefused != 1 {
		t.Fatalf("%+v", b.Stats())
	}
	// a has no Handler.
	if _, err := b.Call(t.Context(), a.Addr().String(), nil); !errors.Is(err, ErrPeerNotSent) {
		t.Fatal(err)
	}
}

// TestPeerCallsFail checks the class of the error for each way in which a call can fail.
func TestPeerCallsFail(t *testing.T) {
	noLeaks(t)
	arrived := make(chan time.Duration, 1)
	var ended atomic.Int32
	released := make(chan struct{})
	a, b := callPair(t, PeerNetOptions{Handler: func(ctx context.Context, _ string, _ []byte) []byte {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now()
		}
		arrived <- time.Until(deadline)
		<-ctx.Done()
		ended.Add(1)
		<-released
		return nil
	}})
	addr := b.Addr().String()

	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if _, err := a.Call(t.Context(), gone.Addr().String(), nil); !errors.Is(err, ErrPeerNotSent) {
		t.Fatalf("nobody listens: %v", err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	_, err = a.Call(ctx, addr, nil)
	cancel()
	if !errors.Is(err, ErrPeerUncertain) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("no answer in time: %v", err)
	}
	if left := <-arrived; left <= 0 || left > 50*time.Millisecond {
		t.Fatalf("the handler has %v", left)
	}
	awaitCond(t, "the handler sees the deadline", func() bool { return ended.Load() == 1 })
	close(released)

	// The caller goes: its handler is told.
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, err = a.Call(ctx, addr, nil); !errors.Is(err, ErrPeerUncertain) || !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}

	// The other side goes while the call is at work there.
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), addr, nil)
		failed <- err
	}()
	<-arrived
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrPeerUncertain) {
		t.Fatalf("the connection ended: %v", err)
	}
	if ended.Load() != 3 {
		t.Fatalf("%d handlers have ended, and Close has returned", ended.Load())
	}
	if _, err := a.Call(t.Context(), addr, nil); !errors.Is(err, ErrPeerNotSent) {
		t.Fatalf("nobody listens any more: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Call(t.Context(), addr, nil); !errors.Is(err, ErrPeerNotSent) {
		t.Fatalf("closed: %v", err)
	}
}

// TestPeerCallsNotWritten stops the other side from reading, so that the later calls cannot have been sent when the connection ends.
func TestPeerCallsNotWritten(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, _, _, err := readPeerHead(c); err == nil {
			c.Write(encodeAnswer(peerAccepted, "9-z", "")) //nolint:errcheck // the test sees it
		}
		accepted <- c
	}()
	a := listenPeers(t, PeerNetOptions{ServerID: "1-a"})
	results := make(chan error, 101)
	send := func(size int) {
		_, err := a.Call(context.Background(), l.Addr().String(), make([]byte, size))
		results <- err
	}
	go send(32 << 20) // more than the sockets take
	c := <-accepted
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		go send(10)
	}
	awaitCond(t, "all calls are queued", func() bool { return a.Stats().CallsSent == 101 })
	c.Close()
	var uncertain, notSent int
	for range 101 {
		switch err := <-results; {
		case errors.Is(err, ErrPeerUncertain):
			uncertain++
		case errors.Is(err, ErrPeerNotSent):
			notSent++
		}
	}
	if uncertain != 1 || notSent != 100 {
		t.Fatalf("%d calls are uncertain and %d not sent", uncertain, notSent)
	}
}

// TestPeerGetsItsName: a replica calls and is probed under a provisional name until it is told its number.
func TestPeerGetsItsName(t *testing.T) {
	noLeaks(t)
	a, b := callPair(t, PeerNetOptions{Handler: echo})
	joiner := listenPeers(t, PeerNetOptions{ServerID: "joining-x", Handler: echo})
	who := func(n, from *PeerNet) string {
		t.Helper()
		got, err := from.Call(t.Context(), n.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	if got := who(b, joiner); got != "joining-x:" {
		t.Fatal(got)
	}
	if err := joiner.SetServerID(""); err == nil {
		t.Fatal("an empty name is taken")
	}
	if err := joiner.SetServerID("3-x"); err != nil {
		t.Fatal(err)
	}
	if got := who(b, joiner); got != "3-x:" {
		t.Fatalf("after the change it calls as %s", got)
	}
	if got, err := a.Probe(t.Context(), joiner.Addr().String()); err != nil || got != "3-x" {
		t.Fatal(got, err)
	}
	joiner.Transport()
	if err := joiner.SetServerID("4-x"); err == nil || joiner.ServerID() != "3-x" {
		t.Fatal("the name changed while Raft runs")
	}
	if _, err := a.Probe(t.Context(), "127.0.0.1:1"); err == nil {
		t.Fatal("somebody answers where nobody is")
	}
}
