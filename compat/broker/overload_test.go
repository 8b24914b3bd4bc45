package broker

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// A long queue that is slow refuses; a short one does not, however slow it is; and one that has caught up takes sends again.
func TestSendBacklog(t *testing.T) {
	const limit = 200 * time.Millisecond
	var l sendBacklog
	for range backlogMin {
		l.enter()
	}
	if err := l.admit(limit); err != nil {
		t.Fatalf("a long queue of which nothing is known to be slow: %v", err)
	}
	l.leave(time.Second)
	if err := l.admit(limit); err != nil {
		t.Fatalf("a queue one short of long: %v", err)
	}
	l.enter()
	err := l.admit(limit)
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != Busy || !strings.HasPrefix(r.Text, "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: 1000ms, size of queue: 2048") {
		t.Fatalf("a long and slow queue: %v", err)
	}
	l.leave(limit)
	l.enter()
	if err := l.admit(limit); err != nil {
		t.Fatalf("a long queue that is fast again: %v", err)
	}
}

// Every send that the log takes, refuses or loses leaves the backlog again.
func TestSendsLeaveTheBacklog(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	b.log.outcome = func([]byte) (error, bool) { return errors.New("refused"), false }
	if err := b.Send(&SendRequest{Topic: "T", Body: []byte("x")}, func(SendResult) {}); err == nil {
		t.Fatal("the log refused the record")
	}
	b.log.outcome = func([]byte) (error, bool) { return nil, true }
	var res SendResult
	if err := b.Send(&SendRequest{Topic: "T", Body: []byte("x")}, func(got SendResult) { res = got }); err != nil || res.Err == nil {
		t.Fatalf("%v, %v: the outcome is unknown", err, res.Err)
	}
	if n := b.backlog.pending.Load(); n != 0 {
		t.Errorf("%d sends pending", n)
	}
}
