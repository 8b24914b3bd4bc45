package raftlog

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestPeerHandshakeRefusals(t *testing.T) {
	noLeaks(t)
	n := listenPeers(t, PeerNetOptions{ServerID: "1-a", ClusterID: "c", Group: "g"})
	idle := listenPeers(t, PeerNetOptions{ServerID: "2-b", ClusterID: "c", Group: "g"})
	n.Transport()
	good := peerHello{stream: streamRaft, cluster: "c", group: "g", from: "3-c", target: "1-a"}
	for _, test := range []struct {
		name   string
		at     *PeerNet
		change func(h *peerHello)
		code   uint8
		says   string
	}{
		{"raft", n, func(*peerHello) {}, peerAccepted, "1-a"},
		{"calls", n, func(h *peerHello) { h.stream = streamCalls }, peerAccepted, "1-a"},
		{"anyone", n, func(h *peerHello) { h.target = "" }, peerAccepted, "1-a"},
		{"probe by itself", n, func(h *peerHello) { h.stream, h.from = streamProbe, "1-a" }, peerAccepted, "1-a"},
		{"cluster", n, func(h *peerHello) { h.cluster = "d" }, PeerWrongCluster, "cluster"},
		{"group", n, func(h *peerHello) { h.group = "h" }, PeerWrongGroup, "group"},
		{"incarnation", n, func(h *peerHello) { h.target = "1-b" }, PeerWrongServer, "not 1-b"},
		{"itself", n, func(h *peerHello) { h.from = "1-a" }, PeerIsSelf, "itself"},
		{"stream", n, func(h *peerHello) { h.stream = 99 }, PeerWrongStream, "99"},
		{"no raft", idle, func(h *peerHello) { h.target = "2-b" }, PeerNotRunning, "at present"},
		{"nameless", n, func(h *peerHello) { h.from = "" }, PeerMalformed, "read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := net.Dial("tcp", test.at.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			h := good
			test.change(&h)
			id, err := test.at.greet(c, h, "there")
			if test.code == peerAccepted {
				if err != nil || id != test.says {
					t.Fatalf("%q, %v", id, err)
				}
				return
			}
			var refusal *PeerRefusal
			if !errors.As(err, &refusal) || refusal.Code != test.code || !strings.Contains(refusal.Reason, test.says) {
				t.Fatalf("%v, expected code %d and %q", err, test.code, test.says)
			}
			if stranger := test.code == PeerWrongCluster || test.code == PeerWrongGroup; stranger &&
				(strings.Contains(refusal.Reason, "1-a") || id != "") {
				t.Fatalf("a stranger learns %q, %q", id, refusal.Reason)
			}
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("the connection is not closed: %v", err)
			}
		})
	}
	if s := n.Stats(); s.HandshakesRefused != 6 || s.HandshakesBad != 0 {
		t.Fatalf("%+v", s)
	}
}

// TestPeerPortGarbage sends what does not belong there: the connection ends, nothing else happens.
func TestPeerPortGarbage(t *testing.T) {
	noLeaks(t)
	n := listenPeers(t, PeerNetOptions{ServerID: "1-a", HandshakeTimeout: 200 * time.Millisecond, MaxConns: 4, Handler: echo})
	n.Transport()
	hello := func(stream byte) string {
		h := peerHello{stream: stream, from: "3-c"}
		b, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	seal := func(kind byte, payload string) string {
		b := append(make([]byte, peerHeadBytes), payload...)
		if _, err := sealFrame(kind, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	badCRC := []byte(seal(frameCall, strings.Repeat("x", 20)))
	badCRC[len(badCRC)-1] ^= 1
	for name, text := range map[string]string{
		"http":                "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"tls":                 "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"nothing":             "",
		"cut hello":           hello(streamRaft)[:9],
		"long hello":          "RMQP\x01\x01\xff\xff",
		"wrong version":       "RMQP\x02\x01\x00\x00",
		"raft: unknown kind":  hello(streamRaft) + seal(0x55, ""),
		"raft: cut request":   hello(streamRaft) + seal(rpcRequestVote, "\x03\x00\x00"),
		"raft: many entries":  hello(streamRaft) + seal(rpcAppendEntries, "\x03\x00\x00\x00\x00\x01"+strings.Repeat("\x00", 32)+"\xff\xff\xff\xff"),
		"raft: huge frame":    hello(streamRaft) + "\xff\xff\xff\xff\x00\x00\x00\x00\x01",
		"calls: huge frame":   hello(streamCalls) + "\x7f\xff\xff\xff\x00\x00\x00\x00\x10",
		"calls: unknown kind": hello(streamCalls) + seal(0x55, strings.Repeat("x", 20)),
		"calls: cut":          hello(streamCalls) + seal(frameCall, "x"),
		"calls: bad CRC":      hello(streamCalls) + string(badCRC),
		"probe: talks":        hello(streamProbe) + "hello?",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", n.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // the read fails then
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the connection is not closed")
			}
		})
	}
	awaitCond(t, "no connections", func() bool { return n.Stats().ConnsNow == 0 })
	if s := n.Stats(); s.FramesBad != 8 || s.CallsReceived != 0 || s.AppendsReceived != 0 {
		t.Fatalf("%+v", s)
	}
	// Whoever says nothing holds a place until HandshakeTimeout and no longer.
	for range 10 {
		c, err := net.Dial("tcp", n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	awaitCond(t, "four connections are taken", func() bool { return n.Stats().ConnsNow <= 4 })
	a := listenPeers(t, PeerNetOptions{ServerID: "2-b"})
	awaitCond(t, "a place is free again", func() bool {
		_, err := a.Call(t.Context(), n.Addr().String(), nil)
		return err == nil
	})
}

// TestPeerTransportReplaced restarts Raft behind an open port.
func TestPeerTransportReplaced(t *testing.T) {
	noLeaks(t)
	a := listenPeers(t, PeerNetOptions{ServerID: "1-a"})
	b := listenPeers(t, PeerNetOptions{ServerID: "2-b", Handler: echo})
	ask := func() error {
		return a.Transport().TimeoutNow("2-b", raft.ServerAddress(b.Addr().String()), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
	}
	answer := func(tr raft.Transport) { rpc := <-tr.Consumer(); rpc.Respond(&raft.TimeoutNowResponse{}, nil) }
	first := b.Transport()
	go answer(first)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	if first != b.Transport() {
		t.Fatal("two transports at a time")
	}
	if err := first.(raft.WithClose).Close(); err != nil {
		t.Fatal(err)
	}
	var refusal *PeerRefusal
	if err := ask(); !errors.As(err, &refusal) || refusal.Code != PeerNotRunning {
		t.Fatal(err)
	}
	if _, err := a.Call(t.Context(), b.Addr().String(), nil); err != nil {
		t.Fatalf("calls ended with Raft: %v", err)
	}
	second := b.Transport()
	go answer(second)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
}
