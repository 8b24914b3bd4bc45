package compat_test

import (
	"context"
	"testing"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

// N6: a replica that stops sends clients that understand it to connect anew, once; all others are served as before.
func TestGoAway(t *testing.T) {
	r := startReplica(t, t.TempDir())
	dial := func(heartbeat bool) *remoting.Conn {
		t.Helper()
		conn, err := r.client.Dial(t.Context(), r.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		if heartbeat {
			cmd := protocol.NewRequest(protocol.HeartBeat, nil)
			cmd.Body = heartbeatBody(t, "g", "client", "T")
			if resp, err := conn.Call(t.Context(), cmd); err != nil || resp.Code != protocol.Success {
				t.Fatal(resp, err)
			}
		}
		return conn
	}
	before, silent := dial(true), dial(false)
	ask := func(conn *remoting.Conn, change func(c *protocol.Command)) int32 {
		t.Helper()
		cmd := protocol.NewRequest(protocol.SendMessageV2, sendHeader("T", 0, ""))
		cmd.Body = []byte("x")
		change(cmd)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := conn.Call(ctx, cmd)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Code
	}
	asIs := func(*protocol.Command) {}
	if code := ask(silent, asIs); code != protocol.Success { // it is a connection of before
		t.Fatal(code)
	}
	r.procs.GoAway()
	for name, c := range map[string]struct {
		conn   *remoting.Conn
		change func(c *protocol.Command)
		want   int32
	}{
		"a client that was there": {before, asIs, protocol.GoAway},
		"one of 5.3.1":            {before, func(c *protocol.Command) { c.Version = protocol.V5_3_1 }, protocol.Success},
		"one in Go":               {before, func(c *protocol.Command) { c.Language = protocol.LanguageGo }, protocol.Success},
		"a tool":                  {silent, asIs, protocol.Success},
		"one that came anew":      {dial(true), asIs, protocol.Success},
	} {
		if code := ask(c.conn, c.change); code != c.want {
			t.Errorf("%s: code %d, want %d", name, code, c.want)
		}
	}
	commit := protocol.NewRequest(protocol.UpdateConsumerOffset, &protocol.UpdateConsumerOffsetRequestHeader{ConsumerGroup: "g", Topic: "T", CommitOffset: 1})
	if err := before.Oneway(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what nobody could repeat is carried out", func() bool {
		o, _ := r.broker.Offset("g", queue("T", 0))
		return o == 1
	})
}
