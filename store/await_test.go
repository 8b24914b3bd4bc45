package store

import (
	"slices"
	"testing"
)

func TestAwait(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 1}
	woken := map[string]int{}
	park := func(name string, q QueueID, offset int64) func() {
		t.Helper()
		cancel, parked := r.Await(q, offset, func() { woken[name]++ })
		if !parked {
			t.Fatalf("%s is not parked", name)
		}
		return cancel
	}
	expect := func(names ...string) {
		t.Helper()
		want := map[string]int{}
		for _, n := range names {
			want[n] = 1
		}
		for n, times := range woken {
			if times != want[n] {
				t.Fatalf("woken %v, want %v", woken, want)
			}
		}
		if len(woken) != len(want) {
			t.Fatalf("woken %v, want %v", woken, want)
		}
		clear(woken)
	}
	park("first", q, 0)
	park("second", q, 1)
	third := park("third", q, 0)
	park("elsewhere", QueueID{"T", 2}, 0)
	park("other topic", QueueID{"U", 1}, 0)
	third()
	third()
	r.put(msg{topic: "T", queue: 1}.encode())
	expect("first")
	if _, parked := r.Await(q, 0, func() { t.Error("woken without being parked") }); parked {
		t.Fatal("parked for a message that is there")
	}
	r.put(msg{topic: "T", queue: 1}.encode())
	expect("second")

	// Three in one list, taken out from the middle, the end and the head.
	cancels := []func(){park("a", q, 5), park("b", q, 5), park("c", q, 5)}
	for _, i := range []int{1, 0, 2} {
		cancels[i]()
	}
	if got := r.Stats().Waiters; got != 2 {
		t.Fatalf("%d waiters", got)
	}
	r.put(DeleteTopic(1, "T"))
	expect("elsewhere")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	expect("other topic")
	if _, parked := r.Await(q, 0, func() {}); parked {
		t.Fatal("parked in a closed store")
	}
}

// TestWakeMayParkAgain: a woken caller looks again at once, from within wake.
func TestWakeMayParkAgain(t *testing.T) {
	r := newRig(t)
	q := QueueID{"T", 0}
	var seen []int64
	var wake func()
	wake = func() {
		next := r.MaxOffset(q)
		seen = append(seen, next)
		if _, parked := r.Await(q, next, wake); !parked && next < 3 {
			t.Error("not parked")
		}
	}
	r.Await(q, 0, wake)
	for range 3 {
		r.put(msg{topic: "T"}.encode())
	}
	if !slices.Equal(seen, []int64{1, 2, 3}) {
		t.Fatalf("woken at %v", seen)
	}
}
