package controller

import (
	"context"
	"errors"
	"testing"
	"time"
)

// What comes from the network is read or refused, never a panic.
func FuzzDecodeMessage(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, '{', '}', 'x'})
	f.Add([]byte{1, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err == nil && string(m.Encode()) != string(b) {
			t.Errorf("%x becomes %x", b, m.Encode())
		}
		var s Switchboard
		s.connect(func(context.Context, Message) (any, []byte, error) { return nil, nil, nil })
		if a, err := DecodeMessage(s.Handle(t.Context(), "", b)); err != nil || a.Head != CodeOK && a.Head != CodeRefused {
			t.Errorf("answer %+v %v", a, err)
		}
	})
}

func TestSwitchboardBeforeTheStart(t *testing.T) {
	var s Switchboard
	a, err := DecodeMessage(s.Handle(t.Context(), "", Message{Head: byte(CallHello)}.Encode()))
	if err != nil || a.Head != CodeNotNow {
		t.Errorf("%+v %v", a, err)
	}
}

// Who holds what, in the newest term, among those that count.
func TestReplicasCount(t *testing.T) {
	r := NewReplicas(func() uint64 { return 90 })
	told := 0
	r.OnHeld(func() { told++ })
	if r.Data() != 1 || r.Connected() != 1 || r.InSync() != 1 || r.Held(1) != 90 || r.Held(2) != 0 {
		t.Error("alone")
	}
	r.Progress("", "1-b", 7, 50)
	r.lead(7, []replica{{id: "1-b", connected: true, inSync: true}, {id: "2-c", connected: true}, {id: "3-d"}})
	r.Progress("", "2-c", 7, 70)
	r.Progress("", "2-c", 7, 60)       // an older answer
	r.Progress("", "2-c", 6, 80)       // of an older term
	r.Progress("", "arbiter-x", 7, 90) // no data there
	if r.Data() != 4 || r.Connected() != 3 || r.InSync() != 2 || r.Held(2) != 70 || r.Held(3) != 50 || r.Held(4) != 0 || r.Held(5) != 0 {
		t.Errorf("%d %d %d, held %d %d %d", r.Data(), r.Connected(), r.InSync(), r.Held(2), r.Held(3), r.Held(4))
	}
	before := told
	r.lead(7, []replica{{id: "1-b", connected: true, inSync: true}, {id: "2-c", connected: true}, {id: "3-d"}})
	if told != before {
		t.Error("told of nothing")
	}
	r.lead(7, []replica{{id: "1-b"}})
	if told != before+1 || r.Connected() != 1 {
		t.Error("not told that one is gone")
	}
	r.Progress("", "1-b", 7, 55)
	if r.Connected() != 2 {
		t.Error("one that has just answered is not in contact")
	}
	r.lead(8, []replica{{id: "1-b"}})
	if r.Held(2) != 0 {
		t.Error("what was held in another term counts")
	}
	r.follow()
	if r.Data() != 1 {
		t.Error("a follower counts others")
	}
}

// A rate lets no more through than it says, and an end of patience ends the wait.
func TestRate(t *testing.T) {
	free := newRate(0)
	if n, err := free.take(t.Context(), 1<<20); n != 1<<20 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	r := newRate(1 << 20)
	began, got := time.Now(), 0
	for got < 512<<10 {
		n, err := r.take(t.Context(), 1<<20)
		if err != nil || n > 256<<10 {
			t.Fatalf("%d %v", n, err)
		}
		got += n
	}
	if _, err := r.take(t.Context(), 1); err != nil || time.Since(began) < 450*time.Millisecond {
		t.Errorf("%d bytes in %v, %v", got, time.Since(began), err)
	}
	slow := newRate(1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := slow.take(ctx, 1); err != nil {
		t.Error(err)
	}
	if _, err := slow.take(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
