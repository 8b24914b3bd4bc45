package broker

import (
	"fmt"
	"testing"
)

// A replica that was removed is known as such to every later leader; of very many the oldest are forgotten.
func TestRemovedReplicasAreRemembered(t *testing.T) {
	b := newBench(t)
	for range 2 {
		if err := b.RememberRemoved(t.Context(), "1-a"); err != nil {
			t.Fatal(err)
		}
	}
	b.succeed(t)
	if !b.Removed("1-a") || b.Removed("1-b") || b.Removed("1") || b.Removed("") {
		t.Errorf("removed: %q", b.removed())
	}
	for i := range removedMax {
		if err := b.RememberRemoved(t.Context(), fmt.Sprint("2-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if list := b.removed(); len(list) != removedMax || b.Removed("1-a") || !b.Removed("2-0") {
		t.Errorf("%d are remembered, from %s", len(list), list[0])
	}
}
