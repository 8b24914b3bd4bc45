package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rmq/raftlog"
	"rmq/store"
)

func TestLockLeases(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	q := []store.QueueID{{Topic: "T"}, {Topic: "T", ID: 99}, {Topic: "T", ID: -1}, {Topic: "none"}}
	lock := func(client string, want int) {
		t.Helper()
		owned, err := b.Lock(t.Context(), "g", client, q)
		if err != nil || len(owned) != want {
			t.Errorf("%s owns %v, want %d: %v", client, owned, want, err)
		}
	}
	lock("c1", 1)
	b.clock.advance(60 * time.Second)
	lock("c2", 0) // the lease ends after 60 s, not with them
	lock("c1", 1)
	b.clock.advance(60*time.Second + time.Millisecond)
	lock("c2", 1)
	lock("c1", 0)

	// the next leader gives the owner a whole lease, however old it is
	b.clock.advance(time.Hour)
	again, err := New(b.log, b.Store(), b.opts)
	if err != nil {
		t.Fatal(err)
	}
	b.log.broker, b.Broker = again, again
	if err := b.TakeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.clock.advance(60 * time.Second)
	lock("c1", 0)
	lock("c2", 1)

	if err := b.Unlock(t.Context(), "g", "c1", q); err != nil { // not its own
		t.Error(err)
	}
	lock("c1", 0)
	if err := b.Unlock(t.Context(), "g", "c2", q); err != nil {
		t.Error(err)
	}
	lock("c1", 1)
}

func TestLockIsNotGivenBeforeItIsCommitted(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	if err := b.PutGroup(t.Context(), DefaultGroup("g")); err != nil {
		t.Fatal(err)
	}
	b.log.outcome = func([]byte) (error, bool) { return raftlog.ErrNotLeader, false }
	owned, err := b.Lock(t.Context(), "g", "c1", []store.QueueID{{Topic: "T"}})
	if reason(err) != fmt.Sprint(NotLeader) || len(owned) != 0 {
		t.Errorf("owns %v: %v", owned, err)
	}
}

func TestLockRefusals(t *testing.T) {
	b := newBench(t)
	b.put(t, "T")
	q := []store.QueueID{{Topic: "T"}}
	for _, c := range []struct{ group, client string }{{"g", ""}, {"g", strings.Repeat("c", clientIDLengthMax+1)}, {"", "c"}, {"../g", "c"}} {
		if owned, err := b.Lock(t.Context(), c.group, c.client, q); reason(err) != fmt.Sprint(InvalidParameter) {
			t.Errorf("lock for %q of %q: %v %v", c.client, c.group, owned, err)
		}
		if err := b.Unlock(t.Context(), c.group, c.client, q); reason(err) != fmt.Sprint(InvalidParameter) {
			t.Errorf("unlock for %q of %q: %v", c.client, c.group, err)
		}
	}
	if n := len(b.Store().Locks()); n != 0 {
		t.Errorf("%d locks", n)
	}
}
