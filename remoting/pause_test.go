package remoting

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// A stopped process finds old requests in its connections when it goes on. Who sent them has given them up, and may have
// made them again elsewhere.
func TestRequestsFromBeforeAPauseAreNotServed(t *testing.T) {
	f := newFixture(t, nil)
	old := f.wire()
	old.works()
	// As after SIGCONT: the clock has gone on, watch has not run.
	f.host.awake.Store(-int64(time.Hour))
	old.send(request(codeHold, 1, ""))
	old.ended()
	if n := len(f.held); n != 0 {
		t.Errorf("%d requests were served", n)
	}
	eventually(t, "the server goes on", func() bool { return !f.host.stale(time.Now()) })
	f.wire().works()
}

// Connections that waited in the listener's backlog are as old.
func TestConnectionsFromBeforeAPauseAreReset(t *testing.T) {
	f := newFixture(t, nil)
	f.host.resumed.Store(int64(time.Since(f.host.began)) + int64(time.Hour)) // the afterglow does not end
	nc, err := net.Dial("tcp", f.Addrs()[0].String())
	if err == nil { // else the reset was faster
		_, _ = nc.Write(frame(t, request(codeHold, 1, "")))
		_ = nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := nc.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("the connection is served: %v", err)
		}
		_ = nc.Close()
	}
	if n := len(f.held); n != 0 {
		t.Errorf("%d requests were served", n)
	}
}

// Older clients go on waiting for their answers if the stream just ends.
func TestConnectionsAreResetAfterAPause(t *testing.T) {
	f := newFixture(t, nil)
	nc, err := net.Dial("tcp", f.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write(frame(t, request(codeHold, 1, ""))); err != nil {
		t.Fatal(err)
	}
	held := <-f.held
	f.host.awake.Store(-int64(time.Hour))
	_ = nc.SetReadDeadline(time.Now().Add(patience))
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ends with %v", err)
	}
	held.Done()
}
