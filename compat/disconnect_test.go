package compat_test

import (
	"fmt"
	"net"
	"testing"

	"rmq/remoting/protocol"
)

// TestMemberThatHangsUpIsForgotten closes connections while their heartbeats are being handled. A member that stayed would own queues
// and consume nothing until its heartbeat is missed, two minutes later.
func TestMemberThatHangsUpIsForgotten(t *testing.T) {
	r := startReplica(t, t.TempDir())
	const clients, beats = 60, 8
	for i := range clients {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		cmd := protocol.NewRequest(protocol.HeartBeat, nil)
		cmd.Body = heartbeatBody(t, "g", fmt.Sprint("client-", i), "T")
		frame, err := protocol.AppendFrameHead(nil, cmd)
		if err != nil {
			t.Fatal(err)
		}
		frame = append(frame, cmd.Body...)
		for range beats {
			if _, err := conn.Write(frame); err != nil {
				break // refused already, which is as good an end
			}
		}
		conn.Close()
	}
	eventually(t, "all connections are gone", func() bool {
		stats := r.server.Stats()
		return stats.Accepted >= clients && stats.Conns == 0
	})
	if err := r.server.Close(t.Context()); err != nil { // waits for the handlers
		t.Fatal(err)
	}
	if left := r.broker.Clients().Consumers("g"); len(left) != 0 {
		t.Errorf("%d members stayed", len(left))
	}
}
